"""What a finite Markov decision process must be: the first row that is not is named."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe

if TYPE_CHECKING:
    from fastrl.tabular._process import Process
    from fastrl.tabular.mdp import MDP

TOLERANCE = 1e-8
"""How far a row's sum may be from 1."""


def tolerance(dtype: np.dtype[Any]) -> float:
    """How far the sum of a row of this dtype may be from 1: what is coarser than float64 was rounded."""
    return TOLERANCE if dtype.kind != "f" else min(max(TOLERANCE, 16 * float(np.finfo(dtype).eps)), 1e-5)


def array_of(x: Any) -> NDArray[Any]:
    """An array; of what cannot be one, as rows of different lengths, one of dtype object without axes."""
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError):
        return np.asarray(None)


def floats(name: str, x: Any, dims: str) -> NDArray[np.float64]:
    """float64 of floats, integers or bools, in arrays or lists; a float64 array itself."""
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return x
    array = array_of(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"MDP: {name} must be float64 {dims}, got {describe(x)}")
    return array.astype(np.float64)


def dtype_of(x: Any) -> np.dtype[Any]:
    """Of what numbers are given in, arrays or lists."""
    return np.dtype(x.dtype) if isinstance(getattr(x, "dtype", None), np.dtype) else np.asarray(x).dtype


def renormalise(given: np.dtype[Any], probability: NDArray[np.float64], row: Any, rows: int) -> None:
    """Rows given in a dtype coarser than float64 sum to 1 but for its rounding: now they do, in place.

    ``row`` tells of each probability which row it is in; None: they are [rows, S]. Rows further from 1 are
    left for :func:`check` to refuse.
    """
    allowed = tolerance(given)
    if allowed <= TOLERANCE:
        return
    total = probability.sum(axis=1) if row is None else np.bincount(row, probability, rows)
    total[~(np.abs(total - 1) <= allowed)] = 1
    probability /= total[:, None] if row is None else total[row]


def seal(*arrays: NDArray[Any] | None) -> None:
    """Close arrays that nobody else holds to writing, for planners to rely on."""
    for array in arrays:
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner.flags.writeable = False
            owner = owner.base


def require_states(states: Any) -> int:
    """A number of states that kernels can name by int32."""
    if isinstance(states, bool) or not isinstance(states, int | np.integer):
        raise TypeError(f"MDP: num_states must be an integer, got {describe(states)}")
    if not 1 <= states < 2**31:
        rule = "at least one state" if states < 1 else "fewer than 2^31 states"
        raise ValueError(f"MDP: there must be {rule}, got {states or 'none'}")
    return int(states)


def require_actions(states: int, state: NDArray[np.integer[Any]], terminal: Any) -> None:
    """Raise if there are too few pairs for all states: before anything of S states is made."""
    ends = _marked("terminal", terminal, states)
    if ends is not None and ends.dtype == np.bool_:
        return
    size = 0 if ends is None else ends.size
    if state.size + size >= states:
        return
    known = np.unique(state if ends is None else np.append(state, ends.astype(np.int64)))
    first = int(np.append(known != np.arange(known.size), True).argmax())
    raise ValueError(f"MDP: state {first} must have an action or be terminal, got none")


def mask(name: str, given: Any, states: int) -> NDArray[np.bool_] | None:
    """bool [S] from a mask or from indices; always an array of its own."""
    marked = _marked(name, given, states)
    if marked is None:
        return None
    if marked.dtype == np.bool_:
        found = marked.copy()
    else:
        found = np.zeros(states, np.bool_)
        found[marked] = True
    seal(found)
    return found


def _marked(name: str, given: Any, states: int) -> NDArray[Any] | None:
    """A mask, or indices each once, as they were given; None where no state is marked."""
    if given is None:
        return None
    array = array_of(given)
    if array.dtype == np.bool_ and array.shape == (states,):
        return array
    if array.shape == (0,):
        return None
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(f"MDP: {name} must be bool [{states}] or indices of states, got {describe(given)}")
    if array.min() < 0 or array.max() >= states:
        raise ValueError(f"MDP: {name} must be in [0, {states}), got {given}")
    if array.ndim and (len(np.unique(array)) < array.size or (array.size == states and array.max() <= 1)):
        raise ValueError(f"MDP: {name} must be indices, each once, or a mask of dtype bool, got {given}")
    return array


def distribution(given: Any, states: int) -> NDArray[np.float64] | None:
    """float64 [S] from probabilities or from one state."""
    if given is None:
        return None
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        if not 0 <= given < states:
            raise ValueError(f"MDP: initial must be in [0, {states}), got {given}")
        given = np.arange(states) == given
    array = floats("initial", given, f"[{states}] or a state")
    if array.shape != (states,):
        raise ValueError(f"MDP: initial must be float64 [{states}] or a state, got {describe(given)}")
    renormalise(dtype_of(given), array, np.zeros(states, np.int64), 1)
    if not (array >= 0).all() or not abs(array.sum() - 1) <= TOLERANCE:
        raise ValueError(f"MDP: initial must be >= 0 and sum to 1, got a sum of {array.sum()}")
    return array


