"""Environments of EnvPool by id."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np

from fastrl.envs.atari import Games
from fastrl.envs.foreign import ForeignVectorEnv, Step


class EnvPoolEnv(ForeignVectorEnv):
    """``envpool:<task>``: an EnvPool, made anew at each reset with a seed, as it takes seeds only then.

    Args:
        task: EnvPool's id.
        num_envs: environments.
        training: whether Atari games end an episode at a lost life and clip rewards.
    """

    def __init__(self, task: str, num_envs: int, training: bool) -> None:
        envpool = import_module("envpool")
        try:
            atari = hasattr(envpool.make_spec(task).config, "reward_clip")
        except KeyError:
            raise gymnasium.error.Error(f"EnvPool has no task {task!r}.") from None
        options = (
            {"episodic_life": training, "reward_clip": training, "use_fire_reset": True} if atari else {}
        )
        self._make: Callable[[int], Any] = lambda seed: envpool.make(
            task, env_type="gymnasium", num_envs=num_envs, seed=seed, **options
        )
        super().__init__(self._make(0))
        self.reports_episodes = atari and training
        self._games = Games(num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes, of new environments if there is a seed."""
        if seed is not None:
            self.env = self._make(int(seed))
        self._games = Games(self.num_envs)
        self._resetting = np.zeros(self.num_envs, np.bool_)
        return super().reset(options=options)

    def step(self, actions: Any) -> Step:
        """One step; of Atari games in training, whole ones that ended are in ``info["episode"]``."""
        obs, reward, terminated, truncated, info = super().step(actions)
        if self.reports_episodes:
            over = (terminated & (info["terminated"] > 0)) | truncated
            self._games.report(info, np.where(self._resetting, 0.0, info["reward"]), ~self._resetting, over)
            self._resetting = terminated | truncated
        return obs, reward, terminated, truncated, info
