"""Argument checks with one-line messages: ``gae: reward must be float32 [T, B], got float64 [128]``."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrl.kernels._dispatch import is_tensor


def describe(x: object) -> str:
    """Dtype and shape of an array or tensor, else its type: what an error message says it got."""
    shape = getattr(x, "shape", None)
    dtype = getattr(x, "dtype", None)
    if shape is None or dtype is None:
        return f"{type(x).__name__} {x!r}" if isinstance(x, int | float | str | None) else type(x).__name__
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"


def require_array(op: str, name: str, x: object, dtype: Any, shape: tuple[int, ...], dims: str) -> None:
    """Raise unless ``x`` is a NumPy array of this dtype and shape; ``dims`` names the axes, as ``"[T, B]"``.

    Raises:
        TypeError: not an array, or another dtype.
        ValueError: another shape.
    """
    if not isinstance(x, np.ndarray) or x.dtype != dtype:
        raise TypeError(f"{op}: {name} must be {np.dtype(dtype).name} {dims}, got {describe(x)}")
    if x.shape != shape:
        raise ValueError(
            f"{op}: {name} must be {np.dtype(dtype).name} {dims} = {list(shape)}, got {describe(x)}"
        )


def require_ndim(op: str, name: str, x: object, dtype: Any, ndim: int, dims: str) -> tuple[int, ...]:
    """Shape of ``x``, after checking that it is a NumPy array of this dtype and number of axes.

    Raises:
        TypeError: not an array, or another dtype.
        ValueError: another number of axes.
    """
    if not isinstance(x, np.ndarray) or x.dtype != dtype:
        raise TypeError(f"{op}: {name} must be {np.dtype(dtype).name} {dims}, got {describe(x)}")
    if x.ndim != ndim:
        raise ValueError(f"{op}: {name} must be {np.dtype(dtype).name} {dims}, got {describe(x)}")
    shape: tuple[int, ...] = x.shape
    return shape


def require_tensor(
    op: str, name: str, x: Any, dtype: Any, shape: tuple[int, ...], dims: str, device: Any
) -> None:
    """Raise unless ``x`` is a torch tensor of this dtype and shape on this device.

    Raises:
        TypeError: not a tensor, or another dtype.
        ValueError: another shape or device.
    """
    wanted = f"{op}: {name} must be {str(dtype).removeprefix('torch.')} {dims}"
    if not is_tensor(x) or x.dtype != dtype:
        raise TypeError(f"{wanted}, got {describe(x)}")
    if x.shape != shape:
        raise ValueError(f"{wanted} = {list(shape)}, got {describe(x)}")
    if x.device != device:
        raise ValueError(f"{op}: {name} must be on {device} as the first argument is, got {x.device}")


def repeats_elements(x: Any) -> bool:
    """Whether an array or tensor of up to two axes, or one that is contiguous, holds some element twice."""
    moves = [(n, abs(step)) for n, step in zip(x.shape, _strides(x), strict=True) if n > 1]
    if 0 in x.shape or not moves:
        return False
    if len(moves) == 1:
        return moves[0][1] == 0
    if len(moves) > 2:
        return not (x.is_contiguous() if is_tensor(x) else x.flags.c_contiguous)
    (n, i), (m, j) = moves  # elements meet first where i * (j / gcd) = j * (i / gcd)
    common = math.gcd(i, j)
    return common == 0 or (j // common < n and i // common < m)


def share_memory(x: Any, y: Any) -> bool:
    """Whether two arrays or tensors may share memory, by the range of their addresses.

    Never of tensors without memory of their own, as those that a compiler traces.
    """
    a, b = _addresses(x), _addresses(y)
    return a is not None and b is not None and a[0] < b[1] and b[0] < a[1]


def _strides(x: Any) -> tuple[int, ...]:
    return tuple(x.stride()) if is_tensor(x) else x.strides


def _addresses(x: Any) -> tuple[int, int] | None:
    """The first and the last byte's end, relative to the device; None of what holds nothing."""
    if 0 in x.shape:
        return None
    if not is_tensor(x):
        low, high = np.lib.array_utils.byte_bounds(x)
        return int(low), int(high)
    import torch

    if torch.compiler.is_compiling() or type(x) not in (torch.Tensor, torch.nn.Parameter) or x.is_meta:
        return None
    reach = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    low = x.data_ptr()
    return low, low + (reach + 1) * x.element_size()


def require_unit(op: str, name: str, x: float) -> None:
    """Raise ValueError unless ``x`` lies in [0, 1] (NaN does not)."""
    if not 0.0 <= x <= 1.0:
        raise ValueError(f"{op}: {name} must be in [0, 1], got {x}")


def require_positive(op: str, name: str, x: float) -> None:
    """Raise ValueError unless ``x`` > 0 (NaN is not)."""
    if not x > 0:
        raise ValueError(f"{op}: {name} must be > 0, got {x}")


def require_choice(op: str, name: str, x: object, choices: Sequence[object]) -> None:
    """Raise ValueError unless ``x`` is one of ``choices``."""
    several = getattr(x, "ndim", 0) > 0  # arrays compare element by element
    if several or x not in choices:
        got = describe(x) if several else repr(x)
        raise ValueError(f"{op}: {name} must be one of {', '.join(map(str, choices))}, got {got}")
