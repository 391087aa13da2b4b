"""Running statistics equal NumPy's over everything seen, however split; rewards follow VecNormalize."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastrl import _core, checkpoint
from fastrl.normalize import ReturnNormalizer, RunningMeanStd

values = st.floats(-1e6, 1e6, width=32)
batches = st.lists(
    st.integers(0, 5).flatmap(lambda rows: hnp.arrays(np.float32, (rows, 3), elements=values)), max_size=6
)


def seen(parts: list[NDArray[Any]]) -> RunningMeanStd:
    statistics = RunningMeanStd((3,))
    for part in parts:
        statistics.update(part)
    return statistics


def assert_close(one: RunningMeanStd, other: RunningMeanStd) -> None:
    assert one.count == other.count
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(one.var, other.var, rtol=1e-9, atol=1e-3)


@given(batches)
def test_equal_to_numpy_over_the_concatenation(parts: list[NDArray[Any]]) -> None:
    statistics = seen(parts)
    everything = np.concatenate([np.empty((0, 3), np.float32), *parts]).astype(np.float64)
    assert statistics.count == len(everything)
    if len(everything):
        np.testing.assert_allclose(statistics.mean, everything.mean(axis=0), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(statistics.var, everything.var(axis=0), rtol=1e-9, atol=1e-3)
    else:
        np.testing.assert_array_equal([statistics.mean, statistics.var], [np.zeros(3), np.ones(3)])


@given(batches, batches, batches)
def test_merging_is_associative_and_equal_to_updating(
    a: list[NDArray[Any]], b: list[NDArray[Any]], c: list[NDArray[Any]]
) -> None:
    left, right, tail = seen(a), seen(b), seen(b)
    left.merge(right)
    left.merge(seen(c))
    tail.merge(seen(c))
    whole = seen(a)
    whole.merge(tail)
    assert_close(left, whole)
    assert_close(left, seen(a + b + c))


def test_a_large_offset_loses_no_precision() -> None:
    x = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    statistics = RunningMeanStd((1,))
    for part in np.array_split(x, 37):
        statistics.update(part)
    np.testing.assert_allclose(statistics.var, x.var(axis=0), rtol=1e-6)


def test_leading_axes_strides_and_dtypes() -> None:
    x = np.random.default_rng(0).integers(0, 255, (4, 5, 2, 3), dtype=np.uint8)
    statistics, strided, scalar = RunningMeanStd((2, 3)), RunningMeanStd((2, 3)), RunningMeanStd()
    statistics.update(x)
    strided.update(np.asfortranarray(x)[::1].swapaxes(0, 1))
    scalar.update(x.reshape(-1).astype(bool))
    np.testing.assert_allclose(statistics.var, x.reshape(-1, 2, 3).var(axis=0))
    np.testing.assert_allclose(strided.var, statistics.var)
    assert scalar.mean == (x > 0).mean()


def test_normalize_by_hand() -> None:
    statistics = RunningMeanStd((2,))
    statistics.update(np.array([[0.0, 5.0], [4.0, 5.0]]))
    got = statistics.normalize(np.array([[4.0, 5.0], [100.0, 6.0]], np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [[1, 0], [10, 10]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 3, 5, 16, 40])
def test_kernels_are_the_definition(isa: str, columns: int, dtype: Any) -> None:
    """Sums differ from NumPy's in their order alone, the rest in no bit."""
    rng = np.random.default_rng(columns)
    statistics = RunningMeanStd((columns,))
    everything = (3.0 + 5.0 * rng.standard_normal((70, columns))).astype(dtype)
    for part in np.split(everything, [1, 9, 24]):
        statistics.update(part)
        x = (3.0 + 20.0 * rng.standard_normal((37, columns))).astype(dtype)
        with np.errstate(over="ignore"):  # the first row's variance is 0
            z = (x - statistics.mean) / np.sqrt(statistics.var + 1e-8)
        np.testing.assert_array_equal(statistics.normalize(x), np.clip(z, -10, 10).astype(np.float32))
    np.testing.assert_allclose(statistics.mean, everything.mean(0, np.float64), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(statistics.var, everything.var(0, np.float64), rtol=1e-12)


def test_instruction_sets_agree_to_the_bit() -> None:
    states = set()
    before = _core.isa()
    for name in filter(_core.isa_supported, ("baseline", "avx2", "avx512")):
        _core.set_isa(name)
        rng = np.random.default_rng(0)
        statistics, scaler = RunningMeanStd((3,)), ReturnNormalizer(21, 0.97)
        for _ in range(5):
            statistics.update(rng.normal(size=(21, 3)))
            scaler.update(rng.normal(size=21), rng.random(21) < 0.2)
        states.add(
            repr([x.tobytes() for x in (*statistics.arrays, *scaler.statistics.arrays, scaler.returns)])
        )
    _core.set_isa(before)
    assert len(states) == 1


def test_copies_share_nothing() -> None:
    statistics = seen([np.ones((2, 3), np.float32)])
    twin, pickled = copy.deepcopy(statistics), pickle.loads(pickle.dumps(statistics))
    statistics.update(np.zeros((5, 3)))
    for other in (twin, pickled):
        assert other.count == 2
        other.update(np.zeros((5, 3)))
        assert_close(other, statistics)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_named_and_changes_nothing(value: float) -> None:
    statistics = seen([np.ones((2, 3), np.float32)])
    before = statistics.state()
    batch = np.zeros((4, 3), np.float32)
    batch[2, 1] = value
    with pytest.raises(ValueError, match=rf"batch must be finite, got {value} in column 1 of row 2"):
        statistics.update(batch)
    assert repr(statistics.state()) == repr(before)
    with pytest.raises(ValueError, match=rf"got {value} in row 0$"):
        RunningMeanStd().update(np.array([value]))


def test_overflow_is_named() -> None:
    with pytest.raises(ValueError, match="variance of column 0 overflows float64"):
        RunningMeanStd((1,)).update(np.array([[1e200], [-1e200]]))


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (np.zeros((2, 4)), ValueError, r"batch must be \[..., 3\], got float64 \[2, 4\]"),
        (np.zeros(3), ValueError, r"batch must be \[..., 3\], got float64 \[3\]"),
        ([[1.0, 2.0, 3.0]], TypeError, "batch must be a numeric array, got list"),
        (np.array([["a"] * 3]), TypeError, "batch must be a numeric array, got <U1"),
    ],
)
def test_bad_batches_are_refused(batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RunningMeanStd((3,)).update(batch)


def test_other_shapes_do_not_merge_or_load() -> None:
    statistics = RunningMeanStd((3,))
    with pytest.raises(ValueError, match=r"cannot merge shape \[2\] into \[3\]"):
        statistics.merge(RunningMeanStd((2,)))
    with pytest.raises(ValueError, match=r"state must be of shape \[3\], got \[2\]"):
        statistics.load_state(RunningMeanStd((2,)).state())
    with pytest.raises(ValueError, match="state must be of 3 envs, got 2"):
        ReturnNormalizer(3, 0.99).load_state(ReturnNormalizer(2, 0.99).state())


# Rewards


def vec_normalize(rewards: NDArray[Any], dones: NDArray[Any], gamma: float) -> list[float]:
    """Every return that VecNormalize.step_wait feeds to its statistics, one env at a time."""
    fed = []
    for env in range(rewards.shape[1]):
        running = 0.0
        for reward, done in zip(rewards[:, env], dones[:, env], strict=True):
            running = running * gamma + reward
            fed.append(running)
            if done:
                running = 0.0
    return fed


@given(st.integers(1, 4), st.integers(1, 9), st.floats(0, 1), st.integers(0, 2**32))
def test_returns_follow_vec_normalize(num_envs: int, steps: int, gamma: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(steps, num_envs)).astype(np.float32)
    dones = rng.random((steps, num_envs)) < 0.3
    scaler = ReturnNormalizer(num_envs, gamma)
    for reward, done in zip(rewards, dones, strict=True):
        scaler.update(reward, done)
    std = np.sqrt(np.var(vec_normalize(rewards.astype(np.float64), dones, gamma)) + 1e-8)
    np.testing.assert_allclose(scaler.normalize(rewards[-1]), np.clip(rewards[-1] / std, -10, 10), rtol=1e-4)


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_steps_that_are_none_are_not_seen(num_envs: int, seed: int) -> None:
    """NEXT_STEP: with the reset's steps left out, the statistics are those of the episodes alone."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(20, num_envs))
    dones = rng.random((20, num_envs)) < 0.3
    scaler, ended = ReturnNormalizer(num_envs, 0.9), np.zeros(num_envs, bool)
    fed: list[float] = []
    running = np.zeros(num_envs)
    for reward, done in zip(rewards, dones, strict=True):
        valid, done = ~ended, done & ~ended
        scaler.update(np.where(valid, reward, 0.0), done, valid)
        running = np.where(valid, 0.9 * running + reward, running)
        fed += running[valid].tolist()
        running[done] = 0.0
        ended = done
        np.testing.assert_array_equal(scaler.returns, running)
    assert scaler.statistics.count == len(fed)
    np.testing.assert_allclose(scaler.statistics.var, np.var(fed), rtol=1e-9, atol=1e-12)


def test_a_reward_is_scaled_not_shifted() -> None:
    scaler = ReturnNormalizer(2, 0.5)
    scaler.update(np.array([3.0, 1.0]), np.array([True, False]))  # returns 3, 1: std 1
    got = scaler.normalize(np.array([3.0, -20.0]))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [3, -10], rtol=1e-6)
    np.testing.assert_array_equal(scaler.returns, [0, 1])


def test_a_bad_reward_names_its_env_and_changes_nothing() -> None:
    scaler = ReturnNormalizer(3, 0.9)
    with pytest.raises(ValueError, match="reward must be finite, got nan from env 1"):
        scaler.update(np.array([1.0, np.nan, 2.0]), np.zeros(3, bool))
    assert scaler.statistics.count == 0
    with pytest.raises(ValueError, match=r"reward must be \[3\], got float64 \[2\]"):
        scaler.update(np.zeros(2), np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"done must be \[3\], got bool \[3, 1\]"):
        scaler.update(np.zeros(3), np.zeros((3, 1), bool))
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        ReturnNormalizer(3, 1.5)


def test_statistics_continue_bit_for_bit_after_a_checkpoint(tmp_path: Any) -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(20, 4))
    straight, first = ReturnNormalizer(4, 0.99), ReturnNormalizer(4, 0.99)
    fresh = first.state()
    for reward in data:
        straight.update(reward, reward > 1)
    for reward in data[:10]:
        first.update(reward, reward > 1)
    checkpoint.save_folder(tmp_path / "half", first.state(), algorithm="PPO")
    resumed = ReturnNormalizer(4, 0.99)
    resumed.load_state(checkpoint.read(tmp_path / "half").state)
    for reward in data[10:]:
        resumed.update(reward, reward > 1)
    assert repr(resumed.state()) == repr(straight.state())
    assert resumed.statistics.var == straight.statistics.var
    first.load_state(fresh)  # what state() returned stayed as it was
    assert repr(first.state()) == repr(ReturnNormalizer(4, 0.99).state())
