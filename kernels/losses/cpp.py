"""The C++ kernels (csrc/losses.cpp): float32, one vectorised pass over rows."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fastrl._core import PPOCategorical, PPOGaussian, PPOMultiCategorical, normalize_advantage

DEVICES = ("cpu",)

__all__ = [
    "PPOCategorical",
    "PPOGaussian",
    "PPOMultiCategorical",
    "normalize_advantage",
    "ppo_categorical",
    "ppo_gaussian",
    "ppo_multi_categorical",
]

Floats = NDArray[Any]


def ppo_categorical(*arguments: Any, scale: float | None, **coefficients: Any) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    _split(PPOCategorical(**coefficients), scale, *arguments)


def ppo_multi_categorical(
    *arguments: Any, sizes: Sequence[int], scale: float | None, **coefficients: Any
) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    _split(PPOMultiCategorical(sizes, **coefficients), scale, *arguments)


def _split(
    kernel: PPOCategorical | PPOMultiCategorical,
    scale: float | None,
    logits: Floats,
    value: Floats,
    action: NDArray[Any],
    old_log_prob: Floats,
    advantage: Floats,
    return_: Floats,
    old_value: Floats | None,
    action_mask: NDArray[Any] | None,
    out: Any,
    stats: Floats | None,
) -> None:
    kernel.split(
        *(logits, value, action, old_log_prob, advantage, return_),
        *(out.loss, out.d_logits, out.d_value, stats, old_value, action_mask, scale),
    )


def ppo_gaussian(
    mean: Floats,
    log_std: Floats,
    value: Floats,
    action: Floats,
    old_log_prob: Floats,
    advantage: Floats,
    return_: Floats,
    old_value: Floats | None,
    out: Any,
    stats: Floats | None,
    *,
    scale: float | None,
    **coefficients: Any,
) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    if log_std.ndim == 1:
        out.d_log_std[:] = 0  # the kernel adds to it
    PPOGaussian(**coefficients).split(
        *(mean, log_std, value, action, old_log_prob, advantage, return_),
        *(out.loss, out.d_mean, out.d_log_std, out.d_value, stats, old_value, scale),
    )