def integers(name: str, x: Any, size: int, dims: str) -> NDArray[np.int64]:
    """int64 [size] of integers; nothing of any dtype is none of them."""
    array = array_of(x)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"MDP: {name} must be integers {dims}, got {describe(x)}")
    if array.shape != (size,):
        raise ValueError(f"MDP: {name} must be integers {dims} = [{size}], got {describe(x)}")
    return array.astype(np.int64, copy=False)


def check(mdp: "MDP") -> "MDP":
    """The process itself, once every rule holds, its arrays as views that cannot be written through.

    Raises:
        ValueError: names the rule, and state and action where it fails first.
    """
    _require_pairs(mdp)
    used = ~mdp.terminal[mdp.state] if mdp.terminal is not None else np.ones(mdp.num_pairs, np.bool_)
    if mdp.next_state is not None and mdp.next_state.size:
        low, high = mdp.next_state.min(), mdp.next_state.max()
        if low < 0 or high >= mdp.num_states:
            outside = (mdp.next_state < 0) | (mdp.next_state >= mdp.num_states)
            _fail(
                mdp,
                outside,
                f"next states of {{}} must be in [0, {mdp.num_states}), got {{}}",
                mdp.next_state,
            )
    bad = ~(mdp.probability >= 0)
    if bad.any():
        _fail(mdp, bad, "probabilities of {} must be >= 0, got {}", mdp.probability, used)
    sums = row_sums(mdp, mdp.probability)
    off = ~(np.abs(sums - 1) <= TOLERANCE) & used
    if off.any():
        _fail_pair(mdp, int(off.argmax()), "probabilities of {} must sum to 1, got {}", sums)
    wrong = ~np.isfinite(mdp.reward) & used
    if wrong.any():
        _fail_pair(mdp, int(wrong.argmax()), "reward of {} must be finite, got {}", mdp.reward)
    if mdp.discount is not None:
        outside = ~((mdp.discount >= 0) & (mdp.discount <= 1))
        _fail(mdp, outside, "discounts of {} must be in [0, 1], got {}", mdp.discount, used)
    for name, array in list(mdp.__dict__.items()):
        if isinstance(array, np.ndarray):
            view = array.view()
            view.flags.writeable = False
            mdp.__dict__[name] = view
    return mdp


def row_sums(mdp: "MDP | Process", values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[L]: sum over each pair's outcomes of ``values``, like ``probability``."""
    if mdp.offset is None:
        dense: NDArray[np.float64] = values.sum(axis=1)
        return dense
    sums = np.zeros(mdp.num_pairs)
    filled = np.flatnonzero(np.diff(mdp.offset) > 0)
    if filled.size:
        sums[filled] = np.add.reduceat(values, mdp.offset[filled])
    return sums


def _require_pairs(mdp: "MDP") -> None:
    if mdp.num_states < 1:
        raise ValueError("MDP: there must be at least one state, got none")
    counts = np.diff(mdp.pair_offset)
    idle = counts == 0 if mdp.terminal is None else (counts == 0) & ~mdp.terminal
    if idle.any():
        raise ValueError(f"MDP: state {int(idle.argmax())} must have an action or be terminal, got none")
    if mdp.num_pairs and mdp.action.min() < 0:
        raise ValueError(f"MDP: action must be >= 0, got {mdp.action.min()}")
    if ((np.diff(mdp.action) > 0) | (np.diff(mdp.state) > 0)).all():
        return  # in order, as most are: sorting a million pairs takes 20 ms
    order = np.lexsort((mdp.action, mdp.state))
    state, action = mdp.state[order], mdp.action[order]
    twice = np.flatnonzero((np.diff(state) == 0) & (np.diff(action) == 0))
    if twice.size:
        s, a = state[twice[0]], action[twice[0]]
        raise ValueError(f"MDP: a state must have each action once, got state {s}, action {a} twice")


def _fail(
    mdp: "MDP",
    bad: NDArray[np.bool_],
    message: str,
    values: NDArray[np.generic],
    used: NDArray[np.bool_] | None = None,
) -> None:
    """Raises for the first bad outcome of a pair in use, if there is one."""
    where = np.argwhere(bad)
    pairs = where[:, 0] if mdp.offset is None else np.searchsorted(mdp.offset, where[:, 0], side="right") - 1
    for at, pair in zip(where, pairs.tolist(), strict=True):
        if used is None or used[pair]:
            raise ValueError(f"MDP: {message.format(_name(mdp, pair), values[tuple(at)])}")


def _fail_pair(mdp: "MDP", pair: int, message: str, values: NDArray[np.float64]) -> None:
    raise ValueError(f"MDP: {message.format(_name(mdp, pair), values[pair])}")


def _name(mdp: "MDP", pair: int) -> str:
    return f"state {mdp.state[pair]}, action {mdp.action[pair]}"
