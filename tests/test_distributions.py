"""Categorical ops: every backend and instruction set against the float64 reference, edges, errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import (
    CategoricalSample,
    categorical_entropy,
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
    reference,
)

SHAPES = [(0, 3), (1, 1), (1, 2), (3, 1), (8, 2), (15, 4), (16, 2), (17, 18), (67, 33), (5, 300)]
CLOSE = {"rtol": 1e-5, "atol": 3e-6}
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def policy(shape: tuple[int, int], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits over a wide range, and a mask that leaves each row an action."""
    rng = np.random.default_rng([seed, *shape])
    logits = (rng.standard_normal(shape) * rng.choice([0.1, 1.0, 10.0], (shape[0], 1))).astype(np.float32)
    mask = rng.random(shape) < 0.6
    mask[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = True
    return logits, mask


def exact(op: str, *args: Any, batch: int) -> NDArray[np.float64]:
    out = np.empty(batch)
    getattr(reference, op)(*args[:-1], out, args[-1])
    return out


@pytest.mark.parametrize(
    ("seed", "counter", "index", "stream", "words"),
    [
        (0, 0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, 2**64 - 1, 2**32 - 1, 2**32 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            0x299F31D0A4093822,
            0x85A308D3243F6A88,
            0x13198A2E,
            0x03707344,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    seed: int, counter: int, index: int, stream: int, words: str
) -> None:
    (got,) = reference.philox(seed, counter, np.array([index], np.uint64), stream)
    assert " ".join(f"{word:08x}" for word in got) == words


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_sample_equals_the_reference(isa: str, shape: tuple[int, int], masked: bool) -> None:
    logits, mask = policy(shape)
    options: dict[str, Any] = {"action_mask": mask if masked else None}
    for draw in (
        {"seed": 2**63 + 5, "counter": 2**40 + 3},
        {"uniform": np.random.default_rng(1).random(shape[0], np.float32)},
    ):
        got = categorical_sample(logits, **draw, **options)
        want = categorical_sample(logits, **draw, **options, backend="reference")
        assert got.action.dtype == np.int64
        np.testing.assert_array_equal(got.action, want.action)
        np.testing.assert_allclose(got.log_prob, want.log_prob, **CLOSE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_mode_log_prob_and_entropy_equal_the_reference(
    isa: str, shape: tuple[int, int], masked: bool
) -> None:
    logits, mask = policy(shape)
    m = mask if masked else None
    batch, actions = shape
    np.testing.assert_array_equal(
        categorical_mode(logits, action_mask=m), categorical_mode(logits, action_mask=m, backend="reference")
    )
    action = np.random.default_rng(2).integers(actions, size=batch)
    np.testing.assert_allclose(
        categorical_log_prob(logits, action, action_mask=m),
        exact("categorical_log_prob", logits, action, m, batch=batch),
        **CLOSE,
    )
    np.testing.assert_allclose(
        categorical_entropy(logits, action_mask=m),
        exact("categorical_entropy", logits, m, batch=batch),
        **CLOSE,
    )


def test_extreme_logits(isa: str) -> None:
    logits = np.array(
        [[1e4, -1e4, 0], [3e38, 3e38, -3e38], [-np.inf, 2, 2], [-3e38, -3e38, -np.inf], [1e-40, 0, -0.0]],
        np.float32,
    )
    entropy = categorical_entropy(logits)
    np.testing.assert_allclose(entropy, [0, np.log(2), np.log(2), np.log(2), np.log(3)], atol=1e-6)
    action = np.array([0, 1, 2, 0, 1])
    np.testing.assert_allclose(categorical_log_prob(logits, action), -entropy, atol=1e-6)
    assert categorical_log_prob(logits[2:3], np.array([0]))[0] == -np.inf


def test_a_draw_depends_on_seed_counter_and_row_only(isa: str) -> None:
    logits, _ = policy((100, 6))
    whole = categorical_sample(logits, seed=7, counter=9).action
    for batch in (1, 2, 15, 16, 33):
        np.testing.assert_array_equal(
            categorical_sample(logits[:batch], seed=7, counter=9).action, whole[:batch]
        )
    flat = np.zeros((100, 50), np.float32)
    draws = {
        tuple(categorical_sample(flat, seed=s, counter=c).action)
        for s, c in [(7, 9), (7, 10), (7, 9 + 2**32), (8, 9), (7 + 2**32, 9)]
    }
    assert len(draws) == 5


def test_frequencies(isa: str) -> None:
    p = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    with np.errstate(divide="ignore"):
        logits = np.log(np.tile(p, (200_000, 1))).astype(np.float32)
    counts = np.bincount(categorical_sample(logits, seed=3).action, minlength=5)
    assert counts[1] == 0
    expected = 200_000 * p[p > 0]
    chi2 = ((counts[p > 0] - expected) ** 2 / expected).sum()
    assert chi2 < 16.3  # 0.1 % quantile with 3 degrees of freedom


@BACKENDS
@given(data=st.data())
@settings(max_examples=60)
def test_a_draw_is_legal_whatever_the_uniform(backend: str, data: st.DataObject) -> None:
    batch, actions = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = rng.choice(np.array([-np.inf, -200, -20, 0, 1], np.float32), (batch, actions))
    mask = rng.random((batch, actions)) < 0.5
    kept = rng.integers(actions, size=batch)
    mask[np.arange(batch), kept] = True
    logits[np.arange(batch), kept] = 0
    uniform = rng.choice(np.array([0, 1e-30, 0.5, BELOW_ONE], np.float32), batch)
    action, log_prob = categorical_sample(logits, uniform=uniform, action_mask=mask, backend=backend)
    assert mask[np.arange(batch), action].all()
    assert np.isfinite(log_prob).all()


def test_the_largest_uniform_reaches_the_last_legal_action(isa: str) -> None:
    logits = np.zeros((40, 7), np.float32)
    mask = np.ones((40, 7), bool)
    mask[:, 5:] = False
    uniform = np.full(40, BELOW_ONE)
    assert (categorical_sample(logits, uniform=uniform, action_mask=mask).action == 4).all()


@BACKENDS
def test_mode_takes_the_first_of_equals_and_skips_masked(backend: str) -> None:
    logits = np.array([[1, 3, 3], [2, 2, 2], [9, 1, 2], [-np.inf, -np.inf, -5]], np.float32)
    mask = np.array([[1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1]], bool)
    assert categorical_mode(logits, action_mask=mask, backend=backend).tolist() == [1, 1, 2, 2]


@BACKENDS
def test_a_single_legal_action_is_certain(backend: str) -> None:
    logits, _ = policy((20, 5))
    mask = np.zeros((20, 5), bool)
    mask[:, 3] = True
    assert (categorical_entropy(logits, action_mask=mask, backend=backend) == 0).all()
    action, log_prob = categorical_sample(logits, seed=1, action_mask=mask, backend=backend)
    assert (action == 3).all()
    assert (log_prob == 0).all()
    illegal = np.zeros(20, np.int64)
    assert (categorical_log_prob(logits, illegal, action_mask=mask, backend=backend) == -np.inf).all()


def test_any_strides(isa: str) -> None:
    logits, mask = policy((37, 6))
    wide = np.full((37, 9), np.nan, np.float32)
    wide[:, 1:7] = logits
    wide_mask = np.zeros((37, 12), bool)
    wide_mask[:, ::2] = mask
    action = np.random.default_rng(0).integers(6, size=74)[::2]
    want = categorical_sample(logits, seed=4, action_mask=mask)
    for x, m in [
        (wide[:, 1:7], wide_mask[:, ::2]),
        (np.asfortranarray(logits), np.asfortranarray(mask)),
        (logits[::-1].copy()[::-1], mask[::-1].copy()[::-1]),
    ]:
        out = CategoricalSample(np.empty((37, 2), np.int64)[:, 0], np.empty((37, 3), np.float32)[:, 1])
        assert categorical_sample(x, seed=4, action_mask=m, out=out) is out
        np.testing.assert_array_equal(out.action, want.action)
        np.testing.assert_array_equal(out.log_prob, want.log_prob)
        np.testing.assert_array_equal(
            categorical_mode(x, action_mask=m), categorical_mode(logits, action_mask=mask)
        )
        np.testing.assert_array_equal(
            categorical_log_prob(x, action, action_mask=m),
            categorical_log_prob(logits, action.copy(), action_mask=mask),
        )
        np.testing.assert_array_equal(
            categorical_entropy(x, action_mask=m), categorical_entropy(logits, action_mask=mask)
        )


@BACKENDS
@pytest.mark.parametrize("row", [0, 15, 16, 39])
def test_a_row_without_a_choice_is_named(backend: str, row: int) -> None:
    logits, _ = policy((40, 3))
    broken = logits.copy()
    broken[row, 1] = np.nan
    mask = np.ones((40, 3), bool)
    mask[row] = False
    infinite = logits.copy()
    infinite[row, 2] = np.inf
    uniform = np.zeros(40, np.float32)
    uniform[row] = 1.0
    for arguments in (
        {"logits": broken, "seed": 0},
        {"logits": infinite, "seed": 0},
        {"logits": logits, "seed": 0, "action_mask": mask},
        {"logits": logits, "uniform": uniform},
        {"logits": logits, "uniform": np.where(uniform > 0, np.nan, uniform)},
        {"logits": logits, "uniform": -uniform},
    ):
        with pytest.raises(ValueError, match=rf"categorical_sample: no action can be drawn.* in row {row}$"):
            categorical_sample(**arguments, backend=backend)
    for x, m in ((broken, None), (logits, mask)):
        with pytest.raises(ValueError, match=rf"categorical_mode: no action is the best.* in row {row}$"):
            categorical_mode(x, action_mask=m, backend=backend)
        entropy = categorical_entropy(x, action_mask=m, backend=backend)
        assert np.isnan(entropy[row])
        assert np.isnan(entropy).sum() == 1
    action = np.zeros(40, np.int64)
    action[row] = 3
    with pytest.raises(ValueError, match=rf"categorical_log_prob: action is out of range in row {row}$"):
        categorical_log_prob(logits, action, backend=backend)


def test_a_masked_nan_is_ignored(isa: str) -> None:
    logits = np.array([[np.nan, 1, 2], [0, np.inf, 0]], np.float32)
    mask = np.isfinite(logits)
    clean = np.where(mask, logits, 0)
    np.testing.assert_array_equal(
        categorical_entropy(logits, action_mask=mask), categorical_entropy(clean, action_mask=mask)
    )
    assert categorical_mode(logits, action_mask=mask).tolist() == [2, 0]


def test_bad_arguments() -> None:
    logits, mask = policy((4, 3))
    for arguments, error, message in [
        (
            {"logits": logits.astype(float)},
            TypeError,
            r"logits must be float32 \[B, A\], got float64 \[4, 3\]",
        ),
        ({"logits": logits[0]}, ValueError, r"logits must be float32 \[B, A\], got float32 \[3\]"),
        ({"logits": logits[:, :0]}, ValueError, r"logits must have at least one action"),
        ({"action_mask": mask[:2]}, ValueError, r"action_mask must be bool \[B, A\] = \[4, 3\]"),
        ({"action_mask": mask.astype(np.uint8)}, TypeError, r"action_mask must be bool \[B, A\]"),
        ({"seed": None}, ValueError, "give either seed or uniform"),
        ({"uniform": np.zeros(4, np.float32)}, ValueError, "give either seed or uniform"),
        ({"seed": -1}, ValueError, r"seed must be in \[0, 2\^64\), got -1"),
        ({"counter": 2**64}, ValueError, r"counter must be in \[0, 2\^64\)"),
        (
            {"out": CategoricalSample(np.empty(4, np.int64), np.empty(3, np.float32))},
            ValueError,
            "out.log_prob",
        ),
    ]:
        with pytest.raises(error, match=f"categorical_sample: {message}"):
            categorical_sample(**{"logits": logits, "seed": 0} | arguments)


def test_the_extension_refuses_what_it_cannot_read() -> None:
    logits = np.zeros((4, 3), np.float32)
    entropy = np.zeros(4, np.float32)
    read_only = np.zeros(4, np.float32)
    read_only.flags.writeable = False
    unaligned = np.zeros(50, np.uint8)[1:49].view(np.float32).reshape(4, 3)
    for x, out, message in [
        (logits.astype(">f4"), entropy, "logits must be of the dtype"),
        (unaligned, entropy, "logits must be aligned"),
        ([1.0], entropy, "logits must be a NumPy array"),
        (logits, read_only, "entropy must be writeable"),
        (logits, entropy[:3], r"entropy must be \[4\], got \[3\]"),
        (logits, logits, "entropy must be of the number of axes"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.categorical_entropy(x, out)
