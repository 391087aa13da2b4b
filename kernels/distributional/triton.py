"""The distributional family in Triton: CUDA tensors, and as a test, with ``TRITON_INTERPRET=1``, arrays and
CPU tensors.

A program takes a block of rows. Values are not checked on the device: an action out of range makes its row
NaN, and what a support that does not increase gives is not defined.
"""

import os
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

from fastrl.kernels.distributional._check import (
    require_c51_loss,
    require_expectation,
    require_hl_gauss,
    require_projection,
    require_quantile_huber,
    require_two_hot,
)

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)


@triton.jit
def _discount(  # type: ignore[no-untyped-def]
    discount, discount_b, gamma, b, inside, DISCOUNT: tl.constexpr, FLAGS: tl.constexpr
):  # fmt: skip
    """Discounts [BLOCK_B] in float64 from an array, from gamma and flags, or from gamma."""
    given = tl.zeros(b.shape, dtype=tl.float64) + gamma
    if DISCOUNT:
        given = tl.load(discount + b * discount_b, mask=inside, other=0.0).to(tl.float64)
    if FLAGS:
        ended = tl.load(discount + b * discount_b, mask=inside, other=0) != 0
        given = tl.where(ended, 0.0, given)
    return given


@triton.jit
def _neighbours(target, M, real, BLOCK_M: tl.constexpr):  # type: ignore[no-untyped-def]
    """Target atoms and their neighbours [1, BLOCK_M], from the first on; outside, further away by 1."""
    j = tl.arange(0, BLOCK_M)[None, :]
    first = tl.load(target)
    z = (tl.load(target + j, mask=j < M, other=0.0) - first).to(real)
    low, high = (j > 0) & (j < M), j < M - 1
    before = tl.where(low, (tl.load(target + j - 1, mask=low, other=0.0) - first).to(real), z - 1.0)
    after = tl.where(high, (tl.load(target + j + 1, mask=high, other=0.0) - first).to(real), z + 1.0)
    return z, before, after


@triton.jit
def _landing(r, d, source, target, real):
    """Where the first source atom lands [BLOCK_B], counted from the first target atom."""
    return (r.to(tl.float64) + d * tl.load(source) - tl.load(target)).to(real)


@triton.jit
def _share(land, low, high, z, before, after):
    """What part of an atom that lands there [BLOCK_B, 1] each target gets [BLOCK_B, BLOCK_M]."""
    inside = tl.where(land < low, low, tl.where(land > high, high, land))
    rising = (inside - before) / (z - before)
    falling = (after - inside) / (after - z)
    part = tl.where(inside <= z, rising, falling)
    return tl.where(part > 0.0, part, 0.0)


