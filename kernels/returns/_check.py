"""What the family's ops ask of their arguments, NumPy arrays or torch tensors.

The C++ kernels test the same themselves, in less time than one of these calls takes, and come here only to
say what is wrong (csrc/returns_arguments.h). The other backends call this first.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from fastrl.kernels._check import describe, repeats_elements, require_positive, require_unit, share_memory
from fastrl.kernels._dispatch import is_tensor
from fastrl.kernels.returns._ops import FLAGS, OPS, is_optional


def require(op: str, arrays: Sequence[Any], out: Any, options: Sequence[Any]) -> None:
    """Raise unless ``op`` takes these arguments, in the order of its ``Op``.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    spec, first = OPS[op], arrays[0]
    for name, option in zip(spec.options, options, strict=True):
        if name not in spec.factors or not _is_array(option) or not option.ndim:
            _require_number(op, name, option)
    real = "float64" if _dtype(first) == "float64" else "float32"
    shape = getattr(first, "shape", ())
    given = dict(zip(spec.arrays, arrays, strict=True))
    _require(op, spec.arrays[0], first, first, real, shape if len(shape) == 2 else None, "[T, B]")
    for name, x in given.items():
        if x is None and is_optional(op, name):
            continue
        if spec.row and name == "next_value" and getattr(x, "ndim", 2) == 1:
            _require(op, name, x, first, real, shape[1:], "[B]")
            for other in ("truncated", "mask"):
                if given[other] is not None:
                    raise ValueError(
                        f"{op}: {other} needs next_value [T, B], the value of where each step led: the row "
                        f"after an episode's last step is another one's, got {describe(x)}"
                    )
        else:
            _require(op, name, x, first, "bool" if name in FLAGS else real, shape, "[T, B]")
    for name, option in zip(spec.options, options, strict=True):
        if name in spec.factors and _is_array(option) and option.ndim:
            _require(op, name, option, first, real, shape, "[T, B]")
    if out is not None:
        for name, x in _outputs(op, out):
            _require(op, name, x, first, real, shape, "[T, B]")
            _require_output(op, name, x)
        if spec.outputs == 2 and share_memory(*out):
            raise ValueError(f"{op}: out must be two arrays apart, got memory that they share")


def _is_array(x: object) -> bool:
    return isinstance(x, np.ndarray) or is_tensor(x)


def _is_scalar(x: Any) -> bool:
    return _is_array(x) and x.ndim == 0 and (is_tensor(x) or x.dtype.kind in "biuf")


def _require_number(op: str, name: str, x: Any) -> None:
    if name == "n":
        if not isinstance(x, Integral) or x < 1:
            raise ValueError(f"{op}: n must be an integer >= 1, got {x!r}")
    elif not isinstance(x, Real) and not _is_scalar(x):
        raise TypeError(f"{op}: {name} must be a number, got {describe(x)}")
    elif isinstance(x, int) and abs(x) > 2**1000:
        raise ValueError(f"{op}: {name} must be a number that a float holds, got int")
    elif name in ("gamma", "lam"):
        require_unit(op, name, x)
    else:
        require_positive(op, name, x)


def _outputs(op: str, out: Any) -> list[tuple[str, Any]]:
    if OPS[op].outputs == 1:
        return [("out", out)]
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise TypeError(f"{op}: out must be a pair of arrays [T, B], got {describe(out)}")
    return [("out[0]", out[0]), ("out[1]", out[1])]


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


def _require_output(op: str, name: str, out: Any) -> None:
    if repeats_elements(out):
        raise ValueError(f"{op}: {name} must hold each element once, got a view that repeats some")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(f"{op}: {name} must be writeable, got a read-only array")
