"""Environments that a user writes in Python, compiled: ``@fastrl.envs.compiled(...)``."""

import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from fastrl import _core
from fastrl.envs.vector import VectorEnv
from fastrl.kernels.envs import NO_LIMIT, CompiledEnv
from fastrl.kernels.envs.random import Random

if TYPE_CHECKING:
    from fastrl.kernels.envs.numba import Functions

_ARGUMENTS = {"reset": ("rng",), "step": ("state", "action", "rng"), "observe": ("state",)}


def compiled(
    *,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    max_episode_steps: int | None = None,
) -> Callable[[type], "UserEnv"]:
    """Decorates a class of two or three functions, which becomes an environment that runs as machine code.

    ::

        @fastrl.envs.compiled(observation_space=Discrete(9), action_space=Discrete(2), max_episode_steps=100)
        class Walk:
            def reset(rng):
                return 4

            def step(state, action, rng):
                state += 1 if action == 1 else -1
                return state, float(state == 8), state in (0, 8)

        envs = Walk(1024)          # a vector environment, as the built-in ones
        agent = fastrl.PPO(Walk)

    - ``reset(rng) -> state`` starts an episode.
    - ``step(state, action, rng) -> (state, reward, terminated)``, the last a bool. The action is an int, or
      an array [n] of floats, clipped to the space.
    - ``observe(state)`` gives the observation where it is not the state itself.

    The state is a number, an array (int64 or float64), or a flat tuple of these, also a named one; its
    structure is the one of reset's. Numbers of ``observe`` are stored as float32 or, of a Discrete space,
    int64. ``rng.random()`` is uniform in [0, 1), ``rng.integers(n)`` in {0, ..., n - 1}; what they give in an
    episode is a function of the env's seed and of the episodes and draws of that env before.

    Numba compiles the functions when the first environment is made, within seconds: they may use what it
    can compile, and functions of others that ``numba.njit`` decorates. An index out of range raises.

    Args:
        observation_space: Discrete, or Box float32 [n].
        action_space: Discrete, or Box float32 [n] with finite bounds.
        max_episode_steps: truncates episodes at this length; None: never.

    Raises:
        TypeError, ValueError: another space, or a class without these functions.
    """
    _check_space("observation_space", observation_space)
    _check_space("action_space", action_space)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise ValueError(f"compiled: max_episode_steps must be >= 1 or None, got {max_episode_steps}")

    def decorate(cls: type) -> UserEnv:
        return UserEnv(cls, observation_space, action_space, max_episode_steps)

    return decorate


class UserEnv:
    """An environment that :func:`compiled` made; called, it makes a vector environment.

    Its functions are attributes, as plain Python: ``Walk.step(4, 1, rng)``; see :class:`Random` for ``rng``.
    """

    def __init__(
        self,
        cls: type,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        max_episode_steps: int | None,
    ) -> None:
        self.name = cls.__name__
        self.__name__, self.__qualname__, self.__module__ = cls.__name__, cls.__qualname__, cls.__module__
        self.__doc__ = cls.__doc__
        self.observation_space = observation_space
        self.action_space = action_space
        self.max_episode_steps = max_episode_steps
        self.reset = _function(cls, "reset")
        self.step = _function(cls, "step")
        self.observe = _function(cls, "observe") if "observe" in vars(cls) else None
        self._functions: Functions | None = None
        self._lock = threading.Lock()

    def __call__(self, num_envs: int = 1, **kwargs: Any) -> "UserVectorEnv":
        """A :class:`UserVectorEnv` of ``num_envs``."""
        return UserVectorEnv(self, num_envs, **kwargs)

    def __repr__(self) -> str:
        return f"<compiled environment {self.name}>"

    def __reduce__(self) -> str:
        return self.__qualname__

    def compile(self) -> "Functions":
        """The compiled functions.

        Raises:
            TypeError: a function that cannot be compiled or gives something that does not fit.
        """
        from fastrl.kernels.envs.numba import compile_functions
        from fastrl.kernels.envs.records import Mistake, Spaces

        observations, actions = self.observation_space, self.action_space
        discrete = isinstance(observations, gymnasium.spaces.Discrete)
        box = isinstance(actions, gymnasium.spaces.Box)
        spaces = Spaces(
            obs_size=0 if discrete else observations.shape[0],  # type: ignore[index]
            obs_states=int(observations.n) if isinstance(observations, gymnasium.spaces.Discrete) else 0,
            action_low=tuple(actions.low.tolist()) if isinstance(actions, gymnasium.spaces.Box) else (),
            action_high=tuple(actions.high.tolist()) if box else (),  # type: ignore[attr-defined]
        )
        with self._lock:
            if self._functions is None:
                try:
                    self._functions = compile_functions(self.reset, self.step, self.observe, spaces)
                except Mistake as mistake:
                    raise TypeError(f"{self.name}: {mistake}") from mistake.__cause__
            return self._functions


