"""What the family's ops ask of their arguments, NumPy arrays or torch tensors.

The C++ kernels test the same themselves, in less time than one of these calls takes, and come here only to
say what is wrong (csrc/bind_returns.cpp). The other backends call these first.
"""

from typing import Any

import numpy as np

from fastrl.kernels._check import describe, require_unit
from fastrl.kernels._dispatch import is_tensor


def require_gae(
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any,
    out: Any,
    gamma: float,
    lam: float,
) -> None:
    """Raise unless ``fastrl.kernels.gae`` takes these arguments.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    require_unit("gae", "gamma", gamma)
    require_unit("gae", "lam", lam)
    real = "float64" if _dtype(reward) == "float64" else "float32"
    shape = getattr(reward, "shape", ())
    _require("gae", "reward", reward, reward, real, shape if len(shape) == 2 else None, "[T, B]")
    _require("gae", "value", value, reward, real, shape, "[T, B]")
    if getattr(next_value, "ndim", 2) == 1:
        _require("gae", "next_value", next_value, reward, real, shape[1:], "[B]")
        if truncated is not None:
            raise ValueError(
                "gae: truncated needs next_value [T, B], the value of where each step led: the row after a "
                f"truncation is another episode's, got {describe(next_value)}"
            )
    else:
        _require("gae", "next_value", next_value, reward, real, shape, "[T, B]")
    _require("gae", "terminated", terminated, reward, "bool", shape, "[T, B]")
    if truncated is not None:
        _require("gae", "truncated", truncated, reward, "bool", shape, "[T, B]")
    if out is not None:
        _require("gae", "out", out, reward, real, shape, "[T, B]")
        _require_output("gae", out)


def _dtype(x: object) -> str:
    return str(getattr(x, "dtype", None)).removeprefix("torch.")


def _require(
    op: str, name: str, x: Any, first: Any, dtype: str, shape: tuple[int, ...] | None, dims: str
) -> None:
    """Raise unless ``x`` has this dtype and shape (None: none will do), the first's kind and device."""
    if not (is_tensor(first) if is_tensor(x) else isinstance(x, np.ndarray) and not is_tensor(first)):
        kind = "tensor" if is_tensor(first) else "array"
        raise TypeError(f"{op}: {name} must be a {dtype} {kind} {dims}, got {type(x).__name__}")
    if _dtype(x) != dtype:
        raise TypeError(f"{op}: {name} must be {dtype} {dims}, got {describe(x)}")
    if shape is None:
        raise ValueError(f"{op}: {name} must be {dtype} {dims}, got {describe(x)}")
    if x.shape != shape:
        raise ValueError(f"{op}: {name} must be {dtype} {dims} = {list(shape)}, got {describe(x)}")
    if x.device != first.device:
        raise ValueError(f"{op}: {name} must be on {first.device} as the first argument is, got {x.device}")
    if isinstance(x, np.ndarray) and not x.flags.aligned:
        raise ValueError(f"{op}: {name} must be aligned to its dtype, got an array that is not: pass a copy")


def _require_output(op: str, out: Any) -> None:
    strides = out.stride() if is_tensor(out) else out.strides
    if 0 not in out.shape and any(
        n > 1 and stride == 0 for n, stride in zip(out.shape, strides, strict=True)
    ):
        raise ValueError(f"{op}: out must hold each element once, got a view that repeats some")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(f"{op}: out must be writeable, got a read-only array")
