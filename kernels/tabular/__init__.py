"""Sweeps over finite Markov decision processes: what planners are made of.

``process`` is anything with the arrays of ``fastrl.tabular.MDP``: ``num_states``, ``pair_offset``,
``offset``, ``next_state``, ``weight``, ``reward`` and ``terminal``; a class, or a ``SimpleNamespace``.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fastrl._core import Bellman, PolicyIterator, draw_outcomes
from fastrl.kernels._check import require_array, require_unit

__all__ = ["Bellman", "PolicyIterator", "backup", "bellman", "draw_outcomes"]

_kept: WeakKeyDictionary[Any, Bellman] = WeakKeyDictionary()


def bellman(process: Any, num_threads: int = 1) -> Bellman:
    """The compiled sweeps over a process's arrays, which it reads in place, after a check of them by
    up to so many threads.

    Made once a process whose arrays nobody can write into; else anew, since a state out of range would be
    read from foreign memory: a pass over the arrays.

    Raises:
        ValueError: arrays that do not fit together, next states outside [0, S).
    """
    can_be_kept = hasattr(process, "__weakref__") and type(process).__hash__ is not None
    kept = _kept.get(process) if can_be_kept else None
    if kept is not None:
        return kept
    names = ("pair_offset", "offset", "next_state", "weight", "reward", "terminal")
    arrays = [getattr(process, name) for name in names]
    made = Bellman(*arrays, num_threads)
    if can_be_kept and all(map(_is_sealed, arrays)):
        _kept[process] = made
    return made


def _is_sealed(array: Any) -> bool:
    """Whether an array, and all that it is a view of, is read-only."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None


def backup(
    process: Any, value: NDArray[np.float64], gamma: float, *, num_threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """One step of dynamic programming: T v, the greedy choices and q.

    ::

        q(s, a) = reward(s, a) + γ · Σ_k weight_k · value[next_state_k]
        (T v)(s) = max_a q(s, a),   0 in terminal states

    Args:
        process: the arrays, see above.
        value: float64 [S]. Of terminal states it is taken as it is: pass zeros.
        gamma: γ in [0, 1].
        num_threads: threads at most.

    Returns:
        float64 [S]; int32 [S], the first best pair among the state's, -1 in terminal states; float64 [L],
        0 in terminal states.

    Raises:
        TypeError, ValueError: wrong dtype or shape, ``gamma`` outside [0, 1], ``num_threads`` below 1.

    Source: Puterman 1994, Markov Decision Processes, eq. 6.2.5.
    """
    require_array("backup", "value", value, np.float64, (process.num_states,), "[S]")
    require_unit("backup", "gamma", gamma)
    next_value = np.empty(process.num_states)
    choice = np.full(process.num_states, -1, np.int32)
    q = np.zeros(len(process.reward))
    bellman(process).backup(np.ascontiguousarray(value), gamma, next_value, choice, q, num_threads)
    return next_value, choice, q
