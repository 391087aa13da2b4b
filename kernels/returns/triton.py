"""The returns family in Triton: CUDA tensors, and with ``TRITON_INTERPRET=1`` NumPy arrays, as a test.

A program takes a block of columns backwards over blocks of steps, each an associative scan. So it rounds
otherwise than a serial loop, and an infinity times a product of factors that underflowed is NaN.
"""

import os
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from fastrl.kernels._dispatch import is_tensor
from fastrl.kernels.returns._check import require

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)


@triton.jit
def _compose(a1, b1, cut1, a2, b2, cut2):
    """The map y -> a2 + b2 (a1 + b1 y) of two neighbours; a cut selects 0, so that no NaN crosses it."""
    return a2 + tl.where(cut2 != 0, 0.0, b2 * a1), b2 * b1, cut2 | cut1


@triton.jit
def gae_kernel(  # type: ignore[no-untyped-def]
    reward, reward_t, reward_b,
    value, value_t, value_b,
    next_value, next_value_t, next_value_b,
    terminated, terminated_t, terminated_b,
    truncated, truncated_t, truncated_b,
    out, out_t, out_b,
    gamma: tl.float64, decay: tl.float64, T, B,
    AFTER_LAST: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """Advantages of BLOCK_B columns; with AFTER_LAST next_value is [B], V after the last step."""
    real = out.dtype.element_ty
    gamma, decay = tl.cast(gamma, real), tl.cast(decay, real)
    row = tl.arange(0, BLOCK_T)[:, None]
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[None, :]
    following = tl.zeros([1, BLOCK_B], dtype=real)
    for behind in range(0, T, BLOCK_T):
        t = (T - 1 - behind - row).to(tl.int64)
        inside = (t >= 0) & (b < B)
        given = inside & (t == T - 1) if AFTER_LAST else inside
        n = tl.load(next_value + t * next_value_t + b * next_value_b, mask=given, other=0.0)
        if AFTER_LAST:
            n += tl.load(value + (t + 1) * value_t + b * value_b, mask=inside & (t < T - 1), other=0.0)
        r = tl.load(reward + t * reward_t + b * reward_b, mask=inside, other=0.0)
        v = tl.load(value + t * value_t + b * value_b, mask=inside, other=0.0)
        ended = tl.load(terminated + t * terminated_t + b * terminated_b, mask=inside, other=0) != 0
        cut = ended | (tl.load(truncated + t * truncated_t + b * truncated_b, mask=inside, other=0) != 0)
        a = r + tl.where(ended, 0.0, gamma * n) - v
        factor = tl.zeros([BLOCK_T, BLOCK_B], dtype=real) + decay
        a, factor, cut = tl.associative_scan((a, factor, cut.to(tl.int32)), 0, _compose)
        y = a + tl.where(cut != 0, 0.0, factor * following)
        tl.store(out + t * out_t + b * out_b, y, mask=inside)
        following = tl.sum(tl.where(row == BLOCK_T - 1, y, 0.0), axis=0)[None, :]


def gae(
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any,
    mask: Any,
    out: Any,
    gamma: float,
    lam: float,
) -> Any:
    """Generalized advantage estimates."""
    require("gae", (reward, value, next_value, terminated, truncated, mask), out, (gamma, lam))
    if out is None:
        contiguous = {"memory_format": torch.contiguous_format} if is_tensor(reward) else {"order": "C"}
        out = (torch.empty_like if is_tensor(reward) else np.empty_like)(reward, **contiguous)
    arrays = (reward, value, next_value, terminated, terminated if truncated is None else truncated, out)
    *inputs, result = (torch.as_tensor(x) for x in arrays)
    if result.numel() == 0:
        return out
    overlaps = any(_overlap(x, result) for x in inputs)
    target = torch.empty_like(result) if overlaps else result
    steps, batch = result.shape
    block_b = min(32, triton.next_power_of_2(batch))
    block_t = min(1024 // block_b, triton.next_power_of_2(steps))
    views = [part for x in (*inputs, target) for part in (x, *(0, *x.stride())[-2:])]
    after_last = inputs[2].ndim == 1
    with torch.cuda.device_of(target):
        gae_kernel[(triton.cdiv(batch, block_b),)](
            *views, gamma, gamma * lam, steps, batch,
            AFTER_LAST=after_last, BLOCK_T=block_t, BLOCK_B=block_b, enable_fp_fusion=False,
        )  # fmt: skip
    if overlaps:
        result.copy_(target)
    return out


def _overlap(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether the two may share memory, by the range of their addresses."""
    (x_low, x_high), (y_low, y_high) = _range(x), _range(y)
    return x_low < y_high and y_low < x_high


def _range(x: torch.Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size()
