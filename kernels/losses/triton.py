"""The losses in Triton: CUDA tensors, and as a test, with ``TRITON_INTERPRET=1``, arrays and CPU tensors.

A program takes a block of rows. An action that is out of range or masked gives NaN there instead of an error,
which would have to wait for the device. Sums for ``stats`` are added up in a fixed order: runs repeat.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from fastrl.kernels.distributions.triton import offsets_of, shifted_logits
from fastrl.kernels.losses.ppo import PPOGaussianLoss, PPOLoss

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
HALF_LOG_2_PI = tl.constexpr(0.9189385332046727)


@triton.jit
def _surrogate(  # type: ignore[no-untyped-def]
    log_prob, entropy, b, inside,
    value, value_b, old_log_prob, old_log_prob_b, advantage, advantage_b, return_, return_b,
    old_value, old_value_b, loss, loss_b, d_value, d_value_b, sums,
    scale, clip_coef, vf_coef, ent_coef, kl_coef, clip_value, CLIP_VALUE: tl.constexpr,
):  # fmt: skip
    """Writes loss, d_value and the sums of a block of rows; the scaled derivative by log_prob."""
    v = tl.load(value + b * value_b, mask=inside, other=0.0)
    target = tl.load(return_ + b * return_b, mask=inside, other=0.0)
    adv = tl.load(advantage + b * advantage_b, mask=inside, other=0.0)
    log_ratio = log_prob - tl.load(old_log_prob + b * old_log_prob_b, mask=inside, other=0.0)
    ratio = tl.exp(log_ratio)
    kl = (ratio - 1.0) - log_ratio

    low, high = 1.0 - clip_coef, 1.0 + clip_coef
    clipped_ratio = tl.where(ratio < low, low, tl.where(ratio > high, high, ratio))
    unclipped, clipped = -adv * ratio, -adv * clipped_ratio
    policy = tl.where(clipped > unclipped, clipped, unclipped)
    d_log_prob = tl.where(clipped > unclipped, 0.0, unclipped)

    d_v = v - target
    value_loss = 0.5 * d_v * d_v
    if CLIP_VALUE:
        old_v = tl.load(old_value + b * old_value_b, mask=inside, other=0.0)
        step = v - old_v
        near = tl.where(step < -clip_value, -clip_value, tl.where(step > clip_value, clip_value, step))
        error = old_v + near - target
        clipped_value_loss = 0.5 * error * error
        outside = tl.abs(step) > clip_value
        farther = clipped_value_loss > value_loss
        d_v = tl.where(farther, tl.where(outside, 0.0, error), d_v)
        value_loss = tl.where(farther, clipped_value_loss, value_loss)

    total = policy + vf_coef * value_loss - ent_coef * entropy
    if kl_coef != 0.0:  # else 0 * inf where the ratio overflows
        total += kl_coef * kl
        d_log_prob += kl_coef * (ratio - 1.0)
    tl.store(loss + b * loss_b, total, mask=inside)
    tl.store(d_value + b * d_value_b, scale * vf_coef * d_v, mask=inside)

    out = sums + tl.program_id(0) * 5
    tl.store(out, tl.sum(tl.where(inside, policy, 0.0).to(tl.float64), 0))
    tl.store(out + 1, tl.sum(tl.where(inside, value_loss, 0.0).to(tl.float64), 0))
    tl.store(out + 2, tl.sum(tl.where(inside, entropy, 0.0).to(tl.float64), 0))
    tl.store(out + 3, tl.sum(tl.where(inside, kl, 0.0).to(tl.float64), 0))
    tl.store(out + 4, tl.sum((inside & (ratio != clipped_ratio)).to(tl.float64), 0))
    return scale * d_log_prob


@triton.jit
def _softmax(  # type: ignore[no-untyped-def]
    logits, logits_b, logits_a, mask, mask_b, mask_a, b, inside, begin, end,
    MASKED: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    """log p and p [BLOCK_B, BLOCK_A] of one choice, and its entropy [BLOCK_B, 1]; -inf and 0 beside it."""
    z = shifted_logits(
        logits, logits_b, logits_a, mask, mask_b, mask_a, b, inside, begin, end, MASKED, BLOCK_A
    )
    e = tl.exp(z)
    total = tl.sum(e, axis=1)[:, None]
    log_total = tl.log(total)
    p = e / total
    entropy = log_total - tl.sum(p * tl.where(p > 0.0, z, 0.0), axis=1)[:, None]
    return z - log_total, p, entropy


@triton.jit
def ppo_categorical_kernel(  # type: ignore[no-untyped-def]
    logits, logits_b, logits_a, mask, mask_b, mask_a, action, action_b, action_k, offsets,
    value, value_b, old_log_prob, old_log_prob_b, advantage, advantage_b, return_, return_b,
    old_value, old_value_b, loss, loss_b, d_logits, d_logits_b, d_logits_a, d_value, d_value_b, sums, B, K,
    scale, clip_coef, vf_coef, ent_coef, kl_coef, clip_value,
    MASKED: tl.constexpr, CLIP_VALUE: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    """Loss and gradients of BLOCK_B rows of K choices; choice k has columns offsets[k] to offsets[k + 1]."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    inside = b < B
    a = tl.arange(0, BLOCK_A)[None, :]
    log_prob = tl.zeros([BLOCK_B], dtype=tl.float32)
    entropy = tl.zeros([BLOCK_B], dtype=tl.float32)
    for k in range(0, K):
        begin, end = tl.load(offsets + k), tl.load(offsets + k + 1)
        log_p, p, h = _softmax(
            logits, logits_b, logits_a, mask, mask_b, mask_a, b, inside, begin, end, MASKED, BLOCK_A
        )
        chosen = tl.load(action + b * action_b + k * action_k, mask=inside, other=0)[:, None]
        found = a == chosen
        picked = tl.sum(tl.where(found, log_p, 0.0), axis=1)
        legal = (chosen >= 0) & (chosen < end - begin)
        legal &= (tl.sum(tl.where(found & (p >= 0.0) & (log_p > -float("inf")), 1, 0), axis=1) > 0)[:, None]
        log_prob += tl.where(tl.sum(legal.to(tl.int32), axis=1) > 0, picked, float("nan"))
        entropy += tl.sum(h, axis=1)
    d_log_prob = _surrogate(
        log_prob, entropy, b, inside,
        value, value_b, old_log_prob, old_log_prob_b, advantage, advantage_b, return_, return_b,
        old_value, old_value_b, loss, loss_b, d_value, d_value_b, sums,
        scale, clip_coef, vf_coef, ent_coef, kl_coef, clip_value, CLIP_VALUE,
    )  # fmt: skip
    for k in range(0, K):
        begin, end = tl.load(offsets + k), tl.load(offsets + k + 1)
        log_p, p, h = _softmax(
            logits, logits_b, logits_a, mask, mask_b, mask_a, b, inside, begin, end, MASKED, BLOCK_A
        )
        chosen = tl.load(action + b * action_b + k * action_k, mask=inside, other=0)[:, None]
        onehot = (a == chosen).to(tl.float32)
        surprise = p * tl.where(p > 0.0, log_p + h, 0.0)
        d = d_log_prob[:, None] * (onehot - p) + scale * ent_coef * surprise
        column = b[:, None] * d_logits_b + (begin + a) * d_logits_a
        tl.store(d_logits + column, d, mask=inside[:, None] & (begin + a < end))


