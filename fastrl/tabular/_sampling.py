"""Outcomes drawn from an :class:`~fastrl.tabular.MDP`."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.tabular._check import integers

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Drawn = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]


def pairs_of(mdp: "MDP", state: NDArray[np.int64], action: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N]: index of each pair of state and action."""
    if state.size and (state.min() < 0 or state.max() >= mdp.num_states):
        raise ValueError(f"MDP: state must be in [0, {mdp.num_states}), got {state.min()} to {state.max()}")
    order = np.lexsort((mdp.action, mdp.state))  # actions of a state may come in any order
    width = mdp.num_actions
    keys = mdp.state[order] * width + mdp.action[order]
    inside = (action >= 0) & (action < width)
    wanted = state * width + np.where(inside, action, 0)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known = inside & (keys[place] == wanted)
    if not known.all():
        s, a = state[known.argmin()], action[known.argmin()]
        actions = mdp.action[mdp.pair_offset[s] : mdp.pair_offset[s + 1]].tolist()
        raise ValueError(f"MDP: action of state {s} must be one of {actions}, got {a}")
    return order[place]


def sample(mdp: "MDP", state: Any, action: Any, rng: np.random.Generator) -> Drawn:
    """See ``MDP.sample``."""
    state = integers("state", state, np.size(state), "[N]")
    pair = pairs_of(mdp, state, integers("action", action, len(state), "[N]"))
    if mdp.terminal is not None and mdp.terminal[state].any():
        ended_in = state[mdp.terminal[state].argmax()]
        raise ValueError(f"MDP sample: state must be one that episodes go on from, got {ended_in}")
    if mdp.offset is None:
        begin = pair * mdp.num_states
        count = np.full(len(pair), mdp.num_states)
    else:
        begin, count = mdp.offset[pair].astype(np.int64), np.diff(mdp.offset)[pair].astype(np.int64)
    first = np.cumsum(count) - count  # of each draw, in the outcomes of all draws one after the other
    draw = np.repeat(np.arange(len(pair)), count)
    outcome = np.arange(count.sum()) - first[draw] + begin[draw]
    probability = mdp.probability.ravel()[outcome]
    up_to = np.cumsum(probability)
    before = np.concatenate([[0.0], up_to])[first]
    total = np.concatenate([[0.0], up_to])[first + count] - before
    passed = up_to <= (before + rng.random(len(pair)) * total)[draw]
    chosen = first + np.add.reduceat(passed, first, dtype=np.int64) if len(pair) else first
    last = np.zeros(len(pair), np.int64)  # rounding may pass them all, or stop at one that cannot be
    possible = np.flatnonzero(probability > 0)
    last[draw[possible]] = possible
    chosen = outcome[np.minimum(chosen, last)]
    next_state = (
        chosen % mdp.num_states if mdp.next_state is None else mdp.next_state[chosen].astype(np.int64)
    )
    reward = mdp.reward[pair] if mdp.outcome_reward is None else mdp.outcome_reward.ravel()[chosen]
    ended = np.zeros(len(pair), np.bool_) if mdp.discount is None else mdp.discount.ravel()[chosen] == 0
    if mdp.terminal is not None:
        ended |= mdp.terminal[next_state]
    return next_state, reward, ended
