"""Replay buffers for Stable-Baselines3's DQN, SAC, TD3 and DDPG.

DQN("CnnPolicy", env, replay_buffer_class=ReplayBuffer)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common import buffers
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from fastrl.integrations._transitions import Batch, Transitions, on_device
from fastrl.kernels._check import require_unit
from fastrl.kernels.replay._check import require_integer
from fastrl.replay import PrioritizedReplayBuffer as PrioritizedRows


class ReplayBuffer(buffers.ReplayBuffer):
    """``stable_baselines3.common.buffers.ReplayBuffer``, smaller and faster: the same arguments and results.

    From the same ``numpy.random`` state it draws the same rows as SB3's, so that training is the same; other
    ones than SB3's ``optimize_memory_usage``, which draws in another way once it is full. Images
    are stored once, and of stacked frames each frame once: an 84x84x4 transition takes about 7 kB, SB3's 56.
    Observations are exact at ends of episodes and at time limits, so ``optimize_memory_usage`` goes
    together with ``handle_timeout_termination``, and concerns only observations that are no images.

    There are no arrays ``observations``, ``next_observations``, ``actions``, ``rewards``, ``timeouts``.

    Args:
        buffer_size: transitions of all environments together.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of such.
        action_space: one of the same, without Dict.
        device: where batches go.
        n_envs: environments.
        optimize_memory_usage: store any observation once, not as next observation again.
        handle_timeout_termination: ``dones`` are without those of ``infos[i]["TimeLimit.truncated"]``.
        n_steps: returns of as many steps, as in SB3's ``NStepReplayBuffer``; ``discounts`` are 0 where they
            terminated.
        gamma: their discount.
        frame_stack: whether images are stacks of grey frames; None: unless they have 3, 6, 9, ... channels.

    Raises:
        TypeError, ValueError: an argument that will not do.
        MemoryError: it does not fit in memory.
    """

    _options: Mapping[str, Any] | None = None  # of priorities

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        frame_stack: bool | None = None,
    ) -> None:
        op = type(self).__name__
        for name, number in (("buffer_size", buffer_size), ("n_envs", n_envs)):
            if not number >= 1:
                raise ValueError(f"{op}: {name} must be >= 1, got {number}")
        buffers.BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.n_steps, self.gamma = n_steps, gamma
        require_unit(op, "gamma", gamma)
        self.transitions = Transitions(
            op,
            self.buffer_size,
            observation_space,
            action_space,
            n_envs,
            share=optimize_memory_usage,
            frame_stack=frame_stack,
            timeouts=handle_timeout_termination,
            n_steps=n_steps,
            gamma=gamma,
            options=self._options,
        )

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Stores a step of all environments, as SB3's does.

        Raises:
            TypeError, ValueError: an array that does not fit; nothing is stored.
        """
        self.transitions.add(obs, next_obs, action, reward, done, infos)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """A batch drawn uniformly, as SB3 draws it.

        Raises:
            TypeError: ``batch_size`` is no integer.
            ValueError: the buffer is empty, or ``batch_size`` < 0.
        """
        stored = self.size()
        if stored == 0:
            raise ValueError(f"{type(self).__name__} sample: it must hold a transition, got none")
        batch_size = require_integer(f"{type(self).__name__} sample", "batch_size", batch_size, 0, 2**31)
        # SB3's generator: the same batches
        return self._get_samples(np.random.randint(0, stored, size=batch_size), env)  # noqa: NPY002

    def _get_samples(self, batch_inds: NDArray[Any], env: VecNormalize | None = None) -> Any:
        env_indices = np.random.randint(0, self.n_envs, size=len(batch_inds))  # noqa: NPY002
        batch = self.transitions.gather(batch_inds * self.n_envs + env_indices)
        samples = DictReplayBufferSamples if isinstance(batch.observations, dict) else ReplayBufferSamples
        return samples(*self._tensors(batch, env))

    def _tensors(self, batch: Batch, env: VecNormalize | None) -> list[Any]:
        """By the fields of ``ReplayBufferSamples``, normalised by ``env``."""
        if env is not None:
            if self.n_steps > 1 and env.norm_reward:
                raise NotImplementedError(
                    f"{type(self).__name__} sample: n_steps must be 1 with rewards that VecNormalize clips "
                    f"one by one, got {self.n_steps}: norm_reward=False"
                )
            batch = batch._replace(
                observations=self._normalize_obs(batch.observations, env),
                next_observations=self._normalize_obs(batch.next_observations, env),
                rewards=self._normalize_reward(batch.rewards, env),
            )
        return [values if values is None else on_device(values, self.device) for values in batch]

    def reset(self) -> None:
        """Forgets all transitions."""
        self.transitions.rows.clear()
        super().reset()

    def end_episodes(self) -> None:
        """The newest step of each environment is its episode's last: n-step returns do not go on."""
        self.transitions.rows.on_episode_end()

    @property
    def dones(self) -> "_LastDones":  # type: ignore[override]
        """For SB3, which marks the newest steps as ends through it when training starts again."""
        return _LastDones(self)


