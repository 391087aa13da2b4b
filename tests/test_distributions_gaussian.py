"""Gaussian ops: every instruction set against the float64 reference, SciPy and torch, draws, edges, errors."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fastrl import _core
from fastrl.kernels.distributions import (
    GaussianSample,
    categorical_sample,
    gaussian_entropy,
    gaussian_log_prob,
    gaussian_sample,
    reference,
    squash,
    squashed_gaussian_log_prob,
)

SHAPES = [(0, 3), (1, 1), (1, 17), (3, 1), (15, 4), (16, 2), (17, 6), (67, 17), (5, 300)]
SHARED = pytest.mark.parametrize("shared", [False, True])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])


def policy(shape: tuple[int, int], shared: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means and log_stds over the range that SAC allows."""
    rng = np.random.default_rng([shared, *shape])
    mean = rng.standard_normal(shape) * rng.choice([0.0, 1.0, 30.0], (shape[0], 1))
    log_std = rng.uniform(-3, 2, shape[1:] if shared else shape)
    return mean.astype(np.float32), log_std.astype(np.float32)


def action_of(mean: NDArray[np.float32], log_std: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.random.default_rng(5).standard_normal(mean.shape)
    return (mean + np.exp(log_std) * noise).astype(np.float32)


def exact(op: str, *arguments: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    out = np.empty(shape)
    getattr(reference, op)(*arguments, out)
    return out


def close(got: NDArray[np.float32], want: NDArray[np.float64], actions: int) -> None:
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-6 * actions)


@SHARED
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernels_equal_the_reference(isa: str, shape: tuple[int, int], shared: bool) -> None:
    mean, log_std = policy(shape, shared)
    action = action_of(mean, log_std)
    batch, actions = shape
    for op in (gaussian_log_prob, squashed_gaussian_log_prob):
        want = exact(op.__name__, mean, log_std, action, shape=(batch,))
        close(op(mean, log_std, action), want, actions)
    rows = log_std[None] if shared else log_std
    close(gaussian_entropy(log_std), exact("gaussian_entropy", rows, shape=rows.shape[:1]), actions)
    low, high = -np.exp(log_std), np.full(actions, 2.5, np.float32)
    close(squash(action, low, high), exact("squash", action, low, high, shape=shape), 1)
    noise = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    for draw in ({"seed": 2**63 + 5, "counter": 2**40 + 3}, {"noise": noise}):
        got = gaussian_sample(mean, log_std, **draw)
        wide = GaussianSample(np.empty(shape), np.empty(batch))
        arguments = {"noise": None, "seed": 0, "counter": 0} | draw
        reference.gaussian_sample(mean, log_std, *wide, **arguments)
        np.testing.assert_allclose(got.action, wide.action, rtol=2e-6, atol=2e-5)
        np.testing.assert_array_equal(got.log_prob, gaussian_log_prob(mean, log_std, got.action))


def test_the_reference_backend_runs_by_name() -> None:
    mean, log_std = policy((9, 3), True)
    action, log_prob = gaussian_sample(mean, log_std, seed=1, backend="reference")
    for op in (gaussian_log_prob, squashed_gaussian_log_prob):
        want = exact(op.__name__, mean, log_std, action, shape=(9,)).astype(np.float32)
        np.testing.assert_array_equal(op(mean, log_std, action, backend="reference"), want)
    np.testing.assert_allclose(gaussian_log_prob(mean, log_std, action), log_prob, rtol=1e-5)
    np.testing.assert_allclose(
        gaussian_entropy(log_std, backend="reference"), gaussian_entropy(log_std), rtol=1e-6
    )
    bounds = np.ones(3, np.float32)
    np.testing.assert_allclose(
        squash(action, -bounds, bounds, backend="reference"), np.tanh(action), atol=1e-6
    )


@SHARED
def test_the_reference_equals_torch_distributions(shared: bool) -> None:
    torch = pytest.importorskip("torch")
    mean, log_std = policy((40, 5), shared)
    u = action_of(0 * mean, np.minimum(log_std, 0))  # where torch's own tanh can be inverted
    m, s, x = (torch.from_numpy(a).double() for a in (mean, log_std, u))
    normal = torch.distributions.Normal(m, s.exp().expand(m.shape))
    rows = torch.distributions.Independent(normal, 1)
    np.testing.assert_allclose(
        exact("gaussian_log_prob", mean, log_std, u, shape=(40,)), rows.log_prob(x), rtol=1e-12
    )
    np.testing.assert_allclose(reference.gaussian_entropy_of(log_std) + np.zeros(40), rows.entropy())
    tanh = torch.distributions.TanhTransform(cache_size=1)
    squashed = torch.distributions.Independent(torch.distributions.TransformedDistribution(normal, tanh), 1)
    np.testing.assert_allclose(
        exact("squashed_gaussian_log_prob", mean, log_std, u, shape=(40,)),
        squashed.log_prob(tanh(x)),
        rtol=1e-12,
    )


@pytest.mark.parametrize("log_std", [-20.0, 2.0, 40.0])
@pytest.mark.parametrize("u", [-1000.0, -20.0, 0.0, 20.0, 1000.0])
def test_the_correction_is_finite_far_out(isa: str, u: float, log_std: float) -> None:
    x = np.full((3, 2), u, np.float32)
    s = np.full(2, log_std, np.float32)
    got = squashed_gaussian_log_prob(x, s, x)  # the action is the mean
    correction = 2 * (np.log(2) - abs(u) - np.log1p(np.exp(-2 * abs(u))))
    np.testing.assert_allclose(got, 2 * (-log_std - 0.5 * np.log(2 * np.pi) - correction), rtol=1e-6)
    squashed = squash(x, np.array([-0.1, 1], np.float32), np.array([0.3, 3], np.float32))
    expected = np.array([0.1, 2]) + np.array([0.2, 1]) * np.tanh(u)
    np.testing.assert_allclose(squashed, np.tile(expected, (3, 1)), rtol=1e-6)


def test_squash_never_passes_a_bound(isa: str) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, -1, (400, 5)).astype(np.float32)
    high = rng.uniform(-1e-3, 1e-3, (400, 5)).astype(np.float32)  # high - low is rounded more than high
    for u, bound in ((-50, low), (50, high)):
        action = squash(np.full((400, 5), u, np.float32), low, high)
        assert (action >= low).all()
        assert (action <= high).all()
        np.testing.assert_allclose(action, bound, atol=5e-7)
    u = np.array([[0.5, np.nan]], np.float32)
    assert np.isnan(squash(u, low[0, :2], high[0, :2], out=u)).tolist() == [[False, True]]


