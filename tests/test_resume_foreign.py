"""Environments whose state is in no checkpoint: a resume begins episodes that the run did not begin with, and each
resume of one checkpoint the same ones.
"""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import fastrl
from fastrl.envs import VectorEnv, WorkerVectorEnv

SMALL = {"num_envs": 2, "num_steps": 16, "minibatch_size": 16, "hidden": (8,), "total_timesteps": 192}


@pytest.fixture(scope="module", autouse=True)
def registered():
    entry = "gymnasium.envs.classic_control:CartPoleEnv"
    gymnasium.register("fastrl-test/Pole-v0", entry, max_episode_steps=500)
    yield
    del gymnasium.registry["fastrl-test/Pole-v0"]


def make():
    return gymnasium.make("CartPole-v1")


GIVEN = {
    "id": lambda: "fastrl-test/Pole-v0",
    "function": lambda: make,
    "sync": lambda: SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP),
    "sync next step": lambda: SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.NEXT_STEP),
    "sync disabled": lambda: SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.DISABLED),
    "async": lambda: AsyncVectorEnv([make] * 2),
    "workers": lambda: WorkerVectorEnv([make] * 2, 1),
    "compiled, but given": lambda: VectorEnv("CartPole-v1", 2),
}


@pytest.fixture
def ppo():
    """Makes and loads agents; closes their environments."""
    agents = []

    def made(agent):
        agents.append(agent)
        return agent

    yield made
    for agent in agents:
        agent.env.close()


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_a_resume_repeats_itself_but_not_the_run_s_beginning(given, tmp_path, ppo):
    """Once each resume began with the run's first seeds."""
    agent = ppo(fastrl.PPO(given(), **SMALL))
    begun = agent.source._obs.copy()
    path = agent.learn(callback=lambda agent, _: agent.num_timesteps < 96).save(tmp_path / "agent")
    once, again = (ppo(fastrl.PPO.load(path, given())) for _ in range(2))
    assert not (once.source._obs == begun).any()
    np.testing.assert_array_equal(once.source._obs, again.source._obs)
    once.learn()
    again.learn()
    assert once.num_timesteps == 192
    np.testing.assert_array_equal(once.network.params, again.network.params)
    assert list(once.episodes) == list(again.episodes)


def test_each_checkpoint_begins_other_episodes(tmp_path):
    agent = fastrl.PPO(make, **SMALL)
    paths = [agent.learn(32).save(tmp_path / str(n)) for n in range(3)]
    first, second, third = (fastrl.PPO.load(path).source._obs for path in paths)
    for a, b in ((first, second), (first, third), (second, third)):
        assert not (a == b).any()


def test_seeds_set_resumes_apart(tmp_path):
    paths = [fastrl.PPO(make, seed=seed, **SMALL).learn(32).save(tmp_path / str(seed)) for seed in (0, 1)]
    a, b = (fastrl.PPO.load(path).source._obs for path in paths)
    assert not (a == b).any()


def test_a_run_that_has_not_begun_resumes_as_it_would_have(tmp_path):
    straight = fastrl.PPO(make, **SMALL)
    resumed = fastrl.PPO.load(straight.save(tmp_path / "agent")).learn()
    np.testing.assert_array_equal(resumed.network.params, straight.learn().network.params)


def test_a_source_in_use_begins_anew():
    """What it counted of its own episodes, and which had ended, is not the loaded run's."""
    limits = [lambda n=n: gymnasium.make("CartPole-v1", max_episode_steps=n) for n in (4, 8)]
    env = SyncVectorEnv(limits, autoreset_mode=AutoresetMode.NEXT_STEP)
    options = SMALL | {"num_steps": 4, "minibatch_size": 4, "normalize_reward": True}
    source = fastrl.PPO(env, **options).source
    state = source.state() | {"counter": 17}
    source.next()
    assert source._ended.tolist() == [True, False]
    assert source._running_length.tolist() == [0, 4]
    assert source.reward_normalizer.returns.any()
    source.load_state(state)
    assert not source._ended.any()
    assert not source._running_length.any()
    assert not source._running_return.any()
    assert not source.reward_normalizer.returns.any()
    assert source.next().valid.all()
