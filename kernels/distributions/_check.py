"""Checks that the policies of several families share."""

from collections.abc import Sequence

import numpy as np

from fastrl.kernels._check import describe, require_array, require_ndim


def require_logits(op: str, logits: object, action_mask: object) -> tuple[int, int]:
    """Shape of ``logits``, after checking it and the mask."""
    batch, actions = require_ndim(op, "logits", logits, np.float32, 2, "[B, A]")
    if actions == 0:
        raise ValueError(f"{op}: logits must have at least one action, got {describe(logits)}")
    if action_mask is not None:
        require_array(op, "action_mask", action_mask, np.bool_, (batch, actions), "[B, A]")
    return batch, actions


def require_sizes(op: str, sizes: Sequence[int], actions: int) -> None:
    """Raise ValueError unless ``sizes`` are positive and add up to the number of logits."""
    if len(sizes) == 0 or min(sizes) < 1 or sum(sizes) != actions:
        raise ValueError(
            f"{op}: sizes must be positive and add up to the {actions} logits, got {list(sizes)}"
        )


def require_mean(op: str, mean: object) -> tuple[int, int]:
    """Shape of ``mean``, after checking it."""
    batch, actions = require_ndim(op, "mean", mean, np.float32, 2, "[B, A]")
    if actions == 0:
        raise ValueError(f"{op}: mean must have at least one action, got {describe(mean)}")
    return batch, actions


def require_rows(op: str, name: str, x: object, shape: tuple[int, int]) -> None:
    """Raise unless ``x`` is float32 of this shape, or of its last axis: the same for all rows."""
    if getattr(x, "ndim", 2) == 1:
        require_array(op, name, x, np.float32, shape[1:], "[A]")
    else:
        require_array(op, name, x, np.float32, shape, "[B, A]")


def require_key(op: str, seed: int, counter: int) -> None:
    """Raise ValueError unless both lie in [0, 2^64)."""
    for name, x in (("seed", seed), ("counter", counter)):
        if not 0 <= x < 2**64:
            raise ValueError(f"{op}: {name} must be in [0, 2^64), got {x}")
