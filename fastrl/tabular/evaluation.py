"""Values of a policy: directly, by Krylov's method, or by sweeps; with certified bounds."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_choice, require_positive, require_unit
from fastrl.kernels.tabular import Bellman, PolicyIterator, bellman
from fastrl.tabular._check import row_sums
from fastrl.tabular._krylov import bicgstab
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


MOST_SWEEPS = 100_000


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
        gamma: γ in [0, 1]; 1 where the policy ends from every state, or has no more rewards.
        method: ``"direct"``, Gaussian elimination of a dense matrix; ``"krylov"``, BiCGSTAB; ``"iterative"``,
            sweeps, by components where states mix slowly; ``"auto"`` picks.
        eps: how far ``value`` may be from V.
        value: float64 [S], to begin with, of ``"krylov"`` and ``"iterative"``.
        num_threads: threads at most.

    Raises:
        TypeError, ValueError: arguments that are not such; with γ = 1, a policy with rewards for ever.

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
    endless = is_total("evaluate", of, gamma)
    if endless and (ending := _ending(process, of)) is not process:
        process, of = ending, bellman(ending)
    if process.terminal is not None and process.terminal.all():
        nothing = np.zeros(process.num_states)
        return _evaluation(process.terminal, nothing, nothing.copy(), eps, method)
    if endless:
        return _bounded_by_steps(process, of, gamma, eps, value, method)
    if method == "auto":
        method = "direct" if process.num_states <= SMALL else "iterative"
    if method == "direct":
        found = _direct(process, gamma)
    elif method == "krylov":
        found = _krylov(process, of, gamma, eps, value)
    else:
        return _iterative(process, of, gamma, eps, value, num_threads)
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
    """Until the residual proves eps; with γ = 1, until it is eps / 2."""
    ends = np.zeros(process.num_states, np.bool_) if process.terminal is None else process.terminal

    def product(x: Floats) -> Floats:
        return np.where(ends, x, x - gamma * of.expect(x))

    right = np.where(ends, 0, process.reward)
    first = np.zeros(process.num_states) if value is None else np.where(ends, 0, value)
    factor = 1 - gamma * of.mass[1]
    wanted = 0.5 * eps * (factor if factor > 1e-9 else 1.0)
    unit = 2.0 ** max(int(np.frexp(np.abs([right, first]).max())[1]) - 1, -1000)  # for squares to stay floats
    found = bicgstab(product, right / unit, first / unit, wanted / unit)
    with np.errstate(over="ignore"):  # told by whoever bounds them
        return found * unit


def _iterative(
    process: Process, of: Bellman, gamma: float, eps: float, value: Floats | None, num_threads: int
) -> Evaluation:
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
        of.solve_components(value, gamma, tolerance, MOST_SWEEPS, False)
        lower, upper, _ = certify(of, value, gamma, num_threads, process.blur)
        if not error_of(middle(lower, upper), lower, upper) > eps:
            break
        tolerance /= 16
    return _evaluation(process.terminal, lower, upper, eps, "iterative")


def _ending(process: Process, of: Bellman) -> Process:
    """With those states terminal from which nothing is rewarded any more.

    Raises:
        ValueError: from some state there are rewards for ever.
    """
    kept = (row_sums(process, process.weight) > 1 - 1e-7).astype(np.uint8)
    part = of.end_components(kept)
    stays = part >= 0
    if not stays.any():
        return process
    lost = np.isin(part, part[stays & (process.reward != 0)]) & stays
    if lost.any():
        s = int(lost.argmax())
        raise ValueError(
            f"evaluate: gamma must be < 1: the policy never ends from state {s}, and rewards go on for ever"
        )
    return replace(process, terminal=stays if process.terminal is None else stays | process.terminal)


def _bounded_by_steps(
    process: Process, of: Bellman, gamma: float, eps: float, value: Floats | None, method: str
) -> Evaluation:
    """Bounds with γ = 1: what is left of V = r + P V, times the expected number of steps."""
    ends = np.zeros(process.num_states, np.bool_) if process.terminal is None else process.terminal
    timed = replace(process, reward=np.where(ends, 0.0, 1.0))
    steps = 1.1 * ending_value(timed, bellman(timed), 1e-3, None, method)
    sure = np.isfinite(steps).all() and not (np.where(ends, 0, 1 + of.expect(steps) - steps) > 0).any()
    found = ending_value(process, of, 0.5 * eps / max(1.0, float(steps.max())), value, method)
    left = np.abs(np.where(ends, 0, process.reward + of.expect(found) - found)).max()
    if not sure or not np.isfinite(left):
        unknown = np.full(len(steps), np.inf)
        return Evaluation(value=found, lower=-unknown, upper=unknown, method=method, converged=False)
    size = max(float(np.abs(found).max()), float(np.abs(process.reward).max()), process.blur.reward_size)
    units = 8 * (of.longest + 4 + process.blur.roundings)
    slack = (left + units * 2.0**-53 * size) * steps
    return _evaluation(process.terminal, found - slack, found + slack, eps, method)


def ending_value(
    process: Process,
    of: Bellman,
    tolerance: float,
    value: Floats | None,
    method: str = "auto",
    most_sweeps: int = MOST_SWEEPS,
) -> Floats:
    """[S]: where a policy ends, V = r + P V. Its residual is within ``tolerance`` if rounding and time
    allow it.
    """
    ends = np.zeros(process.num_states, np.bool_) if process.terminal is None else process.terminal
    if method == "direct" or (method == "auto" and process.num_states <= SMALL):
        return _direct(process, 1.0)
    found = np.zeros(process.num_states) if value is None else np.where(ends, 0, value)
    if method != "iterative":
        close = _krylov(process, of, 1.0, 2 * tolerance, found)
        left = np.abs(np.where(ends, 0, process.reward + of.expect(close) - close)).max()  # or NaN
        if left <= max(tolerance, 1e-14 * np.abs(close).max()) or method == "krylov":
            return close
    of.solve_components(found, 1.0, tolerance, most_sweeps, False)
    return found
