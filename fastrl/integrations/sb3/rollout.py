"""Rollout buffers for Stable-Baselines3's PPO and A2C.

PPO("MlpPolicy", env, rollout_buffer_class=RolloutBuffer)
"""

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common import buffers
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples

from fastrl.kernels import gae
from fastrl.kernels._check import require_unit

_SCALARS = ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages")
_SHUFFLED_SCALARS = ("values", "log_probs", "advantages", "returns")


class RolloutBuffer(buffers.RolloutBuffer):
    """``stable_baselines3.common.buffers.RolloutBuffer``, faster: same arguments and methods, same results.

    Advantages are ``fastrl.kernels.gae``'s, SB3's to the bit where values are finite; a NaN does not leak
    from one episode into the one before. The arrays lie environment by environment, so that minibatches are
    taken from them without a copy of the whole rollout. They are used again by the next rollout, and not
    zeroed: copy what is to be kept.

    Raises:
        ValueError: ``gae_lambda`` or ``gamma`` outside [0, 1], or a Dict space (:class:`DictRolloutBuffer`).
    """

    _of_dicts = False
    _samples: type[Any] = RolloutBufferSamples

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
    ) -> None:
        require_unit("RolloutBuffer", "gae_lambda", gae_lambda)
        require_unit("RolloutBuffer", "gamma", gamma)
        if isinstance(observation_space, spaces.Dict) is not self._of_dicts:
            raise ValueError(
                f"{type(self).__name__}: observation_space must {'' if self._of_dicts else 'not '}be a Dict, "
                f"got {observation_space}"
            )
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)

    def reset(self) -> None:
        """Forgets the rollout."""
        if "actions" not in self.__dict__:
            self._allocate()
        elif self.generator_ready:
            self._reshape(self._by_step)
        self.generator_ready = False
        super(buffers.RolloutBuffer, self).reset()

    def add(
        self,
        obs: Any,
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: torch.Tensor,
        log_prob: torch.Tensor,
    ) -> None:
        """Stores a step of all environments, as SB3's does.

        Raises:
            ValueError: the buffer is full, or an array does not fit.
        """
        if self.full:
            raise ValueError(
                f"RolloutBuffer add: it must not be full, got step {self.pos + 1} of {self.buffer_size}"
            )
        self._store_observations(obs)
        at = self.pos
        self.actions[at] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[at] = reward
        self.episode_starts[at] = episode_start
        self.values[at] = value.cpu().numpy().reshape(-1)
        self.log_probs[at] = log_prob.cpu().numpy().reshape(-1)
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: NDArray[Any]) -> None:
        """Advantages A_t by ``fastrl.kernels.gae``, and the returns A_t + V_t.

        Args:
            last_values: [n_envs] or [n_envs, 1], V of the observation after the last step.
            dones: [n_envs], whether the last step ended its episode.

        Raises:
            ValueError: the buffer is not full.
        """
        self._require_full("compute_returns_and_advantage")
        ended = np.empty((self.buffer_size, self.n_envs), np.bool_)
        np.not_equal(self.episode_starts[1:], 0, out=ended[:-1])
        ended[-1] = dones
        following = last_values.detach().cpu().numpy().reshape(-1)
        gae(
            self.rewards,
            self.values,
            following,
            ended,
            gamma=float(self.gamma),
            lam=float(self.gae_lambda),
            out=self.advantages,
        )
        np.add(self.advantages, self.values, out=self.returns)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Minibatches that have each step once, in an order by ``numpy.random``: SB3's.

        Raises:
            ValueError: the buffer is not full.
        """
        self._require_full("get")
        count = self.buffer_size * self.n_envs
        order = np.random.permutation(count)  # noqa: NPY002  # SB3's generator: the same minibatches
        if not self.generator_ready:
            self._reshape(self._flat)
            self.generator_ready = True
        size = batch_size or count
        for first in range(0, count, size):
            yield self._get_samples(order[first : first + size])

    def _get_samples(self, batch_inds: NDArray[Any], env: Any = None) -> Any:
        observations = self._each_observation(lambda array: self._taken(array, batch_inds))
        actions = self.actions.take(batch_inds, axis=0).astype(np.float32, copy=False)
        scalars = (self._taken(self.__dict__[name].reshape(-1), batch_inds) for name in _SHUFFLED_SCALARS)
        return self._samples(observations, torch.from_numpy(actions).to(self.device), *scalars)

    def _each_observation(self, change: Callable[[NDArray[Any]], Any]) -> Any:
        return change(self.observations)

    def _taken(self, array: NDArray[Any], rows: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array.take(rows, axis=0)).to(self.device)

    def _store_observations(self, obs: NDArray[Any]) -> None:
        if isinstance(self.observation_space, spaces.Discrete):  # [n_envs] does not broadcast to [n_envs, 1]
            obs = obs.reshape((self.n_envs, *self.obs_shape))
        self.observations[self.pos] = obs

    def _allocate(self) -> None:
        self.observations = self._zeros(self.obs_shape, self.observation_space.dtype)
        self._allocate_rest()

    def _allocate_rest(self) -> None:
        self.actions = self._zeros((self.action_dim,), self.action_space.dtype)
        for name in _SCALARS:
            setattr(self, name, self._zeros((), np.float32))

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """[buffer_size, n_envs, *shape], in memory environment by environment."""
        return np.zeros((self.n_envs, self.buffer_size, *shape), dtype).swapaxes(0, 1)

    def _reshape(self, change: Callable[..., NDArray[Any]]) -> None:
        self.observations = self._each_observation(change)
        self.actions = change(self.actions)
        for name in _SHUFFLED_SCALARS:
            setattr(self, name, change(self.__dict__[name], scalar=True))

    def _flat(self, array: NDArray[Any], *, scalar: bool = False) -> NDArray[Any]:
        """[rows, ...], environment by environment as in memory: a view. Of scalars [rows, 1], as of SB3."""
        return self.swap_and_flatten(array)

    def _by_step(self, array: NDArray[Any], *, scalar: bool = False) -> NDArray[Any]:
        """What :meth:`_flat` was given."""
        rest = () if scalar else array.shape[1:]
        return array.reshape(self.n_envs, self.buffer_size, *rest).swapaxes(0, 1)

    def _require_full(self, method: str) -> None:
        if not self.full:
            raise ValueError(
                f"RolloutBuffer {method}: it must be full, got {self.pos} of {self.buffer_size} steps"
            )


class DictRolloutBuffer(RolloutBuffer, buffers.DictRolloutBuffer):
    """``stable_baselines3.common.buffers.DictRolloutBuffer`` as :class:`RolloutBuffer` is to SB3's."""

    _of_dicts = True
    _samples = DictRolloutBufferSamples
    obs_shape: dict[str, tuple[int, ...]]
    observations: dict[str, NDArray[Any]]

    def _allocate(self) -> None:
        self.observations = {
            key: self._zeros(shape, self.observation_space[key].dtype)
            for key, shape in self.obs_shape.items()
        }
        self._allocate_rest()

    def _store_observations(self, obs: Mapping[str, NDArray[Any]]) -> None:  # type: ignore[override]
        for key, stored in self.observations.items():
            stored[self.pos] = np.asarray(obs[key]).reshape(self.n_envs, *self.obs_shape[key])

    def _each_observation(self, change: Callable[[NDArray[Any]], Any]) -> Any:
        return {key: change(array) for key, array in self.observations.items()}
