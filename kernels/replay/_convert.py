"""What a replay buffer does with arguments that its compiled part does not take as they are: it converts them
without loss of meaning, or says what is wrong (csrc/replay_arguments.h)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.kernels._dispatch import is_tensor


def rows(op: str, name: str, value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``value`` as an array of ``dtype``, C-contiguous: from lists, tensors, any strides and byte order.

    Real numbers become any float dtype; integers and bools any dtype that holds each of them.

    Raises:
        TypeError: no numbers, or numbers that the dtype is not for.
        ValueError: an integer that does not fit, or a ragged list.
    """
    array = array_of(op, name, value, f"an array of {dtype}")
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(dtype)  # NumPy takes [] for floats
    if array.dtype.kind not in "biufc" or not np.can_cast(array.dtype, _kind(dtype), "same_kind"):
        raise TypeError(f"{op}: {name} must be {dtype}, got {describe(array if array.ndim else value)}")
    if (
        array.dtype.kind in "biu"
        and dtype.kind in "biu"
        and not np.can_cast(array.dtype, dtype)
        and array.size
    ):
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for value in (int(array.min()), int(array.max())):
            if not low <= value <= high:
                raise ValueError(f"{op}: {name} must fit {dtype}, [{low}, {high}], got {value}")
    with np.errstate(over="ignore"):  # of float64 to float32: infinity
        return np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(array.shape)


def array_of(op: str, name: str, value: Any, wanted: str) -> NDArray[Any]:
    """``value`` as an array, of whatever dtype; a tensor without its gradient.

    Raises:
        TypeError: a tensor without memory of its own, such as a sparse one.
        ValueError: a ragged list.
    """
    try:
        if not is_tensor(value):
            return np.asarray(value)
        value = value.detach().cpu().resolve_conj().resolve_neg()
        narrow = value.is_floating_point() and value.element_size() < 4  # NumPy has no bfloat16
        return (value.float() if narrow else value).numpy()  # type: ignore[no-any-return]
    except ValueError as error:
        raise ValueError(f"{op}: {name} must be {wanted}, got {error}") from None
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{op}: {name} must be {wanted}, got {describe(value)}: {_line(error)}") from None


def _line(error: Exception) -> str:
    """The first line of what torch says."""
    return str(error).partition("\n")[0]


def _kind(dtype: np.dtype[Any]) -> type[np.generic]:
    """The widest dtype of that kind, to which all values that it may hold can be cast."""
    if dtype.kind in "biu":
        return np.int64
    return np.complex128 if dtype.kind == "c" else np.float64


def indexes(op: str, value: Any) -> NDArray[np.int64]:
    """``value`` as int64 [B].

    Raises:
        TypeError: no integers.
        ValueError: another number of axes, or a ragged list.
    """
    array = array_of(op, "indexes", value, "integers [B]")
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{op}: indexes must be integers [B], got {describe(array)}")
    if array.ndim != 1:
        raise ValueError(f"{op}: indexes must be integers [B], got {describe(array)}")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise IndexError(f"{op}: indexes must be rows stored, got {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def priorities(op: str, value: Any, rows: int) -> NDArray[np.float64]:
    """``value`` as float64 [B]; one number stands for one row.

    Raises:
        TypeError: no real numbers.
        ValueError: a ragged list.
    """
    array = array_of(op, "priorities", value, f"float [{rows}]")
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{op}: priorities must be float [{rows}], got {describe(array)}")
    if array.ndim == 0 and rows == 1:
        array = array[None]
    return np.array(array, np.float64, order="C")


def refuse_priorities(op: str, priorities: NDArray[Any]) -> None:
    """Say which priority will not do.

    Raises:
        ValueError: always.
    """
    wrong = ~(np.isfinite(priorities) & (priorities >= 0))
    place = int(wrong.argmax()) if wrong.any() else int(priorities.argmax())
    raise ValueError(
        f"{op}: priorities must be finite, >= 0 and to the power alpha within float64, "
        f"got {priorities[place]} at {place}"
    )


def view_of_tensor(op: str, name: str, value: Any) -> NDArray[Any]:
    """The memory of a CPU tensor, as an array to write to.

    Raises:
        TypeError: no tensor, or one whose memory NumPy cannot have.
        ValueError: a tensor on another device, or one that requires grad.
    """
    if not is_tensor(value):
        raise TypeError(f"{op}: out[{name!r}] must be an array or a CPU tensor, got {describe(value)}")
    if not value.is_cpu:
        raise ValueError(f"{op}: out[{name!r}] must be on the CPU, got {value.device}")
    if value.requires_grad:
        raise ValueError(f"{op}: out[{name!r}] must not require grad")
    try:
        array: NDArray[Any] = value.numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{op}: out[{name!r}] must be memory that NumPy can write to, got {_line(error)}"
        ) from None
    return array
