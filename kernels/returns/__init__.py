"""Returns and advantages over a rollout, y_t = a_t + b_t · y_{t+1}: time-major [T, B], after-step flags."""

from typing import Any

import numpy as np

from fastrl.kernels._check import require_array, require_unit
from fastrl.kernels._dispatch import is_tensor, resolve
from fastrl.kernels.returns._check import require_rollout

__all__ = ["gae"]


def gae(
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    gamma: float = 0.99,
    lam: float = 0.95,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Advantages by generalized advantage estimation.

    ::

        δ_t = reward_t + γ · (1 - terminated_t) · next_value_t - value_t
        A_t = δ_t + γλ · (1 - (terminated_t | truncated_t)) · A_{t+1},   A_T = 0

    NumPy arrays in, array out; torch tensors in, tensor out on their device, a constant to autograd.

    A set flag selects 0 rather than multiplying by 0: a NaN or infinity of the next episode does not leak into a
    finished one. Elsewhere they propagate as written above. In float32 the arithmetic is float32 throughout.

    Args:
        reward: float32 or float64 [T, B], received by step t.
        value: [T, B], same dtype: V of the observation before step t.
        next_value: same dtype. [T, B]: V of the observation that step t really led to, at a truncation the last of
            its episode. Or [B]: V after the last step, and ``next_value_t = value_{t+1}`` before it, which saves
            reading an array. The row after a truncation begins another episode, so [B] refuses ``truncated``; the
            row after a termination does too, but is not used.
        terminated: bool [T, B], whether step t ended the episode for good: no value follows.
        truncated: bool [T, B], whether step t was its episode's last for another reason, such as a time limit: its
            next value counts, the advantages behind it do not. None: never.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1]; 0 gives δ, 1 the discounted return minus the value.
        out: where to write, [T, B] of reward's dtype, returned. It may share memory with an input (by way of a
            temporary). None: a new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Any strides will do, C-contiguous rows are the fastest. T = 0 or B = 0 gives an empty result.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: a shape, device, ``gamma`` or ``lam`` is wrong; ``truncated`` with ``next_value`` [B]; a tensor
            requires grad while gradients are recorded; ``out`` is read-only or repeats elements.
        NotImplementedError: no backend runs on this device.

    Source: Schulman et al. 2016, High-Dimensional Continuous Control Using Generalized Advantage Estimation, eq. 16;
    truncation as in Pardo et al. 2018, Time Limits in Reinforcement Learning, eq. 6.
    """
    require_unit("gae", "gamma", gamma)
    require_unit("gae", "lam", lam)
    if is_tensor(reward):
        from fastrl.kernels.returns import _torch

        return _torch.gae(reward, value, next_value, terminated, truncated, out, gamma, lam, backend)
    real = np.float64 if getattr(reward, "dtype", None) == np.float64 else np.float32
    shape = require_rollout(
        "gae", require_array, real, np.bool_, reward, value, next_value, terminated, truncated
    )
    if out is None:
        out = np.empty(shape, real)
    else:
        require_array("gae", "out", out, real, shape, "[T, B]")
        if not out.flags.writeable or (out.size > 1 and 0 in out.strides):
            raise ValueError(
                "gae: out must be writeable and hold each element once, got a read-only or repeating view"
            )
    resolve("returns", "gae", "cpu", backend)(
        reward, value, next_value, terminated, truncated, out, gamma, lam
    )
    return out
