"""The torch entrance of the returns family: eager calls go to the kernels, traced ones to an operator."""

from typing import Any

import torch
from torch import Tensor

from fastrl.kernels._dispatch import resolve
from fastrl.kernels.returns._check import require_gae


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor | None,
    out: Tensor | None,
    gamma: float,
    lam: float,
    backend: str | None,
) -> Tensor:
    """``fastrl.kernels.gae`` of tensors."""
    if torch.is_grad_enabled() and any(
        getattr(x, "requires_grad", False) for x in (reward, value, next_value)
    ):
        raise ValueError("gae: inputs must not require grad, advantages are constants: detach them first")
    if getattr(out, "requires_grad", False):
        raise ValueError("gae: out must not require grad")
    if (
        torch.compiler.is_compiling()
        or type(reward) is not Tensor
        or torch._C._len_torch_dispatch_stack() > 0
    ):
        require_gae(reward, value, next_value, terminated, truncated, out, gamma, lam)
        result: Tensor = _gae(reward, value, next_value, terminated, truncated, gamma, lam, backend)
        return result if out is None else out.copy_(result)
    return _run_gae(reward, value, next_value, terminated, truncated, out, gamma, lam, backend)


def _run_gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor | None,
    out: Tensor | None,
    gamma: float,
    lam: float,
    backend: str | None,
) -> Tensor:
    tensors = (reward, value, next_value, terminated, truncated, out)
    if not reward.is_cpu:
        require_gae(*tensors, gamma, lam)
        result: Tensor = resolve("returns", "gae", reward.device.type, backend)(*tensors, gamma, lam)
        return result
    try:
        arrays = [_array(x) for x in tensors]
    except (AttributeError, TypeError):  # one is no CPU tensor, or of a dtype that NumPy lacks
        require_gae(*tensors, gamma, lam)
        raise
    array = resolve("returns", "gae", "cpu", backend)(*arrays, gamma, lam)
    return torch.from_numpy(array) if out is None else out


def _array(x: Tensor | None) -> Any:
    if x is None:
        return None
    return x.detach().numpy() if x.requires_grad else x.numpy()


@torch.library.custom_op("fastrl::gae", mutates_args=())
def _gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor | None,
    gamma: float,
    lam: float,
    backend: str | None,
) -> Tensor:
    return _run_gae(reward, value, next_value, terminated, truncated, None, gamma, lam, backend)


@_gae.register_fake
def _(reward: Tensor, *_: object) -> Tensor:
    return torch.empty(reward.shape, dtype=reward.dtype, device=reward.device)
