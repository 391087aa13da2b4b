"""Stable-Baselines3's environments, buffers and DQNs on compiled kernels.

from fastrl.integrations.sb3 import make_vec_env   # instead of stable_baselines3.common.env_util's
model = stable_baselines3.PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=64))
"""

from fastrl import extras

extras.require("sb3", "fastrl.integrations.sb3")

# After the error that says what is missing.
from fastrl.integrations.sb3.per_dqn import PERDQN, PERQRDQN  # noqa: E402
from fastrl.integrations.sb3.replay import (  # noqa: E402
    DictReplayBuffer,
    PrioritizedReplayBuffer,
    PrioritizedSamples,
    ReplayBuffer,
)
from fastrl.integrations.sb3.rollout import DictRolloutBuffer, RolloutBuffer  # noqa: E402
from fastrl.integrations.sb3.vec_env import VecEnvAdapter, make_vec_env  # noqa: E402

__all__ = [
    "PERDQN",
    "PERQRDQN",
    "DictReplayBuffer",
    "DictRolloutBuffer",
    "PrioritizedReplayBuffer",
    "PrioritizedSamples",
    "ReplayBuffer",
    "RolloutBuffer",
    "VecEnvAdapter",
    "make_vec_env",
]
