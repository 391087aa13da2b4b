"""Environments that fastrl did not make: factories, async, ALE, every observation space, under one adapter."""

import os
import sys
import warnings
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import fastrl
from fastrl import checkpoint
from fastrl.envs import EnvironmentFailure, make_evaluation_env, make_training_env
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


def changing():
    return Changes(spaces.Box(0, 1, (3,), np.float32))


def steady():
    return gymnasium.wrappers.TransformObservation(
        Signs(spaces.Box(0, 1, (3,), np.float32)),
        lambda obs: np.zeros(3, np.float32),
        spaces.Box(0, 1, (3,), np.float32),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium logs through warnings
def test_an_observation_that_changes_its_shape():
    agent = fastrl.PPO(SyncVectorEnv([steady, changing]), **SMALL)
    with pytest.raises(ValueError, match=r"env 1: the observation at step 3 must be \[3\], got \[4\]"):
        agent.learn(64)
    agent = fastrl.PPO(AsyncVectorEnv([steady, changing]), **SMALL)
    with pytest.raises(EnvironmentFailure, match=r"environment 1 .* at step 3: .*\(4,\) into shape \(3,\)"):
        agent.learn(64)
    agent.env.close()


class Wrong(gymnasium.vector.VectorEnv):
    """A vector environment whose answers are wrong in one way."""

    num_envs = 2
    single_observation_space = spaces.Dict({"x": spaces.Box(0, 1, (3,), np.float32)})
    single_action_space = spaces.Discrete(2)

    def __init__(self, width=3, info=None, mode=AutoresetMode.SAME_STEP, reward=(0.0, 0.0)):
        self.metadata = {"autoreset_mode": mode}
        self.width, self.info, self.reward = width, info, reward

    def reset(self, *, seed=None, options=None):
        return {"x": np.zeros((2, 3), np.float32)}, {}

    def step(self, actions):
        obs = {"x": np.zeros((2, self.width), np.float32)}
        return obs, self.reward, np.zeros(2, bool), np.array([False, True]), self.info or {}


def test_vector_environments_with_wrong_answers():
    with pytest.raises(ValueError, match=r"the observations at step 0 must be \[2, 3\], got \[2, 4\]"):
        fastrl.PPO(Wrong(width=4), **SMALL).learn(16)
    with pytest.raises(ValueError, match=r"SAME_STEP needs info\['final_obs'\], missing at step 0"):
        fastrl.PPO(Wrong(), **SMALL).learn(16)
    final = np.array([None, {"x": np.zeros(5)}])
    with pytest.raises(ValueError, match=r"env 1: the final observation at step 0 must be \[3\], got \[5\]"):
        fastrl.PPO(Wrong(info={"final_obs": final}), **SMALL).learn(16)
    with pytest.raises(ValueError, match=r"the rewards at step 0 must be \[2\], got \[2, 1\]"):
        fastrl.PPO(Wrong(reward=np.zeros((2, 1))), **SMALL).learn(16)
    with pytest.raises(ValueError, match=r"the rewards at step 0 must be \[2\], got \[\]"):
        fastrl.PPO(Wrong(reward=1.0), **SMALL).learn(16)
    with pytest.raises(ValueError, match=r"metadata must say its AutoresetMode, got None"):
        fastrl.PPO(Wrong(mode=None), **SMALL)


def test_functions_that_make_no_environment():
    for make, got in ((lambda: None, "None"), (lambda: "CartPole-v1", "'CartPole-v1'")):
        with pytest.raises(TypeError, match=f"the function makes must have an observation_space, got {got}"):
            fastrl.PPO(make, **SMALL)


def test_a_vector_environment_that_cannot_be_made_again_is_not_evaluated(tmp_path):
    envs = SyncVectorEnv([lambda: Signs(spaces.Discrete(2))] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = fastrl.PPO(envs, **SMALL).learn(64, log_dir=tmp_path)
    assert agent.best_evaluation is None
    with pytest.raises(ValueError, match="env must be given: the id SyncVectorEnv alone does"):
        evaluate(agent, 2)
    assert evaluate(agent, 2, env=lambda: Signs(spaces.Discrete(2))).episode_length.tolist() == [10, 10]


class Raises(Signs):
    """Raises an error at its fourth step, or ends its process."""

    def __init__(self, exits=False):
        super().__init__(spaces.Discrete(2))
        self.exits = exits

    def step(self, action):
        if self.t == 3:
            if self.exits:
                os._exit(1)
            raise KeyError("broken")
        return super().step(action)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium logs through warnings
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_an_environment_that_raises(kind, tmp_path):
    agent = fastrl.PPO(kind([lambda: Signs(spaces.Discrete(2)), Raises]), **SMALL)
    with pytest.raises(
        EnvironmentFailure, match=r"environment 1 raised KeyError in step, at step 3: .*broken"
    ):
        agent.learn(64, log_dir=tmp_path)
    agent.env.close()
    saved = checkpoint.latest(tmp_path)
    assert fastrl.PPO.load(saved, lambda: Signs(spaces.Discrete(2))).num_timesteps == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium logs through warnings
def test_an_environment_whose_process_ends():
    agent = fastrl.PPO(
        AsyncVectorEnv([lambda: Raises(exits=True), lambda: Signs(spaces.Discrete(2))]), **SMALL
    )
    with pytest.raises(EnvironmentFailure, match=r"environment 0 raised (EOFError|ConnectionResetError)"):
        agent.learn(64)
    assert agent.env.env.closed


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


def test_atari_trains_on_lives_and_signs_and_evaluates_whole_games():
    pytest.importorskip("ale_py")
    _, training = make_training_env("ALE/Breakout-v5", 2)
    whole = make_evaluation_env("ALE/Breakout-v5", 2)
    rng = np.random.default_rng(0)
    (obs, _), (expected, _) = training.reset(seed=3), whole.reset(seed=3)
    score, length, deaths, games = np.zeros(2), np.zeros(2, int), 0, 0
    while games < 2:
        np.testing.assert_array_equal(obs, expected)  # a lost life does not start a new game
        action = rng.integers(0, 4, 2)
        obs, reward, terminated, _, info = training.step(action)
        expected, whole_reward, over, _, _ = whole.step(action)
        np.testing.assert_array_equal(reward, np.sign(whole_reward))
        assert (terminated | ~over).all()
        score += whole_reward
        length += 1
        deaths += int(terminated.sum())
        np.testing.assert_array_equal(info["_episode"], over)
        for n in np.flatnonzero(over):
            assert (info["episode"]["r"][n], info["episode"]["l"][n]) == (score[n], length[n])
            score[n] = length[n] = 0
            games += 1
    assert deaths >= 5 * games  # five lives each
    for env in (training, whole):
        env.close()


def test_atari_reports_whole_games_from_training():
    pytest.importorskip("ale_py")
    agent = fastrl.PPO("ALE/Breakout-v5", num_envs=2, num_steps=256, minibatch_size=64, update_epochs=1)
    batch = agent.source.next()
    assert batch.terminated.sum() > 5 * len(batch.episode_return) > 0
    assert (batch.episode_length > 80).all()  # one life is shorter
    agent.env.close()


def test_ale_environments_of_two_modes_side_by_side():
    """ALE keeps its mode in metadata that all instances share."""
    ale_py = pytest.importorskip("ale_py")
    first = ale_py.AtariVectorEnv("pong", 1, autoreset_mode=AutoresetMode.SAME_STEP)
    second = ale_py.AtariVectorEnv("pong", 1)
    modes = [make_training_env(env, 1)[1].metadata["autoreset_mode"] for env in (first, second)]
    assert modes == [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]


def test_mujoco_actions_are_clipped_for_the_environment_and_stored_as_drawn(tmp_path, monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log where it runs

    class Sees(gymnasium.Wrapper):
        seen: ClassVar = []

        def step(self, action):
            assert self.action_space.contains(action)
            self.seen.append(action)
            return self.env.step(action)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        agent = fastrl.PPO(lambda: Sees(gymnasium.make("HalfCheetah-v5")), **SMALL)
        batch = agent.source.next()
    assert np.abs(batch.action).max() > 1.0
    np.testing.assert_array_equal(np.clip(batch.action, -1, 1).reshape(-1, 6), np.array(Sees.seen))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium logs through warnings
@pytest.mark.parametrize("task", ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1"])
def test_envpool(task):
    envpool = pytest.importorskip("envpool")
    agents = [fastrl.PPO(f"envpool:{task}", seed=seed, **SMALL) for seed in (1, 1, 2)]
    a, b, c = (agent.learn(160).policy.network.params for agent in agents)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    pool = envpool.make(task, env_type="gymnasium", num_envs=2, seed=5)
    agent = fastrl.PPO(pool, **SMALL).learn(160)
    assert agent.env.observation_space.shape[0] == 2
    assert evaluate(agent, 3, env=f"envpool:{task}").episode_length.min() >= 1


def test_envpool_atari():
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match="EnvPool has no task 'Nope-v5'"):
        make_training_env("envpool:Nope-v5", 2)
    _, training = make_training_env("envpool:Breakout-v5", 2)
    training.reset(seed=0)
    rng = np.random.default_rng(0)
    rewards, games, deaths = np.zeros(2), 0, 0
    while games < 2:
        _, reward, terminated, _, info = training.step(rng.integers(0, 4, 2))
        rewards += reward
        deaths += int(terminated.sum())
        for n in np.flatnonzero(info["_episode"]):
            assert info["episode"]["r"][n] == rewards[n]  # no brick of these rows is worth more than 1
            assert info["episode"]["l"][n] > 80
            rewards[n] = 0
            games += 1
    assert deaths >= 5 * games


def test_envpool_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ValueError, match="envpool:Pong-v5 needs a package that is not installed"):
        make_training_env("envpool:Pong-v5", 2)
