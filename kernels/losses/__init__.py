"""Losses: per-sample values together with the gradient of every differentiable argument.

Gradients are of ``scale * loss[b]``, with ``scale = 1 / B`` unless given: those of the mean loss. A minibatch
handled in chunks passes ``scale = 1 / (size of the minibatch)`` and adds up what its parameters get.
NaN and infinity propagate; the training loop checks that what comes out is finite.

A loop that already holds its arrays calls ``fastrl.kernels.losses.cpp.PPOCategorical``, which takes the
network's output and the gradient by it as one matrix each: logits, then the value.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_array, require_ndim
from fastrl.kernels._dispatch import is_tensor, resolve

__all__ = ["PPO_STATS", "PPOLoss", "normalize_advantage", "ppo_categorical"]

Array = TypeVar("Array", bound=Any)

PPO_STATS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
"""What the entries of ``stats`` sum over samples: divide by their number for the means."""


class PPOLoss(NamedTuple, Generic[Array]):
    """What `ppo_categorical` returns."""

    loss: Array
    """[B], per sample; of a torch call, the one that autograd follows."""
    d_logits: Array
    """[B, A], scale * d loss[b] / d logits[b]; 0 where masked."""
    d_value: Array
    """[B], scale * d loss[b] / d value[b]."""


def ppo_categorical(
    logits: Array,
    value: Array,
    action: Array,
    old_log_prob: Array,
    advantage: Array,
    return_: Array,
    *,
    clip_coef: float,
    vf_coef: float = 0.5,
    ent_coef: float = 0.0,
    kl_coef: float = 0.0,
    clip_value: float | None = None,
    old_value: Array | None = None,
    action_mask: Array | None = None,
    scale: float | None = None,
    out: PPOLoss[Array] | None = None,
    stats: Array | None = None,
    backend: str | None = None,
) -> PPOLoss[Array]:
    """Clipped PPO loss [B] of a categorical policy and its gradients by logits and value.

    With ``r = pi(action) / exp(old_log_prob)``, A the advantage, R the return, v the value::

        loss   = policy + vf_coef * value_loss - ent_coef * H(pi) + kl_coef * kl
        policy = max(-A r, -A clip(r, 1 - clip_coef, 1 + clip_coef))
        value_loss = (v - R)^2 / 2, or with clip_value
                     max((v - R)^2, (old_value + clip(v - old_value, -clip_value, clip_value) - R)^2) / 2
        kl     = (r - 1) - log r       (the estimator k3 of KL(old policy, pi))

    Where both sides of a max are equal the unclipped one gives the gradient, so at a clip boundary it flows.
    Arrays are NumPy or torch on the CPU, of any strides: ``y[:, :A]`` and ``y[:, A]`` of one output are not
    copied. Of tensors, ``loss`` is differentiable (once) by logits and value, the gradients are constants.

    Args:
        logits: float32 [B, A].
        value: float32 [B].
        action: int64 [B] in [0, A), legal.
        old_log_prob: float32 [B], of ``action`` when it was taken.
        advantage: float32 [B]; see `normalize_advantage`.
        return_: float32 [B], what the value should be.
        clip_coef: half width of the ratio's range, >= 0.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus.
        kl_coef: weight of the penalty for leaving the old policy.
        clip_value: half width of the value's range around ``old_value``; None does not clip it.
        old_value: float32 [B], given with ``clip_value`` and only then.
        action_mask: bool [B, A], True = legal; a masked action behaves as one whose logit is -inf.
        scale: factor on the gradients, None is 1 / B. It is not in what autograd passes on.
        out: arrays to write into, any strides (not of tensors).
        stats: float64 [5], contiguous; the sums over samples of `PPO_STATS` are added to it, the value loss
            without vf_coef, as clip fraction the number of samples whose ratio was clipped.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape, a negative clip_coef or clip_value, or an action that is out of range or
            masked, whose row is named. Nothing is changed.

    Source: Schulman et al. 2017, "Proximal policy optimization algorithms", eqs. 7 and 9; Huang et al. 2022,
    "The 37 implementation details of PPO" (value clipping); Schulman 2020, "Approximating KL divergence"
    (k3).
    """
    op = "ppo_categorical"
    if is_tensor(logits):
        from fastrl.kernels.losses import _torch

        if out is not None:
            raise ValueError(f"{op}: out takes NumPy arrays only")
        result: Any = _torch.ppo_categorical(
            *(logits, value, action, old_log_prob, advantage, return_, old_value, action_mask, stats),
            *(clip_coef, vf_coef, ent_coef, kl_coef, clip_value, scale, backend),
        )
        return PPOLoss(*result)
    batch, actions = require_ndim(op, "logits", logits, np.float32, 2, "[B, A]")
    if actions == 0:
        raise ValueError(f"{op}: logits must have at least one action, got float32 [{batch}, 0]")
    require_array(op, "action", action, np.int64, (batch,), "[B]")
    vectors = {
        "value": value,
        "old_log_prob": old_log_prob,
        "advantage": advantage,
        "return_": return_,
    }
    if (clip_value is None) != (old_value is None):
        raise ValueError(f"{op}: clip_value and old_value must be given together")
    if old_value is not None:
        vectors["old_value"] = old_value
    if out is None:
        new: Any = np.empty
        out = PPOLoss(new(batch, np.float32), new((batch, actions), np.float32), new(batch, np.float32))
    else:
        vectors |= {"out.loss": out.loss, "out.d_value": out.d_value}
        require_array(op, "out.d_logits", out.d_logits, np.float32, (batch, actions), "[B, A]")
    for name, x in vectors.items():
        require_array(op, name, x, np.float32, (batch,), "[B]")
    if action_mask is not None:
        require_array(op, "action_mask", action_mask, np.bool_, (batch, actions), "[B, A]")
    if stats is not None:
        require_array(op, "stats", stats, np.float64, (len(PPO_STATS),), f"[{len(PPO_STATS)}]")
    for name, bound in (("clip_coef", clip_coef), ("clip_value", clip_value)):
        if bound is not None and not bound >= 0:
            raise ValueError(f"{op}: {name} must be >= 0, got {bound}")
    resolve("losses", op, "cpu", backend)(
        *(logits, value, action, old_log_prob, advantage, return_, old_value, action_mask, out, stats),
        *(clip_coef, vf_coef, ent_coef, kl_coef, clip_value, scale),
    )
    return out


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
        advantage: float32 [B], NumPy.
        out: float32 [B] to write into; ``advantage`` itself is allowed.
        backend: "cpp" or "reference".

    Raises:
        TypeError: another dtype, or no array.
        ValueError: another shape.
    """
    op = "normalize_advantage"
    (batch,) = require_ndim(op, "advantage", advantage, np.float32, 1, "[B]")
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("losses", op, "cpu", backend)(advantage, out)
    return out
