"""Several choices a row: each is the categorical op on its columns; MultiBinary, edges, errors."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import (
    CategoricalSample,
    categorical_entropy,
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
    multi_categorical_entropy,
    multi_categorical_log_prob,
    multi_categorical_mode,
    multi_categorical_sample,
)

CASES = [(0, (2, 3)), (1, (1,)), (1, (4, 2)), (17, (3, 1, 5)), (16, (2,) * 9), (67, (40, 7)), (33, (18,))]
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
BATCH_AND_SIZES = pytest.mark.parametrize(("batch", "sizes"), CASES)


def policy(batch: int, sizes: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits, and a mask that leaves each choice an action."""
    rng = np.random.default_rng([batch, *sizes])
    masks = []
    for size in sizes:
        mask = rng.random((batch, size)) < 0.6
        mask[np.arange(batch), rng.integers(size, size=batch)] = True
        masks.append(mask)
    logits = 2 * rng.standard_normal((batch, sum(sizes)))
    return logits.astype(np.float32), np.concatenate(masks, axis=1)


def split(x: NDArray[Any] | None, sizes: tuple[int, ...]) -> list[Any]:
    return [None] * len(sizes) if x is None else np.split(x, np.cumsum(sizes)[:-1], axis=1)


@BACKENDS
@pytest.mark.parametrize("masked", [False, True])
@BATCH_AND_SIZES
def test_it_is_a_categorical_a_choice(
    isa: str, batch: int, sizes: tuple[int, ...], masked: bool, backend: str
) -> None:
    logits, mask = policy(batch, sizes)
    m = mask if masked else None
    parts = list(zip(split(logits, sizes), split(m, sizes), strict=True))
    uniform = np.random.default_rng(1).random((batch, len(sizes)), np.float32)
    got = multi_categorical_sample(logits, sizes, uniform=uniform, action_mask=m, backend=backend)
    log_prob, entropy = np.zeros(batch), np.zeros(batch)
    modes = multi_categorical_mode(logits, sizes, action_mask=m, backend=backend)
    for k, (part, part_mask) in enumerate(parts):
        one = categorical_sample(part, uniform=uniform[:, k].copy(), action_mask=part_mask)
        np.testing.assert_array_equal(got.action[:, k], one.action)
        log_prob += one.log_prob
        entropy += categorical_entropy(part, action_mask=part_mask)
        np.testing.assert_array_equal(modes[:, k], categorical_mode(part, action_mask=part_mask))
        np.testing.assert_allclose(
            categorical_log_prob(part, one.action, action_mask=part_mask), one.log_prob, atol=1e-5
        )
    np.testing.assert_allclose(got.log_prob, log_prob, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        multi_categorical_log_prob(logits, sizes, got.action, action_mask=m, backend=backend),
        log_prob,
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        multi_categorical_entropy(logits, sizes, action_mask=m, backend=backend),
        entropy,
        rtol=1e-5,
        atol=1e-5,
    )


@BATCH_AND_SIZES
def test_seeded_draws_equal_the_reference(isa: str, batch: int, sizes: tuple[int, ...]) -> None:
    logits, mask = policy(batch, sizes)
    key = {"seed": 2**63 + 5, "counter": 2**40 + 3}
    got = multi_categorical_sample(logits, sizes, action_mask=mask, **key)
    want = multi_categorical_sample(logits, sizes, action_mask=mask, **key, backend="reference")
    np.testing.assert_array_equal(got.action, want.action)
    first = categorical_sample(logits[:, : sizes[0]], action_mask=mask[:, : sizes[0]], **key)
    np.testing.assert_array_equal(got.action[:, 0], first.action)


def test_a_draw_depends_on_seed_counter_row_and_choice_only(isa: str) -> None:
    logits = np.zeros((100, 150), np.float32)
    whole = multi_categorical_sample(logits, (50, 50, 50), seed=7, counter=9).action
    for batch, choices in ((1, 3), (2, 1), (15, 2), (33, 3)):
        part = multi_categorical_sample(logits[:batch, : 50 * choices], (50,) * choices, seed=7, counter=9)
        np.testing.assert_array_equal(part.action, whole[:batch, :choices])
    assert (whole[:, 0] == whole[:, 1]).mean() < 0.1  # choices of a row are independent
    assert (whole[:, 1] == whole[:, 2]).mean() < 0.1


def test_joint_frequencies(isa: str) -> None:
    p, q = np.array([0.6, 0.4]), np.array([0.2, 0.5, 0.3])
    batch = 100_000
    logits = np.tile(np.log(np.concatenate([p, q])), (batch, 1)).astype(np.float32)
    action = multi_categorical_sample(logits, (2, 3), seed=3).action
    counts = np.bincount(action @ [3, 1], minlength=6)
    expected = batch * np.outer(p, q).ravel()
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # 0.1 % quantile with 5 degrees of freedom


