"""PPO's loss and advantage normalisation: gradients by finite differences, kernels, edges."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import categorical_log_prob
from fastrl.kernels.losses import PPO_STATS, PPOLoss, normalize_advantage, ppo_categorical, reference

SHAPES = [(0, 3), (1, 1), (1, 2), (3, 1), (15, 4), (16, 2), (17, 18), (67, 33), (5, 300), (1100, 2)]
CLOSE = {"rtol": 2e-5, "atol": 1e-5}
ARRAYS = ("logits", "value", "action", "old_log_prob", "advantage", "return_")
PLAIN = {"clip_coef": 0.2}
FULL = {"clip_coef": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "kl_coef": 0.4, "clip_value": 0.3}


def batch_of(shape: tuple[int, int], *, full: bool = False, seed: int = 0) -> dict[str, Any]:
    """Arguments where ratios and values fall on both sides of their clipping."""
    rng = np.random.default_rng([seed, *shape])
    batch, actions = shape
    logits = rng.standard_normal(shape)
    action = rng.integers(actions, size=batch)
    mask = rng.random(shape) < 0.6
    mask[np.arange(batch), action] = True
    value = rng.standard_normal(batch)
    log_prob = reference.log_softmax(logits, mask if full else None)[np.arange(batch), action]
    arguments = {
        "logits": logits,
        "value": value,
        "old_log_prob": log_prob + 0.4 * rng.standard_normal(batch),
        "advantage": rng.standard_normal(batch),
        "return_": value + rng.standard_normal(batch),
    }
    if full:
        arguments["old_value"] = value + 0.5 * rng.standard_normal(batch)
    single = {name: x.astype(np.float32) for name, x in arguments.items()}
    return single | {"action": action} | ({"action_mask": mask} | FULL if full else PLAIN)


def exact(arguments: dict[str, Any]) -> tuple[PPOLoss[NDArray[np.float64]], NDArray[np.float64]]:
    """Loss, gradients and sums of the reference, in float64 from end to end."""
    shape = arguments["logits"].shape
    out = PPOLoss(np.empty(shape[0]), np.empty(shape), np.empty(shape[0]))
    stats = np.zeros(len(PPO_STATS))
    defaults = {"vf_coef": 0.5, "ent_coef": 0.0, "kl_coef": 0.0}
    optional = dict.fromkeys(("old_value", "action_mask", "clip_value", "scale"))
    reference.ppo_categorical(**optional | defaults | arguments, out=out, stats=stats)
    return out, stats


def double(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: x.astype(np.float64) if getattr(x, "dtype", None) == np.float32 else x
        for name, x in arguments.items()
    }


@pytest.mark.parametrize("full", [False, True])
def test_the_reference_gradient_equals_finite_differences(full: bool) -> None:
    arguments = double(batch_of((23, 4), full=full, seed=3))
    result, _ = exact(arguments | {"scale": 1.0})
    eps = 1e-6
    for name, gradient in (("logits", result.d_logits), ("value", result.d_value)):
        for column in range(gradient.shape[1] if gradient.ndim > 1 else 1):
            loss = []
            for sign in (1, -1):
                moved = arguments[name].copy()
                moved.reshape(23, -1)[:, column] += sign * eps
                loss.append(exact(arguments | {name: moved})[0].loss)
            np.testing.assert_allclose(
                gradient.reshape(23, -1)[:, column], (loss[0] - loss[1]) / (2 * eps), atol=1e-8
            )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_the_reference(isa: str, shape: tuple[int, int], full: bool) -> None:
    arguments = batch_of(shape, full=full)
    want, want_stats = exact(arguments | {"scale": 1.0})
    stats = np.full(len(PPO_STATS), 10.0)
    got = ppo_categorical(**arguments, stats=stats, scale=1.0)
    for name, x, y in zip(PPOLoss._fields, got, want, strict=True):
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, y, **CLOSE, err_msg=name)
    np.testing.assert_allclose(stats - 10, want_stats, rtol=1e-5, atol=1e-5 * (1 + shape[0]))
    if full:
        assert (got.d_logits[~arguments["action_mask"]] == 0).all()
    mean = ppo_categorical(**arguments)
    np.testing.assert_allclose(mean.d_logits, got.d_logits / max(shape[0], 1), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(mean.d_value, got.d_value / max(shape[0], 1), rtol=1e-5, atol=1e-9)


def test_the_reference_backend_runs_by_name() -> None:
    arguments = batch_of((9, 3), full=True)
    got = ppo_categorical(**arguments, backend="reference")
    assert got.loss.dtype == np.float32
    np.testing.assert_array_equal(got.loss, exact(arguments)[0].loss.astype(np.float32))


def test_the_ratio_is_exactly_one_before_the_first_update(isa: str) -> None:
    # So clip_coef = 0 puts every sample exactly on both clip boundaries: the gradient flows, none is clipped.
    arguments = batch_of((50, 6))
    arguments["old_log_prob"] = categorical_log_prob(arguments["logits"], arguments["action"])
    stats = np.zeros(len(PPO_STATS))
    got = ppo_categorical(**arguments | {"clip_coef": 0.0}, stats=stats)
    np.testing.assert_array_equal(
        got.loss, ppo_categorical(**arguments | {"clip_coef": 9.0, "scale": 1.0}).loss
    )
    assert (np.abs(got.d_logits).max(axis=1) > 0).all()
    assert stats[PPO_STATS.index("clip_fraction")] == 0
    assert stats[PPO_STATS.index("approx_kl")] == 0
    # One step beyond, only the direction that brings the ratio back has a gradient.
    for side in (-1e-4, 1e-4):
        moved = arguments | {"clip_coef": 0.0, "old_log_prob": arguments["old_log_prob"] - np.float32(side)}
        flows = np.abs(ppo_categorical(**moved).d_logits).max(axis=1) > 0
        np.testing.assert_array_equal(flows, arguments["advantage"] * side < 0)


def test_zero_advantage_gives_no_policy_gradient(isa: str) -> None:
    arguments = batch_of((33, 4)) | {"advantage": np.zeros(33, np.float32)}
    got = ppo_categorical(**arguments, vf_coef=0.0)
    assert (got.d_logits == 0).all()
    assert (got.loss == 0).all()
    assert (got.d_value == 0).all()


def test_a_single_legal_action(isa: str) -> None:
    arguments = batch_of((20, 4))
    mask = np.zeros((20, 4), bool)
    mask[np.arange(20), arguments["action"]] = True
    stats = np.zeros(len(PPO_STATS))
    got = ppo_categorical(**arguments | {"ent_coef": 0.1, "kl_coef": 0.1}, action_mask=mask, stats=stats)
    assert (got.d_logits == 0).all()
    assert stats[PPO_STATS.index("entropy")] == 0


@pytest.mark.parametrize(
    ("value", "old_value", "return_", "loss", "d_value"),
    [
        (1.0, 0.9, 3.0, 2.0, -2.0),  # within the range
        (1.0, 0.5, 3.0, 0.5 * 2.3**2, 0.0),  # clipped to 0.7, which is worse: no gradient
        (1.0, 0.5, 0.0, 0.5, 1.0),  # clipped to 0.7, which is better: the unclipped one counts
        (1.0, 2.0, 3.0, 2.0, -2.0),  # clipped to 1.8, better
        (1.0, 2.0, 0.0, 0.5 * 1.8**2, 0.0),  # clipped to 1.8, worse
        (0.75, 0.5, 3.0, 0.5 * 2.25**2, -2.25),  # on the boundary
    ],
)
def test_value_clipping_by_hand(
    isa: str, value: float, old_value: float, return_: float, loss: float, d_value: float
) -> None:
    clip_value = 0.25 if value == 0.75 else 0.2
    arguments = batch_of((1, 2)) | {"advantage": np.zeros(1, np.float32)}
    for name, x in (("value", value), ("old_value", old_value), ("return_", return_)):
        arguments[name] = np.array([x], np.float32)
    got = ppo_categorical(**arguments, clip_value=clip_value, vf_coef=1.0)
    np.testing.assert_allclose([got.loss[0], got.d_value[0]], [loss, d_value], rtol=1e-6)


def test_chunks_with_one_scale_equal_the_whole(isa: str) -> None:
    arguments = batch_of((100, 3), full=True)
    whole_stats, stats = np.zeros(len(PPO_STATS)), np.zeros(len(PPO_STATS))
    whole = ppo_categorical(**arguments, stats=whole_stats)
    for rows in (slice(0, 37), slice(37, 100)):
        part = {name: x[rows] if isinstance(x, np.ndarray) else x for name, x in arguments.items()}
        got = ppo_categorical(**part, stats=stats, scale=1 / 100)
        for x, y in zip(got, whole, strict=True):
            np.testing.assert_allclose(x, y[rows], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(stats, whole_stats, rtol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_columns_of_one_output_are_read_and_written_in_place(isa: str, full: bool) -> None:
    batch, actions = 37, 5
    arguments = batch_of((batch, actions), full=full)
    want_stats = np.zeros(len(PPO_STATS))
    want = ppo_categorical(**arguments, stats=want_stats)
    y = np.concatenate([arguments["logits"], arguments["value"][:, None]], axis=1)
    dy = np.full((batch, actions + 3), np.nan, np.float32)
    columns = {"logits": y[:, :actions], "value": y[:, actions]}
    out = PPOLoss(np.empty((batch, 2), np.float32)[:, 1], dy[:, :actions], dy[:, actions])
    assert ppo_categorical(**arguments | columns, out=out) is out
    for x, expected in zip(out, want, strict=True):
        np.testing.assert_array_equal(x, expected)
    assert np.isnan(dy[:, actions + 1 :]).all()

    stats = np.zeros(len(PPO_STATS))
    kernel = _core.PPOCategorical(**FULL if full else PLAIN)
    rest = [arguments[name] for name in ARRAYS[2:]]
    optional = {name: arguments.get(name) for name in ("old_value", "action_mask")}
    dy[:] = np.nan
    kernel(y, dy[:, : actions + 1], *rest, stats, **optional)
    np.testing.assert_array_equal(dy[:, :actions], want.d_logits)
    np.testing.assert_array_equal(dy[:, actions], want.d_value)
    np.testing.assert_array_equal(stats, want_stats)


def test_any_strides(isa: str) -> None:
    arguments = batch_of((37, 5), full=True)
    want = ppo_categorical(**arguments)
    views = {
        name: np.repeat(x, 2, axis=0)[::2] if x.ndim == 1 else np.asfortranarray(x)
        for name, x in arguments.items()
        if isinstance(x, np.ndarray)
    }
    for x, y in zip(ppo_categorical(**arguments | views), want, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("row", [0, 16, 39])
def test_an_illegal_action_is_named_and_nothing_is_changed(backend: str, row: int) -> None:
    arguments = batch_of((40, 3))
    out = PPOLoss(np.zeros(40, np.float32), np.zeros((40, 3), np.float32), np.zeros(40, np.float32))
    stats = np.zeros(len(PPO_STATS))
    mask = np.ones((40, 3), bool)
    mask[row, 1] = False
    for wrong, action_mask in ((3, None), (-1, None), (2**32, None), (1, mask)):
        action = np.zeros(40, np.int64)
        action[row] = wrong
        with pytest.raises(
            ValueError,
            match=rf"ppo_categorical: action must be in \[0, 3\) and unmasked, got {wrong} in row {row}$",
        ):
            ppo_categorical(
                **arguments | {"action": action},
                action_mask=action_mask,
                out=out,
                stats=stats,
                backend=backend,
            )
    assert not any(x.any() for x in (*out, stats))


@pytest.mark.parametrize("name", ["logits", "value", "old_log_prob", "advantage", "return_", "old_value"])
def test_nan_propagates_in_its_row_only(isa: str, name: str) -> None:
    arguments = batch_of((20, 3), full=True)
    arguments[name] = arguments[name].copy()
    at = (7, arguments["action"][7]) if name == "logits" else 7
    arguments[name][at] = np.nan
    stats = np.zeros(len(PPO_STATS))
    got = ppo_categorical(**arguments, stats=stats)
    assert np.flatnonzero(np.isnan(got.loss)).tolist() == [7]
    assert np.isnan(stats).any()
    gradient = got.d_value if "value" in name or name == "return_" else got.d_logits.sum(axis=1)
    assert np.flatnonzero(np.isnan(gradient)).tolist() == [7]


def test_an_overflowing_ratio_stays_finite_where_it_is_clipped(isa: str) -> None:
    arguments = batch_of((4, 2)) | {
        "old_log_prob": np.full(4, -200, np.float32),
        "advantage": np.ones(4, "f4"),
    }
    got = ppo_categorical(**arguments)
    assert np.isfinite(got.loss).all()
    assert (got.d_logits == 0).all()


def test_bad_arguments() -> None:
    arguments = batch_of((4, 3))
    for changed, error, message in [
        (
            {"logits": arguments["logits"].astype(float)},
            TypeError,
            r"logits must be float32 \[B, A\], got float64",
        ),
        ({"logits": arguments["logits"][:, :0]}, ValueError, "logits must have at least one action"),
        (
            {"value": arguments["value"][:3]},
            ValueError,
            r"value must be float32 \[B\] = \[4\], got float32 \[3\]",
        ),
        (
            {"action": arguments["action"].astype(np.int32)},
            TypeError,
            r"action must be int64 \[B\], got int32",
        ),
        ({"clip_value": 0.1}, ValueError, "clip_value and old_value must be given together"),
        ({"old_value": arguments["value"]}, ValueError, "clip_value and old_value must be given together"),
        ({"clip_coef": -0.1}, ValueError, r"clip_coef must be >= 0, got -0.1"),
        ({"clip_coef": np.nan}, ValueError, r"clip_coef must be >= 0, got nan"),
        ({"stats": np.zeros(4)}, ValueError, r"stats must be float64 \[5\]"),
        ({"action_mask": np.ones((4, 2), bool)}, ValueError, r"action_mask must be bool \[B, A\] = \[4, 3\]"),
        (
            {"out": PPOLoss(*(np.zeros(4, np.float32),) * 3)},
            ValueError,
            r"out.d_logits must be float32 \[B, A\]",
        ),
    ]:
        with pytest.raises(error, match=f"ppo_categorical: {message}"):
            ppo_categorical(**arguments | changed)


def test_the_extension_refuses_what_it_cannot_read() -> None:
    y = np.zeros((4, 3), np.float32)
    vector, action, stats = np.zeros(4, np.float32), np.zeros(4, np.int64), np.zeros(5)
    kernel = _core.PPOCategorical(clip_coef=0.2)
    rest = (action, vector, vector, vector)
    for arguments, message in [
        ((y[:, :1], y[:, :1], *rest), "y must be at least one logit and the value wide"),
        ((y, y[:, :2].copy(), *rest), r"dy must be \[.*\], got \["),
        ((y, y, action[:2], *rest[1:]), r"action must be \[.*\], got \["),
        ((y, y, *rest, np.zeros(10)[::2]), "stats must be contiguous"),
        ((y, y, *rest, stats, vector), "old_value must be given where clip_value is"),
    ]:
        with pytest.raises(ValueError, match=f"ppo_categorical: {message}"):
            kernel(*arguments)


@pytest.mark.parametrize("batch", [0, 1, 2, 15, 16, 17, 256, 1001])
def test_normalize_advantage(isa: str, batch: int) -> None:
    for offset in (0.0, 1e4):  # the spread survives a large mean
        x = (np.random.default_rng(batch).standard_normal(batch) + offset).astype(np.float32)
        want = np.empty(batch)
        reference.normalize_advantage(x, want)
        got = normalize_advantage(x)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
        if batch > 1:
            assert abs(np.std(got.astype(np.float64), ddof=1) - 1) < 1e-5
        strided = np.repeat(x, 3)[::3]
        assert normalize_advantage(strided, out=strided) is strided
        np.testing.assert_array_equal(strided, got)


def test_normalize_advantage_at_its_edges(isa: str) -> None:
    assert normalize_advantage(np.array([5], np.float32)).tolist() == [5]
    assert (normalize_advantage(np.full(40, 3, np.float32)) == 0).all()
    assert np.isnan(normalize_advantage(np.array([1, np.nan, 2], np.float32))).all()
    with pytest.raises(TypeError, match=r"normalize_advantage: advantage must be float32 \[B\], got float64"):
        normalize_advantage(np.zeros(3))
