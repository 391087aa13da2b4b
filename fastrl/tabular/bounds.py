"""What one sweep proves about optimal values."""

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import Bellman

Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats, NDArray[np.int32]]
"""Lower, upper, and which of its state's pairs is greedy."""
UNIT = 2.0**-53


def rounding(of: Bellman, value_size: float) -> float:
    """How far a computed q can be from the one of exact arithmetic, values being at most ``value_size``."""
    reward_size = max(abs(x) for x in of.reward_range)
    return (of.longest + 3) * UNIT * (reward_size + value_size) * 1.01


def following(change: float, gamma: float, mass: float) -> float:
    """Σ_{n >= 1} (γ · mass)^n · change: what a change of every value brings after it."""
    factor = gamma * mass
    if factor >= 1:
        return 0.0 if change == 0 else float(np.copysign(np.inf, change))
    return change * factor / (1 - factor)


def margins(of: Bellman, low: float, high: float, gamma: float, value_size: float) -> tuple[float, float]:
    """How far V* is from T v at least and at most, where the changes T v - v lie in [low, high].

    ::

        T v + γ/(1-γ) · low <= V* <= T v + γ/(1-γ) · high

    With weights that sum to less than 1 somewhere, the sum that makes the bound hold takes the place of 1.
    Rounding errors of the sweep are added outwards.

    Source: Puterman 1994, Markov Decision Processes, theorem 6.6.3 and proposition 6.6.2.
    """
    slack = rounding(of, value_size)
    mass_low, mass_high = of.mass[0], of.mass[1] * (1 + of.longest * UNIT)
    low, high = low - slack - 2 * UNIT * abs(low), high + slack + 2 * UNIT * abs(high)
    below = following(low, gamma, mass_high if low < 0 else mass_low) - slack
    above = following(high, gamma, mass_high if high > 0 else mass_low) + slack
    return below, above


def certify(of: Bellman, value: Floats, gamma: float, num_threads: int = 1) -> Bounds:
    """Bounds on V* and the greedy choices, by one sweep over all actions."""
    next_value = np.empty_like(value)
    choice = np.full(len(value), -1, np.int32)
    low, high, _ = of.backup(value, gamma, next_value, choice, None, num_threads)
    if choice.max() < 0:
        return next_value, next_value.copy(), choice
    below, above = margins(of, low, high, gamma, float(np.abs(value).max()))
    return next_value + below, next_value + above, choice
