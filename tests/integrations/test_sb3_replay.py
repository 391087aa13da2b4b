"""Replay buffers beside SB3's: same rows for the same draws, same training, exact observations at ends."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common import buffers  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.vec_env import VecNormalize  # noqa: E402

from fastrl.integrations import _transitions  # noqa: E402
from fastrl.integrations.sb3 import DictReplayBuffer, PrioritizedReplayBuffer, ReplayBuffer  # noqa: E402
from fastrl.integrations.sb3 import make_vec_env as compiled  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")
BOX = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (4, 6, 5), np.uint8)
DICT = spaces.Dict({"a": BOX, "b": IMAGE, "c": spaces.Discrete(3)})
SPACES = [
    (BOX, spaces.Discrete(4)),
    (IMAGE, spaces.Discrete(4)),
    (spaces.Box(0, 255, (6, 5, 3), np.uint8), spaces.Discrete(2)),
    (spaces.Box(-1, 1, (2, 3), np.float64), spaces.Box(-1, 1, (2,), np.float64)),
    (spaces.Discrete(7), spaces.MultiDiscrete([2, 3])),
    (spaces.MultiBinary(4), spaces.MultiBinary(3)),
    (DICT, spaces.Discrete(2)),
]


def stack(rows):
    return (
        {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        if isinstance(rows[0], dict)
        else np.stack(rows)
    )


def frames(obs):
    """The stacks in an observation."""
    values = obs.values() if isinstance(obs, dict) else [obs]
    return [x for x in values if getattr(x, "ndim", 0) == 3 and len(x) == 4]


class Steps:
    """Transitions of environments whose images are stacks of their last four frames, with both kinds of ends."""

    def __init__(self, obs_space, action_space, n_envs, seed=0, ends=0.3):
        self.spaces, self.n_envs, self.ends = (obs_space, action_space), n_envs, ends
        for space in self.spaces:
            space.seed(seed)
        self.rng = np.random.default_rng(seed)
        self.obs = [obs_space.sample() for _ in range(n_envs)]

    def follow(self, obs):
        found = self.spaces[0].sample()
        for new, old in zip(frames(found), frames(obs), strict=True):
            new[:-1] = old[1:]
        return found

    def step(self):
        n = self.n_envs
        following = [self.follow(obs) for obs in self.obs]
        done, truncated = self.rng.random(n) < self.ends, self.rng.random(n) < 0.5
        action = np.stack([self.spaces[1].sample() for _ in range(n)])
        infos = [{"TimeLimit.truncated": bool(d and t)} for d, t in zip(done, truncated, strict=True)]
        row = (
            stack(self.obs),
            stack(following),
            action,
            self.rng.standard_normal(n, np.float32),
            done,
            infos,
        )
        self.obs = [self.spaces[0].sample() if d else x for d, x in zip(done, following, strict=True)]
        return row


def fill(both, steps, count):
    for _ in range(count):
        row = steps.step()
        for buffer in both:
            buffer.add(*copy.deepcopy(row))


def assert_same(a, b, exact=True):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif a is None:
        assert b is None
    else:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-6)


def sampled(buffer, size, *args):
    np.random.seed(5)  # noqa: NPY002  # what SB3 draws from
    return buffer.sample(size, *args)


def theirs_for(obs_space):
    return buffers.DictReplayBuffer if isinstance(obs_space, spaces.Dict) else buffers.ReplayBuffer


@pytest.mark.parametrize(("obs_space", "action_space"), SPACES)
@pytest.mark.parametrize("timeouts", [True, False])
@pytest.mark.parametrize(
    ("size", "n_envs", "memory"), [(40, 1, False), (41, 3, True), (2, 3, True), (1, 1, False)]
)
def test_the_same_draws_give_sb3s_rows(obs_space, action_space, timeouts, size, n_envs, memory):
    arguments = {"device": "cpu", "n_envs": n_envs, "handle_timeout_termination": timeouts}
    ours = ReplayBuffer(size, obs_space, action_space, optimize_memory_usage=memory, **arguments)
    theirs = theirs_for(obs_space)(size, obs_space, action_space, **arguments)
    steps = Steps(obs_space, action_space, n_envs)
    for count in (1, 7, 60):
        fill((ours, theirs), steps, count)
        assert (ours.size(), ours.pos, ours.full) == (theirs.size(), theirs.pos, theirs.full)
        a, b = sampled(ours, 64), sampled(theirs, 64)
        assert type(a) is type(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)


@pytest.mark.parametrize("obs_space", [BOX, IMAGE])
@pytest.mark.parametrize("n_steps", [2, 3, 5])
def test_n_steps_are_sb3s(obs_space, n_steps):
    both = [
        cls(30, obs_space, spaces.Discrete(2), device="cpu", n_envs=2, n_steps=n_steps, gamma=0.9)
        for cls in (ReplayBuffer, buffers.NStepReplayBuffer)
    ]
    steps = Steps(obs_space, spaces.Discrete(2), 2)
    for count in (3, 9, 27):
        fill(both, steps, count)
        a, b = (sampled(buffer, 200) for buffer in both)
        for name in ("observations", "actions", "next_observations", "dones"):
            assert_same(getattr(a, name), getattr(b, name))
        assert_same(a.rewards, b.rewards, exact=False)
        assert_same(a.discounts, b.discounts * (1 - b.dones), exact=False)


def test_frames_are_stored_once():
    image = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    buffer = ReplayBuffer(1000, image, spaces.Discrete(4), device="cpu")
    fill([buffer], Steps(image, spaces.Discrete(4), 1, ends=0.01), 2000)
    assert buffer.transitions.rows._core.bytes < 8_000 * 1000  # SB3: 56,448 of each


@pytest.mark.parametrize("change", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplayBuffer, DictReplayBuffer])
def test_copies_go_on(change, cls):
    space = DICT if cls is DictReplayBuffer else IMAGE
    buffer = cls(20, space, spaces.Discrete(2), device="cpu", n_envs=2)
    steps = Steps(space, spaces.Discrete(2), 2)
    fill([buffer], steps, 13)
    if cls is PrioritizedReplayBuffer:
        buffer.update_priorities(np.arange(20), np.arange(20.0))
    both = [buffer, change(buffer)]
    fill(both, steps, 3)
    for x, y in zip(*(sampled(one, 64) for one in both), strict=True):
        assert_same(x, y)
    fill([buffer], steps, 1)
    assert both[0].pos == both[1].pos + 1


def test_a_copy_asks_for_no_memory_but_its_own(monkeypatch):
    """Another buffer, made only to be replaced, might not fit beside it."""
    buffer = ReplayBuffer(20, IMAGE, spaces.Discrete(2), device="cpu", n_envs=2)
    fill([buffer], Steps(IMAGE, spaces.Discrete(2), 2), 13)
    written = pickle.dumps(buffer)
    monkeypatch.setattr(_transitions, "ReplayBuffer", None)
    other = pickle.loads(written)
    for x, y in zip(sampled(buffer, 64), sampled(other, 64), strict=True):
        assert_same(x, y)


def test_batches_of_vec_normalize_are_sb3s():
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    env.reset()
    for _ in range(20):
        env.step(np.zeros(2, int))
    spaces_ = env.observation_space, env.action_space
    both = [cls(30, *spaces_, device="cpu", n_envs=2) for cls in (ReplayBuffer, buffers.ReplayBuffer)]
    fill(both, Steps(*spaces_, 2), 9)
    for x, y in zip(*(sampled(buffer, 32, env) for buffer in both), strict=True):
        assert_same(x, y)
    longer = ReplayBuffer(30, *spaces_, device="cpu", n_envs=2, n_steps=3)
    fill([longer], Steps(*spaces_, 2), 2)
    with pytest.raises(NotImplementedError, match=r"n_steps must be 1 with rewards that VecNormalize"):
        longer.sample(4, env)
    assert longer.sample(4, VecNormalize(env, norm_reward=False)).discounts.shape == (4, 1)


@pytest.mark.parametrize("algorithm", [sb3.DQN, sb3.SAC])
def test_training_equals_training_with_sb3s_buffer(algorithm):
    parameters = []
    for cls in (ReplayBuffer, None):
        env = make_vec_env("CartPole-v1" if algorithm is sb3.DQN else "Pendulum-v1", 2, seed=0)
        model = algorithm(
            "MlpPolicy",
            env,
            seed=0,
            device="cpu",
            replay_buffer_class=cls,
            buffer_size=200,
            learning_starts=50,
        )
        model.learn(400)
        parameters.append(model.policy.state_dict())
    assert all(torch.equal(ours, parameters[1][name]) for name, ours in parameters[0].items())


def test_memory_optimisation_keeps_timeouts(tmp_path):
    """What SB3 refuses; and learning again, which marks the last steps as ends."""
    env = compiled("CartPole-v1", 2, seed=0, max_episode_steps=5)
    model = sb3.DQN(
        "MlpPolicy",
        env,
        replay_buffer_class=ReplayBuffer,
        optimize_memory_usage=True,
        device="cpu",
        learning_starts=10,
        seed=0,
    )
    model.learn(64)
    with pytest.warns(UserWarning, match="last trajectory in the replay buffer will be truncated"):
        model.learn(64)
    with pytest.raises(ValueError, match=r"dones: only those of the last step, 63, may be set"):
        model.replay_buffer.dones[3] = True
    batch = model.replay_buffer.sample(500)
    assert not batch.dones.any()  # every episode ended by its limit
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer.size() == 64
    model.learn(20, reset_num_timesteps=False)


def test_reset_forgets():
    buffer = ReplayBuffer(8, BOX, spaces.Discrete(2), device="cpu")
    fill([buffer], Steps(BOX, spaces.Discrete(2), 1), 9)
    buffer.reset()
    assert (buffer.size(), buffer.pos, buffer.full) == (0, 0, False)
    with pytest.raises(ValueError, match=r"ReplayBuffer sample: it must hold a transition, got none"):
        buffer.sample(1)


def test_extend_is_add_for_each():
    both = [cls(8, BOX, spaces.Discrete(2), device="cpu") for cls in (ReplayBuffer, buffers.ReplayBuffer)]
    steps = Steps(BOX, spaces.Discrete(2), 1)
    rows = [steps.step() for _ in range(5)]
    for buffer in both:
        buffer.extend(*zip(*rows, strict=True))
    assert_same(sampled(both[0], 9).rewards, sampled(both[1], 9).rewards)


def test_one_environment_needs_no_axis():
    """As SB3's arrays take a row."""
    for space in (BOX, IMAGE, DICT):
        both = [cls(8, space, spaces.Discrete(2), device="cpu") for cls in (ReplayBuffer, theirs_for(space))]
        obs, following = space.sample(), space.sample()
        for buffer in both:
            buffer.add(obs, following, np.array(1), 0.5, False, [{}])
        for x, y in zip(*(sampled(buffer, 3) for buffer in both), strict=True):
            assert_same(x, y)


