"""What the losses mean, in float64 NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.distributions.reference import entropy, log_softmax

DEVICES = ("cpu",)


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
    batch, actions = logits.shape
    row = np.arange(batch)
    legal = (action >= 0) & (action < actions)
    if action_mask is not None:
        legal &= action_mask[row, np.where(legal, action, 0)]
    if not legal.all():
        bad = legal.argmin()
        raise ValueError(
            f"ppo_categorical: action must be in [0, {actions}) and unmasked, got {action[bad]} in row {bad}"
        )
    scale = 1.0 / max(batch, 1) if scale is None else scale
    v, target, adv = (x.astype(np.float64) for x in (value, return_, advantage))

    # d log pi(a) / d logits = onehot(a) - p,  d H / d logits = -p (log p + H)
    log_p = log_softmax(logits, action_mask)
    p = np.exp(log_p)
    h = entropy(log_p)
    onehot = np.arange(actions) == action[:, None]
    log_ratio = log_p[row, action] - old_log_prob
    with np.errstate(over="ignore"):
        ratio = np.exp(log_ratio)
    kl = (ratio - 1.0) - log_ratio

    clipped_ratio = np.clip(ratio, 1.0 - clip_coef, 1.0 + clip_coef)
    unclipped, clipped = -adv * ratio, -adv * clipped_ratio
    policy = np.maximum(unclipped, clipped)
    d_log_prob = np.where(clipped > unclipped, 0.0, unclipped)  # d r / d log pi = r

    value_loss, d_value = 0.5 * (v - target) ** 2, v - target
    if clip_value is not None and old_value is not None:
        step = v - old_value
        error = old_value + np.clip(step, -clip_value, clip_value) - target
        clipped_value_loss = 0.5 * error**2
        flows = np.abs(step) <= clip_value
        d_value = np.where(value_loss >= clipped_value_loss, d_value, error * flows)
        value_loss = np.maximum(value_loss, clipped_value_loss)

    loss = policy + vf_coef * value_loss - ent_coef * h
    if kl_coef:  # else 0 * inf where the ratio overflows
        loss += kl_coef * kl
        d_log_prob = d_log_prob + kl_coef * (ratio - 1.0)
    surprise = np.where(np.isneginf(log_p), 0.0, log_p) + h[:, None]
    out.loss[:] = loss
    out.d_logits[:] = scale * (d_log_prob[:, None] * (onehot - p) + ent_coef * p * surprise)
    out.d_value[:] = scale * vf_coef * d_value
    if stats is not None:
        stats += [x.sum() for x in (policy, value_loss, h, kl, ratio != clipped_ratio)]


def normalize_advantage(advantage: NDArray[Any], out: NDArray[Any]) -> None:
    """Writes (A - mean) / (std + 1e-8)."""
    x = advantage.astype(np.float64)
    out[:] = (x - x.mean()) / (x.std(ddof=1) + 1e-8) if len(x) > 1 else x
