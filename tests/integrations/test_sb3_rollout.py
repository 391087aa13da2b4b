"""Rollout buffers beside SB3's: same arrays, same minibatches, same training."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common import buffers  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402

from fastrl.integrations.sb3 import DictRolloutBuffer, RolloutBuffer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")
BOX = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 5, 4), np.uint8)
SPACES = [
    (BOX, spaces.Discrete(4)),
    (IMAGE, spaces.Box(-1, 1, (2, 3), np.float32)),
    (spaces.Discrete(7), spaces.MultiDiscrete([2, 3])),
    (spaces.MultiBinary(4), spaces.MultiBinary(3)),
    (spaces.Dict({"a": BOX, "b": IMAGE, "c": spaces.Discrete(3)}), spaces.Discrete(2)),
]
NAMES = ("actions", "rewards", "returns", "episode_starts", "values", "log_probs", "advantages")


def pair(obs_space, action_space, T=7, N=3, **kwargs):
    dicts = isinstance(obs_space, spaces.Dict)
    ours = DictRolloutBuffer if dicts else RolloutBuffer
    theirs = buffers.DictRolloutBuffer if dicts else buffers.RolloutBuffer
    arguments = {"device": "cpu", "n_envs": N, "gamma": 0.98, "gae_lambda": 0.9, **kwargs}
    return tuple(cls(T, obs_space, action_space, **arguments) for cls in (ours, theirs))


def step(rng, obs_space, action_space, N):
    sampled = [obs_space.sample() for _ in range(N)]
    if isinstance(obs_space, spaces.Dict):
        obs = {key: np.stack([one[key] for one in sampled]) for key in obs_space}
    else:
        obs = np.stack(sampled)
    action = np.stack([action_space.sample() for _ in range(N)])
    value = torch.from_numpy(rng.standard_normal((N, 1), np.float32))
    log_prob = torch.from_numpy(rng.standard_normal(N, np.float32))
    return obs, action, rng.standard_normal(N, np.float32), rng.random(N) < 0.3, value, log_prob


def fill(both, rng, obs_space, action_space):
    T, N = both[0].buffer_size, both[0].n_envs
    for _ in range(T):
        row = step(rng, obs_space, action_space, N)
        for buffer in both:
            buffer.add(*copy.deepcopy(row))
    last, dones = torch.from_numpy(rng.standard_normal((N, 1), np.float32)), rng.random(N) < 0.5
    for buffer in both:
        buffer.compute_returns_and_advantage(last.clone(), dones)


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    else:
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("obs_space", "action_space"), SPACES)
@pytest.mark.parametrize(("T", "N"), [(7, 3), (1, 1), (5, 1), (1, 4)])
def test_arrays_and_minibatches_equal_sb3s(obs_space, action_space, T, N):
    obs_space.seed(0)
    action_space.seed(0)
    both = pair(obs_space, action_space, T, N)
    rng = np.random.default_rng(0)
    for _ in range(3):  # the arrays are used again
        fill(both, rng, obs_space, action_space)
        assert_same(both[0].observations, both[1].observations)
        for name in NAMES:
            assert_same(getattr(both[0], name), getattr(both[1], name))
        for batch_size in (4, None, 1):
            batches = []
            for buffer in both:
                np.random.seed(1)  # noqa: NPY002  # what SB3 draws from
                batches.append(list(buffer.get(batch_size)))
            assert len(batches[0]) == len(batches[1])
            for a, b in zip(*batches, strict=True):
                assert type(a) is type(b)
                for x, y in zip(a, b, strict=True):
                    assert_same(x, y)
        for name in NAMES:  # as SB3 leaves them
            assert_same(getattr(both[0], name), getattr(both[1], name))
        for buffer in both:
            buffer.reset()
        assert both[0].pos == 0
        assert both[0].rewards.shape == both[1].rewards.shape == both[0].values.shape


def test_minibatches_are_taken_from_where_steps_were_written():
    ours, _ = pair(IMAGE, spaces.Discrete(2))
    before = ours.observations
    fill([ours], np.random.default_rng(0), IMAGE, spaces.Discrete(2))
    next(ours.get(4))
    assert np.shares_memory(before, ours.observations)
    ours.reset()
    assert np.shares_memory(before, ours.observations)


@pytest.mark.parametrize("change", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("flat", [False, True])
def test_copies_go_on(change, flat):
    both = pair(BOX, spaces.Discrete(2))
    rng = np.random.default_rng(0)
    fill(both, rng, BOX, spaces.Discrete(2))
    if flat:
        next(both[0].get())
    both = (change(both[0]), both[1])
    both[0].reset()
    both[1].reset()
    fill(both, rng, BOX, spaces.Discrete(2))
    for name in NAMES:
        assert_same(getattr(both[0], name), getattr(both[1], name))


def test_nan_after_an_episode_stays_there():
    ours, _ = pair(BOX, spaces.Discrete(2), T=2, N=1)
    zero = np.zeros(1)
    for start, value in ((1.0, 0.5), (1.0, np.nan)):
        ours.add(np.zeros((1, 3)), zero, np.ones(1), np.array([start]), torch.tensor([value]), torch.zeros(1))
    ours.compute_returns_and_advantage(torch.zeros(1), np.array([True]))
    assert ours.advantages[:, 0].tolist()[0] == 0.5
    assert np.isnan(ours.advantages[1, 0])


@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_training_equals_training_with_sb3s_buffer(algorithm, env_id):
    parameters = []
    for cls in (RolloutBuffer, None):
        env = make_vec_env(env_id, 4, seed=0)
        model = algorithm("MlpPolicy", env, n_steps=32, seed=0, device="cpu", rollout_buffer_class=cls)
        model.learn(32 * 4 * 4)
        parameters.append(model.policy.state_dict())
    for name, ours in parameters[0].items():
        assert torch.equal(ours, parameters[1][name]), name


class Pairs(gymnasium.Env):
    """Dict observations."""

    observation_space = spaces.Dict({"a": BOX, "c": spaces.Discrete(3)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        obs = self.observation_space.sample()
        return obs, float(action), bool(obs["c"] == 0), False, {}


def test_training_on_dicts_equals_training_with_sb3s_buffer():
    parameters = []
    for cls in (DictRolloutBuffer, None):
        env = make_vec_env(Pairs, 2, seed=0)
        model = sb3.PPO("MultiInputPolicy", env, n_steps=32, seed=0, device="cpu", rollout_buffer_class=cls)
        model.learn(128)
        parameters.append(model.policy.state_dict())
    assert all(torch.equal(ours, parameters[1][name]) for name, ours in parameters[0].items())


def test_what_is_refused():
    ours, _ = pair(BOX, spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"get: it must be full, got 0 of 7 steps"):
        next(ours.get(2))
    with pytest.raises(ValueError, match=r"compute_returns_and_advantage: it must be full, got 0 of 7"):
        ours.compute_returns_and_advantage(torch.zeros(3), np.zeros(3))
    rng = np.random.default_rng(0)
    fill([ours], rng, BOX, spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"add: it must not be full, got step 8 of 7"):
        ours.add(*step(rng, BOX, spaces.Discrete(2), 3))
    for name in ("gamma", "gae_lambda"):
        with pytest.raises(ValueError, match=rf"RolloutBuffer: {name} must be in \[0, 1\], got 1.5"):
            RolloutBuffer(7, BOX, spaces.Discrete(2), **{name: 1.5})
    with pytest.raises(ValueError, match=r"RolloutBuffer: observation_space must not be a Dict, got Dict"):
        RolloutBuffer(7, SPACES[-1][0], spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"DictRolloutBuffer: observation_space must be a Dict, got Box"):
        DictRolloutBuffer(7, BOX, spaces.Discrete(2))
