"""TorchRL's value functions (``torchrl.objectives.value.functional``) on the returns kernels."""

import math
from typing import Any

import torch
from torch import Tensor
from torchrl.objectives.value import functional

from fastrl import kernels
from fastrl.kernels._check import describe, require_unit

__all__ = ["generalized_advantage_estimate", "td_lambda_return_estimate", "vtrace_advantage_estimate"]


def generalized_advantage_estimate(
    gamma: float | Tensor,
    lmbda: float | Tensor,
    state_value: Tensor,
    next_state_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor | None = None,
    *,
    time_dim: int = -2,
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets, ``torchrl``'s of the same name and its ``vec_`` twin: see
    ``kernels.gae``.

    Differentiable as TorchRL's are, by everything but ``gamma`` and ``lmbda``.

    Args:
        gamma: discount, a number or one a step.
        lmbda: λ, a number or one a step.
        state_value: float32 or float64, time in ``time_dim``, of any other dimensions: V before each step.
        next_state_value: V after it; at a truncation, of the episode's last observation.
        reward: of the same shape. Half precision is computed in float32.
        done: bool: the step was its episode's last.
        terminated: bool: nothing follows, no value is taken. None: as ``done``.
        time_dim: where time is.

    Raises:
        RuntimeError: different shapes, or no such dimension.
        ValueError: a number ``gamma`` or ``lmbda`` outside [0, 1].
    """
    arrays = _Columns(time_dim, state_value, next_state_value, reward, done, terminated)
    value, following, received = arrays.real
    _require_unit("generalized_advantage_estimate", gamma=gamma, lmbda=lmbda)
    decay = gamma * lmbda
    if terminated is not None:  # which does not end TorchRL's sum of errors: `done` does
        following = following.masked_fill(arrays.terminated, 0)
    if _is_number(gamma) and _is_number(decay) and not arrays.needs_grad:
        ended = arrays.done if terminated is None else torch.zeros_like(arrays.done)
        g, lam = float(gamma), float(lmbda)
        advantage = kernels.gae(received, value, following, ended, arrays.done, gamma=g, lam=lam)
    else:
        if terminated is None:
            following = following.masked_fill(arrays.done, 0)
        error = received + arrays.by_step(gamma) * following - value
        advantage = kernels.discounted(error, arrays.done, gamma=arrays.by_step(decay))
    return arrays.back(advantage), arrays.back(advantage + value)


def td_lambda_return_estimate(
    gamma: float | Tensor,
    lmbda: float | Tensor,
    next_state_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor | None = None,
    rolling_gamma: bool | None = None,
    *,
    time_dim: int = -2,
) -> Tensor:
    """λ-returns, ``torchrl``'s of the same name and its ``vec_`` twin: see ``kernels.td_lambda``.

    Arguments and errors are those of :func:`generalized_advantage_estimate`. ``rolling_gamma=False``, where
    each step's γ and λ hold for all that follow, runs TorchRL's own function.
    """
    if rolling_gamma is False:
        result: Tensor = functional.td_lambda_return_estimate(
            gamma, lmbda, next_state_value, reward, done, terminated, rolling_gamma, time_dim=time_dim
        )
        return result
    _require_unit("td_lambda_return_estimate", gamma=gamma, lmbda=lmbda)
    arrays = _Columns(time_dim, next_state_value, reward, done, terminated)
    following, received = arrays.real
    target = kernels.td_lambda(
        received,
        following,
        arrays.terminated,
        arrays.done,
        gamma=float(gamma) if _is_number(gamma) else arrays.by_step(gamma),
        lam=float(lmbda) if _is_number(lmbda) else arrays.by_step(lmbda),
    )
    return arrays.back(target)


def vtrace_advantage_estimate(
    gamma: float | Tensor,
    log_pi: Tensor,
    log_mu: Tensor,
    state_value: Tensor,
    next_state_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor | None = None,
    rho_thresh: float | Tensor = 1.0,
    c_thresh: float | Tensor = 1.0,
    time_dim: int = -2,
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets by V-trace, ``torchrl``'s of the same name: see ``kernels.vtrace``.

    As in TorchRL, the value after a step may come from other parameters than that of the next step; that of
    the next step is what the recursion takes off. Arguments and errors are those of
    :func:`generalized_advantage_estimate`; log-probabilities that require grad are refused while grad mode is
    on.

    Args:
        log_pi: log-probability of each action under the policy that learns.
        log_mu: under the one that acted.
        rho_thresh: truncates the ratio in errors and advantages.
        c_thresh: truncates it in the traces.
    """
    arrays = _Columns(time_dim, state_value, next_state_value, reward, log_pi, log_mu, done, terminated)
    value, following, received, log_new, log_old = arrays.real
    op = "vtrace_advantage_estimate"
    _require_unit(op, gamma=gamma)
    for name, bar in (("rho_thresh", rho_thresh), ("c_thresh", c_thresh)):
        if not _is_number(bar):
            raise ValueError(f"{op}: {name} must be a number, got {describe(bar)}")
    ratio = (log_new - log_old).exp()
    clipped = ratio.clamp_max(torch.as_tensor(rho_thresh).item())
    discount = arrays.by_step(gamma)
    cut = torch.where(arrays.terminated, 0, discount)
    error = clipped * (received + cut * following - value)
    trace = discount * ratio.clamp_max(torch.as_tensor(c_thresh).item())
    target = kernels.discounted(error, arrays.done, gamma=trace) + value
    after = torch.cat([target[1:], following[-1:]])
    advantage = clipped * (received + cut * torch.where(arrays.done, following, after) - value)
    return arrays.back(advantage), arrays.back(target)


class _Columns:
    """Tensors with time first and all other dimensions as columns: views, where memory allows it."""

    def __init__(self, time_dim: int, *tensors: Tensor | None) -> None:
        *real, done, terminated = tensors
        if terminated is None:
            terminated = done
        every = [x for x in (*real, done, terminated) if x is not None]
        if any(x.shape != every[0].shape for x in every):
            raise RuntimeError(functional.SHAPE_ERR)
        if not -every[0].ndim <= time_dim < every[0].ndim:
            raise RuntimeError(f"time_dim must be a dimension of {list(every[0].shape)}, got {time_dim}")
        self._time_dim = time_dim
        self._moved = every[0].movedim(time_dim, 0).shape
        self._dtype = every[0].dtype
        for x in every[1:-2]:
            self._dtype = torch.promote_types(self._dtype, x.dtype)
        dtype = torch.promote_types(torch.float32, self._dtype)
        if not self._dtype.is_floating_point:
            self._dtype = dtype
        self.real = [self._column(x.to(dtype)) for x in every[:-2]]
        self.done, self.terminated = (self._column(x.bool()) for x in every[-2:])
        self.needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in every)

    def _column(self, x: Tensor) -> Tensor:
        return x.movedim(self._time_dim, 0).reshape(self._moved[0], math.prod(self._moved[1:]))

    def by_step(self, x: float | Tensor) -> Tensor:
        """A number, or a tensor that broadcasts, as one for each step."""
        like = self.real[0]
        number = torch.as_tensor(x, dtype=like.dtype, device=like.device)
        if number.ndim == 0 or number.numel() == 1:
            return number.reshape(()).expand(like.shape)
        shape = torch.Size(self.back(like).shape)
        return self._column(number.expand(shape))

    def back(self, x: Tensor) -> Tensor:
        return x.reshape(self._moved).movedim(0, self._time_dim).to(self._dtype)


def _require_unit(op: str, **numbers: float | Tensor) -> None:
    for name, x in numbers.items():
        if _is_number(x):
            require_unit(op, name, float(x))


def _is_number(x: Any) -> bool:
    return not isinstance(x, Tensor) or x.numel() == 1
