"""n-step returns of a ring of several streams: the definition, in float64 and for reading."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def n_step_window(row: int, n: int, ends: NDArray[Any], newest: NDArray[Any]) -> list[int]:
    """Rows of the n-step window that begins at ``row`` of a ring, the oldest first.

    It ends after n rows, with the row that ends its episode, or with the newest row of its stream.

    Args:
        row: of the ring; rows of one stream are ``len(newest)`` apart, and go on at the ring's begin.
        n: the most rows, >= 1.
        ends: bool [capacity]: the row is its episode's last.
        newest: [streams], the row that each stream wrote last.
    """
    window = [row]
    while len(window) < n and not ends[window[-1]] and window[-1] not in newest:
        window.append((window[-1] + len(newest)) % len(ends))
    return window


def n_step(
    window: list[int], reward: NDArray[Any], terminated: NDArray[Any], gamma: float
) -> tuple[NDArray[np.float64], float]:
    """Return R and discount d of a window, so that R + d · value(what follows the window) is the target.

    ::

        R = Σ_{j<k} γ^j · reward_{t+j},    d = γ^k · (1 - terminated_{t+k-1})

    Source: Sutton & Barto 2018, Reinforcement Learning: An Introduction, equation 7.1.
    """
    total = sum(gamma**j * np.float64(reward[row]) for j, row in enumerate(window))
    return np.asarray(total, np.float64), 0.0 if terminated[window[-1]] else gamma ** len(window)
