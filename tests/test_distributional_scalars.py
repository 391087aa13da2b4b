"""Quantile Huber, expectations and categorical targets: the CPU kernels against the float64 definition."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from _memory import needs_proc, no_asan, peak_of
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from fastrl.kernels.distributional import (
    REDUCTIONS,
    QuantileHuberLoss,
    c51_loss,
    expectation,
    hl_gauss,
    quantile_huber,
    two_hot,
)

Array = NDArray[Any]
SIZES = [(1, 1), (1, 5), (5, 1), (3, 8), (16, 16), (17, 33), (32, 51), (64, 32), (200, 200), (40, 1100)]


def pairs(rows: int, n: int, m: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    quantiles, targets = rng.normal(0, 2, (rows, n)), rng.normal(0.3, 2, (rows, m))
    if n and m:
        targets[:, 0] = quantiles[:, 0]  # a tie
    return quantiles.astype(np.float32), targets.astype(np.float32)


def same(got: QuantileHuberLoss[Array], exact: QuantileHuberLoss[Array]) -> None:
    np.testing.assert_allclose(got.loss, exact.loss, rtol=5e-6, atol=1e-7)
    size = np.abs(exact.d_quantiles).max(initial=0)
    np.testing.assert_allclose(got.d_quantiles, exact.d_quantiles, rtol=1e-5, atol=1e-5 * size)


def test_reference_by_hand() -> None:
    quantiles, targets = np.array([[0.0, 1.0]], np.float32), np.array([[0.5, 3.0, -1.0]], np.float32)
    got = quantile_huber(quantiles, targets, backend="reference")
    first = 0.25 * 0.125 + 0.25 * 2.5 + 0.75 * 0.5  # tau 1/4: differences 0.5, 3, -1
    second = 0.25 * 0.125 + 0.75 * 1.5 + 0.25 * 1.5  # tau 3/4: -0.5, 2, -2
    np.testing.assert_allclose(got.loss, [(first + second) / 3], rtol=1e-6)
    slopes = [0.25 * 0.5 + 0.25 - 0.75, -0.25 * 0.5 + 0.75 - 0.25]
    np.testing.assert_allclose(got.d_quantiles, [np.array(slopes) / -3], rtol=1e-6)
    plain = quantile_huber(quantiles, targets, kappa=0, backend="reference")
    np.testing.assert_allclose(
        plain.loss, [(0.25 * 3.5 + 0.75 + 0.25 * 0.5 + 0.75 * 2 + 0.25 * 2) / 3], rtol=1e-6
    )
    np.testing.assert_allclose(plain.d_quantiles, [[-(0.5 - 0.75) / 3, -(0.75 - 0.5) / 3]], rtol=1e-6)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_quantile_huber_matches_the_reference(isa: str, n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    for rows in (0, 1, 5):
        x = pairs(rows, n, m, seed=n + m)
        for taus in (None, rng.random(n, np.float32), rng.random((rows, n), np.float32)):
            for kappa in (1.0, 0.0, 0.2, np.inf):
                options = {"taus": taus, "kappa": kappa}
                same(quantile_huber(*x, **options), quantile_huber(*x, **options, backend="reference"))


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_reductions(backend: str) -> None:
    x = pairs(4, 7, 3)
    total = quantile_huber(*x, backend=backend).loss * 3
    divisors = dict(zip(REDUCTIONS, (3, 21, 7), strict=True))
    base = quantile_huber(*x, scale=1.0, backend=backend)
    for reduction, divisor in divisors.items():
        for scaled, factor in ((False, 1.0), (True, 2.0)):
            got = quantile_huber(*x, reduction=reduction, kappa=1.0, scale=1.0, backend=backend)
            np.testing.assert_allclose(got.loss, total / divisor, rtol=1e-5)
            np.testing.assert_allclose(got.d_quantiles, base.d_quantiles * 3 / divisor, rtol=1e-5, atol=1e-7)
            half = quantile_huber(*x, reduction=reduction, kappa=0.5, scaled=scaled, backend=backend)
            plain = quantile_huber(*x, reduction=reduction, kappa=0.5, backend=backend)
            np.testing.assert_allclose(half.loss, factor * plain.loss, rtol=1e-6)
            np.testing.assert_allclose(half.d_quantiles, factor * plain.d_quantiles, rtol=1e-6)
    np.testing.assert_allclose(
        quantile_huber(*x, backend=backend).d_quantiles, base.d_quantiles / 4, rtol=1e-6
    )


def test_views_and_out(isa: str) -> None:
    quantiles, targets = pairs(6, 51, 33)
    taus = np.random.default_rng(0).random((6, 51), np.float32)
    expected = quantile_huber(quantiles, targets, taus=taus)
    for view in (
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        np.asfortranarray,
        lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    ):
        for got in (
            quantile_huber(view(quantiles), targets, taus=taus),
            quantile_huber(quantiles, view(targets), taus=taus),
            quantile_huber(quantiles, targets, taus=view(taus)),
        ):
            np.testing.assert_array_equal(got.loss, expected.loss)
            np.testing.assert_array_equal(got.d_quantiles, expected.d_quantiles)
    out = QuantileHuberLoss(np.zeros(6, np.float32), np.zeros((6, 51), np.float32))
    got = quantile_huber(quantiles, targets, taus=taus, out=out)
    assert got.d_quantiles is out.d_quantiles
    np.testing.assert_array_equal(out.d_quantiles, expected.d_quantiles)
    np.testing.assert_array_equal(out.loss, expected.loss)


@pytest.mark.parametrize("kappa", [0.0, 1.0, np.inf])
def test_nonfinite_as_in_the_reference(isa: str, kappa: float) -> None:
    quantiles, targets = pairs(8, 20, 30)
    targets[0, 3], targets[1, 4], targets[2, 5] = np.nan, np.inf, -np.inf
    quantiles[3, 3], quantiles[4, 4] = np.nan, np.inf
    quantiles[5, 0] = targets[5, 0] = np.inf
    got, exact = (quantile_huber(quantiles, targets, kappa=kappa, backend=b) for b in ("cpp", "reference"))
    for x, y in zip(got, exact, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert np.isnan(got.loss).nonzero()[0].tolist() == ([0, 1, 2, 3, 4, 5] if kappa == np.inf else [0, 3, 5])
    assert np.isnan(got.d_quantiles[3]).sum() == 1
    if kappa < np.inf:
        assert np.isinf(got.loss).nonzero()[0].tolist() == [1, 2, 4]
        assert np.isfinite(got.d_quantiles[[1, 2, 4]]).all()


@needs_proc
def test_memory_holds_no_pairs() -> None:
    quantiles, targets = pairs(512, 200, 200)
    quantile_huber(quantiles, targets)
    assert peak_of(lambda: quantile_huber(quantiles, targets)) < 2**24
    every = np.float32(1)
    assert peak_of(lambda: every + targets[:, None] - quantiles[:, :, None]) > 2**26


@needs_proc
def test_memory_holds_no_actions() -> None:
    every = np.broadcast_to(np.zeros((1, 1, 51), np.float32), (1, 2**19, 51))
    x, reward = np.zeros((1, 51), np.float32), np.zeros(1, np.float32)
    peak = peak_of(lambda: c51_loss(x, None, every, reward, gamma=0.9, v_min=-1.0, v_max=1.0))
    assert peak < 2**24


@no_asan
def test_more_scratch_than_there_is_memory() -> None:
    every = np.broadcast_to(np.zeros((1, 1), np.float32), (1, 2**46))
    with pytest.raises(MemoryError):
        quantile_huber(np.zeros((1, 3), np.float32), every)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.just(0.0) | st.floats(2**-99, 4, width=32),
    st.sampled_from(REDUCTIONS),
)
def test_property_quantile_huber(n: int, m: int, seed: int, kappa: float, reduction: str) -> None:
    x = pairs(3, n, m, seed)
    same(*(quantile_huber(*x, kappa=kappa, reduction=reduction, backend=b) for b in ("cpp", "reference")))
    # the loss is lowest where the quantiles are: moving along the gradient raises it
    got = quantile_huber(*x, kappa=kappa, reduction=reduction, scale=1.0)
    assert (got.loss >= 0).all()


SUPPORTS = [
    {"v_min": -10, "v_max": 10},
    {"support": np.linspace(-3, 9, 51)},
    {"support": np.sinh(np.linspace(-3, 3, 51))},
]


@pytest.mark.parametrize("n", [2, 5, 16, 51, 601])
def test_expectation_matches_the_reference(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    for shape in ((0, n), (7, n), (n,), (3, 4, n)):
        x = rng.normal(0, 3, shape).astype(np.float32)
        for view in (x, np.asfortranarray(x)):
            for logits in (False, True):
                got, exact = (
                    expectation(view, v_min=-10, v_max=10, logits=logits, backend=b)
                    for b in ("cpp", "reference")
                )
                assert got.shape == shape[:-1]
                tolerance = 1e-6 * 10 * (1 if logits else 10 * n)
                np.testing.assert_allclose(got, exact, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("n", [1, 5, 33])
def test_plain_slopes_are_signs_of_any_difference(isa: str, n: int) -> None:
    least, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    targets = np.array([[least, -least, 1e-30, 1.0, -huge, 0.0, huge]], np.float32)
    for j in range(targets.shape[1]):
        got = quantile_huber(np.zeros((1, n), np.float32), targets[:, j : j + 1], kappa=0.0, scale=1.0)
        tau, sign = (np.arange(n) + 0.5) / n, np.sign(targets[0, j])
        np.testing.assert_allclose(got.d_quantiles[0], -sign * (tau if sign > 0 else 1 - tau), rtol=1e-6)


@pytest.mark.parametrize("options", SUPPORTS)
def test_two_hot_of_an_atom_has_it_all_there(isa: str, options: dict[str, Any]) -> None:
    z = options.get("support", np.linspace(-10, 10, 51)).astype(np.float32)
    outside = np.array([-np.inf, -1e30, 1e30, np.inf], np.float32)
    want = np.concatenate([np.eye(51), np.eye(51)[[0, 0, 50, 50]]])
    np.testing.assert_array_equal(two_hot(np.concatenate([z, outside]), support=z), want)


@pytest.mark.parametrize("n", [2, 3, 7, 16, 17, 100])
def test_two_hot_on_any_atoms(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    for scale in (1e-30, 1.0, 1e30):
        for z in (scale * np.sort(rng.normal(size=n)), scale * np.linspace(-1, 3, n)):
            x = (scale * rng.normal(size=200)).astype(np.float32)[::-2]
            got, exact = (two_hot(x, support=z, backend=b) for b in ("cpp", "reference"))
            np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("options", SUPPORTS)
def test_two_hot_inverts(isa: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-12, 12, 300).astype(np.float32)
    size = {} if "support" in options else {"atoms": 51}
    support = options.get("support", np.linspace(-10, 10, 51))
    x[:51] = support
    x[51:54] = (np.inf, -np.inf, np.nan)
    got, exact = (two_hot(x, **options, **size, backend=b) for b in ("cpp", "reference"))
    np.testing.assert_allclose(got, exact, atol=5e-6)
    assert np.isnan(got[53]).all()
    fine = np.delete(np.arange(300), 53)
    assert ((got[fine] > 0).sum(1) <= 2).all()
    np.testing.assert_allclose(got[fine].sum(1), 1, rtol=1e-6)
    inside = np.clip(x[fine], support[0], support[-1])
    np.testing.assert_allclose(expectation(got[fine], **options), inside, rtol=1e-5, atol=2e-5)
    on_atoms = two_hot(support.astype(np.float32), support=support.astype(np.float32))
    assert ((on_atoms > 1e-5).sum(1) == 1).all()
    assert two_hot(x[:0], **options, **size).shape == (0, 51)


@pytest.mark.parametrize("options", SUPPORTS)
def test_hl_gauss(isa: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-12, 12, 100).astype(np.float32)
    x[:3] = (np.inf, -np.inf, np.nan)
    size = {} if "support" in options else {"atoms": 51}
    z = options.get("support", np.linspace(-10, 10, 51))
    for sigma in (0.3, 1e-3, 5.0):
        got, exact = (hl_gauss(x, sigma=sigma, **options, **size, backend=b) for b in ("cpp", "reference"))
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-7)
        assert np.isnan(got[2]).all()
        edges = np.concatenate([[1.5 * z[0] - 0.5 * z[1]], (z[1:] + z[:-1]) / 2, [1.5 * z[-1] - 0.5 * z[-2]]])
        mean = np.clip(x[3:].astype(float), edges[0], edges[-1])
        mass = np.diff(norm.cdf((edges - mean[:, None]) / sigma), axis=1)
        np.testing.assert_allclose(got[3:], mass / mass.sum(1, keepdims=True), rtol=1e-4, atol=1e-7)
    assert hl_gauss(x[:0], sigma=1.0, **options, **size).shape == (0, 51)
    if "support" not in options:
        inside = np.abs(x) < 9
        mean = expectation(hl_gauss(x[inside], sigma=0.3, **options, **size), **options)
        np.testing.assert_allclose(mean, x[inside], atol=0.01)


def stop_regressing(target: Array, low: float, high: float, bins: int, sigma: float) -> Array:
    """Listing 1 of Farebrother et al. 2024, whose arguments are the outer edges."""
    x, edges = torch.from_numpy(target).double(), torch.linspace(low, high, bins + 1, dtype=torch.float64)
    cdf_evals = torch.special.erf((edges - x.unsqueeze(-1)) / (math.sqrt(2.0) * sigma))
    z = cdf_evals[..., -1] - cdf_evals[..., 0]
    bin_probs = cdf_evals[..., 1:] - cdf_evals[..., :-1]
    return (bin_probs / z.unsqueeze(-1)).numpy()


@pytest.mark.parametrize("bins", [2, 3, 8, 51, 101])
def test_hl_gauss_is_the_papers(isa: str, bins: int) -> None:
    width = 20 / bins
    rng = np.random.default_rng(bins)
    x = np.concatenate([rng.uniform(-10, 10, 60), [-10, 10, 0, -9.999, 9.999]]).astype(np.float32)
    centres = {"v_min": -10 + width / 2, "v_max": 10 - width / 2, "atoms": bins}
    for ratio in (0.05, 0.75, 3.0, 1e3, 1e5):
        got = hl_gauss(x, sigma=ratio * width, **centres)
        np.testing.assert_allclose(
            got, stop_regressing(x, -10, 10, bins, ratio * width), rtol=2e-6, atol=1e-12
        )
        assert (got >= 0).all()
        np.testing.assert_allclose(got.sum(1), 1, rtol=1e-6)
    # beyond the edges the paper's is 0 / 0 in the end, ours that of the edge
    far = np.array([-10.5, 11, -1e4, 3e38, -np.inf, np.inf], np.float32)
    np.testing.assert_array_equal(
        hl_gauss(far, sigma=width, **centres),
        hl_gauss(np.array([-10, 10] * 3, np.float32)[[0, 1, 0, 1, 0, 1]], sigma=width, **centres),
    )


@pytest.mark.parametrize("n", [2, 51])
def test_hl_gauss_of_any_deviation(isa: str, n: int) -> None:
    x = np.array([-20, -10, -9.7, 0.1, 0.2, 10, 20, np.nan], np.float32)
    for support in (np.linspace(-10, 10, n), np.sinh(np.linspace(-3, 3, n))):
        for sigma in (1e-310, 1e-300, 1e-12, 1e-3, 1e7, 1e300):
            got, exact = (hl_gauss(x, sigma=sigma, support=support, backend=b) for b in ("cpp", "reference"))
            np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-7)
        middles = (support[1:] + support[:-1]) / 2
        widths = np.diff([2 * support[0] - middles[0], *middles, 2 * support[-1] - middles[-1]])
        np.testing.assert_allclose(got[:-1], np.tile(widths / widths.sum(), (7, 1)), rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.02, 0.3, 4.0, 1e4])
def test_tails_of_hl_gauss_keep_their_digits(isa: str, sigma: float) -> None:
    x = np.random.default_rng(0).uniform(-12, 12, 200).astype(np.float32)
    got, exact = (
        hl_gauss(x, sigma=sigma, v_min=-10, v_max=10, atoms=51, backend=b) for b in ("cpp", "reference")
    )
    np.testing.assert_allclose(got, exact, rtol=3e-7, atol=1e-37)


def dreamer(x: Array, bins: Array) -> Array:
    """`TwoHotDist.log_prob`'s target in DreamerV3 (Hafner et al. 2023)."""
    x, bins = torch.from_numpy(x).double(), torch.from_numpy(bins)
    last = len(bins) - 1
    below = ((bins <= x[..., None]).sum(-1) - 1).clip(0, last)
    above = (len(bins) - (bins > x[..., None]).sum(-1)).clip(0, last)
    equal = below == above
    to_below = torch.where(equal, 1, (bins[below] - x).abs())
    to_above = torch.where(equal, 1, (bins[above] - x).abs())
    total = to_below + to_above
    one_hot = torch.nn.functional.one_hot
    target = (
        one_hot(below, len(bins)) * (to_above / total)[..., None]
        + one_hot(above, len(bins)) * (to_below / total)[..., None]
    )
    return target.numpy()


def rlax(x: Array, low: float, high: float, bins: int) -> Array:
    """`transform_to_2hot` of RLax."""
    place = (np.clip(x.astype(float), low, high) - low) / (high - low) * (bins - 1)
    lower = np.floor(place)
    upper = np.minimum(lower + 1, bins - 1)
    one_hot = np.eye(bins)
    share = (place - lower)[:, None]
    return one_hot[lower.astype(int)] * (1 - share) + one_hot[upper.astype(int)] * share


def test_two_hot_is_dreamers_and_rlaxs(isa: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-12, 12, 200), np.arange(-12, 13), [-1e9, 1e9]]).astype(np.float32)
    even, uneven = np.linspace(-10, 10, 41), np.sinh(np.linspace(-3, 3, 41))
    uneven[20] = 0
    np.testing.assert_allclose(two_hot(x, v_min=-10, v_max=10, atoms=41), rlax(x, -10, 10, 41), atol=5e-6)
    for bins in (even, uneven):
        np.testing.assert_allclose(two_hot(x, support=bins), dreamer(x, bins), atol=5e-6)
