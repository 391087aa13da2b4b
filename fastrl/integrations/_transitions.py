"""The rows of replay buffers in the shape of SB3's, which CleanRL has as well: by spaces, with infos."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.kernels.replay._convert import array_of
from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer


class Batch(NamedTuple):
    """Arrays [B, ...] by what SB3 calls them; observations as dicts of such if the space is a Dict."""

    observations: Any
    actions: NDArray[Any]
    next_observations: Any
    dones: NDArray[np.float32]
    """[B, 1]: terminated, without time limits where those are told apart."""
    rewards: NDArray[np.float32]
    """[B, 1]"""
    discounts: NDArray[np.float32] | None
    """[B, 1], of n steps: the discount to the power of those summed, 0 where they terminated; None of one."""


class Transitions:
    """A :mod:`fastrl.replay` buffer whose fields are those of two spaces. It can be pickled.

    Images (uint8, three axes) are stored once, not as observation and next observation, and a stack of frames
    frame by frame. So is any observation with ``share``. What comes back is exact, at ends of episodes too.

    Args:
        op: for messages: whose rows these are.
        steps: of each environment.
        observation_space: Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of such.
        action_space: one of the same, without Dict.
        n_envs: environments.
        share: store observations once that are no images, too.
        frame_stack: whether images are stacks of frames; None: unless they have 3, 6, 9, ... channels.
        timeouts: tell time limits from terminations, by ``infos[i]["TimeLimit.truncated"]``.
        n_steps: of n-step returns.
        gamma: their discount.
        options: those of ``PrioritizedReplayBuffer``; None: a uniform one.
    """

    def __init__(
        self,
        op: str,
        steps: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        n_envs: int,
        *,
        share: bool,
        frame_stack: bool | None,
        timeouts: bool,
        n_steps: int,
        gamma: float,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._op, self._n_envs, self._timeouts = op, n_envs, timeouts
        of_dict = isinstance(observation_space, spaces.Dict)
        self._keys = tuple(observation_space) if isinstance(observation_space, spaces.Dict) else None
        parts = {f"obs.{key}": part for key, part in observation_space.items()} if of_dict else {}  # type: ignore[attr-defined]
        self._parts: dict[str, spaces.Space[Any]] = parts or {"obs": observation_space}
        self._observed = [
            (
                name,
                f"next_{name}",
                name.removeprefix("obs.") if of_dict else None,
                _shape(op, "observation_space", part),
                isinstance(part, spaces.Discrete),
            )
            for name, part in self._parts.items()
        ]
        self._none_truncated = np.zeros(n_envs, np.bool_)
        self._action_shape = (n_envs, math.prod(_shape(op, "action_space", action_space)))
        dtype = action_space.dtype
        fields: dict[str, dict[str, Any]] = {
            "action": {
                "shape": self._action_shape[1:],
                "dtype": np.float32 if dtype == np.float64 else dtype,  # as SB3: networks take float32
            },
            "reward": {"shape": (1,)},
            "terminated": {"shape": (1,)},
            "truncated": {"dtype": np.bool_},
        }
        shared, stacked = [], []
        for name, part in self._parts.items():
            shape = _shape(op, "observation_space", part)
            field = {"shape": shape, "dtype": part.dtype}
            fields[name] = field
            image = part.dtype == np.uint8 and len(shape) == 3
            if image or share:
                shared.append(name)
            else:
                fields[f"next_{name}"] = field
            if image and (_looks_stacked(shape) if frame_stack is None else frame_stack):
                stacked.append(name)
        following = [f"next_{name}" for name in self._parts]
        n_step = {"size": n_steps, "gamma": gamma, "rew": "reward", "next": following}
        self.rows: ReplayBuffer = (ReplayBuffer if options is None else PrioritizedReplayBuffer)(
            steps * n_envs,
            fields,
            num_envs=n_envs,
            Nstep=n_step if n_steps != 1 else None,
            next_of=shared,
            stack_compress=stacked,
            **(options or {}),
        )

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Store a step of all environments.

        Raises:
            TypeError, ValueError: an array that does not fit; nothing is stored.
        """
        n = self._n_envs
        terminated = self.column("done", done, (n, 1)).astype(np.float32)
        truncated = self._none_truncated
        if self._timeouts:
            if not isinstance(infos, list | tuple) or len(infos) != n:
                raise ValueError(f"{self._op} add: infos must be {n} dicts, got {describe(infos)}")
            if np.count_nonzero(terminated):
                truncated = truncated.copy()
                for i in terminated[:, 0].nonzero()[0].tolist():
                    if not isinstance(infos[i], Mapping):
                        raise ValueError(
                            f"{self._op} add: infos must be {n} dicts, got {describe(infos[i])} at {i}"
                        )
                    if infos[i].get("TimeLimit.truncated", False):
                        truncated[i], terminated[i] = True, 0
        fields = {
            "action": self.column("action", action, self._action_shape),
            "reward": self.column("reward", reward, (n, 1)),
            "terminated": terminated,
            "truncated": truncated,
        }
        for name, following, key, shape, discrete in self._observed:
            try:
                first, last = (obs, next_obs) if key is None else (obs[key], next_obs[key])
            except (IndexError, KeyError, TypeError):
                self._refuse_keys(obs=obs, next_obs=next_obs)
            if discrete:  # [n_envs] or [n_envs, 1]
                first, last = self.column("obs", first, (n, 1)), self.column("next_obs", last, (n, 1))
            elif n == 1:  # SB3's arrays take a row without the axis of environments
                first, last = _as_row(first, shape), _as_row(last, shape)
            fields[name], fields[following] = first, last
        self.rows.add(**fields)

    def gather(self, rows: NDArray[Any]) -> Batch:
        """The rows of these numbers."""
        return self.batch(self.rows.gather(rows))

    def batch(self, fields: Mapping[str, Any]) -> Batch:
        """What a draw returned."""
        if self._keys is None:
            obs, next_obs = fields["obs"], fields["next_obs"]
        else:
            obs = {key: fields[f"obs.{key}"] for key in self._keys}
            next_obs = {key: fields[f"next_obs.{key}"] for key in self._keys}
        discount = fields.get("discount")
        return Batch(
            obs,
            fields["action"],
            next_obs,
            fields["terminated"],
            fields["reward"],
            None if discount is None else discount[:, None],
        )

    def column(self, name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """An argument of ``add`` as real numbers of this shape.

        Raises:
            TypeError: others.
            ValueError: more or fewer.
        """
        array = value if type(value) is np.ndarray else self._array(name, value, shape)
        if array.dtype.kind not in "biuf":
            got = describe(array if array.ndim else value)
            raise TypeError(f"{self._op} add: {name} must be real numbers {list(shape)}, got {got}")
        if array.size != math.prod(shape):
            raise ValueError(f"{self._op} add: {name} must be {list(shape)}, got {describe(array)}")
        return array.reshape(shape)

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        return array_of(f"{self._op} add", name, value, f"real numbers {list(shape)}")

    def _refuse_keys(self, **values: Any) -> NoReturn:
        """Raise ValueError for the first of these that has not all keys of the space."""
        keys = self._keys or ()
        for name, value in values.items():
            if not isinstance(value, Mapping) or not value.keys() >= set(keys):
                got = ", ".join(map(str, value)) if isinstance(value, Mapping) else describe(value)
                raise ValueError(f"{self._op} add: {name} must have {', '.join(keys)}, got {got or 'none'}")
        raise AssertionError("observations have all keys")


def on_device(values: Any, device: torch.device) -> Any:
    """An array, or each of a dict, as a tensor on a device; on the CPU it shares memory with the array."""
    if isinstance(values, dict):
        return {key: on_device(value, device) for key, value in values.items()}
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.to(device)


def _as_row(value: Any, shape: tuple[int, ...]) -> Any:
    return value[None] if getattr(value, "shape", None) == shape else value


def _shape(op: str, name: str, space: spaces.Space[Any]) -> tuple[int, ...]:
    """Of one row, as SB3 stores it."""
    if isinstance(space, spaces.Discrete):
        return (1,)
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary) and space.shape:
        return space.shape
    raise ValueError(f"{op}: {name} must be Box, Discrete, MultiDiscrete or MultiBinary, got {space}")


def _looks_stacked(shape: tuple[int, ...]) -> bool:
    channels = min(shape[0], shape[-1])
    return 1 < channels <= 128 and channels % 3 != 0
