"""One Atari game, drawn in colour while the agent sees what ALE's vector environment shows."""

from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from fastrl.envs.wrappers import FrameStack, GrayscaleResize

NO_OPS = 30
"""At most, before an episode begins."""
SKIP = 4


def make_drawn_game(env_id: str, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """``ALE/...`` with the frames, no-ops and FIRE of evaluation, and ``render()``, a frame every step.

    Raises:
        ModuleNotFoundError: ale_py is not installed.
    """
    gymnasium.register_envs(import_module("ale_py"))
    game = gymnasium.make(
        env_id, frameskip=1, repeat_action_probability=0.0, obs_type="grayscale", render_mode=render_mode
    )
    return _DrawnGame(_Beginning(game))


class _Beginning(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Waits up to 30 frames, then presses FIRE where a game needs it."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new game, some frames later."""
        obs, info = self.env.reset(seed=seed, options=options)
        fire = [1] if "FIRE" in self.unwrapped.get_action_meanings() else []  # type: ignore[attr-defined]
        for action in [0] * int(self.unwrapped.np_random.integers(NO_OPS + 1)) + fire:
            obs, _, terminated, truncated, info = self.env.step(action)
            if terminated or truncated:
                obs, info = self.env.reset(options=options)
        return obs, info


class _DrawnGame(gymnasium.Env[Any, Any]):
    """The only game of a vector environment."""

    def __init__(self, game: gymnasium.Env[Any, Any]) -> None:
        alone = SyncVectorEnv([lambda: game], autoreset_mode=AutoresetMode.DISABLED)
        self._game, self._frames = game, FrameStack(GrayscaleResize(alone, skip=SKIP), 4, padding="zero")
        self.metadata = game.metadata | {"render_fps": 60 // SKIP}
        self.render_mode, self.spec = game.render_mode, game.spec
        self.observation_space = self._frames.single_observation_space
        self.action_space = game.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new game; uint8 [4, 84, 84]."""
        obs, _ = self._frames.reset(seed=seed, options=options)
        return obs[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Four frames, with the unclipped reward."""
        obs, reward, terminated, truncated, _ = self._frames.step(np.asarray([action]))
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """The screen, uint8 [210, 160, 3]."""
        return self._game.render()

    def close(self) -> None:
        """End the emulator."""
        self._frames.close()