class UserVectorEnv(VectorEnv):
    """N copies of a user's environment, with the contract of the built-in compiled ones.

    Pickling works where the environment is an attribute of an importable module.

    Args:
        env: what :func:`compiled` made.
        num_envs: N.
        max_episode_steps, autoreset_mode, copy, num_threads, validate: as of ``VectorEnv``.

    Raises:
        TypeError, ValueError: an argument that cannot be, or functions that cannot be compiled.
    """

    def __init__(
        self,
        env: UserEnv,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        num_threads: int = 1,
        validate: bool = True,
    ) -> None:
        EzPickle.__init__(
            self,
            env,
            num_envs,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            copy=copy,
            num_threads=num_threads,
            validate=validate,
        )
        autoreset = AutoresetMode(autoreset_mode)
        if max_episode_steps is None:
            max_episode_steps = env.max_episode_steps or -1
        limit = NO_LIMIT if max_episode_steps == -1 else max_episode_steps
        for name, number in (
            ("num_envs", num_envs),
            ("max_episode_steps", limit),
            ("num_threads", num_threads),
        ):
            if number < 1:
                raise ValueError(f"{env.name}: {name} must be >= 1, got {number}")
        self.env = env
        self._functions = functions = env.compile()
        discrete_obs = isinstance(env.observation_space, gymnasium.spaces.Discrete)
        discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
        sizes = (
            functions.words,
            0 if discrete_obs else env.observation_space.shape[0],  # type: ignore[index]
            int(discrete_obs),
            int(env.action_space.n) if isinstance(env.action_space, gymnasium.spaces.Discrete) else 0,
            0 if discrete else env.action_space.shape[0],  # type: ignore[index]
        )
        core = _core.VecEnv(
            env.name, sizes, functions.addresses, functions, num_envs, limit, autoreset.value, num_threads
        )
        row = CompiledEnv(
            kernel=env.name,
            max_episode_steps=limit,
            reset_options=None,
            gymnasium_class="",
            render_fps=1,
        )
        self._open(env.name, row, core, env.observation_space, env.action_space, autoreset, copy, validate)
        self.metadata = {**self.metadata, "render_modes": []}

    @property
    def state(self) -> Any:
        """States of all envs, a copy: [N, ...], or a tuple of such arrays."""
        structure = self._functions.state
        records = self._core.state[:, self._functions.words - structure.size :]
        parts = []
        for part in structure.parts:
            words = records[:, part.offset : part.offset + part.size]
            numbers = words.view(np.float64) if part.is_float else words.astype(bool if part.is_bool else int)
            parts.append(numbers.reshape(self.num_envs, *(part.shape or ())).copy())
        return parts[0] if structure.tuple_class is None else tuple(parts)

    def _raise_failed(self, actions: NDArray[Any] | None) -> NoReturn:
        """Runs what failed again, as Python, for its error."""
        i, failure = self._core.failed, self._core.failure
        steps = int(self._core.elapsed[i]) - (failure == "step")
        where = f"{self.env_id} {failure}: env {i}, step {steps} of its episode"
        again = "; all environments must be reset"
        record = self._core.state[i]
        rng = Random(int(record[0]) % 2**64, int(record[1]))
        try:
            if failure == "reset":
                self.env.reset(Random(rng.key))
            elif failure == "observe":
                what, value = "the observation", self._observed(i)
            else:
                assert actions is not None
                what, value = "the reward", self.env.step(self._state_of(i), self._action(actions[i]), rng)[1]
        except Exception as error:
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}{again}") from error
        if failure == "reset" or np.all(np.isfinite(value)):
            raise RuntimeError(f"{where}: it failed as machine code, though not as Python{again}")
        raise FloatingPointError(f"{where}: {what} is not finite, got {value}{again}")

    def _observed(self, i: int) -> Any:
        state = self._state_of(i)
        value = state if self.env.observe is None else self.env.observe(state)
        space = self.single_observation_space
        if isinstance(space, gymnasium.spaces.Discrete) and not 0 <= value < space.n:
            raise ValueError(f"the observation must be in [0, {space.n}), got {value}")
        return np.concatenate([np.ravel(x) for x in (value if isinstance(value, tuple) else (value,))])

    def _state_of(self, i: int) -> Any:
        structure, state = self._functions.state, self.state
        if structure.tuple_class is None:
            return state[i]
        parts = [part[i] for part in state]
        return tuple(parts) if structure.tuple_class is tuple else structure.tuple_class(*parts)

    def _action(self, action: Any) -> Any:
        space = self.single_action_space
        return (
            np.clip(action, space.low, space.high) if isinstance(space, gymnasium.spaces.Box) else int(action)
        )


def _function(cls: type, name: str) -> Callable[..., Any]:
    found = vars(cls).get(name)
    function = found.__func__ if isinstance(found, staticmethod) else found
    wanted = f"{name}({', '.join(_ARGUMENTS[name])})"
    if not inspect.isfunction(function):
        raise TypeError(f"{cls.__name__}: must define {wanted}")
    given = list(inspect.signature(function).parameters)
    if len(given) != len(_ARGUMENTS[name]):
        raise TypeError(f"{cls.__name__}: {name} must be {wanted}, got {name}({', '.join(given)})")
    return function


def _check_space(name: str, space: object) -> None:
    discrete = isinstance(space, gymnasium.spaces.Discrete) and space.start == 0
    box = isinstance(space, gymnasium.spaces.Box) and space.dtype == np.float32 and len(space.shape) == 1
    if not discrete and not box:
        raise TypeError(f"compiled: {name} must be Discrete or Box float32 [n], got {space}")
    if name == "action_space" and isinstance(space, gymnasium.spaces.Box) and not space.is_bounded("both"):
        raise ValueError(f"compiled: action_space must have finite bounds, got {space}")
