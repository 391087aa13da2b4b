"""What CleanRL's scripts repeat: advantages, and replay buffers.

from fastrl.integrations.cleanrl import ReplayBuffer   # instead of cleanrl_utils.buffers'
advantages, returns = gae(rewards, values, dones, next_value, next_done, args.gamma, args.gae_lambda)
"""

from typing import Any

import numpy as np

from fastrl.kernels import gae as compiled_gae
from fastrl.kernels._check import describe
from fastrl.kernels._dispatch import is_tensor

__all__ = ["gae"]


def gae(
    rewards: Any,
    values: Any,
    dones: Any,
    next_value: Any,
    next_done: Any,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
) -> tuple[Any, Any]:
    """Advantages and returns as the loop in CleanRL's PPO scripts computes them, to the bit.

    ::

        δ_t = r_t + γ · (1 - d_{t+1}) · V_{t+1} - V_t,    A_t = δ_t + γλ · (1 - d_{t+1}) · A_{t+1}

    d_T is ``next_done``, V_T ``next_value``; returns are A_t + V_t. A done does not bootstrap, also where it
    comes from a time limit, as in CleanRL: ``fastrl.kernels.gae`` tells them apart. It selects and does not
    multiply: no NaN leaks from one episode into the one before.

    Args:
        rewards: float32 or float64 tensor or array [T, N].
        values: like ``rewards``, V of the observation before each step.
        dones: real or bool [T, N]: whether the observation before step t is the first of an episode.
        next_value: [N] or [1, N], V of the observation after the last step.
        next_done: [N] or [1, N], whether that is the first of an episode.
        gamma: discount γ in [0, 1].
        gae_lambda: λ in [0, 1].

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; ``gamma`` or ``gae_lambda`` outside [0, 1]; an input that
            requires grad while grad mode is on.
    """
    shape = getattr(rewards, "shape", ())
    _require_flags("dones", dones, rewards, shape)
    _require_flags("next_done", next_done, rewards, shape[1:])
    ended: Any
    if is_tensor(rewards):
        import torch

        ended = torch.empty(rewards.shape, dtype=torch.bool, device=rewards.device)
    else:
        ended = np.empty(rewards.shape, np.bool_)
    ended[:-1] = dones[1:] != 0
    ended[-1:] = next_done != 0
    following = next_value.reshape(-1)  # [1, N] from the network
    advantages = compiled_gae(rewards, values, following, ended, gamma=gamma, lam=gae_lambda)
    return advantages, advantages + values


def _require_flags(name: str, x: Any, rewards: Any, shape: tuple[int, ...]) -> None:
    if is_tensor(x) is not is_tensor(rewards) or not hasattr(x, "shape"):
        kind = "tensor" if is_tensor(rewards) else "array"
        raise TypeError(f"gae: {name} must be a {kind} as rewards is, got {type(x).__name__}")
    if x.shape != shape and x.shape != (1, *shape):
        raise ValueError(f"gae: {name} must be {list(shape)}, got {describe(x)}")
