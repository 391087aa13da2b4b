"""PPO on Discrete and Tuple observations: compiled and Gymnasium's environments alike, learning, exact resume."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.envs import VectorEnv
from fastrl.evaluate import evaluate

SMALL = {"num_steps": 16, "minibatch_size": 32, "hidden": (16,)}
SAME_STEP = AutoresetMode.SAME_STEP


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Taxi-v4", "Blackjack-v1"])
def test_learns_the_same_from_gymnasiums(env_id):
    ours = fastrl.PPO(VectorEnv(env_id, 4, autoreset_mode=SAME_STEP), seed=0, **SMALL)
    vector_kwargs = {"autoreset_mode": SAME_STEP}
    theirs = fastrl.PPO(gymnasium.make_vec(env_id, 4, "sync", vector_kwargs), seed=0, **SMALL)
    for agent in (ours, theirs):
        agent.learn(512)
    np.testing.assert_array_equal(ours.policy.network.params, theirs.policy.network.params)


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1"])
def test_interrupted_equals_uninterrupted(env_id, tmp_path):
    whole = fastrl.PPO(env_id, num_envs=4, seed=0, **SMALL)
    whole.learn(512, log_dir=tmp_path / "whole")
    half = fastrl.PPO(env_id, num_envs=4, seed=0, **SMALL)
    half.learn(512, log_dir=tmp_path / "half", callback=lambda agent, _: agent.num_timesteps < 256)
    again = fastrl.PPO.load(tmp_path / "half")
    again.learn(log_dir=tmp_path / "half")
    np.testing.assert_array_equal(again.policy.network.params, whole.policy.network.params)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learns_frozen_lake(seed):
    """A random policy reaches the goal in 1 % of the episodes, the untrained mode never."""
    env = VectorEnv("FrozenLake-v1", 8, autoreset_mode=SAME_STEP, is_slippery=False)
    agent = fastrl.PPO(env, seed=seed)
    agent.learn(40_000)
    made = lambda: gymnasium.make("fastrl/FrozenLake-v1", is_slippery=False)  # noqa: E731
    assert evaluate(agent, 20, env=made).mean > 0.9
