"""Outcomes drawn from an :class:`~fastrl.tabular.MDP`."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import draw_outcomes
from fastrl.tabular._check import integers

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Drawn = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]
Ints = NDArray[np.int64]


def pairs_of(mdp: "MDP", state: Ints, action: Ints) -> Ints:
    """[N]: index of each pair of state and action."""
    if state.size and (state.min() < 0 or state.max() >= mdp.num_states):
        raise ValueError(f"MDP: state must be in [0, {mdp.num_states}), got {state.min()} to {state.max()}")
    first, after = mdp.pair_offset[state], mdp.pair_offset[state + 1]
    right = (action >= 0) & (action < after - first)
    guess = first + np.where(right, action, 0)  # where a state's actions are 0, 1, 2 and so on
    right[right] = mdp.action[guess[right]] == action[right]
    if right.all():
        return guess
    return np.where(right, guess, _searched(mdp, state, action))


def _searched(mdp: "MDP", state: Ints, action: Ints) -> Ints:
    order, keys, width = mdp.pairs_by_action
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
    chosen = draw_outcomes(mdp.offset, mdp.probability, pair, rng.random(len(pair)))
    next_state = (
        chosen % mdp.num_states if mdp.next_state is None else mdp.next_state[chosen].astype(np.int64)
    )
    reward = mdp.reward[pair] if mdp.outcome_reward is None else mdp.outcome_reward.ravel()[chosen]
    ended = np.zeros(len(pair), np.bool_) if mdp.discount is None else mdp.discount.ravel()[chosen] == 0
    if mdp.terminal is not None:
        ended |= mdp.terminal[next_state]
    return next_state, reward, ended