@triton.jit
def c51_project_kernel(  # type: ignore[no-untyped-def]
    probs, probs_b, probs_n, reward, reward_b, discount, discount_b, gamma: tl.float64, source, target,
    out, out_b, out_m, B, N, M,
    DISCOUNT: tl.constexpr, FLAGS: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Projections of BLOCK_B rows."""
    real = out.dtype.element_ty
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    within = b < B
    r = tl.load(reward + b * reward_b, mask=within, other=0.0)
    d = _discount(discount, discount_b, gamma, b, within, DISCOUNT, FLAGS)
    z, before, after = _neighbours(target, M, real, BLOCK_M)
    low, high = tl.zeros([], dtype=real), (tl.load(target + M - 1) - tl.load(target)).to(real)
    first, start, slope = tl.load(source), _landing(r, d, source, target, real), d.to(real)
    total = tl.zeros([BLOCK_B, BLOCK_M], dtype=real)
    finite = (d - d == 0.0) & (r == r)
    for i in range(0, N):
        p = tl.load(probs + b * probs_b + tl.cast(i, tl.int64) * probs_n, mask=within, other=0.0)
        finite &= p - p == 0.0
        land = start + slope * (tl.load(source + i) - first).to(real)
        total += p[:, None] * _share(land[:, None], low, high, z, before, after)
    j = tl.arange(0, BLOCK_M)[None, :].to(tl.int64)
    result = tl.where(finite[:, None], total, float("nan"))
    tl.store(out + b[:, None] * out_b + j * out_m, result, mask=within[:, None] & (j < M))


@triton.jit
def _softmax(x, row, x_n, within, N, BLOCK_N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of rows that begin at x + row [BLOCK_B]: the row's maximum, exponentials and their sum."""
    i = tl.arange(0, BLOCK_N)[None, :].to(tl.int64)
    logits = tl.load(x + row[:, None] + i * x_n, mask=within[:, None] & (i < N), other=0.0)
    logits = tl.where(i < N, logits, -float("inf"))
    top = tl.max(logits, axis=1)
    e = tl.exp(logits - top[:, None])
    return logits, top, e, tl.sum(e, axis=1)


@triton.jit
def c51_loss_kernel(  # type: ignore[no-untyped-def]
    logits, logits_b, logits_a, logits_n, next_logits, next_b, next_a, next_n,
    selector, selector_b, selector_a, selector_n, action, action_b, reward, reward_b, discount, discount_b,
    gamma: tl.float64, atoms, loss, loss_b, d_logits, d_logits_b, d_logits_a, B, A, next_A, N, scale,
    DISCOUNT: tl.constexpr, FLAGS: tl.constexpr, KL: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Loss and gradient of BLOCK_B rows."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    within = b < B
    z, before, after = _neighbours(atoms, N, tl.float32, BLOCK_N)
    first = tl.load(atoms)
    low, high = tl.zeros([], dtype=tl.float32), (tl.load(atoms + N - 1) - first).to(tl.float32)
    best = tl.zeros([BLOCK_B], dtype=tl.int64)
    best_mean = tl.zeros([BLOCK_B], dtype=tl.float32)
    for a in range(0, next_A):
        _, _, e, total = _softmax(selector, b * selector_b + a * selector_a, selector_n, within, N, BLOCK_N)
        mean = tl.sum(e * z, axis=1) / total
        better = (best_mean == best_mean) & ((mean > best_mean) | (mean != mean)) | (a == 0)
        best = tl.where(better, a, best)
        best_mean = tl.where(better, mean, best_mean)

    row = b * next_b + best * next_a
    _, top, _, total = _softmax(next_logits, row, next_n, within, N, BLOCK_N)
    r = tl.load(reward + b * reward_b, mask=within, other=0.0)
    d = _discount(discount, discount_b, gamma, b, within, DISCOUNT, FLAGS)
    start, slope = _landing(r, d, atoms, atoms, tl.float32), d.to(tl.float32)
    target = tl.zeros([BLOCK_B, BLOCK_N], dtype=tl.float32)
    finite = (d - d == 0.0) & (r == r) & (total == total)
    for i in range(0, N):
        p = (
            tl.exp(tl.load(next_logits + row + tl.cast(i, tl.int64) * next_n, mask=within, other=0.0) - top)
            / total
        )
        finite &= p == p
        land = start + slope * (tl.load(atoms + i) - first).to(tl.float32)
        target += p[:, None] * _share(land[:, None], low, high, z, before, after)

    chosen = tl.load(action + b * action_b, mask=within, other=0)
    legal = (chosen >= 0) & (chosen < A)
    x, top, e, total = _softmax(
        logits, b * logits_b + tl.where(legal, chosen, 0) * logits_a, logits_n, within, N, BLOCK_N
    )
    target = tl.where((finite & legal)[:, None], target, float("nan"))
    i = tl.arange(0, BLOCK_N)[None, :]
    target = tl.where(i < N, target, 0.0)
    log_ratio = tl.where(target == 0.0, 0.0, x - (top + tl.log(total))[:, None])
    if KL:
        log_ratio -= tl.log(tl.where(target == 0.0, 1.0, target))
    tl.store(loss + b * loss_b, -tl.sum(target * log_ratio, axis=1), mask=within)
    gradient = scale * (e * (tl.sum(target, axis=1) / total)[:, None] - target)
    inside = within[:, None] & (i < N)
    for a in range(0, A):
        d_a = tl.where((chosen == a)[:, None], gradient, tl.where(legal[:, None], 0.0, float("nan")))
        tl.store(d_logits + b[:, None] * d_logits_b + a * d_logits_a + i, d_a, mask=inside)


@triton.jit
def quantile_huber_kernel(  # type: ignore[no-untyped-def]
    theta, theta_b, theta_n, target, target_b, target_m, tau, tau_b, tau_n, loss, d_theta, d_theta_b,
    N, M, kappa, weight, scale,
    PLAIN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Loss and gradient of one row, by blocks of pairs."""
    b = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK_N], dtype=tl.float32)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N).to(tl.int64)
        x = tl.load(theta + b * theta_b + n * theta_n, mask=n < N, other=0.0)[:, None]
        t = tl.load(tau + b * tau_b + n * tau_n, mask=n < N, other=0.0)[:, None]
        value = tl.zeros([BLOCK_N], dtype=tl.float32)
        slopes = tl.zeros([BLOCK_N], dtype=tl.float32)
        for begin in range(0, M, BLOCK_M):
            m = begin + tl.arange(0, BLOCK_M)[None, :].to(tl.int64)
            delta = tl.load(target + b * target_b + m * target_m, mask=m < M, other=0.0) - x
            size = tl.where(m < M, tl.where(delta < 0.0, 1.0 - t, t), 0.0)
            delta = tl.where(m < M, delta, 0.0)
            if PLAIN:
                slope = tl.where(delta > 0.0, 1.0, tl.where(delta < 0.0, -1.0, delta))
                value += tl.sum(size * tl.abs(delta), axis=1)
            else:
                slope = tl.where(delta < -kappa, -kappa, tl.where(delta > kappa, kappa, delta))
                value += tl.sum(size * slope * (delta - 0.5 * slope), axis=1)
            slopes += tl.sum(size * slope, axis=1)
        total += tl.where(n < N, value, 0.0)
        tl.store(d_theta + b * d_theta_b + n, -scale * weight * slopes, mask=n < N)
    tl.store(loss + b, weight * tl.sum(total, axis=0))


@triton.jit
def expectation_kernel(  # type: ignore[no-untyped-def]
    x, x_b, x_n, atoms, out, B, N, LOGITS: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """Means of BLOCK_B rows."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    i = tl.arange(0, BLOCK_N)[None, :].to(tl.int64)
    z = tl.load(atoms + i, mask=i < N, other=0.0)
    if LOGITS:
        _, _, e, total = _softmax(x, b * x_b, x_n, b < B, N, BLOCK_N)
        mean = tl.sum(e * z, axis=1) / total
    else:
        p = tl.load(x + b[:, None] * x_b + i * x_n, mask=(b < B)[:, None] & (i < N), other=0.0)
        mean = tl.sum(p * z, axis=1)
    tl.store(out + b, mean, mask=b < B)


@triton.jit
def hl_gauss_kernel(  # type: ignore[no-untyped-def]
    x, x_b, edges, out, B, N, sigma: tl.float64, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """Histograms of BLOCK_B values, in float64: differences of values near 1 lose digits."""
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)
    i = tl.arange(0, BLOCK_N)[None, :]
    value = tl.load(x + b * x_b, mask=b < B, other=0.0).to(tl.float64)[:, None]
    first, last = tl.load(edges), tl.load(edges + N)
    within = 1e4 * (last - first)
    inverse = 0.7071067811865476 / tl.where(sigma < 1e-300, 1e-300, tl.where(sigma > within, within, sigma))
    mean = tl.where(value < first, first, tl.where(value > last, last, value))
    low = tl.math.erf((tl.load(edges + i, mask=i < N, other=0.0) - mean) * inverse)
    high = tl.math.erf((tl.load(edges + i + 1, mask=i < N, other=0.0) - mean) * inverse)
    whole = tl.math.erf((last - mean) * inverse) - tl.math.erf((first - mean) * inverse)
    mask = (b < B)[:, None] & (i < N)
    tl.store(out + b[:, None] * N + i, ((high - low) / whole).to(tl.float32), mask=mask)


def c51_project(
    probs: Any, reward: Any, discount: Any, terminated: Any, gamma: Any,
    support: Any, v_min: Any, v_max: Any, target_support: Any, out: Any,
) -> Any:  # fmt: skip
    """Projected distributions."""
    bellman = (reward, discount, terminated, gamma)
    require_projection(probs, *bellman, support, v_min, v_max, target_support, out)
    p = torch.as_tensor(probs)
    batch, n = p.shape
    source = _atoms(support, v_min, v_max, n, p.device, torch.float64)
    target = source if target_support is None else _atoms(target_support, 0, 0, 0, p.device, torch.float64)
    m = len(target)
    result = p.new_empty((batch, m)) if out is None else torch.as_tensor(out)
    block_m, block_b = _blocks(batch, m, 1024)
    if batch:
        vectors, constants = _bellman(*bellman)
        with torch.cuda.device_of(p):
            c51_project_kernel[(triton.cdiv(batch, block_b),)](
                p, *p.stride(), *vectors, source, target, result, *result.stride(), batch, n, m,
                **constants, BLOCK_B=block_b, BLOCK_M=block_m, enable_fp_fusion=True,
            )  # fmt: skip
    return _like(probs, result) if out is None else out


def c51_loss(
    logits: Any, action: Any, next_logits: Any, reward: Any, discount: Any, terminated: Any, gamma: Any,
    support: Any, v_min: Any, v_max: Any, next_selector: Any, kl: bool, scale: float | None, out: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Loss and gradient."""
    bellman = (reward, discount, terminated, gamma)
    require_c51_loss(
        *(logits, action, next_logits, *bellman, support, v_min, v_max, next_selector, kl, scale, out)
    )
    x, following = (torch.as_tensor(y) for y in (logits, next_logits))
    selector = following if next_selector is None else torch.as_tensor(next_selector)
    if action is None:
        x = x[:, None]
        chosen = x.new_zeros(1, dtype=torch.int64).expand(len(x))
    else:
        chosen = torch.as_tensor(action)
    if following.ndim == 2:
        following, selector = following[:, None], selector[:, None]
    batch, actions, n = x.shape
    z = _atoms(support, v_min, v_max, n, x.device, torch.float64)
    if out is None:
        loss, d = x.new_empty(batch), torch.empty_like(x, memory_format=torch.contiguous_format)
    else:
        loss, d = (torch.as_tensor(y) for y in out)
        d = d if d.ndim == 3 else d[:, None]
    block_n, block_b = _blocks(batch, n, 1024)
    if batch:
        vectors, constants = _bellman(*bellman)
        with torch.cuda.device_of(x):
            c51_loss_kernel[(triton.cdiv(batch, block_b),)](
                x, *x.stride(), following, *following.stride(), selector, *selector.stride(),
                chosen, chosen.stride(0), *vectors, z, loss, loss.stride(0), d, *d.stride()[:2],
                batch, actions, following.shape[1], n, 1.0 / batch if scale is None else float(scale),
                **constants, KL=bool(kl), BLOCK_B=block_b, BLOCK_N=block_n, enable_fp_fusion=True,
            )  # fmt: skip
    if out is not None:
        return out[0], out[1]
    return _like(logits, loss), _like(logits, d if action is not None else d[:, 0])


def quantile_huber(
    quantiles: Any, targets: Any, taus: Any, kappa: float, weight: float, scale: float | None, out: Any
) -> tuple[Any, Any]:
    """Loss and gradient."""
    require_quantile_huber(quantiles, targets, taus, kappa, weight, scale, out)
    x, y = torch.as_tensor(quantiles), torch.as_tensor(targets)
    batch, n = x.shape
    m = y.shape[1]
    if taus is None:
        tau = ((torch.arange(n, dtype=torch.float64, device=x.device) + 0.5) / n).to(torch.float32)
    else:
        tau = torch.as_tensor(taus)
    if out is None:
        loss, d = x.new_empty(batch), x.new_empty((batch, n))
    else:
        loss, d = (torch.as_tensor(z) for z in out)
    if batch:
        block_n, block_m = (min(64, triton.next_power_of_2(k)) for k in (n, m))
        with torch.cuda.device_of(x):
            quantile_huber_kernel[(batch,)](
                x, *x.stride(), y, *y.stride(), tau, *(0, *tau.stride())[-2:], loss, d, d.stride(0),
                n, m, float(kappa), float(weight), 1.0 / batch if scale is None else float(scale),
                PLAIN=kappa == 0, BLOCK_N=block_n, BLOCK_M=block_m, enable_fp_fusion=True,
            )  # fmt: skip
    return (_like(quantiles, loss), _like(quantiles, d)) if out is None else (out[0], out[1])


def expectation(x: Any, support: Any, v_min: Any, v_max: Any, logits: bool) -> Any:
    """Means of rows."""
    require_expectation(x, support, v_min, v_max, logits)
    rows = torch.as_tensor(x)
    batch, n = rows.shape
    z = _atoms(support, v_min, v_max, n, rows.device, torch.float32)
    result = rows.new_empty(batch)
    block_n, block_b = _blocks(batch, n, 2048)
    if batch:
        with torch.cuda.device_of(rows):
            expectation_kernel[(triton.cdiv(batch, block_b),)](
                rows, *rows.stride(), z, result, batch, n,
                LOGITS=logits, BLOCK_B=block_b, BLOCK_N=block_n, enable_fp_fusion=True,
            )  # fmt: skip
    return _like(x, result)


def two_hot(x: Any, support: Any, v_min: Any, v_max: Any, atoms: int | None) -> Any:
    """Projections of rewards that no value follows."""
    require_two_hot(x, support, v_min, v_max, atoms)
    values = torch.as_tensor(x)
    z = _atoms(support, v_min, v_max, atoms, values.device, torch.float64)
    first = values.new_tensor([1.0, 0.0]).expand(len(values), 2)
    return _like(x, c51_project(first, values, None, None, 0.0, None, -1.0, 1.0, z, None))


def hl_gauss(x: Any, support: Any, v_min: Any, v_max: Any, atoms: int | None, sigma: float) -> Any:
    """Histograms of normal distributions."""
    require_hl_gauss(x, support, v_min, v_max, atoms, sigma)
    values = torch.as_tensor(x)
    z = _atoms(support, v_min, v_max, atoms, values.device, torch.float64)
    outside = 1.5 * z[[0, -1]] - 0.5 * z[[1, -2]]
    edges = torch.cat([outside[:1], 0.5 * (z[1:] + z[:-1]), outside[1:]])
    batch, n = len(values), len(z)
    result = values.new_empty((batch, n))
    block_n, block_b = _blocks(batch, n, 1024)
    if batch:
        with torch.cuda.device_of(values):
            hl_gauss_kernel[(triton.cdiv(batch, block_b),)](
                values, values.stride(0), edges, result, batch, n, float(sigma),
                BLOCK_B=block_b, BLOCK_N=block_n, enable_fp_fusion=True,
            )  # fmt: skip
    return _like(x, result)


@lru_cache(maxsize=64)
def _even(v_min: float, v_max: float, n: int, device: Any, dtype: Any) -> torch.Tensor:
    return torch.linspace(v_min, v_max, n, dtype=torch.float64, device=device).to(dtype)


def _atoms(support: Any, v_min: Any, v_max: Any, n: Any, device: Any, dtype: Any) -> torch.Tensor:
    if support is None:
        return _even(float(v_min), float(v_max), int(n), device, dtype)
    return torch.as_tensor(support).to(dtype).contiguous()


def _bellman(reward: Any, discount: Any, terminated: Any, gamma: Any) -> tuple[list[Any], dict[str, bool]]:
    """What a kernel takes of rewards, and of discounts or of gamma and flags."""
    given = discount if discount is not None else terminated if terminated is not None else reward
    r, d = torch.as_tensor(reward), torch.as_tensor(given)
    constants = {"DISCOUNT": discount is not None, "FLAGS": terminated is not None}
    return [r, r.stride(0), d, d.stride(0), 0.0 if gamma is None else float(gamma)], constants


def _blocks(batch: int, n: int, elements: int) -> tuple[int, int]:
    """Columns of a program, all of them, and so many rows that it has about this many elements."""
    columns = triton.next_power_of_2(n)
    return columns, max(1, min(elements // columns, triton.next_power_of_2(max(batch, 1))))


def _like(x: Any, result: torch.Tensor) -> Any:
    return result if isinstance(x, torch.Tensor) else result.numpy()
