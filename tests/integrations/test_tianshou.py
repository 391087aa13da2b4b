"""Tianshou's prioritized replay on a compiled tree, beside its own."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tianshou")

from tianshou import data
from tianshou.algorithm.algorithm_base import _gae

from fastrl.integrations.tianshou import (
    PrioritizedReplayBuffer,
    PrioritizedVectorReplayBuffer,
    SegmentTree,
    gae,
)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 100, 1000])
def test_segment_tree(size: int) -> None:
    rng = np.random.default_rng(size)
    ours, theirs = SegmentTree(size), data.SegmentTree(size)
    assert len(ours) == len(theirs)
    for _ in range(10):
        index = rng.integers(0, size, 30)
        value = rng.random(30) * (rng.random(30) < 0.8)
        for tree in (ours, theirs):
            tree[index] = value
            tree[index[:7].astype(np.int32)] = 0.75
            tree[int(index[3])] = 0.25
            tree[index[5:9]] = 0.5
            tree[np.arange(size)[:2]] = np.float32([0.125, 0.5])[:size]
        np.testing.assert_array_equal(ours[np.arange(size)], theirs[np.arange(size)])
        square = rng.integers(0, size, (3, 4))
        np.testing.assert_array_equal(ours[square], theirs[square])
        narrow = square[0].astype(np.int32)
        np.testing.assert_array_equal(ours[narrow], theirs[narrow])
        assert ours[size - 1] == theirs[size - 1]
        for start, end in [
            (0, None),
            (0, size),
            (size // 2, None),
            (size // 3, size // 2),
            (0, -1),
            (size, size),
        ]:
            assert ours.reduce(start, end) == pytest.approx(theirs.reduce(start, end), rel=1e-14)
        mass = rng.random((20, 5)) * ours.reduce()
        np.testing.assert_array_equal(
            ours.get_prefix_sum_idx(mass), np.array([theirs.get_prefix_sum_idx(m) for m in mass])
        )
        assert ours.get_prefix_sum_idx(float(mass[0, 0])) == theirs.get_prefix_sum_idx(float(mass[0, 0]))


def test_segment_tree_where_tianshou_draws_what_cannot_be_drawn() -> None:
    ours, theirs = SegmentTree(4), data.SegmentTree(4)
    for tree in (ours, theirs):
        tree[np.arange(4)] = np.array([0.0, 1, 0, 1])
    assert theirs.get_prefix_sum_idx(0.0) == 0
    assert ours.get_prefix_sum_idx(0.0) == 1


def test_rows_are_read_from_behind() -> None:
    """Where Tianshou's tree has the weight of another node."""
    tree = SegmentTree(4)
    tree[np.arange(4)] = np.arange(4.0)
    assert tree[-1] == 3
    np.testing.assert_array_equal(tree[np.array([-4, 1, -2])], [0, 1, 2])
    for index in (-5, np.array([0, 4])):
        with pytest.raises(IndexError, match=r"index must be in \[0, 4\)"):
            tree[index]
    assert list(tree) == [0, 1, 2, 3]
    buffer = PrioritizedReplayBuffer(8, alpha=1.0, beta=1.0)
    for i in range(8):
        buffer.add(one(i))
    buffer.update_weight(np.arange(8), np.arange(1.0, 9))
    assert (buffer[-1].obs, buffer[-1].weight) == (7.0, 1.0)
    np.testing.assert_allclose(buffer[np.array([-8, -1])].weight, [1, 1 / 8], rtol=1e-6)


def test_segment_tree_refuses() -> None:
    tree = SegmentTree(4)
    tree[0] = 1.0
    for index, value in [(4, 1.0), (-1, 1.0), (0, -1.0), (0, np.nan)]:
        with pytest.raises(ValueError, match="must be"):
            tree[index] = value
    for mass in (-0.1, 1.1):
        with pytest.raises(ValueError, match="mass must be"):
            tree.get_prefix_sum_idx(mass)
    assert tree.reduce() == 1


def one(i: int) -> data.Batch:
    ends = i % 7 == 6
    return data.Batch(
        obs=float(i), act=i % 3, rew=i / 10, terminated=ends, truncated=False, obs_next=i + 1.0, info={}
    )


@pytest.mark.parametrize("options", [{}, {"weight_norm": False}])
def test_replay_buffer(options: dict[str, Any]) -> None:
    """Both draw with NumPy's global generator."""
    buffers = [
        kind(64, alpha=0.6, beta=0.4, **options)
        for kind in (PrioritizedReplayBuffer, data.PrioritizedReplayBuffer)
    ]
    rng = np.random.default_rng(0)
    for i in range(150):
        for buffer in buffers:
            buffer.add(one(i))
        if i < 20:
            continue
        size, drawn = int(rng.integers(1, 40)), []
        error = rng.normal(size=size)
        for buffer in buffers:
            np.random.seed(i)  # noqa: NPY002
            batch, index = buffer.sample(size)
            buffer.update_weight(index, error)
            drawn.append((index, batch.obs, batch.weight))
        for ours, theirs in zip(*drawn, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert isinstance(buffers[0], data.PrioritizedReplayBuffer)
    assert isinstance(buffers[0].weight, SegmentTree)


def test_vector_replay_buffer(tmp_path: Path) -> None:
    buffers = [
        kind(60, buffer_num=3, alpha=0.6, beta=0.4)
        for kind in (PrioritizedVectorReplayBuffer, data.PrioritizedVectorReplayBuffer)
    ]
    for i in range(50):
        for buffer in buffers:
            buffer.add(data.Batch.stack([one(3 * i + k) for k in range(3)]), buffer_ids=[0, 1, 2])
    buffers[0].save_hdf5(str(tmp_path / "buffer.hdf5"))
    buffers[0] = PrioritizedVectorReplayBuffer.load_hdf5(str(tmp_path / "buffer.hdf5"))
    buffers[0] = pickle.loads(pickle.dumps(buffers[0]))
    assert isinstance(buffers[0].weight, SegmentTree)
    for i in range(5):
        drawn = []
        for buffer in buffers:
            np.random.seed(i)  # noqa: NPY002
            buffer.set_beta(0.5 + i / 10)
            batch, index = buffer.sample(32)
            buffer.update_weight(index, batch.obs / 50 - 1)
            drawn.append((index, batch.obs, batch.weight))
        for ours, theirs in zip(*drawn, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 1, 300])
def test_gae(steps: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    v_s, v_s_, rew = rng.normal(size=(3, steps)).astype(dtype)
    end = rng.random(steps) < 0.1
    expected = _gae(v_s.astype(float), v_s_.astype(float), rew.astype(float), end, 0.99, 0.95)
    got = gae(v_s, v_s_, rew, end, 0.99, 0.95)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, expected)
