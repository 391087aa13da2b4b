"""Clip and Adam in Triton: CUDA tensors, and as a test, with ``TRITON_INTERPRET=1``, arrays and CPU tensors.

Step count and learning rate are read on the device, so that a captured graph advances at each replay; nothing
waits for the norm. Partial sums are added in a fixed order: runs repeat.
"""

import math
import os
from typing import Any

import torch
import triton
import triton.language as tl

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
BLOCK = 1024


@triton.jit
def squares_kernel(grad, partial, N, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums of squares of the blocks, float64."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(grad + i, mask=i < N, other=0.0).to(tl.float64)
    tl.store(partial + tl.program_id(0), tl.sum(g * g, axis=0))


@triton.jit
def adam_kernel(  # type: ignore[no-untyped-def]
    params, grad, m, v, squares, norm, step, learning_rate, N,
    log_beta1: tl.float64, log_beta2: tl.float64, beta1, beta2, eps, max_grad_norm, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of the step; a norm that is not finite changes nothing."""
    total = tl.sqrt(tl.load(squares))
    if tl.program_id(0) == 0:
        tl.store(norm, total.to(tl.float32))
    t = tl.load(step).to(tl.float64)
    clip = tl.minimum(max_grad_norm / (total + 1e-6), 1.0).to(tl.float32)
    rate = (tl.load(learning_rate).to(tl.float64) / (1.0 - tl.exp(t * log_beta1))).to(tl.float32)
    root = tl.sqrt(1.0 - tl.exp(t * log_beta2)).to(tl.float32)

    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < tl.where(total < float("inf"), N, 0)  # NaN is not below either
    g = tl.load(grad + i, mask=inside, other=0.0) * clip
    first = tl.load(m + i, mask=inside, other=0.0)
    first += (1.0 - beta1) * (g - first)
    second = beta2 * tl.load(v + i, mask=inside, other=0.0) + (1.0 - beta2) * g * g
    p = tl.load(params + i, mask=inside, other=0.0)
    tl.store(m + i, first, mask=inside)
    tl.store(v + i, second, mask=inside)
    tl.store(params + i, p - rate * first / (tl.sqrt(second) / root + eps), mask=inside)


def adam_step(
    params: Any,
    grad: Any,
    m: Any,
    v: Any,
    t: Any,
    learning_rate: Any,
    beta1: float,
    beta2: float,
    eps: float,
    max_grad_norm: float,
) -> torch.Tensor:
    """Global norm of ``grad``, a 0-d float32 tensor on its device; see ``fastrl.kernels.adam_step``.

    Args:
        params: float32 [n], contiguous, as are ``grad``, ``m`` and ``v``.
        grad: the gradient.
        m: first moment.
        v: second moment.
        t: number of this step, from 1; a number, or a 0-d int64 tensor.
        learning_rate: step size; a number, or a 0-d float tensor.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the root.
        max_grad_norm: inf leaves the gradient as it is.
    """
    arrays = [torch.as_tensor(x) for x in (params, grad, m, v)]
    device, size = arrays[0].device, arrays[0].numel()
    parts = triton.cdiv(size, BLOCK)
    partial = torch.empty(parts, dtype=torch.float64, device=device)
    norm = torch.zeros((), dtype=torch.float32, device=device)
    if size == 0:
        return norm
    step = torch.as_tensor(t, device=device)
    rate = torch.as_tensor(learning_rate, device=device)
    with torch.cuda.device_of(arrays[0]):
        squares_kernel[(parts,)](arrays[1], partial, size, BLOCK=BLOCK, enable_fp_fusion=True)
        adam_kernel[(parts,)](
            *arrays, partial.sum(), norm, step, rate, size,
            math.log(beta1), math.log(beta2), beta1, beta2, eps, max_grad_norm,
            BLOCK=BLOCK, enable_fp_fusion=True,
        )  # fmt: skip
    return norm
