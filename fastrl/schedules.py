"""Schedules of a hyper-parameter over a run: constant or linear, written ``3e-4`` or ``linear:3e-4:0``.

Progress runs from 0 (start) to 1 (end); Stable-Baselines3's ``progress_remaining`` is 1 - progress.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """From ``start`` to ``end`` in a straight line over the first ``fraction`` of the run, then ``end``.

    y(p) = start + (end - start) * p / fraction for p < fraction, else end. Three plain numbers, so that
    compiled loops can follow it too.
    """

    start: float
    """Value at the beginning."""
    end: float
    """Value from progress ``fraction`` on."""
    fraction: float = 1.0
    """Where the end is reached, in (0, 1]."""

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"schedule: {name} must be finite, got {getattr(self, name)}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"schedule: fraction must be in (0, 1], got {self.fraction}")

    def __call__(self, progress: float) -> float:
        """Value at ``progress``; beyond 1, where a last rollout may overshoot, it stays at the end.

        Raises:
            ValueError: ``progress`` is negative or NaN.
        """
        if not progress >= 0:
            raise ValueError(f"schedule: progress must be >= 0, got {progress}")
        if progress >= self.fraction:
            return self.end
        return self.start + (self.end - self.start) * (progress / self.fraction)

    def __str__(self) -> str:
        """The text that ``parse`` reads back."""
        if self.start == self.end:
            return repr(self.end)
        tail = "" if self.fraction == 1 else f":{self.fraction!r}"
        return f"linear:{self.start!r}:{self.end!r}{tail}"


def constant(value: float) -> Schedule:
    """The schedule that is always ``value``."""
    return Schedule(value, value)


def linear(start: float, end: float, fraction: float = 1.0) -> Schedule:
    """The schedule from ``start`` to ``end`` over the first ``fraction`` of the run."""
    return Schedule(start, end, fraction)


def parse(value: float | str | Schedule) -> Schedule:
    """The schedule that a configuration value means.

    ``3e-4`` or ``"3e-4"`` is constant, ``"linear:3e-4:0"`` goes from 3e-4 to 0 over the run,
    ``"linear:1:0.05:0.1"`` from 1 to 0.05 over its first tenth.

    Raises:
        ValueError: anything else; the message shows the syntax.
    """
    if isinstance(value, Schedule):
        return value
    kind, *numbers = str(value).strip().split(":")
    try:
        if not numbers:
            return constant(float(kind))
        if kind == "linear" and len(numbers) in (2, 3):
            return linear(*map(float, numbers))
    except ValueError as error:
        if str(error).startswith("schedule:"):
            raise
    raise ValueError(
        f"schedule: must be a number or linear:start:end[:fraction], as linear:3e-4:0, got {str(value)!r}"
    )
