"""Checks that the family's NumPy and torch entrances share."""

from collections.abc import Callable
from typing import Any

from fastrl.kernels._check import describe

Require = Callable[[str, str, Any, Any, tuple[int, ...], str], None]


def require_rollout(
    op: str,
    require: Require,
    real: Any,
    flag: Any,
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any,
) -> tuple[int, int]:
    """Shape (T, B) of a rollout whose arrays agree: ``require`` checks one, of dtype ``real`` or ``flag``.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: a shape is wrong, or ``truncated`` is given with ``next_value`` [B].
    """
    shape = getattr(reward, "shape", ())
    require(op, "reward", reward, real, shape, "[T, B]")
    if len(shape) != 2:
        raise ValueError(f"{op}: reward must be [T, B], got {describe(reward)}")
    require(op, "value", value, real, shape, "[T, B]")
    if getattr(next_value, "ndim", 2) == 2:
        require(op, "next_value", next_value, real, shape, "[T, B]")
    else:
        require(op, "next_value", next_value, real, shape[1:], "[B] or [T, B]")
        if truncated is not None:
            raise ValueError(
                f"{op}: truncated needs next_value [T, B], the value where each step really led: after a truncation "
                f"the next row belongs to another episode, got {describe(next_value)}"
            )
    require(op, "terminated", terminated, flag, shape, "[T, B]")
    if truncated is not None:
        require(op, "truncated", truncated, flag, shape, "[T, B]")
    return shape
