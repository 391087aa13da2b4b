"""One compiled environment behind the interface of ``gymnasium.Env``."""

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from fastrl.envs.rendering import Renderer
from fastrl.envs.vector import VectorEnv
from fastrl.kernels.envs import TABLE


class ScalarEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """A compiled environment alone, as ``VectorEnv`` with one env: bit for bit as Gymnasium's of the same id.

    It has no time limit of its own (``gymnasium.make`` adds ``TimeLimit``), and draws from ``np_random``.
    A step after termination raises ``ResetNeeded``, where some of Gymnasium's only warn.

    Args:
        env_id: an id of ``fastrl.kernels.envs.TABLE``, as ``"CartPole-v1"``.
        render_mode: None, ``"human"`` or ``"rgb_array"``; drawn by Gymnasium's renderer, which needs pygame.
        **options: ``mode``, and arguments of the environment, as ``sutton_barto_reward``.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012  # as Gymnasium types it

    def __init__(self, env_id: str, render_mode: str | None = None, **options: Any) -> None:
        self._vector = VectorEnv(
            env_id, 1, max_episode_steps=-1, autoreset_mode=AutoresetMode.DISABLED, copy=False, **options
        )
        self.metadata = {**self.metadata, "render_fps": TABLE[env_id].render_fps}
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.render_mode = render_mode
        self._renderer = None if render_mode is None else Renderer(TABLE[env_id], render_mode)
        self._last_action: NDArray[np.float32] | None = None

    @property
    def state(self) -> NDArray[Any]:
        """Physical state [state_size] in full precision, a copy."""
        state: NDArray[Any] = self._vector.state[0]
        return state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode; ``options`` as in ``VectorEnv.reset``, without a mask."""
        super().reset(seed=seed)
        self._vector.np_random = (self.np_random,)
        obs, infos = self._vector.reset(options=options)
        self._last_action = None
        self.np_random.bit_generator.state = self._vector.np_random[0].bit_generator.state
        if self.render_mode == "human":
            self.render()
        return obs[0].copy(), infos

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; ``action`` is an integer, or floats [action_size] of continuous environments.

        Raises:
            TypeError, ValueError: another type or shape, out of range or not finite.
            ResetNeeded: the episode is over.
        """
        discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        actions = np.array([operator.index(action)]) if discrete else np.asarray(action)[None]
        obs, reward, terminated, truncated, infos = self._vector.step(actions)
        if self._renderer is not None and not discrete:
            self._last_action = np.array(action)
        if self.render_mode == "human":
            self.render()
        return obs[0].copy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), infos

    def render(self) -> NDArray[np.uint8] | None:
        """The present frame, uint8 [height, width, 3], or None after showing it (``human``)."""
        if self._renderer is None:
            gymnasium.logger.warn("render was called without a render_mode; name one to gymnasium.make")
            return None
        return self._renderer.frame(self.state, self._last_action)

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
