"""Frames drawn by Gymnasium's own renderers from the state of a compiled environment."""

from typing import Any

import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from fastrl.kernels.envs import CompiledEnv


class Renderer:
    """Draws states with Gymnasium's class for the environment; imports pygame at the first frame."""

    def __init__(self, row: CompiledEnv, render_mode: str) -> None:
        self._env: Any = load_env_creator(row.gymnasium_class)(render_mode=render_mode)
        self._drawn_action = row.drawn_action
        self._action_high = row.action_high

    def frame(
        self, state: NDArray[np.float64], action: NDArray[np.float32] | None
    ) -> NDArray[np.uint8] | None:
        """The frame of ``state`` [state_size]: uint8 [height, width, 3]; None if ``human`` shows it.

        ``action`` is the one that led there, None after a reset.
        """
        self._env.state = state
        if self._drawn_action is not None:
            last = None if action is None else np.clip(action[0], -self._action_high[0], self._action_high[0])
            setattr(self._env, self._drawn_action, last)
        frame: NDArray[np.uint8] | None = self._env.render()
        return frame

    def close(self) -> None:
        """Frees the drawing surface."""
        self._env.close()