def test_extreme_deviations(isa: str) -> None:
    mean = np.array([[0.5, -1]], np.float32)
    for log_std in (-20, 2):
        s = np.full(2, log_std, np.float32)
        action, log_prob = gaussian_sample(mean, s, seed=1)
        want = exact("gaussian_log_prob", mean, s, action, shape=(1,))
        np.testing.assert_allclose(log_prob, want, rtol=1e-5)
        np.testing.assert_allclose(action, mean, atol=1e-7 if log_std < 0 else 40)
    far = gaussian_log_prob(mean, np.full(2, -20, np.float32), mean + 1)
    np.testing.assert_allclose(far, -np.exp(40), rtol=1e-5)
    assert gaussian_entropy(np.array([-np.inf, 0], np.float32)) == -np.inf
    assert gaussian_log_prob(mean, np.full(2, np.inf, np.float32), mean) == -np.inf


def test_a_draw_depends_on_seed_counter_row_and_component_only(isa: str) -> None:
    zero, one = np.zeros((100, 7), np.float32), np.zeros(7, np.float32)
    whole = gaussian_sample(zero, one, seed=7, counter=9).action
    assert len(np.unique(whole)) > 690  # of 700
    for batch, actions in ((1, 1), (2, 7), (15, 3), (16, 7), (33, 2)):
        part = gaussian_sample(zero[:batch, :actions], one[:actions], seed=7, counter=9).action
        np.testing.assert_array_equal(part, whole[:batch, :actions])
    draws = {
        tuple(gaussian_sample(zero[:5], one, seed=s, counter=c).action.ravel())
        for s, c in [(7, 9), (7, 10), (7, 9 + 2**32), (8, 9), (7 + 2**32, 9)]
    }
    assert len(draws) == 5
    # a Gaussian's first component ranks the rows as a categorical's uniform does
    flat = np.zeros((100, 1000), np.float32)
    rank = categorical_sample(flat, seed=7, counter=9).action
    np.testing.assert_allclose(stats.norm.cdf(whole[:, 0]), (rank + 0.5) / 1000, atol=5.1e-4)


