"""Rewards clipped, scaled, reduced to signs, or shaped by a potential."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from fastrl.envs.wrappers.base import Bools, EpisodeWrapper, Transition
from fastrl.kernels._check import describe, require_unit


class _Reward(EpisodeWrapper):
    """Rewards by a function; a step that only resets keeps reward 0."""

    def _rewards(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError

    def _change(self, step: Transition, taken: Any) -> None:
        changed = self._rewards(step.reward)
        step.reward = changed if step.valid is None else np.where(step.valid, changed, 0.0)


class ClipReward(_Reward):
    """Rewards within bounds, as ``gymnasium.wrappers.vector.ClipReward`` has them.

    Args:
        env: any vector environment.
        min_reward: lower bound; None: there is none.
        max_reward: upper bound, at least the lower; None: there is none.

    Raises:
        ValueError: no bound, or bounds in the wrong order.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        min_reward: float | None = None,
        max_reward: float | None = None,
    ) -> None:
        super().__init__(env)
        self.low = -np.inf if min_reward is None else float(min_reward)
        self.high = np.inf if max_reward is None else float(max_reward)
        if not self.low <= self.high or (min_reward is None and max_reward is None):
            raise ValueError(
                f"ClipReward: min_reward must be <= max_reward, one of them given, "
                f"got {min_reward} and {max_reward}"
            )

    def _rewards(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(reward, self.low, self.high)


class SignReward(_Reward):
    """Rewards reduced to -1, 0 or 1: the clipping of Atari agents.

    Source: Mnih et al. 2015, Human-level control through deep reinforcement learning, Methods.
    """

    def _rewards(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(reward)


class ScaleReward(_Reward):
    """Rewards times a number.

    Args:
        env: any vector environment.
        scale: finite, not 0.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], scale: float) -> None:
        super().__init__(env)
        if not np.isfinite(scale) or scale == 0:
            raise ValueError(f"ScaleReward: scale must be finite and not 0, got {scale}")
        self.scale = float(scale)

    def _rewards(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        return reward * self.scale


class PotentialShaping(EpisodeWrapper):
    """Rewards plus F = γ Φ(s') - Φ(s), which leaves the order of policies, and so the optimal ones, alone.

    Φ of a terminal state is 0, whatever the function says: else the bonus would depend on where episodes end
    (Grzes 2017). At a truncation the episode could have gone on, so Φ of its final observation counts. The
    shaped value of a state is its value minus Φ.

    Args:
        env: any vector environment.
        potential: Φ, a function of observations [M, ...] that returns M numbers, or an array [n] over
            Discrete observations. Called once a step; with SAME_STEP once more where episodes were truncated.
        gamma: the agent's discount, in [0, 1]: with another one optimal policies may change.

    Raises:
        TypeError, ValueError: an argument that cannot be. From ``reset`` and ``step``: Φ is not M finite
            numbers.

    Source: Ng, Harada & Russell 1999, Policy invariance under reward transformations, Theorem 1; Grzes 2017,
    Reward shaping in episodic reinforcement learning.
    """

    _state = ("_potential_of_obs",)

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        potential: Callable[[Any], Any] | NDArray[Any],
        gamma: float = 0.99,
    ) -> None:
        super().__init__(env)
        require_unit("PotentialShaping", "gamma", gamma)
        self.gamma = gamma
        if not callable(potential):
            potential = _table(np.array(potential, np.float64), env.single_observation_space)
        self.potential = potential
        self._potential_of_obs = np.zeros(env.num_envs)

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        self._potential_of_obs = np.where(began, self._of(obs, self.num_envs), self._potential_of_obs)
        return obs, info

    def _change(self, step: Transition, taken: Any) -> None:
        arrived = self._of(step.obs, self.num_envs)
        led_to = arrived
        if self.mode is AutoresetMode.SAME_STEP and (step.truncated & ~step.terminated).any():
            envs = np.flatnonzero(step.truncated & ~step.terminated)
            led_to = arrived.copy()
            led_to[envs] = self._of(self._finals(step.info, envs), len(envs))
        bonus = self.gamma * np.where(step.terminated, 0.0, led_to) - self._potential_of_obs
        step.reward = step.reward + (bonus if step.valid is None else np.where(step.valid, bonus, 0.0))
        self._potential_of_obs = arrived

    def _of(self, obs: Any, rows: int) -> NDArray[np.float64]:
        values = np.array(self.potential(obs), np.float64)
        if values.shape != (rows,):
            raise ValueError(f"PotentialShaping: potential must return [{rows}], got {describe(values)}")
        if not np.isfinite(values).all():
            env = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"PotentialShaping: potential must be finite, got {values[env]} in row {env}")
        return values


class _Table:
    """An array over Discrete states, as a function."""

    def __init__(self, values: NDArray[np.float64], start: int) -> None:
        self.values, self.start = values, start

    def __call__(self, obs: Any) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.values[np.asarray(obs) - self.start]
        return values


def _table(values: NDArray[np.float64], space: spaces.Space[Any]) -> _Table:
    if not isinstance(space, spaces.Discrete):
        raise TypeError(f"PotentialShaping: an array as potential needs Discrete observations, got {space}")
    if values.shape != (int(space.n),):
        raise ValueError(f"PotentialShaping: potential must be [{space.n}], got {describe(values)}")
    return _Table(values, int(space.start))
