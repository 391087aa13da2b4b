"""Processes made from a process: of one policy, or of some of its pairs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.tabular._check import TOLERANCE, array_of, renormalise
from fastrl.tabular.bounds import SHARP, Blur

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Process:
    """The arrays that sweeps read, as in ``MDP``."""

    num_states: int
    pair_offset: NDArray[np.int64]
    offset: NDArray[Any] | None
    next_state: NDArray[Any] | None
    weight: Floats
    reward: Floats
    terminal: NDArray[np.bool_] | None
    blur: Blur = SHARP
    """How far weights and rewards are rounded."""

    @property
    def num_pairs(self) -> int:
        """L."""
        return len(self.reward)

    @property
    def state(self) -> NDArray[np.int64]:
        """[L]: the state of each pair."""
        return np.repeat(np.arange(self.num_states), np.diff(self.pair_offset))


def probabilities(op: str, mdp: "MDP", policy: Any) -> Floats:
    """[L]: how likely a policy takes each pair; ``policy`` is actions [S], or probabilities [L] or [S, A].

    What it says of terminal states is not read. Probabilities of a dtype coarser than float64 may miss a sum
    of 1 by its rounding, and are made to sum to 1.

    Raises:
        TypeError, ValueError: it is none of these, or takes an action that a state lacks.
    """
    given = array_of(policy)
    states, actions, pairs = mdp.num_states, mdp.num_actions, mdp.num_pairs
    alive = np.ones(states, np.bool_) if mdp.terminal is None else ~mdp.terminal
    acting = alive[mdp.state]
    if given.dtype.kind in "iu" and given.shape == (states,):
        chosen: Floats = (mdp.action == given[mdp.state]).astype(np.float64)
        wrong = alive & (np.bincount(mdp.state, chosen, states) != 1)
        if wrong.any():
            s = int(wrong.argmax())
            raise ValueError(f"{op}: policy must take an action of state {s}'s, got {given[s]}")
        return np.where(acting, chosen, 0.0)
    if given.dtype.kind not in "fiub" or given.shape not in ((pairs,), (states, actions)):
        raise TypeError(
            f"{op}: policy must be integers [S] = [{states}], or floats [L] = [{pairs}] or "
            f"[S, A] = [{states}, {actions}], got {describe(policy)}"
        )
    table = given.astype(np.float64)
    if table.ndim == 2:
        outside = table.copy()
        outside[mdp.state, mdp.action] = 0
        if outside[alive].any():
            s = int(np.flatnonzero(outside.any(axis=1) & alive)[0])
            raise ValueError(f"{op}: policy must take an action of state {s}'s, got {given[s]}")
        table = table[mdp.state, mdp.action]
    table = np.where(acting, table, 0.0)
    negative = np.bincount(mdp.state, ~(table >= 0), states) > 0
    renormalise(given.dtype, table, mdp.state, states)
    sums = np.bincount(mdp.state, table, states)
    wrong = negative | (alive & ~(np.abs(sums - 1) <= TOLERANCE))
    if wrong.any():
        s = int(wrong.argmax())
        raise ValueError(f"{op}: policy must be >= 0 and sum to 1, got {sums[s]} in state {s}")
    return table


def of_policy(mdp: "MDP | Process", policy: Floats) -> Process:
    """The process with one pair a state: what ``policy`` [L] does there."""
    states = mdp.num_states
    policy = policy if mdp.terminal is None else np.where(mdp.terminal[mdp.state], 0, policy)
    reward: Floats = np.bincount(mdp.state, np.where(policy > 0, policy * mdp.reward, 0.0), states).astype(
        float
    )
    each, blur = np.arange(states + 1, dtype=np.int64), _blur(mdp, policy)
    if mdp.offset is None or mdp.next_state is None:
        weight = np.zeros((states, states))
        for pair in np.flatnonzero(policy):
            weight[mdp.state[pair]] += policy[pair] * mdp.weight[pair]
        return Process(states, each, None, None, weight, reward, mdp.terminal, blur)
    lengths = np.diff(mdp.offset)
    taken = policy > 0
    kept = np.repeat(taken, lengths)
    weight = mdp.weight[kept]
    weight *= np.repeat(policy[taken], lengths[taken])
    counts = np.bincount(mdp.state, np.where(taken, lengths, 0), states)
    offset = np.concatenate([[0], np.cumsum(counts)]).astype(mdp.offset.dtype)
    return Process(states, each, offset, mdp.next_state[kept], weight, reward, mdp.terminal, blur)


def _blur(mdp: "MDP | Process", policy: Floats) -> Blur:
    """Of what ``policy`` [L] mixes; what it takes for sure is exact."""
    mixed = (policy != 0) & (policy != 1)
    if not mixed.any():
        return SHARP
    most = int(np.bincount(mdp.state[mixed]).max()) + 1  # a product, and sums
    return Blur(most, float(np.abs(mdp.reward[mixed]).max()))


def of_pairs(mdp: "MDP | Process", kept: NDArray[np.bool_], reward: Floats) -> Process:
    """The process with the pairs ``kept`` [L] alone, and ``reward`` [L]."""
    counts = np.bincount(mdp.state, kept, mdp.num_states)
    pair_offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if mdp.offset is None or mdp.next_state is None:
        weight = np.ascontiguousarray(mdp.weight[kept])
        return Process(mdp.num_states, pair_offset, None, None, weight, reward[kept], mdp.terminal)
    lengths = np.diff(mdp.offset)
    entries = np.repeat(kept, lengths)
    offset = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(mdp.offset.dtype)
    return Process(
        mdp.num_states,
        pair_offset,
        offset,
        mdp.next_state[entries],
        mdp.weight[entries],
        reward[kept],
        mdp.terminal,
    )
