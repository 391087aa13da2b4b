"""Stacks of the last observations, and of the actions that led to them."""

import operator
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.utils import create_zero_array
from numpy.typing import NDArray

from fastrl import _core
from fastrl.envs.wrappers.base import Bools, EpisodeWrapper, Transition
from fastrl.kernels._check import describe, require_choice, require_positive

PADDINGS = ("reset", "zero")
ACTIONS = (None, "one_hot", "raw")
_KEPT = 3  # arrays: a caller holds one or two, the last observations and those before


def _references(arrays: list[NDArray[Any]], i: int) -> int:
    return sys.getrefcount(arrays[i])


_UNHELD = _references([np.empty(0)], 0)  # depends on the version of Python


class FrameStack(EpisodeWrapper):
    """The last ``size`` observations of each environment as one, [N, size, ...], oldest first.

    At the start of an episode the stack is filled with its first observation, or with zeros: nothing of the
    episode before is ever in it. ``info["final_obs"]`` holds stacks. Each environment's row equals what
    ``gymnasium.wrappers.FrameStackObservation`` over it gives.

    With ``actions`` an observation is a Dict of ``"observation"`` [size, ...] and ``"action"``, whose item j
    is the action that led to observation j; zeros where there was none.

    Frames live in a ring (``fastrl.kernels.push_frames``): a step writes one frame an environment.

    Args:
        env: any vector environment with array observations (Box, Discrete, MultiDiscrete, MultiBinary).
        size: observations in a stack.
        padding: ``"reset"``, the first observation, or ``"zero"``, the zero of the observation space (or what
            is nearest to it there).
        actions: None, ``"one_hot"`` (float32 [size, n], of Discrete actions) or ``"raw"`` (as they are).
        copy: return fresh arrays; False returns views of the ring, which the next step changes.

    Raises:
        TypeError, ValueError: an argument, or a space, that cannot be.

    Source: Mnih et al. 2015, Human-level control through deep reinforcement learning, Methods; with actions,
    Hausknecht & Stone 2015 (who feed both to a memory).
    """

    _state = ("_observations", "_actions")

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        size: int,
        *,
        padding: str = "reset",
        actions: str | None = None,
        copy: bool = True,
    ) -> None:
        super().__init__(env)
        self.size = operator.index(size)
        require_positive("FrameStack", "size", self.size)
        require_choice("FrameStack", "padding", padding, PADDINGS)
        require_choice("FrameStack", "actions", actions, ACTIONS)
        self.actions = actions
        self.copy = copy
        space = env.single_observation_space
        zero = _zero("FrameStack", "observations", space)
        self._observations = Ring(env.num_envs, self.size, zero, None if padding == "reset" else zero)
        self._actions: Ring | None = None
        stacked = batch_space(space, self.size)
        if actions is not None:
            action = env.single_action_space
            if actions == "one_hot":
                if not isinstance(action, spaces.Discrete):
                    raise TypeError(f"FrameStack: actions='one_hot' needs Discrete actions, got {action}")
                none = np.zeros(int(action.n), np.float32)
                history: spaces.Space[Any] = spaces.Box(0, 1, (self.size, len(none)), np.float32)
            else:
                none = _zero("FrameStack", "actions", action)
                history = batch_space(action, self.size)
            self._actions = Ring(env.num_envs, self.size, none, none)
            stacked = spaces.Dict(observation=stacked, action=history)
        self.single_observation_space = stacked
        self.observation_space = batch_space(stacked, env.num_envs)

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        stacks = self._observations.push(obs, began, self.copy, only=True)
        if self._actions is None:
            return stacks, info
        none = self._actions.blank
        return {"observation": stacks, "action": self._actions.push(none, began, self.copy, only=True)}, info

    def _change(self, step: Transition, taken: Any) -> None:
        if self.mode is AutoresetMode.SAME_STEP and step.done.any():
            self._stack_finals(step, taken)
        self._observations.advance()
        step.obs = self._observations.push(step.obs, step.began, self.copy)
        if self._actions is not None:
            self._actions.advance()
            led = np.where(step.began.reshape(-1, *[1] * (taken.ndim - 1)), self._actions.blank, taken)
            step.obs = {
                "observation": step.obs,
                "action": self._actions.push(led, step.began, self.copy),
            }

    def _stack_finals(self, step: Transition, taken: Any) -> None:
        envs = np.flatnonzero(step.done)
        finals: list[Any] = [
            self._observations.stack_with(env, final)
            for env, final in zip(envs, self._finals(step.info, envs), strict=True)
        ]
        if self._actions is not None:
            finals = [
                {"observation": final, "action": self._actions.stack_with(env, taken[env])}
                for env, final in zip(envs, finals, strict=True)
            ]
        step.info = self._with_finals(step.info, envs, finals)

    def _taken(self, actions: Any) -> NDArray[Any] | None:
        """Actions as their ring keeps them.

        Raises:
            TypeError, ValueError: not of the action space's shape, or one-hot ones out of its range.
        """
        if self._actions is None:
            return None
        space = self.env.single_action_space
        given, shape = np.asarray(actions), (self.num_envs, *(space.shape or ()))
        if given.shape != shape:
            raise ValueError(f"FrameStack step: actions must be {list(shape)}, got {describe(given)}")
        if self.actions == "raw":
            return np.array(given, self._actions.frames.dtype)
        assert isinstance(space, spaces.Discrete)
        index = given - space.start
        if index.dtype.kind not in "iu":
            raise TypeError(f"FrameStack step: actions must be integers {list(shape)}, got {describe(given)}")
        if ((index < 0) | (index >= space.n)).any():
            raise ValueError(f"FrameStack step: actions must be in {space}, got {given}")
        taken = np.zeros((self.num_envs, int(space.n)), np.float32)
        taken[np.arange(self.num_envs), index] = 1
        return taken


