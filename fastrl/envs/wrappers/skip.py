"""Repeated actions, the maximum of the last two frames, and small grey frames."""

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from fastrl.envs.foreign import Step
from fastrl.envs.wrappers.base import Bools, EpisodeWrapper, replaced_info, signals
from fastrl.kernels import grayscale_resize
from fastrl.kernels._check import require_positive


class FrameSkip(EpisodeWrapper):
    """Repeats each action ``skip`` times; observes the larger value of the last two frames, sums rewards.

    An environment whose episode ends stops there: its observation is of the last two frames of this step, or
    of one if there was no other. (``gymnasium.wrappers.MaxAndSkipObservation`` then gives frames of an
    earlier step.) Infos are those of the last frame.

    The environments of a vector step together: one that ended is stepped on, in vain, until the others are
    through, and then reset once more by ``reset_mask``, which the environment must take. So a stochastic
    environment's episodes differ from those it would have alone; with one environment they do not.

    Args:
        env: any vector environment with array observations.
        skip: frames a step.

    Raises:
        TypeError, ValueError: an argument, or a space, that cannot be.

    Source: Mnih et al. 2015, Human-level control through deep reinforcement learning, Methods: Preprocessing.
    """

    _state = ("_obs", "_inner_ended")

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], skip: int = 4) -> None:
        super().__init__(env)
        self.skip = operator.index(skip)
        require_positive(self._name, "skip", self.skip)
        space = env.single_observation_space
        if not isinstance(space, spaces.Box):
            raise TypeError(f"{self._name}: observations must be Box, got {space}")
        self._inner_ended = np.zeros(env.num_envs, np.bool_)  # in its last frame, and not reset since
        self._fresh = env is env.unwrapped and getattr(env, "copy", False) is True
        self._obs: NDArray[Any] = np.zeros((env.num_envs, *space.shape), space.dtype)  # the last returned

    def step(self, actions: Any) -> Step:
        """Up to ``skip`` steps of every environment.

        Raises:
            ResetNeeded: before the first reset, or, with DISABLED, where an episode is over.
        """
        self._require_ready()
        window = _Window(self, actions)
        while window.frames < self.skip and window.running.any():
            window.advance()
        step = window.finish()
        self._ended = window.done
        self._inner_ended = window.inner_done & ~window.reset_here
        self._obs[...] = step[0]
        return step

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        self._inner_ended = self._inner_ended & ~began
        self._obs[began] = self._observe(obs[began], None)
        return self._obs.copy(), info

    def _observe(self, frame: NDArray[Any], before: NDArray[Any] | None) -> NDArray[Any]:
        """Observations [M, ...] of the last frames and of those before."""
        return frame if before is None else np.maximum(frame, before)


