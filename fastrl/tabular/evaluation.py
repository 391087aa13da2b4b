"""Values of a policy: directly, by Krylov's method, or by sweeps; with certified bounds."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_choice, require_positive, require_unit
from fastrl.kernels.tabular import Bellman, PolicyIterator, bellman
from fastrl.tabular._process import Process, of_policy, probabilities
from fastrl.tabular.bounds import certify, error_of, is_total, margins, middle

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
METHODS = ("auto", "direct", "krylov", "iterative")
MOST_DIRECT = 5000
"""States, for a dense matrix of them to be solved."""
SMALL = 300
"""States up to which "auto" does so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A policy's values between certified bounds."""

    value: Floats
    """[S]: the middle of the bounds."""
    lower: Floats
    """[S]: the value is at least this."""
    upper: Floats
    """[S]: and at most this."""
    method: str
    """How it was found."""
    converged: bool
    """Whether ``value`` is within eps."""


def evaluate(
    mdp: "MDP",
    policy: Any,
    gamma: float,
    *,
    method: str = "auto",
    eps: float = 1e-8,
    value: Floats | None = None,
    num_threads: int = 1,
) -> Evaluation:
    """V of a policy, the solution of V = r_π + γ P_π V.

    Args:
        mdp: the process.
        policy: actions [S], or probabilities [L] of the pairs or [S, A].
        gamma: γ in [0, 1); 1 where the policy ends from every state.
        method: ``"direct"``, Gaussian elimination of a dense matrix; ``"krylov"``, BiCGSTAB; ``"iterative"``,
            sweeps, by components where states mix slowly; ``"auto"`` picks.
        eps: how far ``value`` may be from V.
        value: float64 [S], to begin with, of ``"krylov"`` and ``"iterative"``.
        num_threads: threads at most.

    Raises:
        TypeError, ValueError: arguments that are not such; a policy that never ends, with γ = 1.

    Source: Puterman 1994, section 6.1; van der Vorst 1992, Bi-CGSTAB.
    """
    require_unit("evaluate", "gamma", gamma)
    require_positive("evaluate", "eps", eps)
    require_choice("evaluate", "method", method, METHODS)
    process = of_policy(mdp, probabilities("evaluate", mdp, policy))
    found = evaluate_process(process, float(gamma), eps, value, method, num_threads)
    if not found.converged:
        warnings.warn(
            f"evaluate: values are proven within {error_of(found.value, found.lower, found.upper):.3g}, "
            f"not within eps = {eps:g}: raise eps",
            RuntimeWarning,
            stacklevel=2,
        )
    return found


def evaluate_process(
    process: Process,
    gamma: float,
    eps: float,
    value: Floats | None = None,
    method: str = "auto",
    num_threads: int = 1,
) -> Evaluation:
    """Values of a process with one pair a state."""
    of = bellman(process)
    if process.terminal is not None and process.terminal.all():
        nothing = np.zeros(process.num_states)
        return _evaluation(process.terminal, nothing, nothing.copy(), eps, method)
    endless = is_total("evaluate", of, gamma)
    if method == "auto":
        method = "direct" if process.num_states <= SMALL or endless else "iterative"
    if method == "direct":
        found = _direct(process, gamma)
    elif method == "krylov":
        found = _krylov(process, of, gamma, eps, value)
    else:
        return _iterative(process, of, gamma, eps, value, num_threads)
    if endless:
        return _bounded_by_steps(process, of, found, gamma, eps, method)
    lower, upper, _ = certify(of, found, gamma, num_threads, process.blur)
    return _evaluation(process.terminal, lower, upper, eps, method)


def _evaluation(
    terminal: NDArray[np.bool_] | None, lower: Floats, upper: Floats, eps: float, method: str
) -> Evaluation:
    if terminal is not None:
        lower[terminal] = upper[terminal] = 0
    if np.isnan(lower).any() or np.isnan(upper).any():
        raise ValueError("evaluate: values must stay below 1.8e+308 on the way, got more")
    value = middle(lower, upper)
    converged = error_of(value, lower, upper) <= eps
    return Evaluation(value=value, lower=lower, upper=upper, method=method, converged=converged)


def _system(process: Process, gamma: float) -> tuple[Floats, NDArray[np.bool_]]:
    states = process.num_states
    ends = np.zeros(states, np.bool_) if process.terminal is None else process.terminal
    if process.offset is None or process.next_state is None:
        matrix: Floats = -gamma * process.weight
    else:
        matrix = np.zeros((states, states))
        rows = np.repeat(np.arange(states), np.diff(process.offset))
        np.add.at(matrix, (rows, process.next_state), -gamma * process.weight)
    matrix[:, ends] = 0
    matrix[ends] = 0
    matrix[np.diag_indices(states)] += 1
    return matrix, ends


