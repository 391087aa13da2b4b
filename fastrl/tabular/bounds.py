"""What one sweep proves about optimal values, rounding included."""

from math import copysign, inf, isfinite, nan, nextafter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import Bellman

Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats, NDArray[np.int32]]
"""Lower, upper, and which of its state's pairs is greedy."""
UNIT = 2.0**-53
TINY = 2.0**-1074


class Blur(NamedTuple):
    """How the arrays that are swept came from exact ones."""

    roundings: int = 0
    """Roundings, one after the other, of a weight or reward, at most."""
    reward_size: float = 0.0
    """Of what the rewards were added up from."""


SHARP = Blur()


class Margins(NamedTuple):
    """V* is between ``next_value + below`` and ``next_value + above``, as floats add them."""

    below: float
    above: float
    error: float
    """V* is within this of the middle; NaN if values have overflowed."""

    def around(self, next_value: Floats) -> tuple[Floats, Floats]:
        """Lower and upper bounds [S]."""
        with np.errstate(over="ignore"):
            return next_value + self.below, next_value + self.above


def is_total(op: str, of: Bellman, gamma: float) -> bool:
    """Whether sweeps do not contract because gamma is 1.

    Raises:
        ValueError: they do not, though gamma is below 1.
    """
    total = gamma * of.mass[1] >= 1 - 1e-12
    if total and gamma < 1:
        raise ValueError(
            f"{op}: gamma must be 1, or below 1 - 1e-12 when multiplied by any row's sum of weights, "
            f"got {gamma!r} and a sum of {of.mass[1]!r}"
        )
    return total


def rounding(of: Bellman, value_size: float, blur: Blur = SHARP) -> float:
    """How far a computed q can be from the one of exact arithmetic, values being at most ``value_size``."""
    least, most = of.reward_range
    reward_size = max(-least, most, blur.reward_size)
    steps = of.longest + 3 + blur.roundings
    return 1.01 * steps * (UNIT * reward_size + UNIT * value_size + TINY)


def _factors(of: Bellman, gamma: float, blur: Blur) -> tuple[float, float]:
    """What a change of every value is multiplied by at least and at most, one step on."""
    least, most = of.mass
    spread = (of.longest + 6 + blur.roundings) * UNIT  # of the sum, and of the products here
    return gamma * (least * (1 - spread)), gamma * (most * (1 + spread))


def _following(change: float, factor: float, outwards: float) -> float:
    """Σ_{n >= 1} factor^n · change: what a change of every value brings after it."""
    if factor >= 1:
        return 0.0 if change == 0 else copysign(inf, change)
    sum_ = change * (factor / (1 - factor))
    return sum_ + outwards * (8 * UNIT * abs(sum_) + TINY)


def margins(
    of: Bellman, low: float, high: float, gamma: float, value_size: float, blur: Blur = SHARP
) -> Margins:
    """How far V* is from T v at least and at most, where the changes T v - v lie in [low, high].

    ::

        T v + γ/(1-γ) · low <= V* <= T v + γ/(1-γ) · high

    With weights that sum to less than 1 somewhere, the sum that makes the bound hold takes the place of 1.
    All rounding is outwards: of the sweep, of the sums of weights, and of what is done here.

    Source: Puterman 1994, Markov Decision Processes, theorem 6.6.3 and proposition 6.6.2.
    """
    if not (isfinite(low) and isfinite(high) and isfinite(value_size)):
        return Margins(nan, nan, nan)
    slack = rounding(of, value_size, blur)
    least, most = _factors(of, gamma, blur)
    low, high = low - slack - 4 * UNIT * abs(low), high + slack + 4 * UNIT * abs(high)
    below = _following(low, most if low < 0 else least, -1) - slack
    above = _following(high, most if high > 0 else least, 1) + slack
    next_size = value_size + max(abs(low), abs(high))
    below -= 4 * UNIT * (next_size + abs(below)) + TINY  # of adding it to next_value
    above += 4 * UNIT * (next_size + abs(above)) + TINY
    taken = 4 * UNIT * (next_size + max(abs(below), abs(above))) + TINY  # by taking the middle
    return Margins(below, above, above / 2 - below / 2 + taken)


def certify(of: Bellman, value: Floats, gamma: float, num_threads: int = 1, blur: Blur = SHARP) -> Bounds:
    """Bounds on V* and the greedy choices, by one sweep over all actions."""
    next_value = np.empty_like(value)
    choice = np.full(len(value), -1, np.int32)
    low, high, _ = of.backup(value, gamma, next_value, choice, None, num_threads)
    if choice.max() < 0:
        return next_value, next_value.copy(), choice
    found = margins(of, low, high, gamma, float(np.abs(value).max()), blur)
    return *found.around(next_value), choice


def middle(lower: Floats, upper: Floats) -> Floats:
    """[S]: between the bounds; where one of them is infinite, the other."""
    with np.errstate(invalid="ignore"):
        halves = lower / 2 + upper / 2
    if np.isfinite(halves).all():
        return halves
    return np.where(np.isinf(upper), lower, np.where(np.isinf(lower), upper, halves))


def error_of(value: Floats, lower: Floats, upper: Floats) -> float:
    """How far ``value``, one of the floats between the bounds, can be from what they enclose."""
    with np.errstate(invalid="ignore"):
        far = float(np.maximum(upper - value, value - lower).max())
    return nextafter(far, inf) if isfinite(far) else inf
