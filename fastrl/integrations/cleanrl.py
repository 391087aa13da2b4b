"""What CleanRL's scripts repeat: advantages, and replay buffers.

from fastrl.integrations.cleanrl import ReplayBuffer   # instead of cleanrl_utils.buffers'
advantages, returns = gae(rewards, values, dones, next_value, next_done, args.gamma, args.gae_lambda)
"""

from typing import Any, NamedTuple, cast

import numpy as np
from gymnasium import spaces

from fastrl import extras

extras.require("torch", "fastrl.integrations.cleanrl")

import torch  # noqa: E402  # after the error that says what is missing
from numpy.typing import NDArray  # noqa: E402

from fastrl.integrations._transitions import Transitions, on_device  # noqa: E402
from fastrl.kernels import gae as compiled_gae  # noqa: E402
from fastrl.kernels._check import describe, require_unit  # noqa: E402
from fastrl.kernels._dispatch import is_tensor  # noqa: E402
from fastrl.kernels.replay._check import require_integer  # noqa: E402
from fastrl.kernels.replay._convert import array_of  # noqa: E402
from fastrl.replay import PrioritizedReplayBuffer as PrioritizedRows  # noqa: E402

__all__ = ["PrioritizedBatch", "PrioritizedReplayBuffer", "ReplayBuffer", "ReplayBufferSamples", "gae"]


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


class ReplayBufferSamples(NamedTuple):
    """Tensors [B, ...], as of ``cleanrl_utils.buffers``; dones and rewards float32 [B, 1]."""

    observations: Any
    actions: torch.Tensor
    next_observations: Any
    dones: torch.Tensor
    rewards: torch.Tensor


class ReplayBuffer:
    """``cleanrl_utils.buffers.ReplayBuffer``, smaller and faster: the same arguments and results.

    From the same ``numpy.random`` state it draws the same rows. Images are stored once, and of stacked frames
    each frame once; observations are exact at ends of episodes, also with ``optimize_memory_usage``.

    Args:
        buffer_size: transitions of all environments together.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of such.
        action_space: one of the same, without Dict.
        device: where batches go; "auto": a GPU if there is one.
        n_envs: environments.
        optimize_memory_usage: store any observation once; images always are.
        handle_timeout_termination: ``dones`` are without those of ``infos[i]["TimeLimit.truncated"]``.

    Raises:
        TypeError, ValueError: an argument that will not do.
        MemoryError: it does not fit in memory.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
    ) -> None:
        for name, number in (("buffer_size", buffer_size), ("n_envs", n_envs)):
            if not number >= 1:
                raise ValueError(f"ReplayBuffer: {name} must be >= 1, got {number}")
        self.buffer_size, self.n_envs = max(buffer_size // n_envs, 1), n_envs
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.transitions = Transitions(
            "ReplayBuffer",
            self.buffer_size,
            observation_space,
            action_space,
            n_envs,
            share=optimize_memory_usage,
            frame_stack=None,
            timeouts=handle_timeout_termination,
            n_steps=1,
            gamma=1.0,
        )

    def size(self) -> int:
        """Steps stored, of each environment."""
        return self.transitions.rows.get_stored_size() // self.n_envs

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Stores a step of all environments.

        Raises:
            TypeError, ValueError: an array that does not fit; nothing is stored.
        """
        self.transitions.add(obs, next_obs, action, reward, done, infos)

    def sample(self, batch_size: int) -> ReplayBufferSamples:
        """A batch drawn uniformly.

        Raises:
            TypeError: ``batch_size`` is no integer.
            ValueError: the buffer is empty, or ``batch_size`` < 0.
        """
        stored = self.size()
        if stored == 0:
            raise ValueError("ReplayBuffer sample: it must hold a transition, got none")
        batch_size = require_integer("ReplayBuffer sample", "batch_size", batch_size, 0, 2**31)
        # CleanRL's generator: the same batches
        step = np.random.randint(0, stored, size=batch_size)  # noqa: NPY002
        env = np.random.randint(0, self.n_envs, size=batch_size)  # noqa: NPY002
        batch = self.transitions.gather(step * self.n_envs + env)
        return ReplayBufferSamples(*(on_device(values, self.device) for values in batch[:5]))


