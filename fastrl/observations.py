"""Observations of any Gymnasium space as the arrays that networks read."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class Encoder:
    """Turns a batch of observations into one array [N, *shape].

    Vectors are flattened to float32, discrete values become one-hot, Dict and Tuple observations are encoded
    part by part and joined (Dict in the order of its keys). Images, that is Box spaces of uint8 with three
    axes, stay as they are and have ``image`` set.

    Args:
        space: the single observation space.

    Raises:
        ValueError: a space with no encoding; the message names it and those that have one.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space
        self.image = is_image(space)
        self.shape: tuple[int, ...] = (space.shape or ()) if self.image else (_width(space),)
        self.dtype: type[np.generic] = np.uint8 if self.image else np.float32

    @property
    def identity(self) -> bool:
        """Whether observations are float32 vectors already, which compiled rollouts need."""
        return isinstance(self.space, spaces.Box) and self.space.dtype == np.float32 and not self.image

    def encode(self, obs: Any) -> NDArray[Any]:
        """float32 [N, width], or uint8 [N, *shape] for images, of a batch of observations."""
        if self.image:
            return np.ascontiguousarray(obs)
        return np.ascontiguousarray(_encode(self.space, obs))


def one_of(space: spaces.Space[Any], final_obs: Any, n: int) -> Any:
    """A batch holding the observation of environment ``n`` in the ``final_obs`` of a vector environment's
    info.

    That is an object array of observations (Gymnasium's environments) or a batch (ALE's).
    """
    return batch_one(space, final_obs[n])


def batch_one(space: spaces.Space[Any], obs: Any) -> Any:
    """A batch holding one observation of ``space``."""
    if isinstance(space, spaces.Dict):
        return {key: batch_one(part, obs[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(batch_one(part, x) for part, x in zip(space.spaces, obs, strict=True))
    return np.asarray(obs)[None]


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a space holds images: uint8 with three axes."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _width(space: spaces.Space[Any]) -> int:
    match space:
        case spaces.Box():
            return int(np.prod(space.shape))
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(np.sum(space.nvec))
        case spaces.MultiBinary():
            return int(np.prod(space.shape))
        case spaces.Dict():
            return sum(_width(part) for part in space.spaces.values())
        case spaces.Tuple():
            return sum(_width(part) for part in space.spaces)
    raise ValueError(
        f"the observation space {space} is not supported; Box, Discrete, MultiDiscrete, MultiBinary, "
        "and Dict and Tuple of these are"
    )


def _encode(space: spaces.Space[Any], obs: Any) -> NDArray[np.float32]:
    match space:
        case spaces.Box() | spaces.MultiBinary():
            x = np.asarray(obs, np.float32)
            return x.reshape(len(x), _width(space))
        case spaces.Discrete():
            return _one_hot(np.asarray(obs).reshape(-1) - space.start, int(space.n))
        case spaces.MultiDiscrete():
            values = np.asarray(obs) - space.start
            values = values.reshape(len(values), -1)
            sizes = np.asarray(space.nvec).ravel()
            return np.concatenate([_one_hot(values[:, i], int(n)) for i, n in enumerate(sizes)], 1)
        case spaces.Dict():
            return np.concatenate([_encode(part, obs[key]) for key, part in space.spaces.items()], 1)
        case spaces.Tuple():
            return np.concatenate([_encode(part, x) for part, x in zip(space.spaces, obs, strict=True)], 1)
    raise AssertionError(space)


def _one_hot(index: NDArray[Any], n: int) -> NDArray[np.float32]:
    out = np.zeros((len(index), n), np.float32)
    out[np.arange(len(index)), index] = 1.0
    return out
