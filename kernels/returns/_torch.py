"""The torch entrance of the returns family: eager calls go straight to the kernels, traced ones through an operator."""

from typing import Any

import torch
from torch import Tensor

from fastrl.kernels._check import describe
from fastrl.kernels._dispatch import resolve
from fastrl.kernels.returns._check import require_rollout


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
    real = torch.float64 if reward.dtype is torch.float64 else torch.float32
    device, recording = reward.device, torch.is_grad_enabled()

    def require(op: str, name: str, x: Any, dtype: torch.dtype, shape: tuple[int, ...], dims: str) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor as reward is, got {type(x).__name__}")
        if x.dtype is not dtype:
            raise TypeError(f"{op}: {name} must be {_name(dtype)} {dims}, got {describe(x)}")
        if x.shape != shape:
            raise ValueError(f"{op}: {name} must be {_name(dtype)} {dims} = {list(shape)}, got {describe(x)}")
        if x.device != device:
            raise ValueError(f"{op}: {name} must be on {device} as reward is, got {x.device}")
        if recording and x.requires_grad:
            raise ValueError(f"{op}: {name} must not require grad, the result is a constant: detach it first")

    shape = require_rollout(
        "gae", require, real, torch.bool, reward, value, next_value, terminated, truncated
    )
    if out is not None:
        require("gae", "out", out, real, shape, "[T, B]")
        if out.requires_grad:
            raise ValueError("gae: out must not require grad")
        if out.numel() > 1 and 0 in out.stride():
            raise ValueError("gae: out must hold each element once, got a repeating view")
    if (
        torch.compiler.is_compiling()
        or type(reward) is not Tensor
        or torch._C._len_torch_dispatch_stack() > 0
    ):
        result: Tensor = _gae(reward, value, next_value, terminated, truncated, gamma, lam, backend)
        return result if out is None else out.copy_(result)
    if out is None:
        out = torch.empty(shape, dtype=real, device=device)
    _write_gae(reward, value, next_value, terminated, truncated, out, gamma, lam, backend)
    return out


def _write_gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor | None,
    out: Tensor,
    gamma: float,
    lam: float,
    backend: str | None,
) -> None:
    if reward.is_cpu:
        kernel = resolve("returns", "gae", "cpu", backend)
        arrays = (_array(x) for x in (reward, value, next_value, terminated, truncated, out))
        kernel(*arrays, gamma, lam)
    else:
        kernel = resolve("returns", "gae", reward.device.type, backend)
        kernel(reward, value, next_value, terminated, truncated, out, gamma, lam)


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
    out = torch.empty(reward.shape, dtype=reward.dtype, device=reward.device)
    _write_gae(reward, value, next_value, terminated, truncated, out, gamma, lam, backend)
    return out


@_gae.register_fake
def _(reward: Tensor, *_: object) -> Tensor:
    return torch.empty(reward.shape, dtype=reward.dtype, device=reward.device)


def _array(x: Tensor | None) -> Any:
    if x is None:
        return None
    return x.detach().numpy() if x.requires_grad else x.numpy()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
