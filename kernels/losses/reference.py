"""What the losses mean, in float64 NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.distributions.reference import (
    components,
    entropy,
    gaussian_entropy_of,
    gaussian_log_prob_of,
    gaussian_z,
    log_softmax,
)

DEVICES = ("cpu",)

Floats = NDArray[Any]


def ppo_categorical(
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
    *,
    scale: float | None,
    sizes: Sequence[int] | None = None,
    **coefficients: Any,
) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    op = "ppo_categorical" if sizes is None else "ppo_multi_categorical"
    batch, actions = logits.shape
    row = np.arange(batch)
    parts = []
    log_prob, h_total = np.zeros(batch), np.zeros(batch)
    bad = {}
    for k, (begin, end) in enumerate(components(sizes or (actions,))):
        chosen = action if sizes is None else action[:, k]
        mask = None if action_mask is None else action_mask[:, begin:end]
        legal = (chosen >= 0) & (chosen < end - begin)
        if mask is not None:
            legal &= mask[row, np.where(legal, chosen, 0)]
        if not legal.all():
            first = legal.argmin()
            bad[first, k] = (
                f"action must be in [0, {end - begin}) and unmasked, got {chosen[first]} in row {first}"
            )
            continue
        log_p = log_softmax(logits[:, begin:end], mask)
        log_prob += log_p[row, chosen]
        h_total += entropy(log_p)
        parts.append((begin, end, chosen, log_p))
    if bad:
        where = min(bad)
        raise ValueError(f"{op}: {bad[where]}" + (f", component {where[1]}" if sizes is not None else ""))
    d_log_prob, d_entropy = _ppo(
        *(log_prob, h_total, value, old_log_prob, advantage, return_, old_value, out, stats, scale),
        **coefficients,
    )
    # d log pi(a) / d logits = onehot(a) - p,  d H / d logits = -p (log p + H)
    for begin, end, chosen, log_p in parts:
        p, h = np.exp(log_p), entropy(log_p)
        onehot = np.arange(end - begin) == chosen[:, None]
        surprise = np.where(np.isneginf(log_p), 0.0, log_p) + h[:, None]
        out.d_logits[:, begin:end] = d_log_prob[:, None] * (onehot - p) - d_entropy * p * surprise


ppo_multi_categorical = ppo_categorical


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
    z = gaussian_z(mean, log_std, action)
    h = np.broadcast_to(gaussian_entropy_of(log_std), len(mean))
    log_prob = gaussian_log_prob_of(mean, log_std, action)
    d_log_prob, d_entropy = _ppo(
        *(log_prob, h, value, old_log_prob, advantage, return_, old_value, out, stats, scale), **coefficients
    )
    out.d_mean[:] = d_log_prob[:, None] * z * np.exp(-log_std.astype(np.float64))
    d_log_std = d_log_prob[:, None] * (z**2 - 1.0) + d_entropy
    out.d_log_std[:] = d_log_std.sum(axis=0) if log_std.ndim == 1 else d_log_std


def _ppo(
    log_prob: Floats,
    h: Floats,
    value: Floats,
    old_log_prob: Floats,
    advantage: Floats,
    return_: Floats,
    old_value: Floats | None,
    out: Any,
    stats: Floats | None,
    scale: float | None,
    *,
    clip_coef: float,
    vf_coef: float,
    ent_coef: float,
    kl_coef: float,
    clip_value: float | None,
) -> tuple[Floats, float]:
    """Writes what does not depend on the kind of policy; scaled derivatives by log_prob [B] and by h."""
    scale = 1.0 / max(len(value), 1) if scale is None else scale
    v, target, adv = (x.astype(np.float64) for x in (value, return_, advantage))
    log_ratio = log_prob - old_log_prob
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
    out.loss[:] = loss
    out.d_value[:] = scale * vf_coef * d_value
    if stats is not None:
        stats += [x.sum() for x in (policy, value_loss, h, kl, ratio != clipped_ratio)]
    return scale * d_log_prob, -scale * ent_coef


def normalize_advantage(advantage: Floats, out: Floats) -> None:
    """Writes (A - mean) / (std + 1e-8)."""
    x = advantage.astype(np.float64)
    out[:] = (x - x.mean()) / (x.std(ddof=1) + 1e-8) if len(x) > 1 else x
