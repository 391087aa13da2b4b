"""The C++ kernels (csrc/losses.cpp): float32, one vectorised pass over rows."""

from typing import Any

from numpy.typing import NDArray

from fastrl._core import PPOCategorical, normalize_advantage

DEVICES = ("cpu",)

__all__ = ["PPOCategorical", "normalize_advantage", "ppo_categorical"]


def ppo_categorical(
    logits: NDArray[Any],
    value: NDArray[Any],
    action: NDArray[Any],
    old_log_prob: NDArray[Any],
    advantage: NDArray[Any],
    return_: NDArray[Any],
    old_value: NDArray[Any] | None,
    action_mask: NDArray[Any] | None,
    out: Any,
    stats: NDArray[Any] | None,
    clip_coef: float,
    vf_coef: float,
    ent_coef: float,
    kl_coef: float,
    clip_value: float | None,
    scale: float | None,
) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    kernel = PPOCategorical(
        clip_coef=clip_coef, vf_coef=vf_coef, ent_coef=ent_coef, kl_coef=kl_coef, clip_value=clip_value
    )
    kernel.split(
        *(logits, value, action, old_log_prob, advantage, return_),
        *(out.loss, out.d_logits, out.d_value, stats, old_value, action_mask, scale),
    )