def test_the_noise_is_standard_normal(isa: str) -> None:
    batch = 100_000
    x, _ = gaussian_sample(np.zeros((batch, 3), np.float32), np.zeros(3, np.float32), seed=3)
    x = x.astype(np.float64)
    for component in x.T:
        assert stats.kstest(component, "norm").pvalue > 1e-3
        moments = [component.mean(), component.var() - 1, (component**3).mean(), (component**4).mean() - 3]
        deviations = np.sqrt(np.array([1, 2, 15, 96]) / batch)
        assert (np.abs(moments) < 4 * deviations).all()
    assert (np.abs(np.corrcoef(x.T)[np.triu_indices(3, 1)]) < 4 / np.sqrt(batch)).all()
    for lag in (1, 2, 3, 4):  # rows of one Philox block
        assert abs(np.corrcoef(x[lag:, 0], x[:-lag, 0])[0, 1]) < 4 / np.sqrt(batch)
    np.testing.assert_allclose(x[:, 0], stats.norm.ppf(reference.uniforms(3, 0, batch) + 2**-25), rtol=3e-6)


def test_samples_have_the_mean_and_deviation_asked_for(isa: str) -> None:
    batch = 50_000
    mean, log_std = np.array([3.0, -0.5], np.float32), np.array([-1.5, 1.0], np.float32)
    tiled = np.tile(mean, (batch, 1))
    x, log_prob = gaussian_sample(tiled, log_std, seed=11)
    for a in range(2):
        assert stats.kstest(x[:, a], "norm", args=(mean[a], np.exp(log_std[a]))).pvalue > 1e-3
    entropy = gaussian_entropy(log_std)[0]
    assert abs(-log_prob.mean() - entropy) < 4 / np.sqrt(batch)  # -log p has variance A / 2
    # the density of tanh(u) adds up to 1
    u = np.linspace(-9, 9, 20001, dtype=np.float32)[:, None]
    flat = np.zeros_like(u)
    density = np.exp(squashed_gaussian_log_prob(flat, flat[0], u).astype(np.float64))
    np.testing.assert_allclose(np.trapezoid(density, np.tanh(u[:, 0].astype(np.float64))), 1, atol=1e-4)


@SHARED
def test_any_strides(isa: str, shared: bool) -> None:
    shape = (37, 5)
    mean, log_std = policy(shape, shared)
    action = action_of(mean, log_std)
    wide = np.full((37, 9), np.nan, np.float32)
    wide[:, 2:7] = mean
    log_stds = [np.repeat(log_std, 2, axis=-1)[..., ::2], np.asfortranarray(log_std)]
    if shared:
        log_stds.append(np.broadcast_to(log_std, shape))
    want = gaussian_sample(mean, log_std, seed=4)
    for s in log_stds:
        for m in (wide[:, 2:7], np.asfortranarray(mean), mean[::-1].copy()[::-1]):
            out = GaussianSample(np.empty((37, 11), np.float32)[:, 1::2], np.empty((37, 3), np.float32)[:, 1])
            assert gaussian_sample(m, s, seed=4, out=out) is out
            np.testing.assert_array_equal(out.action, want.action)
            np.testing.assert_array_equal(out.log_prob, want.log_prob)
            for op in (gaussian_log_prob, squashed_gaussian_log_prob):
                x = np.asfortranarray(action)
                np.testing.assert_array_equal(op(m, s, x), op(mean, log_std, action))
        np.testing.assert_array_equal(
            gaussian_entropy(s), np.broadcast_to(gaussian_entropy(log_std), len(s) if s.ndim == 2 else 1)
        )


