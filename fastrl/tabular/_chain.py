"""What a policy makes of a finite MDP: a Markov chain with rewards."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.tabular._check import TOLERANCE, row_sums
from fastrl.tabular._moments import sums
from fastrl.tabular._sampling import pairs_of
from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Policy = Any
"""int64 [S]: an action a state; or float64 [S, A]: probabilities. What it says of terminal
states is unused."""
DIRECT_STATES = 2000
"""Up to so many states a dense solve, of 32 MB, is the fastest and the most accurate."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Weights, probability times discount, from each state to the next: a sparse matrix [S, S], W below."""

    num_states: int
    state: Ints
    """[K], not decreasing."""
    next_state: Ints
    """[K]."""
    weight: Floats
    """[K], > 0; none from terminal states."""
    reward: Floats
    """[S], 0 in terminal states."""

    def pull(self, value: Floats) -> Floats:
        """W v, [S]."""
        return sums(self.state, self.weight * value[self.next_state], self.num_states)

    def push(self, mass: Floats) -> Floats:
        """Wᵀ m, [S]."""
        return sums(self.next_state, self.weight * mass[self.state], self.num_states)

    def dense(self) -> Floats:
        """W, [S, S]."""
        keys = self.state * self.num_states + self.next_state
        return sums(keys, self.weight, self.num_states**2).reshape(self.num_states, -1)

    def reached(
        self, start: NDArray[np.bool_], *, reverse: bool = False, known: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """[S]: states that a walk from ``start`` can get to; in reverse, that can get to ``start``.

        ``known`` states are part of the answer, and not gone on from.
        """
        found = start.copy() if known is None else start | known
        frontier = np.flatnonzero(start)
        first, order = self._edges[reverse]
        ends = self.state if reverse else self.next_state
        while frontier.size:
            count = first[frontier + 1] - first[frontier]
            inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            after = ends[order[np.repeat(first[frontier], count) + inside]]
            frontier = np.unique(after[~found[after]])
            found[frontier] = True
        return found

    @cached_property
    def _edges(self) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Of both directions, where each state's edges begin, and their order."""
        grouped = []
        for state in (self.state, self.next_state):
            order = np.argsort(state, kind="stable")
            first = np.searchsorted(state[order], np.arange(self.num_states + 1))
            grouped.append((first, order))
        return grouped[0], grouped[1]


def acting(mdp: MDP) -> NDArray[np.bool_]:
    """[S]: states that are not terminal."""
    return np.ones(mdp.num_states, np.bool_) if mdp.terminal is None else ~mdp.terminal


def pair_probability(op: str, mdp: MDP, policy: Policy) -> Floats:
    """[L]: the probability that the policy takes each pair, given its state; 0 in terminal states.

    Raises:
        TypeError, ValueError: it is no policy of this process; the message names the state.
    """
    acts = acting(mdp)
    if not isinstance(policy, np.ndarray) or policy.dtype not in (np.int64, np.float64):
        raise TypeError(f"{op}: policy must be int64 [S] or float64 [S, A], got {describe(policy)}")
    if policy.dtype == np.int64:
        if policy.shape != (mdp.num_states,):
            raise ValueError(f"{op}: policy must be int64 [S] = [{mdp.num_states}], got {describe(policy)}")
        states = np.flatnonzero(acts)
        taken = np.zeros(mdp.num_pairs)
        taken[pairs_of(mdp, states, policy[states])] = 1.0
        return taken
    shape = (mdp.num_states, mdp.num_actions)
    if policy.shape != shape:
        raise ValueError(f"{op}: policy must be float64 [S, A] = {list(shape)}, got {describe(policy)}")
    taken = np.where(acts[mdp.state], policy[mdp.state, mdp.action], 0.0)
    negative = ~(taken >= 0)
    if negative.any():
        pair = int(negative.argmax())
        where = f"state {mdp.state[pair]}, action {mdp.action[pair]}"
        raise ValueError(f"{op}: policy must be >= 0, got {taken[pair]} in {where}")
    totals = sums(mdp.state, taken, mdp.num_states)
    off = acts & ~(np.abs(totals - 1) <= TOLERANCE)
    if off.any():
        s = int(off.argmax())
        raise ValueError(f"{op}: policy must sum to 1 over a state's actions, got {totals[s]} in state {s}")
    return taken


def chain_of(mdp: MDP, taken: Floats) -> Chain:
    """The chain of a policy, given as ``pair_probability`` gives it."""
    pairs = np.flatnonzero(taken)
    share = taken[pairs]
    if mdp.offset is None or mdp.next_state is None:
        row, next_state = np.nonzero(mdp.weight[pairs])
        weight = mdp.weight[pairs][row, next_state]
    else:
        count = (mdp.offset[pairs + 1] - mdp.offset[pairs]).astype(np.int64)
        row = np.repeat(np.arange(len(pairs)), count)
        inside = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        entry = np.repeat(mdp.offset[pairs].astype(np.int64), count) + inside
        kept = mdp.weight[entry] > 0
        row, entry = row[kept], entry[kept]
        next_state, weight = mdp.next_state[entry].astype(np.int64), mdp.weight[entry]
    return Chain(
        num_states=mdp.num_states,
        state=mdp.state[pairs][row],
        next_state=next_state,
        weight=share[row] * weight,
        reward=sums(mdp.state[pairs], share * mdp.reward[pairs], mdp.num_states),
    )


def q_values(mdp: MDP, value: Floats, gamma: float) -> Floats:
    """[L]: r + γ Σ weight · value of each pair; what it is in terminal states means nothing."""
    if mdp.next_state is None:
        expected = mdp.weight @ value
    else:
        expected = row_sums(mdp, mdp.weight * value[mdp.next_state])
    q: Floats = mdp.reward + gamma * expected
    return q


def greedy(mdp: MDP, q: Floats) -> tuple[Floats, Ints]:
    """[S] each: the largest of a state's ``q``, and the first action with it; 0 and -1 in terminal states."""
    acts = acting(mdp)
    q = np.where(acts[mdp.state], q, 0.0)
    states = np.flatnonzero(np.diff(mdp.pair_offset))
    begins = mdp.pair_offset[states]
    most = np.zeros(mdp.num_states)
    action = np.full(mdp.num_states, -1)
    if states.size:
        most[states] = np.maximum.reduceat(q, begins)
        best = np.where(q == most[mdp.state], np.arange(mdp.num_pairs), mdp.num_pairs - 1)
        action[states] = mdp.action[np.minimum.reduceat(best, begins)]
    return np.where(acts, most, 0.0), np.where(acts, action, -1)


def require_proper(op: str, chain: Chain, acts: NDArray[np.bool_], visited: NDArray[np.bool_]) -> None:
    """Raise unless every walk from a visited state ends: in a terminal state, or by a weight below 1."""
    leaks = chain.pull(np.ones(chain.num_states)) < 1 - TOLERANCE
    ends = chain.reached(~acts | leaks, reverse=True)
    lost = visited & ~ends
    if lost.any():
        raise ValueError(
            f"{op}: policy must end from every state that it visits where gamma is 1, "
            f"got one that never ends from state {int(lost.argmax())}"
        )
