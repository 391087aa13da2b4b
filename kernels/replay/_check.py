"""What a sum tree asks of its arguments.

The compiled tree tests the same itself. Its caller comes here where an argument will not do as it is: to say
what is wrong, or to bring it into its plain form.
"""

import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe, require_array, require_choice
from fastrl.kernels._dispatch import is_tensor

LARGEST_LEAF = 2.0**960


def require_integer(op: str, name: str, x: object, low: int, high: int) -> int:
    """``x`` as an int, after checking that it lies in [low, high).

    Raises:
        TypeError: no integer.
        ValueError: out of range.
    """
    try:
        number = operator.index(x)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{op}: {name} must be an integer, got {describe(x)}") from None
    if not low <= number < high:
        raise ValueError(f"{op}: {name} must be in [{low}, {_power(high)}), got {number}")
    return number


def _power(x: int) -> str:
    return f"2^{x.bit_length() - 1}" if x >= 2**32 and x & (x - 1) == 0 else str(x)


def require_capacity(capacity: object) -> int:
    """Capacity of a tree.

    Raises:
        TypeError: no integer.
        ValueError: less than 1.
    """
    return require_integer("SumTree", "capacity", capacity, 1, 2**63)


def require_seed(seed: object) -> int:
    """Seed of a tree.

    Raises:
        TypeError: no integer.
        ValueError: outside [0, 2^64).
    """
    return require_integer("SumTree", "seed", seed, 0, 2**64)


def require_exponents(alpha: float, eps: float) -> None:
    """Raise unless both are finite and >= 0.

    Raises:
        TypeError: no number.
        ValueError: out of range.
    """
    for name, x in (("alpha", alpha), ("eps", eps)):
        if not isinstance(x, int | float | np.floating | np.integer):
            raise TypeError(f"SumTree: {name} must be a number, got {describe(x)}")
        if not 0 <= x < math.inf:
            raise ValueError(f"SumTree: {name} must be finite and >= 0, got {x}")


def require_span(op: str, start: object, stop: object, capacity: int) -> tuple[int, int]:
    """Both ends of a run of items.

    Raises:
        TypeError: no integers.
        ValueError: not 0 <= start <= stop <= capacity.
    """
    last = capacity if stop is None else require_integer(op, "stop", stop, 0, capacity + 1)
    return require_integer(op, "start", start, 0, last + 1), last


def plain_indices(
    op: str, index: Any, capacity: int, out_of_range: type[Exception] = ValueError
) -> NDArray[np.int64]:
    """Indices as a contiguous int64 array [B].

    Raises:
        TypeError: another dtype, or a tensor elsewhere than on the CPU.
        ValueError: another number of axes.
        out_of_range: an index is.
    """
    if isinstance(index, int | np.integer) and not isinstance(index, bool | np.bool_):
        if not 0 <= index < capacity:
            raise out_of_range(f"{op}: index must be in [0, {capacity}), got {index}")
        return np.array([index], np.int64)
    array = _plain(op, "index", index, (np.int64,), "int64 [B] or an integer")
    wrong = (array < 0) | (array >= capacity)
    if wrong.any():
        raise out_of_range(f"{op}: index must be in [0, {capacity}), got {array[wrong][0]}")
    return array


def plain_priorities(op: str, priority: Any, size: int) -> NDArray[Any]:
    """Priorities as a contiguous array [B] of float32 or float64.

    Raises:
        TypeError: another dtype, or a tensor elsewhere than on the CPU.
        ValueError: another shape, or a priority that is negative or not finite.
    """
    if isinstance(priority, int | float | np.floating | np.integer) and not isinstance(priority, bool):
        if not 0 <= priority < math.inf:
            raise ValueError(f"{op}: priority must be finite and >= 0, got {priority}")
        return np.full(size, float(priority))
    array = _plain(op, "priority", priority, (np.float32, np.float64), "float32 or float64 [B], or a number")
    if len(array) != size:
        raise ValueError(f"{op}: priority must be [B] = [{size}] as index is, got {describe(priority)}")
    wrong = ~((array >= 0) & (array < np.inf))
    if wrong.any():
        raise ValueError(f"{op}: priority must be finite and >= 0, got {array[wrong][0]}")
    return array


def plain_leaves(op: str, leaf: Any, size: int) -> NDArray[np.float64]:
    """Leaves as a contiguous float64 array [B].

    Raises:
        TypeError: another dtype.
        ValueError: another shape, or a leaf out of range.
    """
    array = _plain(op, "leaf", leaf, (np.float64,), "float64 [B]")
    if len(array) != size:
        raise ValueError(f"{op}: leaf must be [B] = [{size}] as index is, got {describe(leaf)}")
    _require_leaves(op, array)
    return array


