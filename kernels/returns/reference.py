"""The returns family in float64 NumPy: the definition of its ops."""

import numpy as np
from numpy.typing import NDArray

DEVICES = ("cpu",)


def gae(
    reward: NDArray[np.floating],
    value: NDArray[np.floating],
    next_value: NDArray[np.floating],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_] | None,
    out: NDArray[np.floating],
    gamma: float,
    lam: float,
) -> None:
    """Write the generalized advantage estimates into ``out``."""
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
