"""PPO's loss of several choices a row: the categorical one where they are one, the reference, edges."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import multi_categorical_log_prob, multi_categorical_sample
from fastrl.kernels.losses import PPO_STATS, PPOLoss, ppo_categorical, ppo_multi_categorical, reference

CASES = [(0, (2, 3)), (1, (1,)), (1, (4, 2)), (17, (3, 1, 5)), (16, (2,) * 9), (67, (40, 7)), (1100, (2, 2))]
PLAIN = {"clip_coef": 0.2}
FULL = {"clip_coef": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "kl_coef": 0.4, "clip_value": 0.3}


def batch_of(batch: int, sizes: tuple[int, ...], *, full: bool = False) -> dict[str, Any]:
    """Arguments where ratios and values fall on both sides of their clipping."""
    rng = np.random.default_rng([batch, *sizes])
    logits = rng.standard_normal((batch, sum(sizes)), np.float32)
    mask = rng.random(logits.shape) < 0.6
    action = rng.integers(sizes, size=(batch, len(sizes)))
    begins = np.cumsum([0, *sizes[:-1]])
    np.put_along_axis(mask, begins + action, True, axis=1)
    log_prob = multi_categorical_log_prob(logits, sizes, action, action_mask=mask if full else None)
    value = rng.standard_normal(batch, np.float32)
    arguments: dict[str, Any] = {
        "logits": logits,
        "value": value,
        "action": action,
        "old_log_prob": log_prob + np.float32(0.4) * rng.standard_normal(batch, np.float32),
        "advantage": rng.standard_normal(batch, np.float32),
        "return_": value + rng.standard_normal(batch, np.float32),
    }
    if full:
        old = {"old_value": value + np.float32(0.5) * rng.standard_normal(batch, np.float32)}
        return arguments | old | FULL | {"action_mask": mask}
    return arguments | PLAIN


def exact(
    arguments: dict[str, Any], sizes: tuple[int, ...]
) -> tuple[PPOLoss[NDArray[np.float64]], NDArray[np.float64]]:
    """Loss, gradients and sums of the reference, in float64 from end to end."""
    shape = arguments["logits"].shape
    out = PPOLoss(np.empty(shape[0]), np.empty(shape), np.empty(shape[0]))
    stats = np.zeros(len(PPO_STATS))
    defaults = {"vf_coef": 0.5, "ent_coef": 0.0, "kl_coef": 0.0, "scale": 1.0}
    optional = dict.fromkeys(("old_value", "action_mask", "clip_value"))
    reference.ppo_multi_categorical(**optional | defaults | arguments, out=out, stats=stats, sizes=sizes)
    return out, stats


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("batch", "sizes"), CASES)
def test_the_kernel_equals_the_reference(isa: str, batch: int, sizes: tuple[int, ...], full: bool) -> None:
    arguments = batch_of(batch, sizes, full=full)
    want, want_stats = exact(arguments, sizes)
    stats = np.full(len(PPO_STATS), 10.0)
    got = ppo_multi_categorical(**arguments, sizes=sizes, stats=stats, scale=1.0)
    for name, x, y in zip(PPOLoss._fields, got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=5e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(stats - 10, want_stats, rtol=1e-5, atol=1e-5 * (1 + batch))
    if full:
        assert (got.d_logits[~arguments["action_mask"]] == 0).all()
    by_name = ppo_multi_categorical(**arguments, sizes=sizes, scale=1.0, backend="reference")
    np.testing.assert_array_equal(by_name.d_logits, want.d_logits.astype(np.float32))


@pytest.mark.parametrize("full", [False, True])
def test_one_choice_is_the_categorical_loss(isa: str, full: bool) -> None:
    arguments = batch_of(37, (6,), full=full)
    got = ppo_multi_categorical(**arguments, sizes=(6,))
    want = ppo_categorical(**arguments | {"action": arguments["action"][:, 0]})
    for x, y in zip(got, want, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_choice_of_one_action_changes_nothing(isa: str) -> None:
    arguments = batch_of(37, (4, 3))
    logits = np.insert(arguments["logits"], [4, 4], 5, axis=1)
    action = np.insert(arguments["action"], [1, 1], 0, axis=1)
    got = ppo_multi_categorical(**arguments | {"logits": logits, "action": action}, sizes=(4, 1, 1, 3))
    want = ppo_multi_categorical(**arguments, sizes=(4, 3))
    np.testing.assert_array_equal(got.loss, want.loss)
    np.testing.assert_array_equal(np.delete(got.d_logits, [4, 5], axis=1), want.d_logits)
    assert (got.d_logits[:, 4:6] == 0).all()


def test_the_ratio_is_exactly_one_before_the_first_update(isa: str) -> None:
    sizes = (3, 2, 7)
    arguments = batch_of(50, sizes)
    arguments["action"], drawn = multi_categorical_sample(arguments["logits"], sizes, seed=1)
    log_prob = multi_categorical_log_prob(arguments["logits"], sizes, arguments["action"])
    for old_log_prob in (drawn, log_prob):
        stats = np.zeros(len(PPO_STATS))
        changed = {"clip_coef": 0.0, "old_log_prob": old_log_prob}
        got = ppo_multi_categorical(**arguments | changed, sizes=sizes, stats=stats)
        assert stats[PPO_STATS.index("clip_fraction")] == 0
        assert (np.abs(got.d_logits).max(axis=1) > 0).all()


@pytest.mark.parametrize("full", [False, True])
def test_columns_of_one_output_are_read_and_written_in_place(isa: str, full: bool) -> None:
    sizes = (3, 1, 5)
    arguments = batch_of(37, sizes, full=full)
    want_stats, stats = np.zeros(len(PPO_STATS)), np.zeros(len(PPO_STATS))
    want = ppo_multi_categorical(**arguments, sizes=sizes, stats=want_stats)
    y = np.concatenate([arguments["logits"], arguments["value"][:, None]], axis=1)
    dy = np.full((37, 12), np.nan, np.float32)
    kernel = _core.PPOMultiCategorical(sizes, **FULL if full else PLAIN)
    rest = [arguments[name] for name in ("action", "old_log_prob", "advantage", "return_")]
    optional = {name: arguments.get(name) for name in ("old_value", "action_mask")}
    kernel(y, dy[:, :10], *rest, stats, **optional)
    np.testing.assert_array_equal(dy[:, :9], want.d_logits)
    np.testing.assert_array_equal(dy[:, 9], want.d_value)
    np.testing.assert_array_equal(stats, want_stats)
    assert np.isnan(dy[:, 10:]).all()
    strided = {"action": np.asfortranarray(rest[0]), "logits": np.asfortranarray(arguments["logits"])}
    for x, z in zip(ppo_multi_categorical(**arguments | strided, sizes=sizes), want, strict=True):
        np.testing.assert_array_equal(x, z)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(("row", "choice"), [(0, 1), (16, 0), (39, 2)])
def test_an_illegal_action_is_named_and_nothing_is_changed(backend: str, row: int, choice: int) -> None:
    sizes = (3, 2, 4)
    arguments = batch_of(40, sizes)
    out = PPOLoss(np.zeros(40, np.float32), np.zeros((40, 9), np.float32), np.zeros(40, np.float32))
    mask = np.ones((40, 9), bool)
    mask[row, [0, 3, 5][choice] + 1] = False
    for wrong, action_mask in ((sizes[choice], None), (-1, None), (1, mask)):
        action = np.zeros((40, 3), np.int64)
        action[row, choice] = wrong
        action[row + 1 :, 0] = 7  # later rows do not matter
        with pytest.raises(
            ValueError,
            match=rf"ppo_multi_categorical: action must be in \[0, {sizes[choice]}\) and unmasked, "
            rf"got {wrong} in row {row}, component {choice}$",
        ):
            ppo_multi_categorical(
                **arguments | {"action": action},
                sizes=sizes,
                action_mask=action_mask,
                out=out,
                backend=backend,
            )
    assert not any(x.any() for x in out)


def test_bad_arguments() -> None:
    arguments = batch_of(4, (2, 3))
    for changed, message in [
        ({"sizes": (2, 2)}, r"sizes must be positive and add up to the 5 logits, got \[2, 2\]"),
        ({"sizes": ()}, "sizes must be positive"),
        (
            {"action": arguments["action"][:, :1]},
            r"action must be int64 \[B, K\] = \[4, 2\], got int64 \[4, 1\]",
        ),
        ({"action_mask": np.ones((4, 2), bool)}, r"action_mask must be bool \[B, A\] = \[4, 5\]"),
        ({"clip_coef": -0.1}, r"clip_coef must be >= 0, got -0.1"),
    ]:
        with pytest.raises(ValueError, match=f"ppo_multi_categorical: {message}"):
            ppo_multi_categorical(**arguments | {"sizes": (2, 3)} | changed)
    with pytest.raises(ValueError, match="ppo_multi_categorical: sizes must be of at least one component"):
        _core.PPOMultiCategorical([], clip_coef=0.2)
    y = np.zeros((4, 6), np.float32)
    x, action = np.zeros(4, np.float32), np.zeros((4, 2), np.int64)
    for sizes in ([2, 2], [2, 4], [6, -1]):
        with pytest.raises(ValueError, match="ppo_multi_categorical: sizes must be positive and add up"):
            _core.PPOMultiCategorical(sizes, clip_coef=0.2)(y, y, action, x, x, x)
