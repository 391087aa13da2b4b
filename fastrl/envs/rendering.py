"""Frames drawn by Gymnasium's own renderers from the state of a compiled environment."""

from typing import Any

import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray


class Renderer:
    """Draws states with Gymnasium's class for the environment; imports pygame at the first frame."""

    def __init__(self, gymnasium_class: str, render_mode: str) -> None:
        self._env: Any = load_env_creator(gymnasium_class)(render_mode=render_mode)

    def frame(self, state: NDArray[np.float64]) -> NDArray[np.uint8] | None:
        """The frame of ``state`` [state_size]: uint8 [height, width, 3]; None if ``human`` shows it."""
        self._env.state = state
        frame: NDArray[np.uint8] | None = self._env.render()
        return frame

    def close(self) -> None:
        """Frees the drawing surface."""
        self._env.close()