@triton.jit
def ppo_gaussian_kernel(  # type: ignore[no-untyped-def]
    mean, mean_b, mean_a, log_std, log_std_b, log_std_a, action, action_b, action_a,
    value, value_b, old_log_prob, old_log_prob_b, advantage, advantage_b, return_, return_b,
    old_value, old_value_b, loss, loss_b, d_mean, d_mean_b, d_mean_a, d_log_std, d_log_std_b, d_log_std_a,
    d_value, d_value_b, sums, B, A, scale, clip_coef, vf_coef, ent_coef, kl_coef, clip_value,
    CLIP_VALUE: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    """Loss and gradients of BLOCK_B rows of a diagonal Gaussian policy."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    inside = b < B
    row, a = b[:, None], tl.arange(0, BLOCK_A)[None, :]
    within = inside[:, None] & (a < A)
    s = tl.load(log_std + row * log_std_b + a * log_std_a, mask=within, other=0.0)
    x = tl.load(action + row * action_b + a * action_a, mask=within, other=0.0)
    inverse = tl.exp(-s)
    z = (x - tl.load(mean + row * mean_b + a * mean_a, mask=within, other=0.0)) * inverse
    log_std_sum = tl.sum(s, axis=1)
    log_prob = -0.5 * tl.sum(z * z, axis=1) - log_std_sum - A * HALF_LOG_2_PI
    entropy = log_std_sum + A * (HALF_LOG_2_PI + 0.5)
    d_log_prob = _surrogate(
        log_prob, entropy, b, inside,
        value, value_b, old_log_prob, old_log_prob_b, advantage, advantage_b, return_, return_b,
        old_value, old_value_b, loss, loss_b, d_value, d_value_b, sums,
        scale, clip_coef, vf_coef, ent_coef, kl_coef, clip_value, CLIP_VALUE,
    )[:, None]  # fmt: skip
    tl.store(d_mean + row * d_mean_b + a * d_mean_a, d_log_prob * z * inverse, mask=within)
    d_s = d_log_prob * (z * z - 1.0) - scale * ent_coef
    tl.store(d_log_std + row * d_log_std_b + a * d_log_std_a, d_s, mask=within)


@triton.jit
def normalize_kernel(x, x_b, out, out_b, B, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One program: mean, unbiased deviation, result."""
    block = tl.arange(0, BLOCK).to(tl.int64)
    total = tl.zeros([BLOCK], dtype=tl.float64)
    for start in range(0, B, BLOCK):
        total += tl.load(x + (start + block) * x_b, mask=start + block < B, other=0.0).to(tl.float64)
    mean = tl.sum(total, axis=0) / B
    squares = tl.zeros([BLOCK], dtype=tl.float64)
    for start in range(0, B, BLOCK):
        away = tl.load(x + (start + block) * x_b, mask=start + block < B, other=0.0).to(tl.float64) - mean
        squares += tl.where(start + block < B, away * away, 0.0)
    deviation = tl.sqrt(tl.sum(squares, axis=0) / (B - 1)) + 1e-8
    for start in range(0, B, BLOCK):
        away = tl.load(x + (start + block) * x_b, mask=start + block < B, other=0.0).to(tl.float64) - mean
        tl.store(out + (start + block) * out_b, (away / deviation).to(tl.float32), mask=start + block < B)


def ppo_categorical(
    logits: Any,
    value: Any,
    action: Any,
    old_log_prob: Any,
    advantage: Any,
    return_: Any,
    old_value: Any,
    action_mask: Any,
    out: Any,
    stats: Any,
    *,
    scale: float | None,
    sizes: Sequence[int] | None = None,
    **coefficients: Any,
) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    x = torch.as_tensor(logits)
    batch, columns = x.shape
    sizes = sizes or (columns,)
    offsets = offsets_of(tuple(sizes), x.device)
    action = torch.as_tensor(action)
    mask = x if action_mask is None else torch.as_tensor(action_mask)
    chosen = (action, *action.stride(), 0)[:3]
    d_logits = torch.as_tensor(out.d_logits)
    samples = (value, old_log_prob, advantage, return_, value if old_value is None else old_value)
    _launch(
        ppo_categorical_kernel, batch, max(sizes), x.device, stats,
        (x, *x.stride(), mask, *mask.stride(), *chosen, offsets, *_vectors(*samples, out.loss),
         d_logits, *d_logits.stride(), *_vectors(out.d_value)),
        (batch, len(sizes)), scale, coefficients, MASKED=action_mask is not None,
    )  # fmt: skip


ppo_multi_categorical = ppo_categorical


def ppo_gaussian(
    mean: Any,
    log_std: Any,
    value: Any,
    action: Any,
    old_log_prob: Any,
    advantage: Any,
    return_: Any,
    old_value: Any,
    out: Any,
    stats: Any,
    *,
    scale: float | None,
    **coefficients: Any,
) -> None:
    """Writes loss and gradients into ``out``, adds to ``stats``."""
    x = torch.as_tensor(mean)
    batch, actions = x.shape
    s, total = torch.as_tensor(log_std), torch.as_tensor(out.d_log_std)
    d_log_std = total if total.ndim == 2 else torch.empty_like(x)
    action, d_mean = torch.as_tensor(action), torch.as_tensor(out.d_mean)
    samples = (value, old_log_prob, advantage, return_, value if old_value is None else old_value)
    _launch(
        ppo_gaussian_kernel, batch, actions, x.device, stats,
        (x, *x.stride(), s, *(0, *s.stride())[-2:], action, *action.stride(), *_vectors(*samples, out.loss),
         d_mean, *d_mean.stride(), d_log_std, *d_log_std.stride(), *_vectors(out.d_value)),
        (batch, actions), scale, coefficients,
    )  # fmt: skip
    if d_log_std is not total:
        torch.sum(d_log_std, 0, out=total)


class PPOCategorical:
    """``loss(y, dy, ...)`` on rows of logits, then the value; called as the CPU's class of this name."""

    sizes: Sequence[int] | None = None

    def __init__(self, **coefficients: Any) -> None:
        self.coefficients = coefficients

    def __call__(
        self,
        y: torch.Tensor,
        dy: torch.Tensor,
        action: torch.Tensor,
        old_log_prob: torch.Tensor,
        advantage: torch.Tensor,
        return_: torch.Tensor,
        stats: torch.Tensor | None = None,
        old_value: torch.Tensor | None = None,
        action_mask: torch.Tensor | None = None,
        scale: float | None = None,
    ) -> None:
        """Writes the gradient by y to ``dy`` and adds to ``stats``; waits for nothing."""
        out = PPOLoss(torch.empty_like(old_log_prob), dy[:, :-1], dy[:, -1])
        samples = (action, old_log_prob, advantage, return_, old_value, action_mask, out, stats)
        ppo_categorical(y[:, :-1], y[:, -1], *samples, scale=scale, sizes=self.sizes, **self.coefficients)


class PPOMultiCategorical(PPOCategorical):
    """The same of several choices a row."""

    def __init__(self, sizes: Sequence[int], **coefficients: Any) -> None:
        super().__init__(**coefficients)
        self.sizes = sizes


class PPOGaussian:
    """``loss(y, dy, log_std, d_log_std, ...)`` on rows of means and maybe log deviations, then the value."""

    def __init__(self, **coefficients: Any) -> None:
        self.coefficients = coefficients

    def __call__(
        self,
        y: torch.Tensor,
        dy: torch.Tensor,
        log_std: torch.Tensor | None,
        d_log_std: torch.Tensor | None,
        action: torch.Tensor,
        old_log_prob: torch.Tensor,
        advantage: torch.Tensor,
        return_: torch.Tensor,
        stats: torch.Tensor | None = None,
        old_value: torch.Tensor | None = None,
        scale: float | None = None,
    ) -> None:
        """Writes the gradient by y to ``dy``, adds to ``d_log_std`` and ``stats``; waits for nothing."""
        actions = action.shape[1]
        s = y[:, actions:-1] if log_std is None else log_std
        d_s = dy[:, actions:-1] if log_std is None else torch.empty_like(action)
        out = PPOGaussianLoss(torch.empty_like(old_log_prob), dy[:, :actions], d_s, dy[:, -1])
        samples = (action, old_log_prob, advantage, return_, old_value, out, stats)
        ppo_gaussian(y[:, :actions], s, y[:, -1], *samples, scale=scale, **self.coefficients)
        if d_log_std is not None:
            d_log_std += d_s.sum(0)


def normalize_advantage(advantage: Any, out: Any) -> None:
    """Writes (A - mean) / (std + 1e-8)."""
    x, result = torch.as_tensor(advantage), torch.as_tensor(out)
    if len(x) <= 1:
        result.copy_(x)
        return
    with torch.cuda.device_of(x):
        normalize_kernel[(1,)](
            x, x.stride(0), result, result.stride(0), len(x), BLOCK=1024, enable_fp_fusion=True
        )


def _launch(
    kernel: Any,
    batch: int,
    width: int,
    device: Any,
    stats: Any,
    arrays: tuple[Any, ...],
    sizes: tuple[int, int],
    scale: float | None,
    coefficients: dict[str, Any],
    **constants: bool,
) -> None:
    """Runs ``kernel`` over blocks of rows and adds what each of them summed to ``stats``."""
    if batch == 0:
        return
    block_a = triton.next_power_of_2(width)
    block_b = max(1, min(128, 512 // block_a, triton.next_power_of_2(batch)))
    blocks = triton.cdiv(batch, block_b)
    sums = torch.empty((blocks, 5), dtype=torch.float64, device=device)
    clip_value = coefficients.pop("clip_value")
    options = {name: float(x) for name, x in coefficients.items()}
    with torch.cuda.device_of(sums):
        kernel[(blocks,)](
            *arrays, sums, *sizes, scale=1.0 / batch if scale is None else float(scale), **options,
            clip_value=float(clip_value or 0.0), CLIP_VALUE=clip_value is not None,
            BLOCK_B=block_b, BLOCK_A=block_a, **constants, enable_fp_fusion=True,
        )  # fmt: skip
    if stats is not None:
        torch.as_tensor(stats).add_(sums.sum(0))


def _vectors(*xs: Any) -> list[Any]:
    """Each with its stride."""
    return [part for x in map(torch.as_tensor, xs) for part in (x, x.stride(0))]