class GrayscaleResize(FrameSkip):
    """Small grey frames, and with ``skip`` what Atari agents see: skip, maximum of two, 84x84.

    Grey values first, then their maximum, then the mean over areas: ``fastrl.kernels.grayscale_resize``. Over
    ALE's raw frames each observation equals that of ``ale_py``'s vector environment and of
    ``gymnasium.wrappers.AtariPreprocessing``, to the bit; but for the final one of an episode that ends
    within a step, where those show frames of the step before.

    Args:
        env: any vector environment of uint8 frames [height, width] or [height, width, 3].
        size: height and width of observations.
        skip: frames a step, as in :class:`FrameSkip`.

    Raises:
        TypeError, ValueError: an argument, or a space, that cannot be.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        size: tuple[int, int] = (84, 84),
        *,
        skip: int = 1,
    ) -> None:
        super().__init__(env, skip)
        self.size = size
        space = env.single_observation_space
        shape = grayscale_resize(np.zeros((1, *(space.shape or ())), space.dtype), size=size).shape[1:]
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._obs = np.zeros((env.num_envs, *shape), np.uint8)

    def _observe(self, frame: NDArray[Any], before: NDArray[Any] | None) -> NDArray[Any]:
        return grayscale_resize(frame, before, size=self.size)


class _Window:
    """The frames of one step: ``running`` environments are in it, others ended or only reset."""

    def __init__(self, skip: FrameSkip, actions: Any) -> None:
        self.wrapper = skip
        self.env = skip.env
        self.actions = actions
        n = skip.num_envs
        self.resetting = skip._ended & (skip.mode is AutoresetMode.NEXT_STEP)
        self.running = ~self.resetting
        self.done = np.zeros(n, np.bool_)
        self.stale = np.zeros(n, np.bool_)  # stepped on after its end
        self.inner_done = skip._inner_ended
        self.reset_first = self.resetting & self.inner_done  # by the environment itself, in the first frame
        self.reset_here = np.zeros(n, np.bool_)  # by mask, after the last frame
        self.reward = np.zeros(n)
        self.terminated = np.zeros(n, np.bool_)
        self.truncated = np.zeros(n, np.bool_)
        self.frames = 0
        self.frame: Any = None
        self.before: Any = None
        self.info: dict[str, Any] = {}
        self.ends: list[tuple[Bools, NDArray[Any], dict[str, Any]]] = []  # who, last observations, infos

    def advance(self) -> None:
        """One frame of every environment."""
        mode = self.wrapper.mode
        if mode is AutoresetMode.DISABLED and self.inner_done.any():
            self.wrapper._reset_some(self.inner_done)
        self.stale |= self.done
        if self.frame is not None:
            self.before = self.frame if self.wrapper._fresh else self.frame.copy()
        self.frame, reward, terminated, truncated, self.info = self.env.step(self.actions)
        reward, terminated, truncated = signals(reward, terminated, truncated)
        self.frames += 1
        self.reward += np.where(self.running, reward, 0.0)
        self.terminated |= terminated & self.running
        self.truncated |= truncated & self.running
        self.inner_done = terminated | truncated
        ended = self.inner_done & self.running
        if ended.any():
            envs = np.flatnonzero(ended)
            last = self.frame[envs]
            if mode is AutoresetMode.SAME_STEP:
                last = self.wrapper._finals(self.info, envs)
            before = None if self.before is None else self.before[envs]
            self.ends.append((ended, self.wrapper._observe(last, before), self.info))
            self.done |= ended
            self.running = self.running & ~ended

    def finish(self) -> Step:
        """What the wrapper's step returns."""
        wrapper, frame, info = self.wrapper, self.frame, self.info
        same_step = wrapper.mode is AutoresetMode.SAME_STEP
        obs = None if frame is None else wrapper._observe(frame, self.before)
        first: Any = None
        first_info: dict[str, Any] = {}
        reset = self.stale if same_step else self.resetting & ~(self.reset_first & (self.frames == 1))
        self.reset_here = reset
        if reset.any():
            first, first_info = wrapper._reset_some(reset)
            if obs is None:
                return wrapper._observe(first, None), self.reward, self.terminated, self.truncated, first_info
        assert obs is not None
        if obs is frame:  # the environment may change its own later
            obs = obs.copy()
        if same_step:
            fresh = self.done & ~self.stale
            if fresh.any():
                obs[fresh] = wrapper._observe(frame[fresh], None)
            if self.ends:
                info = self._same_step_info(info, first_info, reset)
        else:
            for who, last, last_info in self.ends:
                obs[who] = last
                if last_info is not info:
                    info = replaced_info(info, last_info, who)
            if first is not None:
                info = replaced_info(info, first_info, reset)
        if first is not None:
            obs[reset] = wrapper._observe(np.ascontiguousarray(first[reset]), None)
        return obs, self.reward, self.terminated, self.truncated, info

    def _same_step_info(
        self, info: dict[str, Any], first_info: dict[str, Any], reset: Bools
    ) -> dict[str, Any]:
        """Infos of the environments' last frames and of their resets, and what was final when they ended."""
        finals: dict[str, Any] = {}
        for who, _, last_info in self.ends:
            found = {key: value for key, value in last_info.items() if key.lstrip("_") == "final_info"}
            finals = replaced_info(finals, found, who)
        info = {
            key: value for key, value in info.items() if key.lstrip("_") not in ("final_obs", "final_info")
        }
        if reset.any():
            info = replaced_info(info, first_info, reset)
        envs = np.concatenate([np.flatnonzero(who) for who, _, _ in self.ends])
        info = self.wrapper._with_finals(info, envs, np.concatenate([last for _, last, _ in self.ends]))
        return {**info, **finals}
