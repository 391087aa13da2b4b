"""The returns family in Triton: CUDA tensors, and with ``TRITON_INTERPRET=1`` NumPy arrays, as a test.

Scans over blocks of steps round otherwise than a serial loop, and an infinity times a product of factors that
underflowed is NaN. exp is the GPU's, 2 units in the last place in float32. ``n_step`` takes a time that grows
with n.
"""

import os
from functools import partial
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from fastrl.kernels._check import share_memory
from fastrl.kernels._dispatch import is_tensor
from fastrl.kernels.returns._check import require
from fastrl.kernels.returns._ops import FLAGS, OPS
from fastrl.kernels.returns._scan import n_step_kernel, scan_kernel, vtrace_advantage_kernel

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
FEW_PROGRAMS = 64  # with fewer, the steps are split
MAX_CHUNKS = 64


def _run(op: str, *arguments: Any) -> Any:
    """``op`` of tensors, or of arrays in the interpreter."""
    spec = OPS[op]
    count = len(spec.arrays)
    arrays, out, options = arguments[:count], arguments[count], arguments[count + 1 :]
    require(op, arrays, out, options)
    pair = spec.outputs == 2
    results = (out if pair else (out,)) if out is not None else [_new(arrays[0]) for _ in range(spec.outputs)]
    targets = [torch.as_tensor(x) for x in results]
    given = {name: torch.as_tensor(x) for name, x in zip(spec.arrays, arrays, strict=True) if x is not None}
    numbers = dict(zip(spec.options, options, strict=True))
    given |= {
        name: torch.as_tensor(numbers[name]) for name in spec.factors if getattr(numbers[name], "ndim", 0)
    }
    if targets[0].numel():
        apart = [any(share_memory(x, target) for x in given.values()) for target in targets]
        written = [torch.empty_like(x) if away else x for x, away in zip(targets, apart, strict=True)]
        with torch.cuda.device_of(written[0]):
            _launch(op, given, numbers, written)
        for x, y, away in zip(targets, written, apart, strict=True):
            if away:
                x.copy_(y)
    if out is not None:
        return out
    return tuple(results) if pair else results[0]


def _new(x: Any) -> Any:
    if is_tensor(x):
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    return np.empty_like(x, order="C")


def _views(*tensors: Tensor) -> list[Any]:
    """Each with its strides by step and column."""
    return [part for x in tensors for part in (x, *(0, *x.stride())[-2:])]


def _launch(op: str, given: dict[str, Tensor], numbers: dict[str, Any], out: list[Tensor]) -> None:
    steps, batch = out[0].shape
    block_b = min(32, triton.next_power_of_2(batch))
    block_t = min(1024 // block_b, triton.next_power_of_2(steps))
    columns = triton.cdiv(batch, block_b)
    tile = {"MASKED": "mask" in given, "BLOCK_T": block_t, "BLOCK_B": block_b, "enable_fp_fusion": False}
    ended = given["terminated"]
    flags = [given.get(name, ended) for name in ("terminated", "truncated", "mask")]
    arrayed = any(name in given for name in OPS[op].factors)
    factors = []
    if arrayed:
        factors = [
            given[name] if name in given else _expanded(numbers[name], out[0]) for name in OPS[op].factors
        ]
    reals = [given[name] for name in OPS[op].arrays if name not in FLAGS and name in given]
    if op == "discounted" and "next_value" not in given:
        reals.append(reals[0])  # in its place, not read
    gamma = 0.0 if "gamma" in given else float(numbers["gamma"])
    by_tiles = (columns * triton.cdiv(steps, block_t),)
    if op == "n_step":
        views = _views(*reals, *flags, *out)
        n_step_kernel[by_tiles](*views, gamma, min(numbers["n"], steps), steps, batch, **tile)
        return
    decay = 0.0 if arrayed else gamma * float(numbers.get("lam", 1.0))
    bars = (float(numbers.get("rho_bar", 1.0)), float(numbers.get("c_bar", 1.0)))
    padded = [*reals, *factors, *(reals[0],) * 4][:4]
    views = _views(*padded, *flags, given.get("greedy", ended), out[0])
    values = given["next_value"].ndim if "next_value" in given else 0
    chunks = 1
    if columns < FEW_PROGRAMS:
        chunks = min(MAX_CHUNKS, triton.cdiv(FEW_PROGRAMS, columns), triton.cdiv(steps, 2 * block_t))
    length = triton.cdiv(triton.cdiv(steps, chunks), block_t) * block_t
    chunks = triton.cdiv(steps, length)
    maps = [torch.empty(chunks, batch, dtype=out[0].dtype, device=out[0].device) for _ in range(2)]
    maps.append(torch.empty(chunks, batch, dtype=torch.int32, device=out[0].device))
    for mode in (1, 2) if chunks > 1 else (0,):
        scan_kernel[(columns, chunks)](
            *views, *maps, gamma, decay, *bars, steps, batch, length,
            OP=op, ARRAYS=arrayed, VALUES=values, MODE=mode, BLOCK_S=triton.next_power_of_2(chunks), **tile,
        )  # fmt: skip
    if op == "vtrace":
        views = _views(*reals, *flags, *out)
        vtrace_advantage_kernel[by_tiles](*views, gamma, float(numbers["pg_rho_bar"]), steps, batch, **tile)


def _expanded(number: Any, like: Tensor) -> Tensor:
    return torch.full((1, 1), float(number), dtype=like.dtype, device=like.device).expand(like.shape)


gae = partial(_run, "gae")
td_lambda = partial(_run, "td_lambda")
discounted = partial(_run, "discounted")
n_step = partial(_run, "n_step")
vtrace = partial(_run, "vtrace")
retrace = partial(_run, "retrace")
q_lambda = partial(_run, "q_lambda")