def test_priorities_that_will_not_do():
    buffer = PrioritizedReplayBuffer(8, BOX, spaces.Discrete(2), device="cpu", seed=0)
    with pytest.raises(ValueError, match=r"sample: the buffer must hold rows, it is empty"):
        buffer.sample(2)
    fill([buffer], Steps(BOX, spaces.Discrete(2), 1), 4)
    with pytest.raises(IndexError, match=r"indexes must be in \[0, 4\)"):
        buffer.update_priorities(np.array([4]), np.array([1.0]))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"update_priorities"):
            buffer.update_priorities(np.array([0]), np.array([bad]))
    with pytest.raises(ValueError, match=r"sample: beta must be finite and >= 0, got -1"):
        buffer.sample(2, beta=-1)


def test_draws_and_weights_follow_priorities():
    buffer = PrioritizedReplayBuffer(
        8, BOX, spaces.Discrete(2), device="cpu", alpha=0.5, eps=0, beta=1, seed=0
    )
    fill([buffer], Steps(BOX, spaces.Discrete(2), 1), 4)
    buffer.update_priorities(np.arange(4), np.array([0.04, 0.16, 0.36, 1.0]))
    batch = buffer.sample(20_000)
    share = np.bincount(batch.indices, minlength=4) / 20_000
    np.testing.assert_allclose(share, np.array([2, 4, 6, 10]) / 22, atol=2e-4)
    np.testing.assert_allclose(batch.weights[:, 0], np.array([1, 0.5, 1 / 3, 0.2])[batch.indices], rtol=1e-6)
    assert (buffer.sample(50, beta=0).weights == 1).all()


def test_seeded_by_numpy_as_sb3_seeds():
    indices = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002
        buffer = PrioritizedReplayBuffer(8, BOX, spaces.Discrete(2), device="cpu")
        fill([buffer], Steps(BOX, spaces.Discrete(2), 1), 8)
        indices.append(buffer.sample(20).indices)
    np.testing.assert_array_equal(*indices)