def plain_masses(mass: Any, total: float) -> NDArray[np.float64]:
    """Masses as a contiguous float64 array [B].

    Raises:
        TypeError: another dtype.
        ValueError: another number of axes, a mass out of range, or an empty tree.
    """
    op = "SumTree.prefix_index"
    if isinstance(mass, int | float | np.floating | np.integer) and not isinstance(mass, bool):
        array = np.array([mass], np.float64)
    else:
        array = _plain(op, "mass", mass, (np.float64,), "float64 [B] or a number")
    _require_items(op, total)
    wrong = ~((array >= 0) & (array <= total))
    if wrong.any():
        raise ValueError(f"{op}: mass must be in [0, total] = [0, {total:g}], got {array[wrong][0]:g}")
    return array


def plain_sample(batch_size: Any, beta: Any, normalize: object, out: Any, total: float) -> int:
    """Batch size as an int, after checking the arguments of a draw.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: anything else.
    """
    op = "SumTree.sample"
    size = require_integer(op, "batch_size", batch_size, 0, 2**33)
    if not isinstance(beta, int | float | np.floating | np.integer):
        raise TypeError(f"{op}: beta must be a number, got {describe(beta)}")
    if not 0 <= beta < math.inf:
        raise ValueError(f"{op}: beta must be finite and >= 0, got {beta}")
    require_choice(op, "normalize", normalize, ("batch", "buffer", None))
    if out is not None:
        _require_out(op, out, size)
    if size > 0:
        _require_items(op, total)
    return size


def plain_state(state: Mapping[str, Any], capacity: int) -> tuple[NDArray[np.float64], float, int, int]:
    """Leaves, largest priority, seed and number of draws, after checking them.

    Raises:
        TypeError: a value of another type.
        ValueError: a missing key, another capacity, or values that no tree has.
    """
    op = "SumTree.load_state"
    if not isinstance(state, Mapping):
        raise TypeError(f"{op}: state must be a dict, got {describe(state)}")
    missing = {"leaf", "max_priority", "seed", "draws"} - set(state)
    if missing:
        raise ValueError(
            f"{op}: state must have {', '.join(sorted(missing))}, got {', '.join(sorted(state))}"
        )
    leaf, largest = state["leaf"], state["max_priority"]
    require_array(op, "leaf", leaf, np.float64, (capacity,), "[capacity]")
    _require_leaves(op, leaf)
    if not isinstance(largest, float | int) or isinstance(largest, bool):
        raise TypeError(f"{op}: max_priority must be a number, got {describe(largest)}")
    if not 0 <= largest < math.inf:
        raise ValueError(f"{op}: max_priority must be finite and >= 0, got {largest}")
    seed, draws = (require_integer(op, name, state[name], 0, 2**64) for name in ("seed", "draws"))
    return np.require(leaf, requirements=["C", "A"]), float(largest), seed, draws


def _plain(op: str, name: str, x: Any, dtypes: tuple[Any, ...], wanted: str) -> NDArray[Any]:
    given = x
    if is_tensor(x):
        if x.device.type != "cpu":
            raise TypeError(f"{op}: {name} must be on the CPU, got a tensor on {x.device}")
        known = str(x.dtype).removeprefix("torch.") in [np.dtype(dtype).name for dtype in dtypes]
        x = x.detach().resolve_neg().numpy() if known and str(x.layout) == "torch.strided" else None
    if not isinstance(x, np.ndarray) or x.dtype not in dtypes or not x.dtype.isnative:
        raise TypeError(f"{op}: {name} must be {wanted}, got {describe(given)}")
    if x.ndim > 1:
        raise ValueError(f"{op}: {name} must be {wanted}, got {describe(given)}")
    return np.require(np.atleast_1d(x), requirements=["C", "A"])


def _require_leaves(op: str, leaf: NDArray[np.float64]) -> None:
    wrong = ~((leaf >= 0) & (leaf <= LARGEST_LEAF))
    if wrong.any():
        raise ValueError(f"{op}: leaf must be in [0, 2^960], got {leaf[wrong][0]}")


def _require_out(op: str, out: Any, size: int) -> None:
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(f"{op}: out must be a tuple (index, weight), got {describe(out)}")
    for name, x, dtype in (("index", out[0], np.int64), ("weight", out[1], np.float32)):
        require_array(op, f"out's {name}", x, dtype, (size,), "[B]")
        if not (x.flags.c_contiguous and x.flags.aligned and x.flags.writeable):
            raise ValueError(
                f"{op}: out's {name} must be contiguous, aligned and writeable, got another array"
            )
    if np.may_share_memory(*out):
        raise ValueError(f"{op}: out must be two arrays that share no memory, got views of one")


def _require_items(op: str, total: float) -> None:
    if not total > 0:
        raise ValueError(f"{op}: an item must have a priority over 0, got a tree whose total is 0")
