"""What replay buffers for SB3 refuse: one clear error, and nothing is stored or drawn."""

import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("stable_baselines3")

from fastrl.integrations.sb3 import DictReplayBuffer, PrioritizedReplayBuffer, ReplayBuffer

BOX = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (4, 6, 5), np.uint8)
HUGE = spaces.Box(0, 255, (4, 1000, 1000), np.uint8)  # 2^31 of which no machine holds
DICT = spaces.Dict({"a": BOX, "c": spaces.Discrete(3)})


def row(**change):
    arguments = {
        "obs": np.zeros((2, 3), np.float32),
        "next_obs": np.zeros((2, 3), np.float32),
        "action": np.zeros(2, np.int64),
        "reward": np.zeros(2, np.float32),
        "done": np.zeros(2, bool),
        "infos": [{}, {}],
    }
    return {**arguments, **change}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"obs": np.zeros((2, 4), np.float32)}, ValueError, r"obs must be float32 \[n, 3\]"),
        ({"obs": np.zeros((2, 3), np.complex64)}, TypeError, r"obs must be float32"),
        ({"next_obs": np.zeros((4, 3), np.float32)}, ValueError, r"next_obs"),
        ({"action": np.zeros(2)}, TypeError, r"action must be int64"),
        (
            {"action": np.zeros(3, int)},
            ValueError,
            r"ReplayBuffer add: action must be \[2, 1\], got int64 \[3\]",
        ),
        (
            {"reward": np.zeros(1)},
            ValueError,
            r"ReplayBuffer add: reward must be \[2, 1\], got float64 \[1\]",
        ),
        ({"done": np.zeros(3)}, ValueError, r"ReplayBuffer add: done must be \[2, 1\], got float64 \[3\]"),
        (
            {"done": np.array([None, None])},
            TypeError,
            r"ReplayBuffer add: done must be real numbers \[2, 1\], got object \[2\]",
        ),
        (
            {"done": [[0], [0, 1]]},
            ValueError,
            r"ReplayBuffer add: done must be real numbers \[2, 1\], got sett",
        ),
        (
            {"reward": "ab"},
            TypeError,
            r"ReplayBuffer add: reward must be real numbers \[2, 1\], got str 'ab'",
        ),
        ({"infos": [{}]}, ValueError, r"ReplayBuffer add: infos must be 2 dicts, got list"),
        (
            {"infos": [{}, None], "done": np.ones(2)},
            ValueError,
            r"ReplayBuffer add: infos must be 2 dicts, got NoneType None at 1",
        ),
    ],
)
def test_rows_that_do_not_fit(change, error, message):
    buffer = ReplayBuffer(8, BOX, spaces.Discrete(2), device="cpu", n_envs=2)
    with pytest.raises(error, match=message):
        buffer.add(**row(**change))
    assert buffer.size() == buffer.transitions.rows.get_stored_size() == 0
    buffer.add(**row())


@pytest.mark.parametrize("wrong", [None, np.zeros(3), {"a": np.zeros((2, 3), np.float32)}])
@pytest.mark.parametrize("name", ["obs", "next_obs"])
def test_observations_without_all_keys(name, wrong):
    buffer = DictReplayBuffer(8, DICT, spaces.Discrete(2), device="cpu", n_envs=2)
    obs = {"a": np.zeros((2, 3), np.float32), "c": np.zeros(2, np.int64)}
    with pytest.raises(ValueError, match=rf"DictReplayBuffer add: {name} must have a, c, got"):
        buffer.add(**{**row(obs=obs, next_obs=obs), name: wrong})
    assert buffer.size() == 0
    buffer.add(**row(obs={**obs, "more": 1}, next_obs=obs))  # SB3 passes over it


@pytest.mark.parametrize(("size", "error"), [(-1, ValueError), (2.5, TypeError), (None, TypeError)])
def test_sizes_of_batches_that_will_not_do(size, error):
    buffer = ReplayBuffer(8, BOX, spaces.Discrete(2), device="cpu", n_envs=2)
    buffer.add(**row())
    np.random.seed(0)  # noqa: NPY002
    with pytest.raises(error, match=r"ReplayBuffer sample: batch_size must be"):
        buffer.sample(size)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002  # nothing was drawn


@pytest.mark.parametrize(
    ("cls", "change", "error", "message"),
    [
        (ReplayBuffer, {"n_envs": 0}, ValueError, r"ReplayBuffer: n_envs must be >= 1, got 0"),
        (ReplayBuffer, {"buffer_size": 0}, ValueError, r"ReplayBuffer: buffer_size must be >= 1, got 0"),
        (ReplayBuffer, {"buffer_size": 2**31, "observation_space": HUGE}, MemoryError, r"needs [\d,]+ bytes"),
        (ReplayBuffer, {"gamma": 2}, ValueError, r"ReplayBuffer: gamma must be in \[0, 1\], got 2"),
        (ReplayBuffer, {"n_steps": 0}, ValueError, r"Nstep's size must be >= 1, got 0"),
        (
            PrioritizedReplayBuffer,
            {"beta": 1.5},
            ValueError,
            r"PrioritizedReplayBuffer: beta must be in \[0, 1\], got 1.5",
        ),
        (PrioritizedReplayBuffer, {"alpha": -1}, ValueError, r"alpha must be finite and >= 0, got -1"),
        (PrioritizedReplayBuffer, {"eps": -1}, ValueError, r"eps must be finite and >= 0, got -1"),
        (DictReplayBuffer, {}, ValueError, r"DictReplayBuffer: observation_space must be a Dict, got Box"),
    ],
)
def test_arguments_that_will_not_do(cls, change, error, message):
    arguments = {
        "buffer_size": 8,
        "observation_space": IMAGE,
        "action_space": spaces.Discrete(2),
        "device": "cpu",
    }
    with pytest.raises(error, match=message):
        cls(**{**arguments, **change})


def test_spaces_of_other_kinds_are_refused_by_name():
    text = spaces.Dict({"a": spaces.Text(3)})
    with pytest.raises((ValueError, NotImplementedError), match="Text"):
        ReplayBuffer(8, text, spaces.Discrete(2), device="cpu")
