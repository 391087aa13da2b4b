"""Finite Markov decision processes as arrays: what planners and learners read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.tabular import _files, _matrices, _outcomes, _sampling
from fastrl.tabular._check import check

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class MDP:
    """A finite Markov decision process: in every state, actions; of every action, what may follow.

    A **pair** is an action in a state. The pairs of state ``s`` are ``pair_offset[s]`` up to
    ``pair_offset[s + 1]``, so states may have different actions. What may follow pair ``l`` is row ``l`` of a
    matrix [L, S] of probabilities, dense or in compressed rows (CSR)::

        q(s, a) = r(s, a) + γ · Σ_k probability_k · discount_k · v(next_state_k)

    Make one by the class methods, which check it. They copy no array, but masks, that already has the dtype
    and the order they need, and keep read-only views. Numbers may come as floats, integers or bools, in
    arrays or lists: what is not float64 becomes a float64 copy. Rows of probabilities that come as float32
    sum to 1 within 2e-6, its rounding, and are divided by their sums; else they must within 1e-8.

    Treat the arrays as constants. Planners check those that others can write into before each use, a pass
    over them; not those that were read-only, and owned by no other array, when the process was made.
    """

    num_states: int
    """S."""
    pair_offset: NDArray[np.int64]
    """[S + 1], from 0 to L."""
    action: NDArray[np.int64]
    """[L]: the action of each pair, in [0, A)."""
    probability: Floats
    """[K] of the outcomes in compressed rows, or [L, S]."""
    offset: Ints | None = None
    """[L + 1], from 0 to K: where each pair's outcomes begin; int32 or int64. None: ``probability`` is dense.
    """
    next_state: Ints | None = None
    """[K], dtype of ``offset``: states in [0, S). None: ``probability`` is dense."""
    reward: Floats
    """[L]: r(s, a), the expected reward of a step."""
    outcome_reward: Floats | None = None
    """Like ``probability``: r(s, a, s'), where it was given. ``reward`` is its mean."""
    reward_variance: Floats | None = None
    """[L]: variance of a step's reward, where rewards were given by outcome. None: 0."""
    discount: Floats | None = None
    """Like ``probability``, in [0, 1]: a factor beside the discount of the planner; 0 where the outcome
    ends the episode. None: 1."""
    terminal: NDArray[np.bool_] | None = None
    """[S]: states whose value is 0 and in which nothing is done: their pairs, if any, mean nothing. None: no
    state is."""
    initial: Floats | None = None
    """[S]: distribution of an episode's first state. None: not told."""
    grid: tuple[int, int] | None = None
    """Rows and columns where the states are the cells of a grid, row by row: for pictures."""
    action_names: tuple[str, ...] | None = None
    """[A]: what pictures call the actions where they are no moves. None: they may be."""

    @classmethod
    def from_dense(
        cls,
        probability: Floats,
        reward: Floats,
        *,
        terminal: Any = None,
        discount: Floats | None = None,
        initial: Any = None,
    ) -> "MDP":
        """Of arrays over all states and actions.

        Args:
            probability: float64 [S, A, S], of the next state given state and action. C-contiguous is not
                copied.
            reward: float64 [S], [S, A], or [S, A, S] by next state. In [S, A], -inf is an action that the
                state lacks, as in QuantEcon: its probabilities mean nothing, and all others are copied.
            terminal: bool [S], or indices of the terminal states, each once.
            discount: float64 [S, A, S] in [0, 1], a factor beside γ.
            initial: float64 [S], or the one state that episodes begin in.

        Raises:
            TypeError, ValueError: wrong dtypes or shapes, negative or NaN probabilities, a row that does not
                sum to 1: the message names state, action and sum.
        """
        return check(_matrices.of_dense(cls, probability, reward, terminal, discount, initial))

    @classmethod
    def from_pairs(
        cls,
        probability: Any,
        reward: Any,
        *,
        state: Ints,
        action: Ints,
        num_states: int | None = None,
        terminal: Any = None,
        discount: Any = None,
        initial: Any = None,
    ) -> "MDP":
        """Of a matrix with a row for each pair of state and action: states may have different actions.

        Args:
            probability: [L, S]: a SciPy sparse array or matrix, CSR in canonical order is not copied; or its
                arrays (data, indices, indptr); or float64 [L, S]. Entries that a matrix has twice add up.
            reward: float64 [L]; or like ``probability``, by next state: a matrix, 0 where it has no entry,
                with none twice; or three arrays with the same indices and indptr.
            state: integers [L], not decreasing: the state of each pair.
            action: integers [L]: its action; no pair twice.
            num_states: S, where ``probability`` is three arrays.
            terminal: bool [S], or indices of the terminal states, each once.
            discount: like ``reward`` by next state, in [0, 1]: a factor beside γ.
            initial: float64 [S], or the one state that episodes begin in.

        Raises:
            TypeError, ValueError: as ``from_dense``; a state without an action that is not terminal.
        """
        matrix = _matrices.require_matrix(probability, num_states)
        return check(_matrices.of_pairs(cls, matrix, reward, state, action, terminal, discount, initial))

    @classmethod
    def from_matrices(
        cls,
        probabilities: Sequence[Any],
        reward: Any,
        *,
        terminal: Any = None,
        initial: Any = None,
    ) -> "MDP":
        """Of one matrix [S, S] an action.

        Args:
            probabilities: A SciPy sparse matrices or arrays, or float64 [S, S]; or [A, S, S], as in
                MDPToolbox. A row without entries, or of zeros, is an action that its state lacks.
            reward: float64 [S] or [S, A]; or A matrices [S, S] by next state, or [A, S, S].
            terminal: bool [S], or indices of the terminal states, each once.
            initial: float64 [S], or the one state that episodes begin in.

        Raises:
            TypeError, ValueError: as ``from_pairs``.
        """
        return check(_matrices.of_matrices(cls, probabilities, reward, terminal, initial))

    @classmethod
    def from_outcomes(
        cls,
        state: Ints,
        action: Ints,
        next_state: Ints,
        reward: Floats,
        probability: Floats,
        *,
        terminated: NDArray[np.bool_] | None = None,
        discount: Floats | None = None,
        num_states: int | None = None,
        terminal: Any = None,
        initial: Any = None,
    ) -> "MDP":
        """Of a list of outcomes in any order: with ``probability``, ``action`` in ``state`` leads to
        ``next_state`` for ``reward``.

        One next state may occur several times for a pair, with other rewards: p(s', r | s, a), as Sutton
        and Barto (2018, eq. 3.2) write it. Their probabilities add up; mean and variance of the reward stay.

        Args:
            state: integers [K].
            action: integers [K].
            next_state: integers [K].
            reward: float64 [K].
            probability: float64 [K].
            terminated: bool [K]: the outcome ends the episode, whatever ``next_state`` is worth.
            discount: float64 [K] in [0, 1], a factor beside γ; outcomes that agree in state, action and next
                state keep its mean.
            num_states: S; None: one more than the largest state.
            terminal: bool [S], or indices of the terminal states, each once.
            initial: float64 [S], or the one state that episodes begin in.

        Raises:
            TypeError, ValueError: as ``from_pairs``; arrays of different lengths.
        """
        columns = (state, action, next_state, reward, probability, terminated, discount)
        return check(_outcomes.of_outcomes(cls, columns, num_states, terminal, initial))

    @classmethod
    def from_gymnasium(cls, env: Any, *, initial: Any = None) -> "MDP":
        """Of a toy text environment's ``P``, or of a compiled environment of fastrl's.

        Args:
            env: an environment that has ``P``, after ``unwrapped``; or ``P`` itself, by state and action a
                list of (probability, next state, reward, terminated); or an environment with ``mdp()``, or
                one of Gymnasium's that fastrl has compiled, as Blackjack-v1.
            initial: as in ``from_outcomes``; None: the environment's ``initial_state_distrib``.

        Raises:
            TypeError: none of these.
            ValueError: as ``from_outcomes``.
        """
        return check(_outcomes.of_gymnasium(cls, env, initial))

    @classmethod
    def from_functions(
        cls,
        num_states: int,
        actions: Callable[[int], Iterable[int]],
        outcomes: Callable[[int, int], Iterable[tuple[float, int, float] | tuple[float, int, float, bool]]],
        *,
        terminal: Any = None,
        initial: Any = None,
    ) -> "MDP":
        """Of functions, each called once a state or pair.

        Args:
            num_states: S.
            actions: the actions of a state; none for terminal ones.
            outcomes: of state and action: (probability, next state, reward), or with a fourth item that says
                whether it ends the episode.
            terminal: bool [S], or indices of the terminal states, each once.
            initial: float64 [S], or the one state that episodes begin in.

        Raises:
            TypeError, ValueError: as ``from_outcomes``.
        """
        return check(_outcomes.of_functions(cls, num_states, actions, outcomes, terminal, initial))

    @property
    def num_actions(self) -> int:
        """A: one more than the largest action."""
        return int(self.action.max(initial=-1)) + 1

    @property
    def num_pairs(self) -> int:
        """L: actions, summed over the states."""
        return len(self.action)

    @property
    def is_dense(self) -> bool:
        """Whether ``probability`` is [L, S]."""
        return self.offset is None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (value for value in self.__dict__.values() if isinstance(value, np.ndarray))
        return sum(array.nbytes for array in arrays)

    @cached_property
    def state(self) -> NDArray[np.int64]:
        """[L]: the state of each pair."""
        return np.repeat(np.arange(self.num_states), np.diff(self.pair_offset))

    @cached_property
    def weight(self) -> Floats:
        """Like ``probability``: probability times discount, what a next state's value is multiplied by."""
        if self.discount is None:
            return self.probability
        product: Floats = self.probability * self.discount
        product.flags.writeable = False
        return product

    @cached_property
    def pairs_by_action(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Pairs sorted by state and action [L], their ``state * A + action`` [L], and A: to search in."""
        order = np.lexsort((self.action, self.state))
        width = self.num_actions
        return order, self.state[order] * width + self.action[order], width

    def sample(
        self, state: Ints, action: Ints, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]:
        """One outcome of each of N pairs: next states int64 [N], rewards float64 [N], and whether the episode
        ended, bool [N].

        A reward is r(s, a, s') where that is known, else r(s, a); of rewards that vary beyond that, the mean.
        With a discount between 0 and 1 the episode goes on.

        Args:
            state: integers [N].
            action: integers [N], each one of its state's.
            rng: draws one number an outcome.

        Raises:
            ValueError: a state out of range, or without the action.
        """
        return _sampling.sample(self, state, action, rng)

    def save(self, path: Path | str) -> Path:
        """Writes one ``.npz`` file, without pickle, and missing folders; gives its path."""
        return _files.save(self, path)

    @classmethod
    def load(cls, path: Path | str) -> "MDP":
        """What :meth:`save` wrote, checked again.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or something else, or its arrays do not fit; the message names it.
        """
        return _files.load(cls, path)

    def row(self, pair: int) -> tuple[NDArray[np.int64], Floats]:
        """Next states and probabilities of a pair, those with a probability of 0 left out."""
        if self.offset is None or self.next_state is None:
            probability = self.probability[pair]
            states = np.flatnonzero(probability)
            return states, probability[states]
        entries = slice(self.offset[pair], self.offset[pair + 1])
        kept = self.probability[entries] > 0
        return self.next_state[entries][kept].astype(np.int64), self.probability[entries][kept]

    def to_transitions(self) -> Mapping[int, Mapping[int, list[tuple[float, int, float, bool]]]]:
        """As Gymnasium's ``env.P``: by state and action, (probability, next state, reward, terminated).

        Raises:
            ValueError: a discount that is neither 0 nor 1 has no place there.
        """
        return _outcomes.to_transitions(self)

    def __repr__(self) -> str:
        kind = "dense" if self.is_dense else f"{self.probability.size} outcomes"
        size = f"{self.num_states} states, {self.num_pairs} pairs, {kind}"
        return f"MDP({size}, {self.nbytes / 1e6:.3g} MB, reward {describe(self.reward)})"
