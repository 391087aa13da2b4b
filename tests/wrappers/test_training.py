"""An agent trains in wrapped environments, and all wrappers go around each other."""

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.envs import VectorEnv
from fastrl.envs.wrappers import (
    FrameSkip,
    FrameStack,
    NormalizeObservation,
    NormalizeReward,
    PotentialShaping,
    ScaleReward,
    TimeLimit,
)


def wrapped(mode: AutoresetMode) -> Any:
    env: Any = VectorEnv("CartPole-v1", 4, autoreset_mode=mode, max_episode_steps=-1, copy=False)
    env = FrameSkip(ScaleReward(TimeLimit(env, 40), 2.0), 2)
    env = PotentialShaping(env, lambda obs: -np.abs(obs[:, 2]), 0.99)
    return FrameStack(NormalizeReward(NormalizeObservation(env), 0.99), 3, actions="one_hot")


def test_ppo(mode: AutoresetMode) -> None:
    agent = fastrl.PPO(wrapped(mode), num_steps=32, seed=0)
    agent.learn(512)
    obs, _ = wrapped(mode).reset(seed=0)
    action, _ = agent.predict(obs)
    assert action.shape == (4,)


def test_attributes_go_through() -> None:
    env = wrapped(AutoresetMode.SAME_STEP)
    assert env.num_envs == 4
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert isinstance(env.unwrapped, VectorEnv)
    assert env.single_observation_space["observation"].shape == (3, 4)
    assert env.reset(seed=0)[0] in env.observation_space
    env.close()
    assert env.closed
    with pytest.raises(Exception, match="after close"):
        env.step(np.zeros(4, np.int64))
