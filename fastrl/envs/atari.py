"""Atari games for training and for evaluation, by ALE's vector environment.

Training sees the signs of rewards, and a lost life ends an episode (Mnih et al. 2015); evaluation plays whole
games and earns their score. Both skip 4 frames with maximum over the last two, begin with up to 30 no-ops and
FIRE where a game needs it, and observe the last 4 frames, 84x84 grey.
"""

from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from fastrl.envs.foreign import ForeignVectorEnv, Step


class Games:
    """Score and length of whole games, whose rewards training clips and whose lives it counts as episodes."""

    def __init__(self, num_envs: int) -> None:
        self.score = np.zeros(num_envs)
        self.length = np.zeros(num_envs, np.int64)

    def report(
        self, info: dict[str, Any], reward: NDArray[Any], stepped: NDArray[np.bool_] | bool, over: Any
    ) -> None:
        """Add a step, with its unclipped rewards [N], and put games that are ``over`` into ``info``."""
        self.score += reward
        self.length += stepped
        info["episode"] = {"r": np.where(over, self.score, 0.0), "l": np.where(over, self.length, 0)}
        info["_episode"] = over
        self.score[over] = self.length[over] = 0


class ALETrainingEnv(ForeignVectorEnv):
    """``ALE/...`` for training.

    A lost life sets ``terminated`` and the game goes on. ALE's own ``episodic_life`` would start a new game,
    so that no second life was ever seen; ``life_loss_info`` does not.
    """

    reports_episodes = True

    def __init__(self, env_id: str, num_envs: int) -> None:
        super().__init__(_ale(env_id, num_envs, life_loss_info=True, reward_clipping=False))
        self._games = Games(num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New games."""
        obs, info = super().reset(seed=seed, options=options)
        self._games = Games(self.num_envs)
        self._lives, self._frame = info["lives"], info["episode_frame_number"]
        return obs, info

    def step(self, actions: Any) -> Step:
        """One step: the signs of the rewards; whole games that ended are in ``info["episode"]``."""
        obs, reward, terminated, truncated, info = super().step(actions)
        lives, frame = info["lives"], info["episode_frame_number"]
        life_lost = terminated & (lives < self._lives) & (frame > self._frame)
        self._lives, self._frame = lives, frame
        self._games.report(info, reward, True, (terminated & ~life_lost) | truncated)
        return obs, np.sign(reward), terminated, truncated, info


def make_ale(env_id: str, num_envs: int, training: bool) -> ForeignVectorEnv:
    """``ALE/...`` by ALE's vector environment, whose threads are as many as the processors.

    Raises:
        ModuleNotFoundError: ale_py is not installed.
    """
    gymnasium.register_envs(import_module("ale_py"))
    if training:
        return ALETrainingEnv(env_id, num_envs)
    return ForeignVectorEnv(_ale(env_id, num_envs, life_loss_info=False, reward_clipping=False))


def _ale(env_id: str, num_envs: int, **options: Any) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec(
        env_id,
        num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP,
        **options,
    )
