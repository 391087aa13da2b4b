"""Checks of what ``options`` may hold in a reset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from fastrl.kernels._check import describe


def reset_mask(env: Any, mask: object) -> NDArray[np.bool_]:
    """The mask of the envs to reset.

    Raises:
        TypeError, ValueError: not bool [N] with a True.
        ResetNeeded: a mask before the first reset.
    """
    wanted = f"{env.env_id} reset: reset_mask must be bool [{env.num_envs}]"
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"{wanted}, got {describe(mask)}")
    if mask.shape != (env.num_envs,):
        raise ValueError(f"{wanted}, got {describe(mask)}")
    if not mask.any():
        raise ValueError(f"{wanted} with at least one True, got none")
    if not env.core.started:
        raise ResetNeeded(f"{env.env_id} reset: the first reset takes no reset_mask")
    return np.ascontiguousarray(mask)


def reset_bounds(
    env_id: str, names: tuple[str, str] | None, defaults: Sequence[float], options: dict[str, Any]
) -> tuple[float, float]:
    """Bounds of the initial states: those that ``options`` names, else the default ones.

    Raises:
        ValueError: not numbers that can be bounds.
    """
    if names is None:
        return (0.0, 0.0)
    bounds = []
    for name, default in zip(names, defaults, strict=True):
        value = options.get(name, default)
        try:
            bounds.append(float(value))
        except (TypeError, ValueError):
            raise ValueError(f"{env_id} reset: {name} must be a number, got {value!r}") from None
    a, b = bounds
    if names == ("low", "high"):
        if not (a <= b and np.isfinite(b - a)):
            raise ValueError(f"{env_id} reset: low must be <= high, both finite, got {a} and {b}")
    else:
        for name, value in zip(names, bounds, strict=True):
            if not (value >= 0 and np.isfinite(2 * value)):
                raise ValueError(f"{env_id} reset: {name} must be >= 0 and finite, got {value}")
    return a, b