class PrioritizedBatch(NamedTuple):
    """Tensors [B, ...] as of CleanRL's Rainbow; rewards are n-step returns, weights float32 [B, 1]."""

    observations: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    next_observations: torch.Tensor
    dones: torch.Tensor
    indices: NDArray[np.int64]
    weights: torch.Tensor
    discounts: torch.Tensor | None
    """float32 [B, 1]: gamma^k of the k steps summed, 0 where they terminated; None where n is 1."""


class PrioritizedReplayBuffer:
    """The buffer of CleanRL's ``rainbow_atari.py``: same arguments, methods, priorities and weights.

    It keeps what that one drops: the transitions in an episode's last n - 1 steps. Where it is told of time
    limits, by ``truncated``, no return runs from one episode into the next. Draws are seeded by
    ``numpy.random`` when it is made. ``beta`` may be set at any time.

    The script discounts by γ^n also where fewer steps are summed: a batch's ``discounts`` are the right ones.

    Args:
        capacity: transitions.
        obs_shape: of an image, uint8.
        device: where batches go.
        n_step: steps of a return.
        gamma: their discount.
        alpha: exponent of priorities.
        beta: exponent of the weights.
        eps: added to priorities.

    Raises:
        ValueError: an argument that will not do.
        MemoryError: it does not fit in memory.
    """

    def __init__(
        self,
        capacity: int,
        obs_shape: tuple[int, ...],
        device: torch.device | str,
        n_step: int,
        gamma: float,
        alpha: float = 0.6,
        beta: float = 0.4,
        eps: float = 1e-6,
    ) -> None:
        require_unit("PrioritizedReplayBuffer", "beta", beta)
        self.device, self.beta, self.n_step, self.gamma = torch.device(device), beta, n_step, gamma
        self.transitions = Transitions(
            "PrioritizedReplayBuffer",
            capacity,
            spaces.Box(0, 255, obs_shape, np.uint8),
            spaces.Discrete(1),
            1,
            share=False,
            frame_stack=None,
            timeouts=True,
            n_steps=n_step,
            gamma=gamma,
            options={"alpha": alpha, "eps": eps, "seed": int(np.random.randint(2**31))},  # noqa: NPY002
        )

    @property
    def size(self) -> int:
        """Transitions stored."""
        return self.transitions.rows.get_stored_size()

    def add(
        self, obs: Any, action: Any, reward: Any, next_obs: Any, done: Any, truncated: bool = False
    ) -> None:
        """Stores a step of the one environment; ``done``: it terminated.

        Raises:
            TypeError, ValueError: an array that does not fit; nothing is stored.
        """
        terminated = self.transitions.column("done", done, (1,)) != 0
        if type(truncated) is not bool:
            truncated = bool(self.transitions.column("truncated", truncated, (1,))[0])
        infos = [{"TimeLimit.truncated": truncated and not terminated[0]}]
        self.transitions.add(obs, next_obs, action, reward, terminated | truncated, infos)

    def sample(self, batch_size: int) -> PrioritizedBatch:
        """A batch drawn by priority, weights by ``beta``.

        Raises:
            ValueError: the buffer is empty.
        """
        rows = cast(PrioritizedRows, self.transitions.rows)
        fields = rows.sample(batch_size, self.beta)
        batch = self.transitions.batch(fields)
        values = (*batch, fields["weights"][:, None])
        tensors: Any = (x if x is None else on_device(x, self.device) for x in values)
        observations, actions, following, dones, rewards, discounts, weights = tensors
        return PrioritizedBatch(
            observations, actions, rewards, following, dones.bool(), fields["indexes"], weights, discounts
        )

    def update_priorities(self, indices: NDArray[np.int64], priorities: NDArray[Any]) -> None:
        """Gives rows the priorities (abs(p) + eps)^alpha.

        Raises:
            TypeError, ValueError, IndexError: rows or priorities that will not do; nothing is changed.
        """
        array = array_of("update_priorities", "priorities", priorities, "float [B]")
        sizes = np.abs(array) if array.dtype.kind in "if" else array
        cast(PrioritizedRows, self.transitions.rows).update_priorities(indices, sizes)
