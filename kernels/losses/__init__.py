"""Losses: per-sample values together with the gradient of every differentiable argument.

Gradients are of ``scale * loss[b]``, with ``scale = 1 / B`` unless given: those of the mean loss. A minibatch
handled in chunks passes ``scale = 1 / (size of the minibatch)`` and adds up what its parameters get.
NaN and infinity propagate; the training loop checks that what comes out is finite.

A loop that already holds its arrays calls ``PPOCategorical``, ``PPOMultiCategorical`` and ``PPOGaussian`` of
``fastrl.kernels.losses.cpp``, which take the network's output and the gradient by it as one matrix each: the
policy's columns, then the value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe, require_array, require_ndim, require_tensor
from fastrl.kernels._dispatch import is_tensor, resolve
from fastrl.kernels.losses.ppo import (
    PPO_STATS,
    PPOGaussianLoss,
    PPOLoss,
    ppo_categorical,
    ppo_gaussian,
    ppo_multi_categorical,
)

__all__ = [
    "PPO_STATS",
    "PPOGaussianLoss",
    "PPOLoss",
    "normalize_advantage",
    "ppo_categorical",
    "ppo_gaussian",
    "ppo_multi_categorical",
]


def normalize_advantage(
    advantage: NDArray[np.float32],
    *,
    out: NDArray[np.float32] | None = None,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """Advantage [B] with mean 0 and standard deviation 1: ``(A - mean) / (std + 1e-8)``.

    ``std`` is the unbiased one (B - 1 below the sum), as in CleanRL and Stable-Baselines3; sums are in
    float64. A single advantage has no spread and comes back as it is.

    Args:
        advantage: float32 [B], NumPy or torch.
        out: float32 [B] to write into; ``advantage`` itself is allowed.
        backend: "cpp", "triton" or "reference"; None: the device's default.

    Raises:
        TypeError: another dtype, or no array.
        ValueError: another shape.
    """
    op = "normalize_advantage"
    if is_tensor(advantage):
        result: NDArray[np.float32] = _normalize_tensor(op, advantage, out, backend)
        return result
    (batch,) = require_ndim(op, "advantage", advantage, np.float32, 1, "[B]")
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("losses", op, "cpu", backend)(advantage, out)
    return out


def _normalize_tensor(op: str, advantage: Any, out: Any, backend: str | None) -> Any:
    import torch

    if advantage.ndim != 1:
        raise ValueError(f"{op}: advantage must be float32 [B], got {describe(advantage)}")
    out = torch.empty_like(advantage) if out is None else out
    for name, x in (("advantage", advantage), ("out", out)):
        require_tensor(op, name, x, torch.float32, (len(advantage),), "[B]", advantage.device)
    kernel = resolve("losses", op, advantage.device.type, backend)
    on_host = advantage.is_cpu and backend != "triton"
    kernel(*(x.numpy() if on_host else x for x in (advantage.detach(), out)))
    return out
