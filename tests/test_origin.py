"""Where environments came from: agents are evaluated and loaded in environments like their own, or not at all."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import fastrl
from fastrl.envs import VectorEnv
from fastrl.envs.wrappers import ScaleReward
from fastrl.evaluate import evaluate

SMALL = {"num_envs": 2, "num_steps": 16, "minibatch_size": 16, "hidden": (8,)}


def plain():
    return gymnasium.make("CartPole-v1")


def short():
    return gymnasium.make("CartPole-v1", max_episode_steps=5)


def stacked():
    return gymnasium.wrappers.FrameStackObservation(plain(), 3)


@pytest.mark.parametrize(
    "options",
    [
        {"max_episode_steps": 7},
        {"mode": "fast", "autoreset_mode": AutoresetMode.DISABLED},
        {"autoreset_mode": AutoresetMode.NEXT_STEP, "sutton_barto_reward": True},
    ],
    ids=str,
)
def test_a_compiled_vector_environment_goes_on_with_its_own_options(options, tmp_path):
    """Bit for bit: once all were loaded as the id alone makes them, in SAME_STEP mode."""

    def agent():
        return fastrl.PPO(VectorEnv("CartPole-v1", 2, **options), total_timesteps=640, **SMALL)

    straight = agent().learn()
    half = agent().learn(callback=lambda agent, _: agent.num_timesteps < 320)
    resumed = fastrl.PPO.load(half.save(tmp_path / "agent"))
    assert resumed.env.metadata["autoreset_mode"] is half.env.metadata["autoreset_mode"]
    again = fastrl.PPO.load(resumed.save(tmp_path / "again")).learn()
    resumed.learn()
    for other in (resumed, again):
        np.testing.assert_array_equal(other.network.params, straight.network.params)
        np.testing.assert_array_equal(other.env.get_state(), straight.env.get_state())


def test_evaluation_has_the_options_of_a_compiled_vector_environment():
    agent = fastrl.PPO(VectorEnv("CartPole-v1", 2, max_episode_steps=7), **SMALL)
    assert evaluate(agent, 5).episode_length.max() <= 7
    lake = fastrl.PPO(VectorEnv("FrozenLake-v1", 2, desc=["SFF", "FHG"]), **SMALL)  # of 6 states, not 16
    assert len(evaluate(lake, 3).episode_return) == 3


def test_what_the_id_alone_makes_needs_no_env(tmp_path):
    for env in (plain, gymnasium.make_vec("CartPole-v1", 2), "CartPole-v1"):
        agent = fastrl.PPO(env, **SMALL).learn(32)
        loaded = fastrl.PPO.load(agent.save(tmp_path / "agent"))
        assert loaded.num_timesteps == 32
        np.testing.assert_array_equal(loaded.network.params, agent.network.params)
        assert len(evaluate(agent, 2).episode_return) == 2


@pytest.mark.parametrize(
    "env",
    [
        short,
        stacked,
        lambda: gymnasium.make_vec("CartPole-v1", 2, max_episode_steps=9),
        lambda: gymnasium.make_vec(
            "CartPole-v1", 2, vectorization_mode="sync", wrappers=[gymnasium.wrappers.FlattenObservation]
        ),
        lambda: gymnasium.wrappers.vector.NormalizeReward(gymnasium.make_vec("CartPole-v1", 2)),
        lambda: ScaleReward(VectorEnv("CartPole-v1", 2), 0.1),
    ],
)
def test_what_the_id_does_not_make_must_be_given(env, tmp_path):
    """Not silently replaced by the environment without wrappers and arguments."""
    function = env in (short, stacked)
    agent = fastrl.PPO(env if function else env(), **SMALL).learn(32, log_dir=tmp_path / "run")
    path = agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"load: env must be given: the id CartPole-v1 alone does not make"):
        fastrl.PPO.load(path)
    assert fastrl.PPO.load(path, env if function else env()).num_timesteps == 32
    if function:
        assert len(evaluate(agent, 2).episode_return) == 2
    else:
        assert agent.best_evaluation is None
        with pytest.raises(
            ValueError, match="evaluate: env must be given: the id CartPole-v1 alone does not make"
        ):
            evaluate(agent, 2)
        with pytest.raises(ValueError, match="eval_interval must be None: nothing known makes"):
            agent.learn(32, eval_interval=16)


class Counts(gymnasium.Env):
    """Episodes of ten steps."""

    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(3, np.float32), 1.0, False, self.t == 10, {}


@pytest.fixture
def registered():
    gymnasium.register("fastrl-test/Counts-v0", Counts)
    yield "fastrl-test/Counts-v0"
    del gymnasium.registry["fastrl-test/Counts-v0"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium warns of the missing version
def test_ids_with_a_module_or_without_a_version_are_evaluated(registered, tmp_path):
    for env_id in (f"{__name__}:{registered}", registered.removesuffix("-v0"), registered):
        agent = fastrl.PPO(env_id, **SMALL).learn(32)
        assert evaluate(agent, 2).episode_length.tolist() == [10, 10]
        assert fastrl.PPO.load(agent.save(tmp_path / "agent")).num_timesteps == 32


def test_evaluation_refuses_what_does_not_fit():
    agent = fastrl.PPO("CartPole-v1", **SMALL)
    with pytest.raises(TypeError, match="must be an id or a function that makes one, got a vector environm"):
        evaluate(agent, 5, env=SyncVectorEnv([plain] * 3))
    turned = partial(gymnasium.wrappers.ReshapeObservation, shape=(2, 2))  # of as many numbers
    for env in ("Pendulum-v1", lambda: turned(plain())):
        with pytest.raises(ValueError, match=r"evaluate: env must give observations of Box.*\(4,\).*, got B"):
            evaluate(agent, 2, env=env)
