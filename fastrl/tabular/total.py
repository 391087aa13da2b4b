"""Undiscounted total reward: whether every state can end, and what a sweep proves then."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import Bellman, bellman
from fastrl.tabular._check import row_sums
from fastrl.tabular._process import Process, of_pairs
from fastrl.tabular.bounds import Bounds, rounding

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
MOST_SWEEPS = 20_000


def resting(mdp: "MDP", of: Bellman) -> NDArray[np.bool_]:
    """[S]: states that are worth 0 because nothing is rewarded any more, terminal ones among them.

    Raises:
        ValueError: from some state no policy ends, yet there are rewards: values are not finite.
    """
    component = of.components()
    if mdp.offset is None or mdp.next_state is None:
        pair, following = np.nonzero(mdp.weight)
        leads = component[following]
    else:
        pair = np.repeat(np.arange(mdp.num_pairs), np.diff(mdp.offset))[mdp.weight > 0]
        leads = component[mdp.next_state[mdp.weight > 0]]
    leaves = component[mdp.state[pair]] != leads
    left = np.zeros(mdp.num_states, np.bool_)
    left[component[mdp.state[pair[leaves]]]] = True
    left[component[mdp.state[row_sums(mdp, mdp.weight) < 1 - 1e-7]]] = True
    closed = ~left[component]
    if mdp.terminal is not None:
        closed |= mdp.terminal
    rewarded = np.zeros(mdp.num_states, np.bool_)
    used = mdp.reward != 0
    if mdp.terminal is not None:
        used &= ~mdp.terminal[mdp.state]
    rewarded[component[mdp.state[used]]] = True
    endless = closed & rewarded[component]
    if endless.any():
        s = int(endless.argmax())
        raise ValueError(
            f"solve: gamma must be < 1: from state {s} no policy ends, and rewards go on for ever"
        )
    return closed


def _longest(mdp: "MDP", ends: NDArray[np.bool_], q: Floats, best: Floats, gamma: float) -> Floats | None:
    """[S]: h >= 1 + γ P_a h for every action a that may be optimal, or None if these need not end."""
    tolerance = 1e-7 * (1 + np.abs(best))
    near = (q >= (best - tolerance)[mdp.state]) & ~ends[mdp.state]
    process = of_pairs(mdp, near, np.ones(mdp.num_pairs))
    process = Process(**{**process.__dict__, "terminal": ends})
    steps = np.zeros(mdp.num_states)
    of = bellman(process)
    _, _, converged = of.solve_components(steps, gamma, 1e-3, MOST_SWEEPS, False)
    if not converged or not np.isfinite(steps).all():
        return None
    steps *= 1.1
    next_steps, choice = np.empty_like(steps), np.full(mdp.num_states, -1, np.int32)
    _, high, _ = of.backup(steps, gamma, next_steps, choice, None)
    return steps if high <= 0 else None


def certify_total(mdp: "MDP", ends: NDArray[np.bool_], value: Floats, gamma: float) -> Bounds:
    """Bounds on V* where weights sum to 1 and gamma is 1, so that only ends bound what is to come.

    With h the expected number of steps under near-optimal actions, h >= 1 + P h: if T_π v >= v - κ then
    V_π >= v - κ h, and if T (v + κ h) <= v + κ h then V* <= v + κ h. Where that does not hold the bound is
    infinite.

    Source: Bertsekas 2012, Dynamic Programming and Optimal Control, volume 2, propositions 3.2.1 and 3.2.2.
    """
    of = bellman(mdp)
    states = mdp.num_states
    next_value, choice, q = np.empty(states), np.full(states, -1, np.int32), np.zeros(mdp.num_pairs)
    of.backup(value, gamma, next_value, choice, q)
    change = np.where(ends, 0, next_value - value)
    steps = _longest(mdp, ends, q, next_value, gamma)
    if steps is None:
        return np.full(states, -np.inf), np.full(states, np.inf), choice
    slack = 4 * rounding(of, float(np.abs(value).max()))
    lower = value + min(0.0, float(change.min()) - slack) * steps
    above = value + (2 * max(0.0, float(change.max())) + 2 * slack) * steps
    checked = np.empty(states)
    of.backup(above, gamma, checked, np.full(states, -1, np.int32), None)
    proven = (checked <= above - slack / 2) | ends
    return lower, above if proven.all() else np.full(states, np.inf), choice