class _LastDones:
    def __init__(self, buffer: ReplayBuffer) -> None:
        self._buffer = buffer

    def __setitem__(self, step: int, ended: bool) -> None:
        last = (self._buffer.pos - 1) % self._buffer.buffer_size
        if step != last or not ended:
            raise ValueError(
                f"dones: only those of the last step, {last}, may be set, and to True, got {step}"
            )
        self._buffer.end_episodes()


class DictReplayBuffer(ReplayBuffer, buffers.DictReplayBuffer):
    """``stable_baselines3.common.buffers.DictReplayBuffer`` as :class:`ReplayBuffer` is to SB3's."""

    def __init__(
        self, buffer_size: int, observation_space: spaces.Space[Any], *rest: Any, **options: Any
    ) -> None:
        if not isinstance(observation_space, spaces.Dict):
            raise ValueError(f"DictReplayBuffer: observation_space must be a Dict, got {observation_space}")
        super().__init__(buffer_size, observation_space, *rest, **options)


class PrioritizedSamples(NamedTuple):
    """SB3's ``ReplayBufferSamples``, and what prioritized replay needs."""

    observations: Any
    actions: torch.Tensor
    next_observations: Any
    dones: torch.Tensor
    rewards: torch.Tensor
    discounts: torch.Tensor | None
    weights: torch.Tensor
    """float32 [B, 1]: importance-sampling weights, the batch's largest is 1."""
    indices: NDArray[np.int64]
    """[B], for :meth:`PrioritizedReplayBuffer.update_priorities`."""


class PrioritizedReplayBuffer(ReplayBuffer):
    """:class:`ReplayBuffer`, drawn in proportion to (abs(TD error) + eps)^alpha, for :class:`PERDQN`.

    Args:
        alpha: exponent of priorities, >= 0; 0: uniform.
        beta: exponent of the weights, in [0, 1], when training begins.
        eps: added to priorities, >= 0.
        seed: of the draws; None: by ``numpy.random``, which SB3's algorithms seed.
        buffer_size, observation_space, action_space, device, n_envs, optimize_memory_usage,
            handle_timeout_termination, n_steps, gamma, frame_stack: see :class:`ReplayBuffer`.

    Source: Schaul et al. 2016, Prioritized experience replay, section 3.
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
        *,
        alpha: float = 0.6,
        beta: float = 0.4,
        eps: float = 1e-6,
        seed: int | None = None,
        n_steps: int = 1,
        gamma: float = 0.99,
        frame_stack: bool | None = None,
    ) -> None:
        require_unit(type(self).__name__, "beta", beta)
        if seed is None:
            seed = int(np.random.randint(2**31))  # noqa: NPY002
        self.beta, self._options = beta, {"alpha": alpha, "eps": eps, "seed": seed}
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
            n_steps=n_steps,
            gamma=gamma,
            frame_stack=frame_stack,
        )

    def sample(self, batch_size: int, env: VecNormalize | None = None, beta: float | None = None) -> Any:
        """A batch drawn by priority, :class:`PrioritizedSamples`.

        Args:
            batch_size: how many.
            env: normalises observations and rewards.
            beta: of the weights; None: the one given at the beginning.

        Raises:
            ValueError: the buffer is empty, or ``beta`` is negative.
        """
        rows = cast(PrioritizedRows, self.transitions.rows)
        fields = rows.sample(batch_size, self.beta if beta is None else beta)
        tensors = self._tensors(self.transitions.batch(fields), env)
        weights = on_device(fields["weights"][:, None], self.device)
        return PrioritizedSamples._make([*tensors, weights, fields["indexes"]])

    def update_priorities(self, indices: NDArray[np.int64], priorities: NDArray[Any]) -> None:
        """Gives rows new priorities, absolute TD errors, finite and >= 0.

        Raises:
            TypeError, ValueError, IndexError: rows or priorities that will not do; nothing is changed.
        """
        cast(PrioritizedRows, self.transitions.rows).update_priorities(indices, priorities)
