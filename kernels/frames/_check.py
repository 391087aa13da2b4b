"""What the family's ops ask of their arguments."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe, require_array

_LAYOUTS = {0: "[N, height, width]", 3: "[N, height, width, 3]"}


def require_images(op: str, name: str, x: object, channels: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of uint8 images, after checking it; ``channels`` of 0: no such axis.

    Raises:
        TypeError: not a uint8 array.
        ValueError: another shape, or images without pixels.
    """
    wanted = f"{op}: {name} must be uint8 {' or '.join(_LAYOUTS[c] for c in channels)}"
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        raise TypeError(f"{wanted}, got {describe(x)}")
    known = any(x.ndim == 3 if c == 0 else x.ndim == 4 and x.shape[3] == c for c in channels)
    if not known or 0 in x.shape[1:3]:
        raise ValueError(f"{wanted}, of at least one pixel, got {describe(x)}")
    shape: tuple[int, ...] = x.shape
    return shape


def require_same_images(op: str, name: str, x: object, frame: NDArray[np.uint8]) -> None:
    """Raise unless ``x`` is like ``frame``, which is checked.

    Raises:
        TypeError: not a uint8 array.
        ValueError: another shape.
    """
    require_array(op, name, x, np.uint8, frame.shape, _LAYOUTS[0 if frame.ndim == 3 else 3])


def require_size(op: str, size: object, largest: tuple[int, ...]) -> tuple[int, int]:
    """Height and width, after checking that they shrink.

    Raises:
        TypeError: not two integers.
        ValueError: less than 1 or more than ``largest``.
    """
    rule = f"{op}: size must be a height in [1, {largest[0]}] and a width in [1, {largest[1]}]"
    try:
        height, width = map(operator.index, size)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise TypeError(f"{rule}, got {size!r}") from None
    if not (1 <= height <= largest[0] and 1 <= width <= largest[1]):
        raise ValueError(f"{rule}, got {size!r}")
    return height, width


def require_out(
    op: str, out: NDArray[Any] | None, shape: tuple[int, ...], *inputs: NDArray[Any]
) -> NDArray[Any]:
    """``out``, after checking it, or a new array.

    Raises:
        TypeError: not a uint8 array.
        ValueError: another shape, not C-contiguous, read-only, or in the memory of an input.
    """
    if out is None:
        return np.empty(shape, np.uint8)
    require_array(op, "out", out, np.uint8, shape, "[N, height, width]")
    _require_memory(op, out, *inputs)
    return out


def require_push(ring: Any, slot: Any, frame: Any, begin: Any, size: Any, padding: Any, out: Any) -> None:
    """Raise unless ``push_frames`` takes these arguments.

    Raises:
        TypeError: a wrong dtype.
        ValueError: anything else is wrong.
    """
    op = "push_frames"
    if not isinstance(ring, np.ndarray) or ring.dtype.hasobject:
        raise TypeError(f"{op}: ring must be an array [N, slots, ...] without objects, got {describe(ring)}")
    if ring.ndim < 2:
        raise ValueError(f"{op}: ring must be [N, slots, ...], got {describe(ring)}")
    num_envs, slots, *rest = ring.shape
    if not size >= 1:
        raise ValueError(f"{op}: size must be >= 1, got {size}")
    if not size - 1 <= slot < slots:
        raise ValueError(f"{op}: slot must be in [size - 1, slots) = [{size - 1}, {slots}), got {slot}")
    require_array(op, "frame", frame, ring.dtype, (num_envs, *rest), "[N, ...]")
    if begin is not None:
        require_array(op, "begin", begin, np.bool_, (num_envs,), "[N]")
    if padding is not None:
        require_array(op, "padding", padding, ring.dtype, (*rest,), "[...]")
    if out is not None:
        require_array(op, "out", out, ring.dtype, (num_envs, size, *rest), "[N, size, ...]")
        _require_memory(op, out, ring, frame)
    for name, x in (("ring", ring), ("frame", frame), ("begin", begin), ("padding", padding)):
        if x is not None and not x.flags.c_contiguous:
            raise ValueError(f"{op}: {name} must be C-contiguous, got strides {list(x.strides)}: pass a copy")
    if not ring.flags.writeable:
        raise ValueError(f"{op}: ring must be writeable, got a read-only array")
    if np.may_share_memory(ring, frame):
        raise ValueError(f"{op}: frame must share no memory with ring, got a view of it: pass a copy")


def _require_memory(op: str, out: NDArray[Any], *inputs: NDArray[Any]) -> None:
    if not out.flags.c_contiguous:
        raise ValueError(f"{op}: out must be C-contiguous, got strides {list(out.strides)}")
    if not out.flags.writeable:
        raise ValueError(f"{op}: out must be writeable, got a read-only array")
    if any(np.may_share_memory(out, x) for x in inputs):
        raise ValueError(f"{op}: out must share no memory with an input, got a view of one")
