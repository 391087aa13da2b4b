"""Compiled environments behind the interface of ``gymnasium.vector.VectorEnv``."""

import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from fastrl import _core
from fastrl.envs import spaces
from fastrl.envs.infos import reset_infos
from fastrl.envs.rendering import Frame, Renderer, render_modes
from fastrl.envs.reset_options import checked_bounds, checked_mask
from fastrl.envs.seeding import Seed, rng_state, seed_list, set_rng_state
from fastrl.kernels._check import describe
from fastrl.kernels.envs import NO_LIMIT, TABLE, CompiledEnv, arguments, make
from fastrl.kernels.envs.model import TabularModel

Step = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class VectorEnv(gymnasium.vector.VectorEnv[Any, Any, NDArray[Any]], EzPickle):
    """N copies of a compiled environment, stepped by one C++ call.

    With ``mode="exact"`` it returns from equal seeds and actions what ``gymnasium.vector.SyncVectorEnv`` over
    Gymnasium's own environment returns, bit for bit: observations, rewards float64 [N], flags bool [N] and
    infos. The one condition is that both use the same libm. Observations are float32 [N, obs_size], int64 [N]
    of toy text environments, or Blackjack's tuple of three int64 [N].

    Infos of FrozenLake and CliffWalking hold ``prob``, the probability of the transition, those of Taxi
    ``action_mask``, int8 [N, 6], too. As in Gymnasium, ``prob`` of the former is float64, but int64, the
    fractions cut off, where env 0 was just reset.

    With ``mode="fast"`` everything but the arithmetic is the same, and that is float32. One step from a
    float32 state differs from the exact step from it by at most:

    - Acrobot: 1e-6 (1 + the sum of the squared velocities before the step) in each observation; it ends the
      episode alike unless the free end is within four times that of its height;
    - CartPole: 1e-4 of each component of the next state that is 1e-3 or larger, and 2e-7 of smaller ones; it
      ends the episode alike unless position or angle is within 1e-5 of its threshold;
    - MountainCar, MountainCarContinuous: 2e-7 in the position and 2e-8 in the velocity; it ends the episode
      alike, with the same reward, unless one of them is that close to the goal's;
    - Pendulum: 1e-5 in each observation and in the reward.

    Over many steps trajectories drift apart. Initial states are the exact ones, rounded; the states of
    Acrobot and Pendulum hold angles in [-pi, pi]. Toy text environments are the same in both modes.

    Pickling and ``copy.deepcopy`` keep the state, so that a copy continues identically.

    Args:
        env_id: an id of ``fastrl.kernels.envs.TABLE``, as ``"CartPole-v1"``.
        num_envs: N.
        mode: ``"exact"`` or ``"fast"``.
        max_episode_steps: truncates episodes at this length; None: the environment's own, -1: never.
        autoreset_mode: ``AutoresetMode`` or its value; DISABLED leaves resets to ``options["reset_mask"]``.
        copy: return fresh arrays; False returns the same ones at every step, overwritten by the next.
        num_threads: threads that a step may use, the caller's among them. Results do not depend on it. Steps
            too short to be worth it use one.
        validate: refuse actions out of range, and continuous ones that are not finite. Without it their
            effect is unspecified, but safe.
        render_mode: None, ``"rgb_array"``, or ``"ansi"`` for the text of toy text environments; by
            Gymnasium's renderer, which needs pygame for frames.
        **options: arguments of the environment, as ``sutton_barto_reward``; kept, checked, in ``options``. A
            random map of FrozenLake is the same in all N.

    Raises:
        ValueError, TypeError: an argument that cannot be.
    """

    _renderer: Renderer | None
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as Gymnasium types it

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        mode: str = "exact",
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        num_threads: int = 1,
        validate: bool = True,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        options = arguments(env_id, options)
        EzPickle.__init__(
            self,
            env_id,
            num_envs,
            mode=mode,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            copy=copy,
            num_threads=num_threads,
            validate=validate,
            render_mode=render_mode,
            **options,
        )
        autoreset = AutoresetMode(autoreset_mode)
        row = TABLE[env_id]
        modes = render_modes(row)[1:]
        if render_mode is not None and render_mode not in modes:
            known = " or ".join(map(repr, modes))
            raise ValueError(f"{env_id}: render_mode must be None or {known}, got {render_mode!r}")
        if max_episode_steps is None:
            max_episode_steps = row.max_episode_steps
        limit = NO_LIMIT if max_episode_steps == -1 else max_episode_steps
        core = make(env_id, num_envs, limit, autoreset.value, options, mode, num_threads)
        self._open(env_id, row, core, *spaces.of(row, core), autoreset, copy, validate)
        self.render_mode = render_mode
        self.options = options
        self.metadata = {**self.metadata, "render_modes": modes, "render_fps": row.render_fps}
        if render_mode is not None:
            self._renderer = Renderer(row, render_mode, num_envs, options)
            self._step = self._step_remembered

    def _open(
        self,
        env_id: str,
        row: CompiledEnv,
        core: _core.VecEnv,
        observations: gymnasium.Space[Any],
        actions: gymnasium.Space[Any],
        autoreset: AutoresetMode,
        copy: bool,
        validate: bool,
    ) -> None:
        """Begins with a native environment."""
        self.env_id = env_id
        self.num_envs = core.num_envs
        self.copy = copy
        self.metadata = {**self.metadata, "autoreset_mode": autoreset}
        self.single_observation_space = observations
        self.single_action_space = actions
        self._row = row
        self._core = core
        self._native_step = core.step if validate else core.step_unchecked
        self._step = self._native_step
        self._outputs = core.outputs
        self._infos = core.step_infos
        self._has_infos = core.has_prob or autoreset is AutoresetMode.SAME_STEP
        parts = core.discrete
        self._obs: Any = core.obs if len(parts) == 0 else parts[0] if len(parts) == 1 else tuple(parts)
        self._reward = core.reward
        self._terminated, self._truncated = core.terminated, core.truncated
        self._entropy: Sequence[int] | None = None  # of each env's generator; None until they are seeded
        self._renderer = None
        self._last_actions: NDArray[Any] | None = None

    def reset(
        self, *, seed: Seed = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every env, or in those of a mask; returns the observations and infos.

        Args:
            seed: int: env i is seeded with ``seed + i``; a sequence: one int or None an env. None continues
                the env's generator, at first seeded by the operating system. Autoreset never reseeds.
            options: bounds of this reset's initial states, ``low`` and ``high``, or Pendulum's ``x_init`` and
                ``y_init``: the largest angle and speed. ``reset_mask``, bool [N] with a True, names the envs
                to reset; the others keep all they had. Never modified.

        Raises:
            TypeError, ValueError: a bad seed, mask or bound; nothing changed.
            ResetNeeded: a mask before the first reset.
            ClosedEnvironmentError: after ``close``.
        """
        if self.closed:
            raise ClosedEnvironmentError(f"{self.env_id}: reset after close")
        options = options or {}
        mask = None
        if "reset_mask" in options:
            mask = checked_mask(self.env_id, options["reset_mask"], self.num_envs)
            if not self._core.started:
                raise ResetNeeded(f"{self.env_id} reset: the first reset takes no reset_mask")
        bounds = checked_bounds(self.env_id, self._row.reset_options, options, self._core.bounds)
        seeds = seed_list(f"{self.env_id} reset", seed, self.num_envs)
        self._seed(seeds, mask)
        self._core.reset(mask, bounds)
        if self._core.failed >= 0:
            self._raise_failed(None)
        if self._renderer is not None:
            self._renderer.restarted(self._core.elapsed == 0)
        return (self.observation if self.copy else self._obs), reset_infos(self._core, mask)

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of every env: observation, reward, terminated, truncated, infos.

        Args:
            actions: integers [N], or floats [N, action_size], which the environment clips. int64 and float32
                arrays are taken as they are, others are converted.

        Raises:
            TypeError, ValueError: actions of another type or shape, out of range or not finite; nothing
                changed.
            ResetNeeded: before the first reset; with DISABLED, an env whose episode is over.
            ClosedEnvironmentError: after ``close``.
        """
        blocked = self._step(actions)
        if blocked is not None:
            self._step_converted(actions, blocked)
        infos = self._infos() if self._has_infos else {}
        if self.copy:
            result: Step = self._outputs(infos)
            return result
        return self._obs, self._reward, self._terminated, self._truncated, infos

    def render(self) -> tuple[Frame, ...] | None:  # type: ignore[override]
        """A frame an env, uint8 [height, width, 3] or text; None, and a warning, without ``render_mode``."""
        if self._renderer is None:
            gymnasium.logger.warn("render was called without a render_mode; name one to gymnasium.make_vec")
            return None
        actions: list[Any] = [None] * self.num_envs
        if self._last_actions is not None:
            stepped = self._core.elapsed > 0
            actions = [a if s else None for a, s in zip(self._last_actions, stepped, strict=True)]
        return tuple(map(self._renderer.frame, range(self.num_envs), self.state, actions))

    def close_extras(self, **kwargs: Any) -> None:
        """Frees the renderer; arrays handed out stay valid."""
        self._step = self._step_closed
        if self._renderer is not None:
            self._renderer.close()

    @cached_property
    def observation_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        """Space of all observations, made when asked for: its bounds take more memory than they."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def action_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        """Space of the actions of all envs."""
        return batch_space(self.single_action_space, self.num_envs)

    @property
    def core(self) -> _core.VecEnv:
        """The native environment, for compiled rollouts."""
        return self._core

    @property
    def observation(self) -> Any:
        """The observations of the last step or reset, a copy."""
        return tuple(map(np.array, self._obs)) if isinstance(self._obs, tuple) else self._obs.copy()

    def mdp(self) -> TabularModel:
        """The exact model: every outcome of every action in every state; see :class:`TabularModel`.

        ``fastrl.tabular.MDP.from_gymnasium`` makes of it what planners read.

        A state is the observation, of Blackjack the one that ``kernels.envs.blackjack`` tells.

        Raises:
            NotImplementedError: an environment without a finite model, or whose observation hides a part of
                the state.
        """
        model = self._row.mdp
        if model is None:
            raise NotImplementedError(f"{self.env_id} mdp: the environment has no finite model")
        return model(**self.options)

    @property
    def state(self) -> NDArray[Any]:
        """States [N, state_size], physical ones in full precision (float64, fast: float32), a copy."""
        return np.ascontiguousarray(self._core.state[:, : self.num_envs].T)

    @property
    def episode_return(self) -> NDArray[np.float64]:
        """Returns [N] of the episodes that ended in the last step, a copy; the rest is of earlier ones."""
        return np.array(self._core.episode_return)

    @property
    def episode_length(self) -> NDArray[np.int64]:
        """Lengths [N] of the episodes that ended in the last step, a copy; the rest is of earlier ones."""
        return np.array(self._core.episode_length)

    def get_state(self) -> NDArray[np.uint8]:
        """Everything a continued run needs (physics, generators, counters, flags, outputs), as bytes."""
        state: NDArray[np.uint8] = self._core.get_state()
        return state

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Continues where an equal object's ``get_state`` was called; ``np_random_seed`` becomes -1, unknown.

        Raises:
            TypeError, ValueError: not the state of this environment and number of envs; nothing changed.
        """
        if not isinstance(state, np.ndarray) or state.dtype != np.uint8:
            raise TypeError(f"{self.env_id} set_state: state must be a uint8 array, got {describe(state)}")
        if not self._core.set_state(state):
            raise ValueError(
                f"{self.env_id} set_state: these {state.size} bytes are no state of {self.num_envs} such envs"
            )
        self._entropy = [-1] * self.num_envs

    @property  # type: ignore[override]
    def np_random(self) -> tuple[np.random.Generator, ...]:
        """Copies of the envs' generators; assign a tuple of them to change the streams."""
        self._seed(None, None)
        generators = tuple(np.random.Generator(np.random.PCG64(0)) for _ in range(self.num_envs))
        for i, generator in enumerate(generators):
            generator.bit_generator.state = rng_state(self._core, i)
        return generators

    @np_random.setter
    def np_random(self, generators: tuple[np.random.Generator, ...]) -> None:
        if len(generators) != self.num_envs:
            raise ValueError(
                f"{self.env_id}: np_random must be {self.num_envs} generators, got {len(generators)}"
            )
        for i, generator in enumerate(generators):
            set_rng_state(self._core, i, generator)
        self._entropy = [-1] * self.num_envs

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each env; -1 where it is unknown."""
        self._seed(None, None)
        return tuple(self._entropy or ())

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: self.__dict__[name] for name in ("_entropy", "spec", "closed") if name in self.__dict__}
        return {**EzPickle.__getstate__(self), "kept": kept, "state": self.get_state()}

    def __setstate__(self, d: dict[str, Any]) -> None:
        EzPickle.__setstate__(self, d)
        self._core.set_state(d["state"])
        self.__dict__.update(d["kept"])
        if self.closed:
            self._step = self._step_closed

    def _seed(self, seeds: Sequence[int | None] | None, mask: NDArray[np.bool_] | None) -> None:
        """Seeds the masked envs that have a seed here; at first those without one too, from the system."""
        if seeds is None:
            if self._entropy is not None:
                return
            seeds = [None] * self.num_envs
        if mask is not None and self._entropy is not None:
            seeds = [seed if chosen else None for seed, chosen in zip(seeds, mask.tolist(), strict=True)]
        elif self._entropy is None and not isinstance(seeds, range):
            seeds = [secrets.randbits(128) if seed is None else seed for seed in seeds]
        self._core.seed(seeds)
        if isinstance(seeds, range):
            self._entropy = seeds
        else:
            known = self._entropy or [-1] * self.num_envs
            self._entropy = [old if new is None else new for old, new in zip(known, seeds, strict=True)]

    def _step_remembered(self, actions: Any) -> int | None:
        blocked = self._native_step(actions)
        if blocked is None:
            self._last_actions = np.array(actions)
            assert self._renderer is not None
            self._renderer.restarted(self._core.elapsed == 0)
        return blocked

    def _raise_failed(self, actions: NDArray[Any] | None) -> NoReturn:
        """The error of an environment that failed; a user's tells more."""
        raise RuntimeError(f"{self.env_id}: env {self._core.failed} failed")

    def _step_converted(self, actions: Any, blocked: int) -> None:
        """The step that the native code refused: with converted actions, or the error that says why not."""
        if blocked >= 0 and blocked == self._core.failed:
            self._raise_failed(actions)
        if not self._core.started:
            raise ResetNeeded(f"{self.env_id} step: call reset first")
        given = np.asarray(actions)
        space = self.action_space
        assert space.shape is not None
        kinds, word = ("f", "floats") if self._core.action_size else ("iu", "integers")
        wanted = f"{self.env_id} step: actions must be {word} {list(space.shape)}"
        if given.dtype.kind not in kinds:
            raise TypeError(f"{wanted}, got {describe(given)}")
        if given.shape != space.shape:
            raise ValueError(f"{wanted}, got {describe(given)}")
        with np.errstate(over="ignore"):  # then the native code refuses it
            converted = np.require(given, space.dtype, ["C", "A"])
        env = self._step(converted)
        if env is None:
            return
        if env == self._core.failed:
            self._raise_failed(converted)
        where = f"{self.env_id} step: env {env}, step {self._core.elapsed[env]} of its episode"
        if self.metadata["autoreset_mode"] is AutoresetMode.DISABLED and self._core.needs_reset[env]:
            raise ResetNeeded(f"{where}: the episode is over; reset it with options={{'reset_mask': mask}}")
        rule = "finite in float32" if self._core.action_size else f"in [0, {self._core.num_actions})"
        raise ValueError(f"{where}: action must be {rule}, got {given[env]}")

    def _step_closed(self, actions: Any) -> NoReturn:
        raise ClosedEnvironmentError(f"{self.env_id}: step after close")
