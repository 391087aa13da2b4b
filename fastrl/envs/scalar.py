"""One compiled environment behind the interface of ``gymnasium.Env``."""

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from fastrl.envs.infos import env_info
from fastrl.envs.rendering import Frame, Renderer, render_modes
from fastrl.envs.seeding import rng_state
from fastrl.envs.vector import VectorEnv
from fastrl.kernels.envs import TABLE
from fastrl.kernels.envs.model import TabularModel


class ScalarEnv(gymnasium.Env[Any, Any]):
    """A compiled environment alone, as ``VectorEnv`` with one env: bit for bit as Gymnasium's of the same id.

    It has no time limit of its own (``gymnasium.make`` adds ``TimeLimit``), and draws from ``np_random``.
    A step after termination raises ``ResetNeeded``, where some of Gymnasium's only warn.

    Args:
        env_id: an id of ``fastrl.kernels.envs.TABLE``, as ``"CartPole-v1"``.
        render_mode: None, ``"human"``, ``"rgb_array"``, or ``"ansi"`` for the text of toy text environments;
            by Gymnasium's renderer, which needs pygame for frames.
        **options: ``mode``, and arguments of the environment, as ``sutton_barto_reward``.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "ansi", "rgb_array"]}  # noqa: RUF012  # as Gymnasium's

    def __init__(self, env_id: str, render_mode: str | None = None, **options: Any) -> None:
        self._vector = VectorEnv(
            env_id, 1, max_episode_steps=-1, autoreset_mode=AutoresetMode.DISABLED, copy=False, **options
        )
        row = TABLE[env_id]
        modes = render_modes(row)
        if render_mode is not None and render_mode not in modes:
            known = " or ".join(map(repr, modes))
            raise ValueError(f"{env_id}: render_mode must be None or {known}, got {render_mode!r}")
        self.metadata = {"render_modes": modes, "render_fps": row.render_fps}
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.render_mode = render_mode
        self._renderer = None if render_mode is None else Renderer(row, render_mode, 1, self._vector.options)
        self._last_action: Any = None
        self._lent = True  # the stream goes on in the generator, not in the compiled environment

    @property
    def state(self) -> NDArray[Any]:
        """State [state_size], a physical one in full precision, a copy."""
        state: NDArray[Any] = self._vector.state[0]
        return state

    @property
    def np_random(self) -> np.random.Generator:
        """What the environment draws from. A step or reset takes the stream back as it is then: ask for it
        anew after one.
        """
        generator = super().np_random
        if not self._lent:
            generator.bit_generator.state = rng_state(self._vector.core, 0)
            self._lent = True
        return generator

    @np_random.setter
    def np_random(self, generator: np.random.Generator) -> None:
        self._np_random, self._np_random_seed, self._lent = generator, -1, True

    def mdp(self) -> TabularModel:
        """The exact model; see ``VectorEnv.mdp``."""
        return self._vector.mdp()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; ``options`` as in ``VectorEnv.reset``, without a mask."""
        super().reset(seed=seed)
        self._lent |= seed is not None
        self._take_back()
        obs, infos = self._vector.reset(options=options)
        self._last_action = None
        if self.render_mode == "human":
            self.render()
        return _alone(obs), env_info(infos, 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; ``action`` is an integer, or floats [action_size] of continuous environments.

        Raises:
            TypeError, ValueError: another type or shape, out of range or not finite.
            ResetNeeded: the episode is over.
        """
        discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        actions = np.array([operator.index(action)]) if discrete else np.asarray(action)[None]
        self._take_back()
        obs, reward, terminated, truncated, infos = self._vector.step(actions)
        if self._renderer is not None:
            self._last_action = actions[0].copy()
        if self.render_mode == "human":
            self.render()
        info = env_info(infos, 0) if infos else infos
        return _alone(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Frame:
        """The present frame, uint8 [height, width, 3] or text, or None after showing it (``human``)."""
        if self._renderer is None:
            gymnasium.logger.warn("render was called without a render_mode; name one to gymnasium.make")
            return None
        return self._renderer.frame(0, self.state, self._last_action)

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()

    def _take_back(self) -> None:
        if self._lent:
            self._vector.np_random = (super().np_random,)
            self._lent = False


def _alone(obs: Any) -> Any:
    """The observation of one env: an array of its own, an int, or a tuple of int."""
    if isinstance(obs, tuple):
        return tuple(int(part[0]) for part in obs)
    return int(obs[0]) if obs.ndim == 1 else obs[0].copy()
