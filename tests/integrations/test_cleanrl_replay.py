"""Replay buffers for CleanRL's scripts, beside SB3's, of which CleanRL's is a copy, and Rainbow's by definition."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from fastrl.integrations.cleanrl import PrioritizedReplayBuffer, ReplayBuffer

BOX, IMAGE = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(0, 255, (4, 6, 5), np.uint8)


def episodes(space, n_envs, count):
    rng = np.random.default_rng(0)
    space.seed(0)
    for _ in range(count):
        obs, following = (np.stack([space.sample() for _ in range(n_envs)]) for _ in range(2))
        done = rng.random(n_envs) < 0.3
        infos = [{"TimeLimit.truncated": bool(d and rng.random() < 0.5)} for d in done]
        yield obs, following, rng.integers(0, 2, n_envs), rng.standard_normal(n_envs), done, infos


@pytest.mark.parametrize("space", [BOX, IMAGE])
@pytest.mark.parametrize("timeouts", [True, False])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_same_draws_give_the_same_rows(space, timeouts, n_envs):
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    arguments = (40, space, spaces.Discrete(2), "cpu", n_envs)
    ours = ReplayBuffer(*arguments, optimize_memory_usage=True, handle_timeout_termination=timeouts)
    theirs = buffers.ReplayBuffer(*arguments, handle_timeout_termination=timeouts)
    for row in episodes(space, n_envs, 50):
        ours.add(*row)
        theirs.add(*row)
        batches = []
        for buffer in (ours, theirs):
            np.random.seed(1)  # noqa: NPY002  # what both draw from
            batches.append(buffer.sample(16))
        assert ours.size() == theirs.size()
        for name in ("observations", "actions", "next_observations", "dones", "rewards"):
            assert torch.equal(getattr(batches[0], name), getattr(batches[1], name)), name


def test_infos_are_not_read_where_time_limits_are_not_told_apart():
    """Newer scripts pass the dict of a vector environment."""
    buffer = ReplayBuffer(4, BOX, spaces.Discrete(2), "cpu", handle_timeout_termination=False)
    buffer.add(
        np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1, int), np.zeros(1), np.ones(1), {"final_info": None}
    )
    assert buffer.sample(1).dones.tolist() == [[1.0]]


def test_what_the_buffer_refuses():
    buffer = ReplayBuffer(4, BOX, spaces.Discrete(2), "cpu")
    with pytest.raises(ValueError, match=r"ReplayBuffer sample: it must hold a transition, got none"):
        buffer.sample(1)
    with pytest.raises(ValueError, match=r"ReplayBuffer: n_envs must be >= 1, got 0"):
        ReplayBuffer(4, BOX, spaces.Discrete(2), "cpu", 0)
    with pytest.raises(ValueError, match=r"PrioritizedReplayBuffer: beta must be in \[0, 1\], got 2"):
        PrioritizedReplayBuffer(4, IMAGE.shape, "cpu", 1, 0.99, beta=2)


def rainbow(n_step=3, capacity=100, **kwargs):
    np.random.seed(0)  # noqa: NPY002
    return PrioritizedReplayBuffer(capacity, IMAGE.shape, "cpu", n_step, 0.9, **kwargs)


def image(i):
    return np.full((1, *IMAGE.shape), i, np.uint8)


def by_row(buffer):
    """What each row stands for, from many draws."""
    batch = buffer.sample(500)
    _, first = np.unique(batch.indices, return_index=True)
    assert len(first) == buffer.size
    return type(batch)(*(x[first] for x in batch))


def test_every_step_of_an_episode_is_a_start():
    """CleanRL's drops the last n - 1."""
    buffer = rainbow()
    for i in range(5):
        buffer.add(image(i), np.zeros(1, int), np.ones(1), image(i + 1), np.array([i == 4]))
    batch = by_row(buffer)
    assert batch.observations[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert batch.next_observations[:, 0, 0, 0].tolist() == [3, 4, 5, 5, 5]
    assert batch.dones[:, 0].tolist() == [False, False, True, True, True]
    np.testing.assert_allclose(batch.rewards[:, 0], [2.71, 2.71, 2.71, 1.9, 1], rtol=1e-6)
    np.testing.assert_allclose(batch.discounts[:, 0], [0.729, 0.729, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("done", [True, 1, 1.0, np.array([1.0]), np.array([True])])
def test_done_is_any_number(done):
    buffer = rainbow()
    for ended in (done, done * 0):
        buffer.add(image(0), np.zeros(1, int), np.ones(1), image(1), ended)
    assert by_row(buffer).dones[:, 0].tolist() == [True, False]


def test_no_return_crosses_a_time_limit():
    """CleanRL's do, which are not told of it."""
    buffer = rainbow()
    for i in range(4):
        buffer.add(image(i), np.zeros(1, int), np.ones(1), image(i + 1), np.array([False]), truncated=i == 1)
    batch = by_row(buffer)
    np.testing.assert_allclose(batch.rewards[:, 0], [1.9, 1, 1.9, 1], rtol=1e-6)
    assert batch.next_observations[:, 0, 0, 0].tolist() == [2, 2, 4, 4]
    np.testing.assert_allclose(batch.discounts[:, 0], [0.81, 0.9, 0.81, 0.9], rtol=1e-6)
    assert not batch.dones.any()


def test_priorities_and_weights_are_rainbows():
    buffer = rainbow(n_step=1, alpha=0.5, beta=0.5, eps=1e-6)
    for i in range(4):
        buffer.add(image(i), np.array([i]), np.ones(1), image(i), np.array([False]))
    priorities = np.array([0.04, -0.16, 0.36, 1.0])
    buffer.update_priorities(np.arange(4), priorities)
    batch = buffer.sample(4000)
    leaf = (np.abs(priorities) + 1e-6) ** 0.5
    np.testing.assert_allclose(np.bincount(batch.indices) / 4000, leaf / leaf.sum(), atol=1e-3)
    weight = (4 * leaf / leaf.sum()) ** -0.5
    np.testing.assert_allclose(batch.weights[:, 0], (weight / weight.max())[batch.indices], rtol=1e-5)
    assert batch.actions.shape == batch.rewards.shape == batch.dones.shape == (4000, 1)
    assert batch.discounts is None
    buffer.beta = 1.0
    assert buffer.sample(64).weights.min() < batch.weights.min()


@pytest.mark.parametrize("name", ["done", "truncated"])
@pytest.mark.parametrize("wrong", [None, {}, "no", [{"TimeLimit.truncated": False}], np.array([None])])
def test_flags_that_are_no_numbers(name, wrong):
    """Not taken for an end, as whatever else compares unequal to 0."""
    buffer = rainbow()
    step = {
        "obs": image(0),
        "action": np.zeros(1, int),
        "reward": np.ones(1),
        "next_obs": image(1),
        "done": 0,
    }
    with pytest.raises(TypeError, match=rf"PrioritizedReplayBuffer add: {name} must be real numbers \[1\]"):
        buffer.add(**{**step, name: wrong})
    assert buffer.size == 0


def test_priorities_may_be_tensors():
    buffer = rainbow(n_step=1, alpha=1.0, eps=0.0)
    buffer.add(image(0), np.zeros(1, int), np.ones(1), image(1), 0)
    buffer.update_priorities(np.array([0]), torch.tensor([-3.0], requires_grad=True))
    assert buffer.transitions.rows.get_max_priority() == 3
    for wrong in ("a", [None], [[1.0], [1.0, 2.0]]):
        with pytest.raises((TypeError, ValueError), match=r"^update_priorities: priorities must be float"):
            buffer.update_priorities(np.array([0]), wrong)
    assert buffer.transitions.rows.get_max_priority() == 3
