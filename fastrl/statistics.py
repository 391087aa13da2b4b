"""Statistics over seeds: the interquartile mean and bootstrap intervals of Agarwal et al. (2021)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def iqm(x: ArrayLike, *, axis: int | tuple[int, ...] | None = None) -> Any:
    """Interquartile mean: the mean without the floor(n / 4) smallest and the floor(n / 4) largest values.

    Equal to ``scipy.stats.trim_mean(x, 0.25)``, which rliable uses, so that figures compare with published
    ones: whole values are cut, none is weighted by a fraction. Up to 3 values it is the mean, of 5 the mean
    of the middle 3, of 8 of the middle 4. A NaN makes it NaN.

    Args:
        x: numbers of any shape.
        axis: the axes to reduce together; None reduces all.

    Raises:
        ValueError: no values to reduce.

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021.
    """
    values = np.asarray(x, dtype=np.float64)
    axes = range(values.ndim) if axis is None else np.atleast_1d(axis)
    reduced = tuple(int(a) % values.ndim for a in axes)
    kept = [a for a in range(values.ndim) if a not in reduced]
    flat = values.transpose(*kept, *reduced).reshape(*(values.shape[a] for a in kept), -1)
    n = flat.shape[-1]
    if n == 0:
        raise ValueError(f"iqm: x must have values to reduce, got shape {list(values.shape)}")
    middle = np.sort(flat, axis=-1)[..., n // 4 : n - n // 4].mean(axis=-1)
    return np.where(np.isnan(flat).any(axis=-1), np.nan, middle)[()]


def bootstrap_interval(
    x: ArrayLike,
    statistic: Callable[..., Any] = iqm,
    level: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of a statistic over runs, stratified by task.

    Draws the runs of each task anew, with replacement and independently of the other tasks, ``n`` times, and
    returns the (1 - level) / 2 and (1 + level) / 2 quantiles of the statistic.

    Args:
        x: scores, [runs] or [runs, tasks].
        statistic: as ``np.mean``; takes a tuple ``axis``, reduces [n, runs] or [n, runs, tasks] to [n].
        level: coverage, in (0, 1).
        n: number of resamples.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: another shape, no runs, or a level outside (0, 1).

    Source: Agarwal et al. 2021, stratified bootstrap confidence intervals.
    """
    scores = np.asarray(x, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise ValueError(f"bootstrap_interval: x must be [runs] or [runs, tasks], got {list(scores.shape)}")
    if not 0 < level < 1:
        raise ValueError(f"bootstrap_interval: level must be in (0, 1), got {level}")
    draws = np.random.default_rng(seed).integers(scores.shape[0], size=(n, *scores.shape))
    resampled = np.take_along_axis(scores[None], draws, axis=1)
    low, high = np.quantile(
        statistic(resampled, axis=tuple(range(1, resampled.ndim))), [(1 - level) / 2, (1 + level) / 2]
    )
    return float(low), float(high)