def test_two_logits_a_bit_are_bernoulli(isa: str) -> None:
    torch = pytest.importorskip("torch")
    sizes = (2,) * 6
    logits, _ = policy(50, sizes)
    bits = multi_categorical_sample(logits, sizes, seed=1).action
    assert set(bits.ravel()) == {0, 1}
    bernoulli = torch.distributions.Bernoulli(logits=torch.from_numpy(logits[:, 1::2] - logits[:, ::2]))
    np.testing.assert_allclose(
        multi_categorical_log_prob(logits, sizes, bits),
        bernoulli.log_prob(torch.from_numpy(bits).float()).sum(1),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        multi_categorical_entropy(logits, sizes), bernoulli.entropy().sum(1), rtol=1e-5
    )
    np.testing.assert_array_equal(multi_categorical_mode(logits, sizes), bernoulli.logits > 0)


def test_a_masked_action_has_probability_0(isa: str) -> None:
    logits, _ = policy(20, (2, 3))
    mask = np.ones((20, 5), bool)
    mask[:, 3] = False
    action = np.ones((20, 2), np.int64)
    assert (multi_categorical_log_prob(logits, (2, 3), action, action_mask=mask) == -np.inf).all()
    mask[:, 4] = False  # one left: it is certain
    first = categorical_entropy(logits[:, :2])
    np.testing.assert_array_equal(multi_categorical_entropy(logits, (2, 3), action_mask=mask), first)


def test_any_strides(isa: str) -> None:
    sizes = (3, 1, 5)
    logits, mask = policy(37, sizes)
    want = multi_categorical_sample(logits, sizes, seed=4, action_mask=mask)
    out = CategoricalSample(np.empty((3, 37), np.int64).T, np.empty((37, 3), np.float32)[:, 1])
    x, m = np.asfortranarray(logits), np.repeat(mask, 2, axis=1)[:, ::2]
    assert multi_categorical_sample(x, sizes, seed=4, action_mask=m, out=out) is out
    np.testing.assert_array_equal(out.action, want.action)
    np.testing.assert_array_equal(out.log_prob, want.log_prob)
    np.testing.assert_array_equal(
        multi_categorical_log_prob(x, sizes, out.action, action_mask=m),
        multi_categorical_log_prob(logits, sizes, want.action, action_mask=mask),
    )


@BACKENDS
@pytest.mark.parametrize("row", [0, 15, 16, 39])
def test_a_row_without_a_choice_is_named(backend: str, row: int) -> None:
    sizes = (2, 3)
    logits, _ = policy(40, sizes)
    logits[min(row + 1, 39) :, 0] = np.nan  # the first choice of a later row
    logits[row, 3] = np.nan
    with pytest.raises(
        ValueError, match=rf"multi_categorical_sample: no action can be drawn.* in row {row}$"
    ):
        multi_categorical_sample(logits, sizes, seed=0, backend=backend)
    with pytest.raises(ValueError, match=rf"multi_categorical_mode: no action is the best.* in row {row}$"):
        multi_categorical_mode(logits, sizes, backend=backend)
    action = np.zeros((40, 2), np.int64)
    action[row, 0] = 2
    with pytest.raises(
        ValueError, match=rf"multi_categorical_log_prob: action is out of range in row {row}$"
    ):
        multi_categorical_log_prob(logits, sizes, action, backend=backend)


def test_bad_arguments() -> None:
    logits, mask = policy(4, (2, 3))
    for changed, error, message in [
        ({"logits": logits.astype(float)}, TypeError, r"logits must be float32 \[B, A\], got float64"),
        ({"sizes": (2, 2)}, ValueError, r"sizes must be positive and add up to the 5 logits, got \[2, 2\]"),
        ({"sizes": (5, 0)}, ValueError, r"sizes must be positive and add up to the 5 logits, got \[5, 0\]"),
        ({"sizes": ()}, ValueError, "sizes must be positive"),
        ({"action_mask": mask[:2]}, ValueError, r"action_mask must be bool \[B, A\] = \[4, 5\]"),
        ({"seed": None}, ValueError, "give either seed or uniform"),
        ({"uniform": logits, "seed": None}, ValueError, r"uniform must be float32 \[B, K\] = \[4, 2\]"),
        ({"seed": 2**64}, ValueError, r"seed must be in \[0, 2\^64\)"),
    ]:
        with pytest.raises(error, match=f"multi_categorical_sample: {message}"):
            multi_categorical_sample(**{"logits": logits, "sizes": (2, 3), "seed": 0} | changed)
    out = np.zeros(4, np.float32)
    for sizes in ([], [5, 0], [2, 2], [2, 4], [-1, 6]):
        with pytest.raises(ValueError, match="multi_categorical_entropy: sizes must be"):
            _core.categorical_entropy(logits, out, sizes=sizes)
