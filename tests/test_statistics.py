"""The interquartile mean equals SciPy's trimmed mean; intervals cover as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import trim_mean

from fastrl.statistics import bootstrap_interval, iqm


def test_iqm_by_hand() -> None:
    assert iqm([7.0]) == 7
    assert iqm([0.0, 1.0, 8.0]) == 3  # floor(3 / 4) = 0 cut
    assert iqm([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert iqm([9.0, 1.0, 3.0, 5.0, -9.0]) == 3
    assert iqm([0, 0, 1, 2, 3, 4, 100, 100]) == 2.5


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6)))
def test_iqm_is_scipys_trimmed_mean(x: np.ndarray) -> None:
    assert iqm(x) == pytest.approx(trim_mean(x, 0.25), rel=1e-9, abs=1e-6)


def test_iqm_over_axes() -> None:
    x = np.random.default_rng(0).normal(size=(5, 6, 7))
    np.testing.assert_allclose(iqm(x, axis=0), trim_mean(x, 0.25, axis=0))
    np.testing.assert_allclose(iqm(x, axis=-1), trim_mean(x, 0.25, axis=2))
    np.testing.assert_allclose(iqm(x, axis=(1, 2)), [trim_mean(part.ravel(), 0.25) for part in x])
    assert iqm(x) == pytest.approx(trim_mean(x.ravel(), 0.25))


def test_iqm_of_nan_or_nothing() -> None:
    assert np.isnan(iqm([1.0, np.nan, 2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match=r"must have values to reduce, got shape \[0\]"):
        iqm([])


def test_interval_of_the_mean_is_the_normal_one_for_many_runs() -> None:
    x = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap_interval(x, np.mean, n=4000)
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.01)
    assert bootstrap_interval(x, np.mean, n=4000) == (low, high)
    narrow = bootstrap_interval(x, np.mean, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_interval_covers_the_true_iqm() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(size=20), n=500, seed=trial)
        covered += low <= 0 <= high
    assert 0.87 <= covered / 200 <= 0.99


def test_interval_is_stratified_by_task() -> None:
    tasks = np.array([0.0, 100.0, 1000.0])
    assert bootstrap_interval(np.tile(tasks, (5, 1)), np.mean) == (tasks.mean(), tasks.mean())
    noisy = tasks + np.random.default_rng(0).normal(size=(5, 3))
    low, high = bootstrap_interval(noisy, np.mean)
    assert 0.2 < high - low < 2  # resampled without strata it would be hundreds


def test_tasks_are_resampled_independently() -> None:
    opposite = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    low, high = bootstrap_interval(opposite, np.mean)  # whole rows would always have mean 1/2
    assert low < 0.4 < 0.6 < high


def test_an_outlier_moves_the_mean_not_the_iqm() -> None:
    x = np.append(np.random.default_rng(0).normal(size=19), 1e6)
    assert bootstrap_interval(x)[1] < 2
    assert bootstrap_interval(x, np.mean)[1] > 1e4


def test_one_run_has_an_interval_of_width_zero() -> None:
    assert bootstrap_interval([3.0]) == (3.0, 3.0)


@pytest.mark.parametrize("x", [[], 1.0, np.zeros((2, 2, 2))])
def test_bad_scores_are_refused(x: object) -> None:
    with pytest.raises(ValueError, match=r"x must be \[runs\] or \[runs, tasks\]"):
        bootstrap_interval(x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        bootstrap_interval([1.0], level=95)
