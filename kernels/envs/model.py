"""The exact model of a tabular environment as arrays: what it steps through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import _core

Transitions = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TabularModel:
    """A finite Markov decision process: every outcome of every action in every state.

    Outcomes are stored in compressed rows: those of action ``a`` in state ``s`` are the entries
    ``offset[s * num_actions + a]`` up to ``offset[s * num_actions + a + 1]`` of the four arrays of outcomes,
    in the order of Gymnasium's ``env.P[s][a]``. Two outcomes of one row may lead to the same state.

    An episode ends with an outcome that is ``terminated``, so that nothing of ``next_state``'s value counts
    then; the rows of states that no episode goes on from mean nothing.
    """

    num_actions: int
    """A."""
    offset: NDArray[np.int64]
    """[S * A + 1], from 0 to K, the number of outcomes."""
    next_state: NDArray[np.int64]
    """[K], states in [0, S)."""
    reward: NDArray[np.float64]
    """[K]"""
    probability: NDArray[np.float64]
    """[K], of the outcome, given state and action."""
    terminated: NDArray[np.bool_]
    """[K]"""
    initial: NDArray[np.float64]
    """[S]: distribution of an episode's first state."""

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.initial)

    @property
    def state(self) -> NDArray[np.int64]:
        """[K]: the state that each outcome belongs to."""
        return self._pair // self.num_actions

    @property
    def action(self) -> NDArray[np.int64]:
        """[K]: the action that each outcome belongs to."""
        return self._pair % self.num_actions

    @property
    def _pair(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    @classmethod
    def from_transitions(cls, transitions: Transitions, initial: NDArray[np.float64]) -> "TabularModel":
        """The process of Gymnasium's ``env.P`` and ``env.initial_state_distrib``."""
        rows = [transitions[s][a] for s in range(len(initial)) for a in range(len(transitions[0]))]
        outcomes = [outcome for row in rows for outcome in row]
        columns: list[Any] = list(zip(*outcomes, strict=True))
        return cls(
            num_actions=len(transitions[0]),
            offset=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            probability=np.array(columns[0], np.float64),
            next_state=np.array(columns[1], np.int64),
            reward=np.array(columns[2], np.float64),
            terminated=np.array(columns[3], np.bool_),
            initial=np.asarray(initial, np.float64),
        )

    def to_transitions(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
        """Gymnasium's ``env.P``: by state and action, (probability, next state, reward, terminated)."""
        columns = (self.probability, self.next_state, self.reward, self.terminated)
        outcomes = list(zip(*(column.tolist() for column in columns), strict=True))
        ends = self.offset.tolist()
        rows = [outcomes[begin:end] for begin, end in pairwise(ends)]
        a = self.num_actions
        return {s: dict(enumerate(rows[s * a : (s + 1) * a])) for s in range(self.num_states)}

    def compile(self, action_mask: NDArray[np.int8] | None = None) -> _core.TransitionTable:
        """The table that compiled environments step through; ``action_mask`` int8 [S, A] goes into infos."""
        return _core.TransitionTable(
            self.num_actions,
            self.offset,
            self.next_state,
            self.reward,
            self.probability,
            self.terminated,
            self.initial,
            action_mask,
        )
