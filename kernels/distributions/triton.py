"""Sampling in Triton: CUDA tensors, and with ``TRITON_INTERPRET=1`` NumPy arrays and CPU tensors, as a test.

The random numbers are those of the CPU's kernels, bit for bit: a draw is a function of (seed, counter, row,
component). ``counter`` may be an int64 [2] tensor on the device, of seed and counter, so that a captured
graph draws anew at each replay. A row from which nothing can be drawn gets action -1, or NaN, and
log-probability NaN instead of an error, which would have to wait for the device.
"""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
HALF_LOG_2_PI = tl.constexpr(0.9189385332046727)
ACTION_STREAM = tl.constexpr(1)


@triton.jit
def _random_bits(key, b, component):
    """The upper 24 bits of a word of Philox4x32-10 for each row: four rows share a block (csrc/philox.h)."""
    seed, counter = tl.load(key), tl.load(key + 1)
    key0, key1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    c2 = (b // 4).to(tl.uint32)
    c0 = tl.zeros_like(c2) + counter.to(tl.uint32)
    c1 = tl.zeros_like(c2) + (counter >> 32).to(tl.uint32)
    c3 = (tl.zeros_like(b) + ACTION_STREAM + component * 256).to(tl.uint32)
    for _ in tl.static_range(10):
        product0, product1 = c0.to(tl.uint64) * 0xD2511F53, c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (product1 >> 32).to(tl.uint32) ^ c1 ^ key0
        c1 = product1.to(tl.uint32)
        c2 = (product0 >> 32).to(tl.uint32) ^ c3 ^ key1
        c3 = product0.to(tl.uint32)
        key0 = (key0.to(tl.uint64) + 0x9E3779B9).to(tl.uint32)
        key1 = (key1.to(tl.uint64) + 0xBB67AE85).to(tl.uint32)
    word = b % 4
    bits = tl.where(word < 2, tl.where(word == 0, c0, c1), tl.where(word == 2, c2, c3))
    return (bits >> 8).to(tl.int32)


@triton.jit
def _normal_quantile(x):
    """The standard normal's quantile at (1 + x) / 2: sqrt(2) erfinv(x) by Giles 2010 (csrc/vecmath.h)."""
    w = -tl.log((1.0 - x) * (1.0 + x))
    c = w - 2.5
    centre = c * 2.81022636e-08 + 3.43273939e-07
    centre = centre * c - 3.5233877e-06
    centre = centre * c - 4.39150654e-06
    centre = centre * c + 2.1858087e-04
    centre = centre * c - 1.25372503e-03
    centre = centre * c - 4.17768164e-03
    centre = centre * c + 2.46640727e-01
    centre = centre * c + 1.50140941
    t = tl.sqrt(w) - 3.0
    tail = t * -2.00214257e-04 + 1.00950558e-04
    tail = tail * t + 1.34934322e-03
    tail = tail * t - 3.67342844e-03
    tail = tail * t + 5.73950773e-03
    tail = tail * t - 7.6224613e-03
    tail = tail * t + 9.43887047e-03
    tail = tail * t + 1.00167406
    tail = tail * t + 2.83297682
    return 1.41421356 * x * tl.where(w < 5.0, centre, tail)


@triton.jit
def shifted_logits(  # type: ignore[no-untyped-def]
    logits, logits_b, logits_a, mask, mask_b, mask_a, b, inside, begin, end,
    MASKED: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    """Logits [BLOCK_B, BLOCK_A] of one choice, less the row's maximum; -inf where masked and beside it."""
    a = tl.arange(0, BLOCK_A)[None, :]
    legal = inside[:, None] & (begin + a < end)
    x = tl.load(logits + b[:, None] * logits_b + (begin + a) * logits_a, mask=legal, other=-float("inf"))
    if MASKED:
        allowed = tl.load(mask + b[:, None] * mask_b + (begin + a) * mask_a, mask=legal, other=0) != 0
        x = tl.where(allowed, x, -float("inf"))
    x = tl.where(inside[:, None], x, 0.0)  # rows beyond the batch: anything that raises no warning
    return x - tl.max(x, axis=1)[:, None]


@triton.jit
def categorical_sample_kernel(  # type: ignore[no-untyped-def]
    logits, logits_b, logits_a, mask, mask_b, mask_a, action, action_b, action_k, log_prob, log_prob_b, key,
    offsets, B, K, MASKED: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    """Actions of BLOCK_B rows of K choices; choice k has columns offsets[k] to offsets[k + 1]."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    inside = b < B
    a = tl.arange(0, BLOCK_A)[None, :]
    total = tl.zeros([BLOCK_B], dtype=tl.float32)
    for k in range(0, K):
        begin, end = tl.load(offsets + k), tl.load(offsets + k + 1)
        z = shifted_logits(
            logits, logits_b, logits_a, mask, mask_b, mask_a, b, inside, begin, end, MASKED, BLOCK_A
        )
        e = tl.exp(z)
        whole = tl.sum(e, axis=1)
        u = _random_bits(key, b, k).to(tl.float32) * (1.0 / 16777216)
        start = tl.cumsum(e, axis=1) - e
        hit = (start <= (u * whole)[:, None]) & (e > 0.0) & (whole == whole)[:, None]
        chosen = tl.max(tl.where(hit, a, -1), axis=1)
        z_chosen = tl.sum(tl.where(a == chosen[:, None], z, 0.0), axis=1)
        total += tl.where(chosen >= 0, z_chosen - tl.log(whole), float("nan"))
        tl.store(action + b * action_b + k * action_k, chosen.to(tl.int64), mask=inside)
    tl.store(log_prob + b * log_prob_b, total, mask=inside)


@triton.jit
def gaussian_sample_kernel(  # type: ignore[no-untyped-def]
    mean, mean_b, mean_a, log_std, log_std_b, log_std_a, action, action_b, action_a, log_prob, log_prob_b,
    key, B, A, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """Actions of BLOCK_B rows, and the log-densities of the rounded actions, as a loss will see them."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    inside = b < B
    total = tl.zeros([BLOCK_B], dtype=tl.float32)
    for k in range(0, A):
        centre = tl.load(mean + b * mean_b + k * mean_a, mask=inside, other=0.0)
        s = tl.load(log_std + b * log_std_b + k * log_std_a, mask=inside, other=0.0)
        bits = _random_bits(key, b, k)
        x = centre + tl.exp(s) * _normal_quantile((2 * bits - 0xFFFFFF).to(tl.float32) * (1.0 / 16777216))
        z = (x - centre) * tl.exp(-s)
        total += -0.5 * z * z - s - HALF_LOG_2_PI
        tl.store(action + b * action_b + k * action_a, x, mask=inside)
    tl.store(log_prob + b * log_prob_b, total, mask=inside)


def categorical_sample(
    logits: Any,
    action: Any,
    log_prob: Any,
    seed: int,
    counter: Any,
    uniform: None = None,
    action_mask: Any = None,
    sizes: Sequence[int] | None = None,
) -> None:
    """Writes the last action of positive probability whose share of [0, 1) starts at or below u."""
    _no_noise("categorical_sample", "uniform", uniform)
    x, chosen, result = torch.as_tensor(logits), torch.as_tensor(action), torch.as_tensor(log_prob)
    batch, columns = x.shape
    if batch == 0:
        return
    sizes = sizes or (columns,)
    mask = x if action_mask is None else torch.as_tensor(action_mask)
    block_a = triton.next_power_of_2(max(sizes))
    block_b = max(1, min(128, 256 // block_a, triton.next_power_of_2(batch)))
    with torch.cuda.device_of(x):
        categorical_sample_kernel[(triton.cdiv(batch, block_b),)](
            x, *x.stride(), mask, *mask.stride(), chosen, *(*chosen.stride(), 0)[:2],
            result, result.stride(0), _key(seed, counter, x.device),
            offsets_of(tuple(sizes), x.device), batch, len(sizes),
            MASKED=action_mask is not None, BLOCK_B=block_b, BLOCK_A=block_a, enable_fp_fusion=True,
        )  # fmt: skip


def gaussian_sample(
    mean: Any,
    log_std: Any,
    action: Any,
    log_prob: Any,
    seed: int,
    counter: Any,
    noise: None = None,
) -> None:
    """Writes mean + exp(log_std) noise, and the log-density of what was written."""
    _no_noise("gaussian_sample", "noise", noise)
    x, s, drawn, result = map(torch.as_tensor, (mean, log_std, action, log_prob))
    batch, actions = x.shape
    if batch == 0:
        return
    block_b = min(128, triton.next_power_of_2(batch))
    with torch.cuda.device_of(x):
        gaussian_sample_kernel[(triton.cdiv(batch, block_b),)](
            x, *x.stride(), s, *(0, *s.stride())[-2:], drawn, *drawn.stride(), result, result.stride(0),
            _key(seed, counter, x.device), batch, actions, BLOCK_B=block_b, enable_fp_fusion=True,
        )  # fmt: skip


@cache
def offsets_of(sizes: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """int64 [K + 1]: where each choice's columns begin and end; kept, as a captured graph may not copy it."""
    return torch.tensor([0, *sizes]).cumsum(0).to(device)


def _key(seed: int, counter: Any, device: Any) -> torch.Tensor:
    """int64 [2] on the device: the bits of seed and counter."""
    if isinstance(counter, torch.Tensor):
        return counter
    return torch.tensor([_signed(seed), _signed(counter)], device=device)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def _no_noise(op: str, name: str, given: object) -> None:
    if given is not None:
        raise NotImplementedError(f"{op}: the triton backend draws {name} itself, from seed and counter")
