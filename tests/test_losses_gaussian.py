"""PPO's loss of a Gaussian policy: gradients by finite differences, kernels, edges."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import gaussian_log_prob, gaussian_sample, squashed_gaussian_log_prob
from fastrl.kernels.distributions.reference import gaussian_log_prob_of
from fastrl.kernels.losses import PPO_STATS, PPOGaussianLoss, ppo_gaussian, reference

SHAPES = [(0, 3), (1, 1), (1, 17), (3, 1), (15, 4), (16, 2), (17, 17), (67, 6), (5, 100), (1100, 2)]
CLOSE = {"rtol": 5e-5, "atol": 2e-5}
PLAIN = {"clip_coef": 0.2}
FULL = {"clip_coef": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "kl_coef": 0.4, "clip_value": 0.3}
SHARED = pytest.mark.parametrize("shared", [False, True])


def batch_of(shape: tuple[int, int], *, shared: bool, full: bool = False, seed: int = 0) -> dict[str, Any]:
    """Arguments where ratios and values fall on both sides of their clipping."""
    rng = np.random.default_rng([seed, *shape])
    batch, _ = shape
    mean = rng.standard_normal(shape)
    log_std = rng.uniform(-1.5, 1, shape[1:] if shared else shape)
    action = mean + np.exp(log_std) * rng.standard_normal(shape)
    value = rng.standard_normal(batch)
    arguments = {
        "mean": mean,
        "log_std": log_std,
        "value": value,
        "action": action,
        "old_log_prob": gaussian_log_prob_of(mean, log_std, action) + 0.4 * rng.standard_normal(batch),
        "advantage": rng.standard_normal(batch),
        "return_": value + rng.standard_normal(batch),
    }
    if full:
        arguments["old_value"] = value + 0.5 * rng.standard_normal(batch)
    return {name: x.astype(np.float32) for name, x in arguments.items()} | (FULL if full else PLAIN)


def exact(arguments: dict[str, Any]) -> tuple[PPOGaussianLoss[NDArray[np.float64]], NDArray[np.float64]]:
    """Loss, gradients and sums of the reference, in float64 from end to end."""
    new = {name: np.empty(arguments[name].shape) for name in ("value", "mean", "log_std")}
    out = PPOGaussianLoss(new["value"], new["mean"], new["log_std"], np.empty_like(new["value"]))
    stats = np.zeros(len(PPO_STATS))
    defaults = {"vf_coef": 0.5, "ent_coef": 0.0, "kl_coef": 0.0}
    optional = dict.fromkeys(("old_value", "clip_value", "scale"))
    reference.ppo_gaussian(**optional | defaults | arguments, out=out, stats=stats)
    return out, stats


@SHARED
@pytest.mark.parametrize("full", [False, True])
def test_the_reference_gradient_equals_finite_differences(full: bool, shared: bool) -> None:
    arguments = {
        name: x.astype(np.float64) if isinstance(x, np.ndarray) else x
        for name, x in batch_of((23, 4), shared=shared, full=full, seed=3).items()
    }
    result, _ = exact(arguments | {"scale": 1.0})
    eps = 1e-6
    for name, gradient in (
        ("mean", result.d_mean),
        ("log_std", result.d_log_std),
        ("value", result.d_value),
    ):
        columns = [...] if name == "value" else [(..., a) for a in range(4)]
        for column in columns:
            loss = []
            for sign in (1, -1):
                moved = arguments[name].copy()
                moved[column] += sign * eps
                loss.append(exact(arguments | {name: moved})[0].loss)
            slope = (loss[0] - loss[1]) / (2 * eps)
            if gradient[column].ndim == 0:
                slope = slope.sum()
            np.testing.assert_allclose(gradient[column], slope, atol=1e-7)


@SHARED
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_the_reference(isa: str, shape: tuple[int, int], full: bool, shared: bool) -> None:
    arguments = batch_of(shape, shared=shared, full=full)
    want, want_stats = exact(arguments | {"scale": 1.0})
    stats = np.full(len(PPO_STATS), 10.0)
    got = ppo_gaussian(**arguments, stats=stats, scale=1.0)
    for name, x, y in zip(PPOGaussianLoss._fields, got, want, strict=True):
        assert x.dtype == np.float32
        atol = CLOSE["atol"] * (1 + np.sqrt(shape[0]) * (shared and name == "d_log_std"))
        np.testing.assert_allclose(x, y, rtol=CLOSE["rtol"], atol=atol, err_msg=name)
    np.testing.assert_allclose(stats - 10, want_stats, rtol=2e-5, atol=1e-5 * (1 + shape[0]))
    mean = ppo_gaussian(**arguments)
    for x, y in zip(mean[1:], got[1:], strict=True):
        np.testing.assert_allclose(x, y / max(shape[0], 1), rtol=1e-5, atol=1e-7)


def test_the_reference_backend_runs_by_name() -> None:
    arguments = batch_of((9, 3), shared=True, full=True)
    got = ppo_gaussian(**arguments, backend="reference")
    for x, want in zip(got, exact(arguments)[0], strict=True):
        np.testing.assert_array_equal(x, want.astype(np.float32))


@SHARED
def test_the_ratio_is_exactly_one_before_the_first_update(isa: str, shared: bool) -> None:
    # So clip_coef = 0 puts every sample exactly on both clip boundaries: the gradient flows, none is clipped.
    arguments = batch_of((50, 6), shared=shared)
    policy = (arguments["mean"], arguments["log_std"])
    arguments["action"], arguments["old_log_prob"] = gaussian_sample(*policy, seed=1)
    stats = np.zeros(len(PPO_STATS))
    got = ppo_gaussian(**arguments | {"clip_coef": 0.0}, stats=stats)
    np.testing.assert_array_equal(got.loss, ppo_gaussian(**arguments | {"clip_coef": 9.0}).loss)
    assert (np.abs(got.d_mean).max(axis=1) > 0).all()
    assert stats[PPO_STATS.index("clip_fraction")] == 0
    assert stats[PPO_STATS.index("approx_kl")] == 0
    # One step beyond, only the direction that brings the ratio back has a gradient.
    for side in (-1e-3, 1e-3):
        moved = arguments | {"clip_coef": 0.0, "old_log_prob": arguments["old_log_prob"] - np.float32(side)}
        flows = np.abs(ppo_gaussian(**moved).d_mean).max(axis=1) > 0
        np.testing.assert_array_equal(flows, arguments["advantage"] * side < 0)


def test_a_squashed_policy_has_the_same_ratio(isa: str) -> None:
    new, old = (batch_of((40, 3), shared=True, seed=seed) for seed in (0, 1))
    u = new["action"]
    log_ratio = []
    for op in (gaussian_log_prob, squashed_gaussian_log_prob):
        after, before = (op(x["mean"], x["log_std"], u).astype(np.float64) for x in (new, old))
        log_ratio.append(after - before)
    np.testing.assert_allclose(*log_ratio, rtol=1e-5, atol=1e-4)


def test_zero_advantage_leaves_the_entropy_gradient(isa: str) -> None:
    arguments = batch_of((33, 4), shared=True) | {"advantage": np.zeros(33, np.float32)}
    got = ppo_gaussian(**arguments, vf_coef=0.0, ent_coef=0.5)
    assert (got.d_mean == 0).all()
    assert (got.d_value == 0).all()
    np.testing.assert_allclose(got.d_log_std, -0.5, rtol=1e-6)  # d H / d log_std = 1


@SHARED
def test_chunks_with_one_scale_equal_the_whole(isa: str, shared: bool) -> None:
    arguments = batch_of((100, 3), shared=shared, full=True)
    whole_stats, stats = np.zeros(len(PPO_STATS)), np.zeros(len(PPO_STATS))
    whole = ppo_gaussian(**arguments, stats=whole_stats)
    summed = np.zeros(3)
    for rows in (slice(0, 37), slice(37, 100)):
        part = {
            name: x[rows] if isinstance(x, np.ndarray) and len(x) == 100 else x
            for name, x in arguments.items()
        }
        got = ppo_gaussian(**part, stats=stats, scale=1 / 100)
        summed += got.d_log_std if shared else got.d_log_std.sum(axis=0)
        for name in ("loss", "d_mean", "d_value"):
            np.testing.assert_allclose(getattr(got, name), getattr(whole, name)[rows], rtol=1e-6, atol=1e-8)
    total = whole.d_log_std if shared else whole.d_log_std.sum(axis=0)
    np.testing.assert_allclose(summed, total, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(stats, whole_stats, rtol=1e-6, atol=1e-5)


@SHARED
@pytest.mark.parametrize("full", [False, True])
def test_columns_of_one_output_are_read_and_written_in_place(isa: str, full: bool, shared: bool) -> None:
    batch, actions = 37, 5
    arguments = batch_of((batch, actions), shared=shared, full=full)
    want_stats = np.zeros(len(PPO_STATS))
    want = ppo_gaussian(**arguments, stats=want_stats)
    names = ("mean", "value") if shared else ("mean", "log_std", "value")
    y = np.concatenate([arguments[name].reshape(batch, -1) for name in names], axis=1)
    expected = np.concatenate([getattr(want, f"d_{name}").reshape(batch, -1) for name in names], axis=1)
    dy = np.full((batch, y.shape[1] + 2), np.nan, np.float32)
    d_log_std = np.full(2 * actions, 3, np.float32)[::2] if shared else None
    stats = np.zeros(len(PPO_STATS))
    kernel = _core.PPOGaussian(**FULL if full else PLAIN)
    rest = [arguments[name] for name in ("action", "old_log_prob", "advantage", "return_")]
    log_std = arguments["log_std"] if shared else None
    kernel(y, dy[:, :-2], log_std, d_log_std, *rest, stats, old_value=arguments.get("old_value"))
    np.testing.assert_array_equal(dy[:, :-2], expected)
    assert np.isnan(dy[:, -2:]).all()
    np.testing.assert_array_equal(stats, want_stats)
    if d_log_std is not None:
        np.testing.assert_allclose(d_log_std - 3, want.d_log_std, atol=1e-6)  # added to


@SHARED
def test_any_strides(isa: str, shared: bool) -> None:
    arguments = batch_of((37, 5), shared=shared, full=True)
    want = ppo_gaussian(**arguments)
    views = {
        name: np.repeat(x, 2, axis=0)[::2] if x.ndim == 1 else np.asfortranarray(x)
        for name, x in arguments.items()
        if isinstance(x, np.ndarray)
    }
    out = PPOGaussianLoss(*(np.full((*x.shape, 2), np.nan, np.float32)[..., 1] for x in want))
    assert ppo_gaussian(**arguments | views, out=out) is out
    for x, y in zip(out, want, strict=True):
        np.testing.assert_array_equal(x, y)
    if shared:  # one log_std a row, all the same: the gradient is apart
        rows = ppo_gaussian(**arguments | {"log_std": np.broadcast_to(arguments["log_std"], (37, 5))})
        np.testing.assert_array_equal(rows.d_mean, want.d_mean)
        np.testing.assert_allclose(rows.d_log_std.sum(axis=0), want.d_log_std, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["mean", "log_std", "value", "action", "old_log_prob", "advantage", "return_", "old_value"]
)
def test_nan_propagates_in_its_row_only(isa: str, name: str) -> None:
    arguments = batch_of((20, 3), shared=False, full=True)
    arguments[name].reshape(20, -1)[7, 0] = np.nan
    stats = np.zeros(len(PPO_STATS))
    got = ppo_gaussian(**arguments, stats=stats)
    assert np.flatnonzero(np.isnan(got.loss)).tolist() == [7]
    assert np.isnan(stats).any()
    gradient = got.d_value if "value" in name or name == "return_" else got.d_mean.sum(axis=1)
    assert np.flatnonzero(np.isnan(gradient)).tolist() == [7]


@pytest.mark.parametrize("log_std", [-20.0, 2.0])
def test_extreme_deviations(isa: str, log_std: float) -> None:
    arguments = batch_of((9, 2), shared=True) | {"log_std": np.full(2, log_std, np.float32)}
    policy = (arguments["mean"], arguments["log_std"])
    arguments["action"], arguments["old_log_prob"] = gaussian_sample(*policy, seed=1)
    got, (want, _) = ppo_gaussian(**arguments), exact(arguments)
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


def test_an_overflowing_ratio_stays_finite_where_it_is_clipped(isa: str) -> None:
    arguments = batch_of((4, 2), shared=True) | {
        "old_log_prob": np.full(4, -200, np.float32),
        "advantage": np.ones(4, np.float32),
    }
    got = ppo_gaussian(**arguments)
    assert np.isfinite(got.loss).all()
    assert (got.d_mean == 0).all()
    assert (got.d_log_std == 0).all()


def test_bad_arguments() -> None:
    arguments = batch_of((4, 3), shared=False)
    x = np.zeros(4, np.float32)
    for changed, error, message in [
        ({"mean": arguments["mean"].astype(float)}, TypeError, r"mean must be float32 \[B, A\], got float64"),
        ({"mean": arguments["mean"][:, :0]}, ValueError, "mean must have at least one action"),
        ({"log_std": x}, ValueError, r"log_std must be float32 \[A\] = \[3\], got float32 \[4\]"),
        ({"log_std": arguments["log_std"][:1]}, ValueError, r"log_std must be float32 \[B, A\] = \[4, 3\]"),
        ({"action": x}, ValueError, r"action must be float32 \[B, A\] = \[4, 3\], got float32 \[4\]"),
        ({"value": x[:3]}, ValueError, r"value must be float32 \[B\] = \[4\], got float32 \[3\]"),
        ({"clip_value": 0.1}, ValueError, "clip_value and old_value must be given together"),
        ({"clip_coef": np.nan}, ValueError, r"clip_coef must be >= 0, got nan"),
        ({"stats": np.zeros(4)}, ValueError, r"stats must be float64 \[5\]"),
        ({"out": PPOGaussianLoss(x, x, x, x)}, ValueError, r"out.d_mean must be float32 \[B, A\]"),
    ]:
        with pytest.raises(error, match=f"ppo_gaussian: {message}"):
            ppo_gaussian(**arguments | changed)


def test_the_extension_refuses_what_it_cannot_read() -> None:
    y, action = np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32)
    x, log_std = np.zeros(4, np.float32), np.zeros(2, np.float32)
    kernel = _core.PPOGaussian(clip_coef=0.2)
    rest = (action, x, x, x)
    for arguments, message in [
        ((y[:, :1], y[:, :1], log_std, log_std, *rest), r"y must be \[B, A \+ 1\] with log_std"),
        ((y[:, :2], y[:, :2], None, None, *rest), r"y must be .* or \[B, 2 A \+ 1\] without"),
        ((y, y, log_std, None, *rest), "d_log_std must be given where log_std is"),
        ((y, y, None, log_std, *rest), "d_log_std must be given where log_std is"),
        ((y, y, log_std, log_std[:1], *rest), r"d_log_std must be \[.*\], got \["),
        ((y, y, x, log_std, *rest), r"log_std must be \[.*\], got \["),
        ((y, y[:, :2].copy(), log_std, log_std, *rest), r"dy must be \[.*\], got \["),
        ((y, y, log_std, log_std, y, *rest[1:]), r"action must be \[.*\], got \["),
        ((y, y, log_std, log_std, *rest, np.zeros(10)[::2]), "stats must be contiguous"),
    ]:
        with pytest.raises(ValueError, match=f"ppo_gaussian: {message}"):
            kernel(*arguments)