def _direct(process: Process, gamma: float) -> Floats:
    if process.num_states > MOST_DIRECT:
        raise ValueError(
            'evaluate: method must be "krylov" or "iterative" '
            f'with more than {MOST_DIRECT} states, got "direct"'
        )
    matrix, ends = _system(process, gamma)
    try:
        return np.linalg.solve(matrix, np.where(ends, 0.0, process.reward)).astype(np.float64)
    except np.linalg.LinAlgError:
        raise ValueError("evaluate: gamma must be < 1: the policy never ends from some state") from None


def _krylov(process: Process, of: Bellman, gamma: float, eps: float, value: Floats | None) -> Floats:
    """BiCGSTAB, until the residual proves eps."""
    ends = np.zeros(process.num_states, np.bool_) if process.terminal is None else process.terminal

    def product(x: Floats) -> Floats:
        return np.where(ends, x, x - gamma * of.expect(x))

    right = np.where(ends, 0, process.reward)
    x = np.zeros(process.num_states) if value is None else np.where(ends, 0, value)
    unit = 2.0 ** max(int(np.frexp(np.abs([right, x]).max())[1]) - 1, -1000)  # for squares to stay floats
    right, x, eps = right / unit, x / unit, eps / unit
    residual = right - product(x)
    shadow, direction = residual.copy(), residual.copy()
    rho = float(shadow @ residual)
    wanted = 0.5 * eps * max(1 - gamma * of.mass[1], 1e-9)
    for _ in range(10 * process.num_states + 100):
        if np.abs(residual).max() <= wanted or rho == 0:
            residual = right - product(x)  # the recurrence's own has drifted
            if np.abs(residual).max() <= wanted or not residual.any():
                break
            shadow, direction = residual.copy(), residual.copy()
            rho = float(shadow @ residual)
        image = product(direction)
        across = float(shadow @ image)
        if across == 0:
            x += residual  # a sweep leads out of where the method has no next step
            rho = 0.0
            continue
        alpha = rho / across
        half = residual - alpha * image
        turned = product(half)
        omega = float(turned @ half) / max(float(turned @ turned), 1e-300)
        x += alpha * direction + omega * half
        residual = half - omega * turned
        after = float(shadow @ residual)
        if abs(after) < 1e-30 * float(residual @ residual) or omega == 0:
            residual = right - product(x)
            shadow, direction = residual.copy(), residual.copy()
            rho = float(shadow @ residual)
            continue
        direction = residual + after / rho * alpha / omega * (direction - omega * image)
        rho = after
    with np.errstate(over="ignore"):  # told by whoever bounds them
        return x * unit


def _iterative(
    process: Process, of: Bellman, gamma: float, eps: float, value: Floats | None, num_threads: int
) -> Evaluation:
    endless = gamma * of.mass[1] >= 1 - 1e-12
    if endless:
        raise ValueError('evaluate: method must be "direct" or "krylov" with gamma = 1, got "iterative"')
    iterator = PolicyIterator(of, gamma, value, num_threads)
    errors = [np.inf] * 4
    while True:
        low, high, _ = iterator.improve()
        found = margins(of, low, high, gamma, iterator.size, process.blur)
        error = found.error
        errors.append(error)
        if not error > eps or error > 0.5 * errors[-5]:
            break
        if iterator.evaluate(0.5 * eps / error, 100)[1] > 0.1:
            break
    if error <= eps:
        return _evaluation(process.terminal, *found.around(iterator.next_value), eps, "iterative")
    value, tolerance = iterator.value, 0.3 * eps * (1 - gamma * of.mass[1])
    if not np.isfinite(value).all():  # too long a step
        value = np.zeros(process.num_states)
    for _ in range(6):
        of.solve_components(value, gamma, tolerance, 100_000, False)
        lower, upper, _ = certify(of, value, gamma, num_threads, process.blur)
        if not error_of(middle(lower, upper), lower, upper) > eps:
            break
        tolerance /= 16
    return _evaluation(process.terminal, lower, upper, eps, "iterative")


def _bounded_by_steps(
    process: Process, of: Bellman, found: Floats, gamma: float, eps: float, method: str
) -> Evaluation:
    """Bounds with γ = 1: what is left of V = r + P V, times the expected number of steps."""
    ends = np.zeros(process.num_states, np.bool_) if process.terminal is None else process.terminal
    timed = Process(**{**process.__dict__, "reward": np.ones(process.num_states)})
    steps = (
        _direct(timed, gamma) if method == "direct" else _krylov(timed, bellman(timed), gamma, 1e-3, None)
    ) * 1.1
    steps = np.where(ends, 0, steps)
    if (
        not np.isfinite(steps).all()
        or (steps[~ends] < 1).any()
        or (np.where(ends, 0, 1 + gamma * of.expect(steps) - steps) > 0).any()
    ):
        raise ValueError("evaluate: gamma must be < 1: the policy never ends from some state")
    left = np.abs(np.where(ends, 0, process.reward + gamma * of.expect(found) - found)).max()
    size = max(float(np.abs(found).max()), float(np.abs(process.reward).max()))
    slack = (left + 8 * (of.longest + 4) * 2.0**-53 * size) * steps
    return _evaluation(process.terminal, found - slack, found + slack, eps, method)
