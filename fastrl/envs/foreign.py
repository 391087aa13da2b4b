"""One adapter for vector environments that fastrl did not make."""

from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

Step = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class EnvironmentFailure(RuntimeError):
    """An environment raised an error; the message says which, at what step, and the error."""


class ForeignVectorEnv(gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector environment of any origin, as ``Rollout`` and ``evaluate`` want it.

    Observations have the batched shape that the single space says, rewards are float64 [N], flags are bool
    [N], ``metadata["autoreset_mode"]`` is this instance's own, and with SAME_STEP every truncated
    environment's last observation is in ``info["final_obs"]``. What breaks this, and what an environment
    raises, becomes one error that names environment and step: of Gymnasium's sync and async environments
    exactly, of others as far as they say.

    Args:
        env: any ``gymnasium.vector.VectorEnv``.

    Raises:
        ValueError: an environment that does not say its autoreset mode.
    """

    reports_episodes = False
    """Whether ``info["episode"]`` (``r``, ``l``, and the mask ``_episode``) has the finished episodes'
    returns and lengths, where they are not those of the rewards and flags between two resets.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.mode = autoreset_mode(env)
        self.metadata = {**env.metadata, "autoreset_mode": self.mode}
        self.single_observation_space = env.single_observation_space
        self.observation_space = batch_space(env.single_observation_space, env.num_envs)
        self.action_space = batch_space(env.single_action_space, env.num_envs)
        self.steps = 0
        """Steps since this object was made."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in the environment.

        Raises:
            ValueError: an observation has another shape than the space says.
            EnvironmentFailure: an environment raised an error.
        """
        options = None if options is None else dict(options)  # some take things out of it
        try:
            obs, info = self._reset(seed, options)
        except EnvironmentFailure:  # of workers, which name the environment themselves
            raise
        except Exception as error:
            raise self._failure("reset", error) from error
        self._require_shape(obs, "observation")
        return obs, info

    def step(self, actions: Any) -> Step:
        """As in the environment.

        Raises:
            ValueError: an observation has another shape than the space says, rewards or flags are not [N], or
                a truncated environment's last observation is missing.
            EnvironmentFailure: an environment raised an error.
        """
        try:
            obs, reward, terminated, truncated, info = self.env.step(actions)
        except EnvironmentFailure:
            raise
        except Exception as error:
            raise self._failure("step", error) from error
        self._require_shape(obs, "observation")
        signals = (
            self._signal("rewards", reward, np.float64),
            self._signal("terminated flags", terminated, np.bool_),
            self._signal("truncated flags", truncated, np.bool_),
        )
        if self.mode is AutoresetMode.SAME_STEP and signals[2].any():
            if "final_obs" not in info:
                raise ValueError(f"env: SAME_STEP needs info['final_obs'], missing at step {self.steps}")
            for n in np.flatnonzero(signals[2]):
                self._require_shape_of(int(n), info["final_obs"][n], "final observation")
        self.steps += 1
        return obs, *signals, info

    def _reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        if is_envpool(self.env):  # the environment was seeded when it was made
            seed = None
        return self.env.reset(seed=seed, options=options)

    def _signal(self, what: str, x: Any, dtype: type[np.generic]) -> NDArray[Any]:
        if np.shape(x) != (self.num_envs,):
            raise ValueError(
                f"env: the {what} at step {self.steps} must be [{self.num_envs}], got {list(np.shape(x))}"
            )
        return np.asarray(x, dtype)

    def _require_shape(self, obs: Any, what: str) -> None:
        if wrong := _mismatch(self.single_observation_space, obs, (self.num_envs,)):
            raise ValueError(f"env: the {what}s at step {self.steps} must be {wrong[0]}, got {wrong[1]}")

    def _require_shape_of(self, n: int, obs: Any, what: str) -> None:
        if wrong := _mismatch(self.single_observation_space, obs, ()):
            raise ValueError(f"env {n}: the {what} at step {self.steps} must be {wrong[0]}, got {wrong[1]}")

    def _failure(self, call: str, error: Exception) -> Exception:
        """What to raise for an error of the environment's ``reset`` or ``step``."""
        inner = self.env.unwrapped
        if isinstance(inner, SyncVectorEnv):  # the shapes do not fit together: say whose is wrong
            for n, obs in enumerate(inner._env_obs):
                if obs is not None:
                    try:
                        self._require_shape_of(n, obs, "observation")
                    except ValueError as wrong:
                        return wrong
        index = _culprit(inner, error)
        where = "an environment" if index is None else f"environment {index}"
        return EnvironmentFailure(
            f"{where} raised {type(error).__name__} in {call}, at step {self.steps}: {error}"
        )


def autoreset_mode(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """The mode of this very environment.

    Raises:
        ValueError: it does not say.
    """
    # metadata may be shared by all instances of a class, as ALE's is: the newest one's mode is in it
    mode = getattr(env.unwrapped, "autoreset_mode", None)
    if not isinstance(mode, AutoresetMode):
        mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise ValueError(f"env: its metadata must say its AutoresetMode, got {mode!r}")
    return mode


def is_envpool(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> bool:
    """Whether an environment is EnvPool's."""
    return any(base.__module__.startswith("envpool.") for base in type(env.unwrapped).__mro__)


def _mismatch(space: spaces.Space[Any], obs: Any, batch: tuple[int, ...]) -> tuple[list[int], Any] | None:
    """Wanted and given shape, of the first part of an observation where they differ."""
    parts: Sequence[tuple[spaces.Space[Any], Any]] = []
    if isinstance(space, spaces.Dict):
        parts = [(part, obs[key]) for key, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = list(zip(space.spaces, obs, strict=True))
    elif space.shape is not None:
        wanted, got = batch + space.shape, np.shape(obs)
        return None if got == wanted else ([*wanted], [*got])
    return next((wrong for part, x in parts if (wrong := _mismatch(part, x, batch))), None)


def _culprit(env: Any, error: Exception) -> int | None:
    """Index of the environment that raised ``error``, if it can be known. A dead worker ends the others."""
    if isinstance(env, AsyncVectorEnv):
        failed = [n for n, pipe in enumerate(env.parent_pipes) if pipe is None]  # closed after an error
        if not failed and isinstance(error, EOFError | OSError):
            ended = wait([process.sentinel for process in env.processes], timeout=1.0)
            failed = [n for n, process in enumerate(env.processes) if process.sentinel in ended]
            if failed:  # it would wait for the dead process even while closing
                env._state = AsyncState.DEFAULT
                env.close(terminate=True)
        return failed[0] if failed else None
    trace = error.__traceback__ if isinstance(env, SyncVectorEnv) else None
    while trace is not None:
        frame = trace.tb_frame.f_locals
        if frame.get("self") is env and "i" in frame:  # its loop over the environments
            return int(frame["i"])
        trace = trace.tb_next
    return None
