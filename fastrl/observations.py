"""Observations of any Gymnasium space as the arrays that networks read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class Encoder:
    """Turns a batch of observations into one array [N, *shape].

    Vectors are flattened to float32, discrete values become one-hot, Dict and Tuple observations are encoded
    part by part and joined (Dict in the order of its keys). Images, that is Box spaces of uint8 with three
    axes, stay as they are and have ``image`` set. Inside a Dict or Tuple they are flattened as any Box is,
    and not scaled: pixels are 0 to 255 there, unless a wrapper or ``normalize_obs`` changes that.

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
        """float32 [N, width], or uint8 [N, *shape] for images, of a batch of observations.

        Raises:
            ValueError: an image whose pixels are no integers in [0, 255], or a discrete value out of range.
        """
        if self.image:
            return _pixels(np.asarray(obs))
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


def as_batch(space: spaces.Space[Any], observation: Any) -> tuple[Any, bool]:
    """A batch of observations, and whether it holds one that was given alone.

    Raises:
        ValueError: a part has neither shape, is not finite, or not a number, or has another number of them.
    """
    sizes: dict[int | None, None] = {}  # None: of one alone
    batch = _as_batch(space, observation, sizes)
    if len(sizes) > 1:
        got = " and ".join("one" if size is None else f"[{size}, ...]" for size in sizes)
        raise ValueError(f"predict: observation must be one, or as many in all its parts, got {got}")
    return batch, None in sizes


def _as_batch(space: spaces.Space[Any], observation: Any, sizes: dict[int | None, None]) -> Any:
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, Mapping) or not space.spaces.keys() <= observation.keys():
            keys = ", ".join(map(str, space.spaces))
            raise ValueError(f"predict: observation must be a dict of {keys}, got {observation!r:.80}")
        return {key: _as_batch(part, observation[key], sizes) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
            raise ValueError(
                f"predict: observation must be a tuple of {len(space.spaces)}, got {observation!r:.80}"
            )
        pairs = zip(space.spaces, observation, strict=True)
        return tuple(_as_batch(part, x, sizes) for part, x in pairs)
    shape = space.shape or ()
    wanted = f"{[*shape]} or [{', '.join(map(str, ('N', *shape)))}]"
    try:
        obs = np.asarray(observation)
    except (TypeError, ValueError, RuntimeError) as error:  # a ragged list, a tensor with a gradient
        raise ValueError(f"predict: observation must be {wanted}, got {error}") from None
    single = obs.shape == shape
    if not single and (obs.ndim == 0 or obs.shape[1:] != shape):
        raise ValueError(f"predict: observation must be {wanted}, got {[*obs.shape]}")
    if obs.dtype.kind not in "biuf":
        raise ValueError(f"predict: observation must hold numbers, got {observation!r:.80}")
    if not np.isfinite(obs).all():
        raise ValueError("predict: observation is not finite")
    sizes[None if single else len(obs)] = None
    return obs[None] if single else obs


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


def _pixels(x: NDArray[Any]) -> NDArray[np.uint8]:
    if x.dtype != np.uint8 and (x.dtype.kind not in "iu" or (x.astype(np.uint8) != x).any()):
        raise ValueError(f"the observation must be uint8, as its space says, got {x.dtype}")
    return np.ascontiguousarray(x, np.uint8)


def _encode(space: spaces.Space[Any], obs: Any) -> NDArray[np.float32]:
    match space:
        case spaces.Box() | spaces.MultiBinary():
            x = np.asarray(obs, np.float32)
            return x.reshape(len(x), _width(space))
        case spaces.Discrete():
            return _one_hot(np.asarray(obs).reshape(-1), int(space.start), int(space.n))
        case spaces.MultiDiscrete():
            values = np.asarray(obs)
            values = values.reshape(len(values), -1)
            ranges = zip(values.T, space.start.ravel().tolist(), space.nvec.ravel().tolist(), strict=True)
            return np.concatenate([_one_hot(*part) for part in ranges], 1)
        case spaces.Dict():
            return np.concatenate([_encode(part, obs[key]) for key, part in space.spaces.items()], 1)
        case spaces.Tuple():
            return np.concatenate([_encode(part, x) for part, x in zip(space.spaces, obs, strict=True)], 1)
    raise AssertionError(space)


def _one_hot(value: NDArray[Any], start: int, n: int) -> NDArray[np.float32]:
    whole = value.dtype.kind in "iub"
    index = value.astype(np.int64, copy=False) - start if whole else value  # narrow ones may not hold it
    # a negative one is a large one as unsigned: it must not count from the end
    if not whole or index.view(np.uint64).max(initial=0) >= n:
        raise ValueError(f"the observation must be an int in [{start}, {start + n}), got {value}")
    out = np.zeros((len(index), n), np.float32)
    out[np.arange(len(index)), index] = 1.0
    return out
