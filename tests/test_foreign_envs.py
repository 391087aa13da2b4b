"""Environments that fastrl did not make: factories, async, ALE, every observation space, under one adapter."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import fastrl
from fastrl.envs import make_training_env
from fastrl.evaluate import evaluate

SMALL = {"num_envs": 2, "num_steps": 8, "minibatch_size": 8, "hidden": (16,)}


class Signs(gymnasium.Env):
    """Rewards the action that the observation names; the observation's space is a parameter."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def _draw(self):
        self.target = int(self.np_random.integers(2))
        match self.observation_space:
            case spaces.Discrete():
                return self.target
            case spaces.Dict():
                return {"sign": self.target, "noise": self.np_random.random(3, np.float32)}
            case spaces.Tuple():
                return (
                    self.np_random.random(3, np.float32),
                    np.array([self.target, 1 - self.target], np.int8),
                )
            case spaces.MultiDiscrete():
                return np.array([self.target, self.np_random.integers(3)])
        return np.full((44, 44, 3), 255 * self.target, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._draw(), {}

    def step(self, action):
        reward = float(action == self.target)
        self.t += 1
        return self._draw(), reward, False, self.t == 10, {}


SPACES = {
    "discrete": spaces.Discrete(2),
    "dict": spaces.Dict({"sign": spaces.Discrete(2), "noise": spaces.Box(0, 1, (3,), np.float32)}),
    "tuple": spaces.Tuple([spaces.Box(0, 1, (3,), np.float32), spaces.MultiBinary(2)]),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
}


@pytest.mark.learning
@pytest.mark.parametrize("name", SPACES)
def test_learns_from_every_observation_space(name):
    agent = fastrl.PPO(lambda: Signs(SPACES[name]), seed=0, num_envs=4, num_steps=64, minibatch_size=64)
    assert agent.env_id == "Signs"
    agent.learn(8_000)
    assert evaluate(agent, 10).mean >= 9.5  # of 10; guessing earns 5
    single = SPACES[name].sample()
    action, _ = agent.predict(single, deterministic=True)
    assert action in (0, 1)


class Switches(gymnasium.Env):
    """Rewards each of three choices that equals the observation's."""

    observation_space = spaces.MultiDiscrete([3, 2, 2])

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.target = self.np_random.integers([3, 2, 2])
        return self.target.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        got = np.asarray(action).ravel() - getattr(self.action_space, "start", 0)
        reward = float((got == self.target[-got.size :]).sum())
        self.t += 1
        self.target = self.np_random.integers([3, 2, 2])
        return self.target.copy(), reward, False, self.t == 10, {}


@pytest.mark.learning
@pytest.mark.parametrize(
    ("space", "best"),
    [
        (spaces.MultiDiscrete([3, 2, 2]), 30),
        (spaces.MultiDiscrete([3, 2, 2], start=[1, 5, -1]), 30),
        (spaces.MultiBinary(2), 20),
    ],
)
def test_learns_several_choices(space, best):
    agent = fastrl.PPO(lambda: Switches(space), seed=0, num_envs=4, num_steps=64, minibatch_size=64)
    agent.learn(16_000)
    assert evaluate(agent, 10).mean >= 0.95 * best
    assert agent.predict(np.zeros(3, np.int64))[0].shape == space.shape


@pytest.mark.learning
def test_learns_from_images():
    agent = fastrl.PPO(
        lambda: Signs(spaces.Box(0, 255, (44, 44, 3), np.uint8)),
        seed=0,
        num_envs=4,
        num_steps=32,
        minibatch_size=32,
    )
    agent.learn(768)
    assert evaluate(agent, 4).mean >= 9.5


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_async_environments_equal_sync_ones(mode):
    def train(kind):
        makers = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=20)] * 2
        envs = kind(makers, autoreset_mode=mode)
        try:
            return fastrl.PPO(envs, seed=0, **SMALL).learn(160).policy.network.params
        finally:
            envs.close()

    np.testing.assert_array_equal(train(SyncVectorEnv), train(AsyncVectorEnv))


class Changes(Signs):
    """Gives an observation of another shape at its fourth step."""

    def _draw(self):
        self.target = 0
        return np.zeros(3 + (getattr(self, "t", 0) == 4), np.float32)


def test_an_observation_that_changes_its_shape():
    agent = fastrl.PPO(lambda: Changes(spaces.Box(0, 1, (3,), np.float32)), **SMALL)
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        agent.learn(64)


def test_missing_packages_and_unknown_environments(monkeypatch):
    with pytest.raises(ValueError, match="NoSuchEnv"):
        make_training_env("NoSuchEnv-v3", 2)
    monkeypatch.setitem(__import__("sys").modules, "ale_py", None)
    with pytest.raises(ValueError, match=r"ALE/Pong-v5 needs a package that is not installed: .*ale_py"):
        make_training_env("ALE/Pong-v5", 2)


def test_unsupported_spaces():
    with pytest.raises(ValueError, match=r"observation space Text.* is not supported"):
        fastrl.PPO(lambda: Signs(spaces.Text(3)), **SMALL)


def test_atari():
    pytest.importorskip("ale_py")
    agent = fastrl.PPO("ALE/Breakout-v5", num_envs=2, num_steps=16, minibatch_size=16, update_epochs=1)
    assert agent.policy.encoder.image
    agent.learn(32)
    assert agent.source.next().obs.shape == (16, 2, 4, 84, 84)
    agent.env.close()
