"""Running normalisation of observations and rewards around a vector environment."""

from os import PathLike
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from safetensors.numpy import load_file, save_file

from fastrl.envs.wrappers.base import Bools, EpisodeWrapper, Transition
from fastrl.normalize import ReturnNormalizer, RunningMeanStd


class _Statistics(EpisodeWrapper):
    """Running statistics that can stand still, be saved and be merged."""

    statistics: RunningMeanStd

    update_running_mean: bool = True
    """Whether steps and resets update the statistics; set it to False for evaluation."""

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the statistics to a safetensors file."""
        count, mean, var = self.statistics.arrays
        save_file({"count": count, "mean": mean, "var": var}, path)

    def load(self, path: str | PathLike[str]) -> None:
        """Takes the statistics from a file that :meth:`save` wrote.

        Raises:
            ValueError: they are of another shape; nothing changed.
        """
        arrays, shape = load_file(path), self.statistics.mean.reshape(-1).shape
        if set(arrays) != {"count", "mean", "var"} or any(arrays[x].shape != shape for x in ("mean", "var")):
            found = {name: list(x.shape) for name, x in arrays.items()}
            raise ValueError(f"{self._name} load: {path} must hold statistics of {list(shape)}, got {found}")
        mean, var = (arrays[name].reshape(self.statistics.shape) for name in ("mean", "var"))
        self.statistics.load_state({"count": arrays["count"][0], "mean": mean, "var": var})


class NormalizeObservation(_Statistics):
    """Observations minus their running mean, over their standard deviation, clipped; float32.

    The semantics of training: statistics (``fastrl.normalize.RunningMeanStd``, no starting pseudo-count) take
    in each observation that is acted on, final ones never, and a step is normalised by statistics that
    include it. ``info["final_obs"]`` is normalised. Statistics of several
    environments are put together by ``statistics.merge``.

    ``gymnasium.wrappers.vector.NormalizeObservation`` takes in final observations too, starts from 1e-4
    observations of mean 0, does not clip, and refuses SAME_STEP and partial resets.

    Args:
        env: any vector environment with Box observations.
        clip: bound of the absolute value, > 0.
        statistics: to start from, or to share; None: new ones.

    Raises:
        TypeError, ValueError: an argument, or a space, that cannot be. From ``reset`` and ``step``: an
            observation is NaN or infinite.

    Source: Chan, Golub & LeVeque 1979, equation 2.1 (see ``RunningMeanStd``).
    """

    _state = ("statistics",)

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        *,
        clip: float = 10.0,
        statistics: RunningMeanStd | None = None,
    ) -> None:
        super().__init__(env)
        space = env.single_observation_space
        if not isinstance(space, spaces.Box):
            raise TypeError(f"NormalizeObservation: observations must be Box, got {space}")
        self.statistics = RunningMeanStd(space.shape, clip=clip) if statistics is None else statistics
        if self.statistics.shape != space.shape:
            raise ValueError(
                f"NormalizeObservation: statistics must be of shape {list(space.shape)}, "
                f"got {list(self.statistics.shape)}"
            )
        bound = self.statistics.clip
        self.single_observation_space = spaces.Box(-bound, bound, space.shape, np.float32)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        if self.update_running_mean:
            self.statistics.update(obs[began])
        return self.statistics.normalize(obs), info

    def _change(self, step: Transition, taken: Any) -> None:
        final = step.done & (self.mode is not AutoresetMode.SAME_STEP)
        if self.update_running_mean:
            self.statistics.update(step.obs[~final] if final.any() else step.obs)
        step.obs = self.statistics.normalize(step.obs)
        if self.mode is AutoresetMode.SAME_STEP and step.done.any():
            envs = np.flatnonzero(step.done)
            finals = self.statistics.normalize(self._finals(step.info, envs))
            step.info = self._with_finals(step.info, envs, finals)


class NormalizeReward(_Statistics):
    """Rewards over the standard deviation of the running discounted return, clipped.

    The semantics of training: ``fastrl.normalize.ReturnNormalizer``, whose docstring has the equation. Steps
    that only reset count nowhere and keep reward 0.

    ``gymnasium.wrappers.vector.NormalizeReward`` lets the last reward of a terminated episode stand alone,
    carries the return of a truncated one over, starts from 1e-4 returns of mean 0, and does not clip.

    Args:
        env: any vector environment.
        gamma: the agent's discount, in [0, 1].
        clip: bound of the absolute value, > 0.

    Raises:
        TypeError, ValueError: an argument that cannot be. From ``step``: a reward is NaN or infinite.
    """

    _state = ("_normalizer",)

    def __init__(
        self, env: gymnasium.vector.VectorEnv[Any, Any, Any], gamma: float = 0.99, *, clip: float = 10.0
    ) -> None:
        super().__init__(env)
        self._normalizer = ReturnNormalizer(env.num_envs, gamma, clip=clip)
        self.statistics = self._normalizer.statistics

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        self._normalizer.returns[began] = 0
        return obs, info

    def _change(self, step: Transition, taken: Any) -> None:
        if self.update_running_mean:
            self._normalizer.update(step.reward, step.done, step.valid)
        step.reward = self._normalizer.normalize(step.reward).astype(np.float64)