class Ring:
    """The last ``size`` frames of each environment in an array of several times as many slots.

    Args:
        num_envs: N.
        size: frames in a stack.
        blank: a frame, for shape and dtype.
        padding: what stands before the first frame; None: that frame.
    """

    def __init__(self, num_envs: int, size: int, blank: NDArray[Any], padding: NDArray[Any] | None) -> None:
        self.size = size
        self.padding = padding
        self.frames = np.zeros((num_envs, 4 * size, *blank.shape), blank.dtype)
        self.blank = np.broadcast_to(blank, (num_envs, *blank.shape))
        self.slot = size - 1
        self._arrays: list[NDArray[Any]] = []  # handed out lately

    def advance(self) -> None:
        """Makes room for a frame; at the ring's end the last ones move to its front."""
        self.slot += 1
        if self.slot == self.frames.shape[1]:
            kept = self.size - 1
            self.frames[:, :kept] = self.frames[:, self.slot - kept :]
            self.slot = kept

    def push(self, frame: Any, began: Bools, copy: bool, only: bool = False) -> NDArray[Any]:
        """The stacks with ``frame`` in the present slot."""
        frame = np.ascontiguousarray(frame, self.frames.dtype)
        out = self._array() if copy else None
        _core.push_frames(self.frames, self.slot, frame, began, self.size, self.padding, only, out)
        return self.frames[:, self.slot - self.size + 1 : self.slot + 1] if out is None else out

    def _array(self) -> NDArray[Any]:
        """An array for stacks that nobody holds: an earlier one, or a new one.

        Fresh memory of many frames costs more than filling it does.
        """
        for i in range(len(self._arrays)):
            if _references(self._arrays, i) == _UNHELD:
                return self._arrays[i]
        array = np.empty((len(self.frames), self.size, *self.frames.shape[2:]), self.frames.dtype)
        self._arrays = [*self._arrays[1 - _KEPT :], array]
        return array

    def state(self) -> dict[str, Any]:
        """Its frames, oldest first."""
        kept = self.frames[:, self.slot - self.size + 1 : self.slot + 1]
        return {"frames": kept.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` gave.

        Raises:
            ValueError: frames of another shape.
        """
        frames, shape = state["frames"], (len(self.frames), self.size, *self.frames.shape[2:])
        if frames.shape != shape:
            raise ValueError(f"FrameStack set_state: frames must be {list(shape)}, got {describe(frames)}")
        self.slot = self.size - 1
        self.frames[:, : self.size] = frames

    def stack_with(self, env: np.intp, frame: NDArray[Any]) -> NDArray[Any]:
        """The stack of an environment if ``frame`` were pushed."""
        before = self.frames[env, self.slot - self.size + 2 : self.slot + 1]
        return np.concatenate([before, np.asarray(frame, self.frames.dtype)[None]])


def _zero(op: str, name: str, space: spaces.Space[Any]) -> NDArray[Any]:
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise TypeError(f"{op}: {name} must be arrays of numbers, got {space}")
    return np.array(create_zero_array(space), space.dtype)
