"""The returns family in float64 NumPy: the definition of its ops."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.returns._check import require_gae

DEVICES = ("cpu",)


def gae(
    reward: NDArray[Any],
    value: NDArray[Any],
    next_value: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_] | None,
    out: NDArray[Any] | None,
    gamma: float,
    lam: float,
) -> NDArray[Any]:
    """Generalized advantage estimates, rounded to the dtype of ``reward`` at the end."""
    require_gae(reward, value, next_value, terminated, truncated, out, gamma, lam)
    if out is None:
        out = np.empty(reward.shape, reward.dtype)
    reward, value, next_value = (x.astype(np.float64) for x in (reward, value, next_value))
    if next_value.ndim == 1:
        next_value = np.concatenate([value, next_value[None]])[1:]
    done = terminated if truncated is None else terminated | truncated
    advantage = np.zeros((len(reward) + 1, *reward.shape[1:]))
    with np.errstate(all="ignore"):  # NaN and infinity are values here
        for t in reversed(range(len(reward))):
            delta = reward[t] + np.where(terminated[t], 0, gamma * next_value[t]) - value[t]
            advantage[t] = delta + np.where(done[t], 0, gamma * lam * advantage[t + 1])
        out[...] = advantage[:-1]
    return out
