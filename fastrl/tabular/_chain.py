"""What a policy makes of a finite MDP: a Markov chain, and where it leads."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.tabular._check import TOLERANCE
from fastrl.tabular._moments import sums
from fastrl.tabular._process import Process

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Policy = Any
"""Integers [S]: an action a state; or probabilities, float64 [S, A], or [L] of the pairs. What it says of
terminal states is unused."""
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
    acting: NDArray[np.bool_]
    """[S]: states that are not terminal."""

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


def chain_of(process: Process) -> Chain:
    """The chain of a process with one pair a state."""
    states = process.num_states
    acting = np.ones(states, np.bool_) if process.terminal is None else ~process.terminal
    if process.offset is None or process.next_state is None:
        state, next_state = np.nonzero(process.weight)
        weight = process.weight[state, next_state]
    else:
        state = np.repeat(np.arange(states), np.diff(process.offset))
        next_state, weight = process.next_state.astype(np.int64), process.weight
    kept = (weight > 0) & acting[state]
    return Chain(
        num_states=states,
        state=state[kept],
        next_state=next_state[kept],
        weight=weight[kept],
        reward=np.where(acting, process.reward, 0.0),
        acting=acting,
    )


def require_proper(op: str, chain: Chain, visited: NDArray[np.bool_]) -> None:
    """Raise unless every walk from a visited state ends: in a terminal state, or by a weight below 1."""
    leaks = chain.pull(np.ones(chain.num_states)) < 1 - TOLERANCE
    ends = chain.reached(~chain.acting | leaks, reverse=True)
    lost = visited & ~ends
    if lost.any():
        raise ValueError(
            f"{op}: policy must end from every state that it visits where gamma is 1, "
            f"got one that never ends from state {int(lost.argmax())}"
        )
