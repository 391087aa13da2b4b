"""Arrays that a vector environment and its workers share."""

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array
from numpy.typing import NDArray

ALIGNMENT = 64  # a cache line
ARRAY_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def anonymous_file() -> int:
    """Descriptor of a file in memory that has no name: it is freed with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fastrl-workers")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def require_arrays(what: str, space: spaces.Space[Any]) -> None:
    """Raise ValueError unless a space is made of arrays of fixed shape, in Dicts and Tuples perhaps."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            require_arrays(what, part)
    elif not isinstance(space, ARRAY_SPACES):
        raise ValueError(
            f"WorkerVectorEnv: {what} must be Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple "
            f"of them, got {space}"
        )


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """``function`` of each array in nested dicts and tuples."""
    if isinstance(tree, dict):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(tree_map(function, value) for value in tree)
    return function(tree)


@dataclass(frozen=True, slots=True)
class Buffers:
    """What goes to and fro in a step of N environments."""

    obs: Any
    """[N, ...], nested as the space."""
    actions: Any
    """[N, ...], nested as the space."""
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    @classmethod
    def make(
        cls,
        allocate: Callable[..., NDArray[Any]],
        obs_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        num_envs: int,
    ) -> Self:
        """Arrays from ``allocate(shape, dtype=...)``, asked for in the same order in every process."""
        return cls(
            obs=create_empty_array(obs_space, num_envs, allocate),
            actions=create_empty_array(action_space, num_envs, allocate),
            reward=allocate((num_envs,), dtype=np.float64),
            terminated=allocate((num_envs,), dtype=np.bool_),
            truncated=allocate((num_envs,), dtype=np.bool_),
        )

    def part(self, first: int, last: int) -> "Buffers":
        """Views of envs ``first`` to ``last - 1``."""
        cut = slice(first, last)
        return Buffers(
            tree_map(lambda x: x[cut], self.obs),
            tree_map(lambda x: x[cut], self.actions),
            self.reward[cut],
            self.terminated[cut],
            self.truncated[cut],
        )


class _Allocator:
    """Gives arrays of one block after another; without a block only counts its bytes."""

    def __init__(self, block: mmap.mmap | None) -> None:
        self.block = block
        self.size = 0

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        start = -(-self.size // ALIGNMENT) * ALIGNMENT
        kind = np.dtype(dtype)
        self.size = start + kind.itemsize * int(np.prod(shape, dtype=np.int64))
        if self.block is None:
            return np.empty(0, kind)
        return np.ndarray(shape, kind, self.block, start)


def shared_buffers(
    descriptor: int,
    obs_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    num_envs: int,
    *,
    create: bool,
) -> Buffers:
    """Buffers in the memory of an :func:`anonymous_file`; ``create`` gives the file its size, and zeros."""
    counted = _Allocator(None)
    Buffers.make(counted, obs_space, action_space, num_envs)
    if create:
        os.ftruncate(descriptor, counted.size)
    block = mmap.mmap(descriptor, counted.size)
    return Buffers.make(_Allocator(block), obs_space, action_space, num_envs)
