"""The ``options`` of ``reset``, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe


def checked_mask(env_id: str, mask: object, num_envs: int) -> NDArray[np.bool_]:
    """``reset_mask``: bool [N] with a True, contiguous.

    Raises:
        TypeError, ValueError: anything else.
    """
    wanted = f"{env_id} reset: reset_mask must be bool [{num_envs}]"
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"{wanted}, got {describe(mask)}")
    if mask.shape != (num_envs,):
        raise ValueError(f"{wanted}, got {describe(mask)}")
    if not mask.any():
        raise ValueError(f"{wanted} with at least one True, got none")
    return np.ascontiguousarray(mask)


def checked_bounds(
    env_id: str, names: tuple[str, str] | None, options: Mapping[str, Any], default: Sequence[float]
) -> tuple[float, float]:
    """The two bounds of the initial state's draw, from the options of these names or the default.

    Raises:
        ValueError: a bound that is no number or out of range.
    """
    if names is None:
        return default[0], default[1]
    bounds = []
    for name, value in zip(names, default, strict=True):
        given = options.get(name, value)
        try:
            bounds.append(float(given))
        except (TypeError, ValueError):
            raise ValueError(f"{env_id} reset: {name} must be a number, got {given!r}") from None
    a, b = bounds
    if names == ("low", "high"):
        if not (a <= b and np.isfinite(b - a)):
            raise ValueError(f"{env_id} reset: low must be <= high, both finite, got {a} and {b}")
    else:
        for name, bound in zip(names, bounds, strict=True):
            if not (bound >= 0 and np.isfinite(2 * bound)):
                raise ValueError(f"{env_id} reset: {name} must be >= 0 and finite, got {bound}")
    return a, b