@BACKENDS
@pytest.mark.parametrize("row", [0, 15, 16, 39])
def test_a_row_that_is_not_finite_is_named(backend: str, row: int) -> None:
    mean, log_std = policy((40, 3), False)
    noise = np.zeros((40, 3), np.float32)
    for name, values in (
        ("mean", [np.nan, np.inf, -np.inf]),
        ("log_std", [np.nan, np.inf, -np.inf, 100]),
        ("noise", [np.nan, np.inf]),
    ):
        for value in values:
            arguments = {"mean": mean, "log_std": log_std, "noise": noise + 1}
            arguments[name] = arguments[name].copy()
            arguments[name][row:, 1] = value
            with pytest.raises(ValueError, match=rf"gaussian_sample: action or log_prob .* in row {row}$"):
                gaussian_sample(**arguments, backend=backend)


@pytest.mark.parametrize("name", ["mean", "log_std", "action"])
def test_nan_propagates_in_its_row_only(isa: str, name: str) -> None:
    mean, log_std = policy((20, 3), False)
    arguments = {"mean": mean, "log_std": log_std, "action": action_of(mean, log_std)}
    arguments[name][7, 1] = np.nan
    for op in (gaussian_log_prob, squashed_gaussian_log_prob):
        assert np.flatnonzero(np.isnan(op(*arguments.values()))).tolist() == [7]
    if name == "log_std":
        assert np.flatnonzero(np.isnan(gaussian_entropy(arguments[name]))).tolist() == [7]


def test_bad_arguments() -> None:
    mean, log_std = policy((4, 3), False)
    for changed, error, message in [
        ({"mean": mean.astype(float)}, TypeError, r"mean must be float32 \[B, A\], got float64 \[4, 3\]"),
        ({"mean": mean[:, :0]}, ValueError, "mean must have at least one action"),
        ({"log_std": log_std[:2]}, ValueError, r"log_std must be float32 \[B, A\] = \[4, 3\]"),
        (
            {"log_std": log_std[0, :2]},
            ValueError,
            r"log_std must be float32 \[A\] = \[3\], got float32 \[2\]",
        ),
        ({"log_std": None}, TypeError, r"log_std must be float32 \[B, A\], got NoneType"),
        ({"seed": None}, ValueError, "give either seed or noise"),
        ({"noise": mean}, ValueError, "give either seed or noise"),
        ({"noise": mean[:2], "seed": None}, ValueError, r"noise must be float32 \[B, A\] = \[4, 3\]"),
        ({"seed": -1}, ValueError, r"seed must be in \[0, 2\^64\), got -1"),
        ({"counter": 2**64}, ValueError, r"counter must be in \[0, 2\^64\)"),
        ({"out": GaussianSample(mean, mean)}, ValueError, r"out.log_prob must be float32 \[B\]"),
    ]:
        with pytest.raises(error, match=f"gaussian_sample: {message}"):
            gaussian_sample(**{"mean": mean, "log_std": log_std, "seed": 0} | changed)
    with pytest.raises(
        ValueError, match=r"squashed_gaussian_log_prob: u must be float32 \[B, A\] = \[4, 3\]"
    ):
        squashed_gaussian_log_prob(mean, log_std, mean[0])
    with pytest.raises(ValueError, match="gaussian_entropy: log_std must have at least one action"):
        gaussian_entropy(mean[:, :0])
    with pytest.raises(TypeError, match=r"squash: high must be float32 \[B, A\], got float"):
        squash(mean, log_std, 1.0)


def test_the_extension_refuses_what_it_cannot_read() -> None:
    mean, log_prob = np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
    for arguments, message in [
        ((mean[:, :0], mean[0], mean, log_prob), "mean must be of at least one action"),
        ((mean, mean[0, :2], mean, log_prob), r"log_std must be \[.*\], got \["),
        ((mean, mean[:2], mean, log_prob), r"log_std must be \[.*\], got \["),
        ((mean, mean, mean[:2], log_prob), r"action must be \[.*\], got \["),
        ((mean, mean, mean, log_prob[:2]), r"log_prob must be \[.*\], got \["),
    ]:
        with pytest.raises(ValueError, match=f"gaussian_log_prob: {message}"):
            _core.gaussian_log_prob(*arguments)
