"""How often a policy visits states and takes actions, discounted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_choice, require_positive, require_unit
from fastrl.tabular._chain import DIRECT_STATES, Chain, Policy, chain_of, require_proper
from fastrl.tabular._check import TOLERANCE, distribution
from fastrl.tabular._krylov import bicgstab
from fastrl.tabular._process import of_policy, probabilities
from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
EXACT = 1e-9
"""Of all visits: an error that no sum over steps is tried to better."""
SMALL = 300
"""States up to which "auto" solves directly."""


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """Expected discounted numbers of visits; times 1 - γ they are the distribution d^π of the literature."""

    state: Floats
    """[S]: of terminal states, the discounted probability that an episode ends there."""
    pair: Floats
    """[L]: of pairs of state and action, in the order of the process's arrays; 0 in terminal states."""
    error: float
    """How far off the numbers of all states are in total, at most, but for rounding."""
    iterations: int
    """Steps summed up; 0 of the other methods."""
    converged: bool
    """Whether ``error <= eps``."""


def occupancy(
    mdp: MDP,
    policy: Policy,
    gamma: float,
    *,
    initial: Any = None,
    method: str = "auto",
    eps: float = 1e-10,
    max_iter: int = 100_000,
) -> Occupancy:
    """Discounted visits of a policy, the measure of linear programs (Puterman 1994, section 6.9)::

        x(s') = initial(s') + γ · Σ_s Σ_a x(s, a) p(s' | s, a) discount(s, a, s'),  x(s, a) = x(s) π(a | s)

    so that the policy's expected return is Σ x(s, a) r(s, a). With γ = 1 these are expected visits of an
    episode, of policies under which it ends with probability 1.

    Args:
        mdp: S states, L pairs.
        policy: integers [S], actions; or probabilities, float64 [S, A] or [L].
        gamma: in [0, 1].
        initial: float64 [S], or the one state that episodes begin in. None: the process's own.
        method: ``direct``, a dense solve for at most 2000 states; ``krylov``, BiCGSTAB; ``iterative``, a sum
            over steps; ``auto`` picks.
        eps: > 0, ``error`` at which ``krylov`` and ``iterative`` stop.
        max_iter: >= 1, steps at most.

    Raises:
        TypeError, ValueError: an argument that is none of these; with γ = 1, a policy by which an episode
            may never end: the message names a state from which.
    """
    op = "occupancy"
    require_unit(op, "gamma", gamma)
    require_choice(op, "method", method, ("auto", "direct", "krylov", "iterative"))
    require_positive(op, "eps", eps)
    require_positive(op, "max_iter", max_iter)
    start = start_of(op, mdp, initial)
    taken = probabilities(op, mdp, policy)
    chain = chain_of(of_policy(mdp, taken))
    visited = chain.reached(start > 0)
    if gamma == 1:
        require_proper(op, chain, visited)
    if method == "direct" and mdp.num_states > DIRECT_STATES:
        raise ValueError(f"{op}: mdp must have at most {DIRECT_STATES} states, got {mdp.num_states}")
    if method == "direct" or (method == "auto" and mdp.num_states <= SMALL):
        state, error, iterations = _direct(chain, start, gamma, visited), 0.0, 0
    else:
        state, error, iterations = start, np.inf, 0
        if method != "iterative":
            state, error = _krylov(chain, start, gamma, visited, eps)
        if method == "iterative" or (method == "auto" and not error <= max(eps, EXACT * state.sum())):
            summed = _sum(chain, start, gamma, visited, eps, max_iter)
            if method == "iterative" or summed[1] < error:
                state, error, iterations = summed
    pair = np.where(chain.acting[mdp.state], state[mdp.state] * taken, 0.0)
    return Occupancy(state=state, pair=pair, error=error, iterations=iterations, converged=error <= eps)


def start_of(op: str, mdp: MDP, initial: Any) -> Floats:
    """[S]: where episodes begin, given or the process's own.

    Raises:
        ValueError: neither is told, or ``initial`` is no distribution.
    """
    start = mdp.initial if initial is None else distribution(initial, mdp.num_states)
    if start is None:
        raise ValueError(f"{op}: initial must be given, as the process does not tell where episodes begin")
    return start


def _direct(chain: Chain, start: Floats, gamma: float, visited: NDArray[np.bool_]) -> Floats:
    """Only visited states are solved for: from others a walk might never end."""
    (kept,) = np.nonzero(visited)
    x = np.zeros(chain.num_states)
    system = np.eye(kept.size) - gamma * chain.dense()[np.ix_(kept, kept)].T
    x[kept] = np.maximum(np.linalg.solve(system, start[kept]), 0.0)
    return x


def _krylov(
    chain: Chain, start: Floats, gamma: float, visited: NDArray[np.bool_], eps: float
) -> tuple[Floats, float]:
    """What balances, and a bound on what it is off.

    A residual ρ is what is lacking at some steps: with all that follows from it, at most Σ h |ρ|, where
    h >= 1 + γ W h are steps ahead.
    """

    def total(x: Floats) -> float:
        return float(np.abs(x).sum())

    ahead = np.full(chain.num_states, 1 / (1 - gamma) if gamma < 1 else 0.0)
    if gamma == 1:
        steps = bicgstab(
            lambda x: x - np.where(visited, chain.pull(x), 0.0), visited.astype(np.float64), ahead, 1e-3
        )
        ahead = 1.1 * np.where(visited, steps, 0.0)
        if not (1 + chain.pull(ahead) <= ahead)[visited].all():
            return start, np.inf
    wanted = 0.5 * eps / float(ahead.max())
    x = bicgstab(lambda x: x - gamma * chain.push(x), start, start, wanted, total)
    x = np.where(visited, np.maximum(x, 0.0), 0.0)
    left = np.abs(start + gamma * chain.push(x) - x)
    terms = np.bincount(chain.next_state, minlength=chain.num_states) + 3
    left = np.maximum(left - terms * 2.0**-53 * (x + start), 0.0)
    return x, float(left @ ahead)


def _sum(
    chain: Chain, start: Floats, gamma: float, visited: NDArray[np.bool_], eps: float, max_iter: int
) -> tuple[Floats, float, int]:
    """The sum over steps, a bound on what is missing, and the number of steps.

    Of a mass in any visited states at most shares u_1, u_2, ... are left after so many steps. What follows a
    step's mass is then at most that mass times (u_1 + ... + u_m) / (1 - u_m), for any m.
    """
    x, mass = start.copy(), start
    left = np.where(visited, 1.0, 0.0)
    shares, ahead, error, steps = 0.0, np.inf, np.inf, 0
    while error > eps and steps < max_iter:
        steps += 1
        mass = gamma * chain.push(mass)
        x += mass
        if ahead == np.inf:
            left = gamma * chain.pull(left)
            share = float(left.max(where=visited, initial=0.0))
            shares += share
            if share <= (0.5 if gamma == 1 else gamma + TOLERANCE) < 1:
                ahead = shares / (1 - share)
        following = float(mass.sum())
        error = 0.0 if following == 0 else following * ahead
    return x, error, steps
