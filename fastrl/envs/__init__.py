"""Environments. Importing this registers the compiled ones with Gymnasium as ``fastrl/<id>``.

envs = gymnasium.make_vec("fastrl/CartPole-v1", num_envs=1024)   # compiled, one C++ call a step
env = gymnasium.make("fastrl/CartPole-v1")                       # one env, as a gymnasium.Env
"""

import gymnasium

from fastrl.envs.conformance import check_vector_env
from fastrl.envs.foreign import EnvironmentFailure, ForeignVectorEnv
from fastrl.envs.make import can_make, make_evaluation_env, make_training_env, reward_threshold
from fastrl.envs.scalar import ScalarEnv
from fastrl.envs.user import UserEnv, UserVectorEnv, compiled
from fastrl.envs.vector import VectorEnv
from fastrl.envs.workers import WorkerError, WorkerVectorEnv
from fastrl.kernels.envs import NO_LIMIT, TABLE
from fastrl.kernels.envs.model import TabularModel

__all__ = [
    "COMPILED",
    "EnvironmentFailure",
    "ForeignVectorEnv",
    "ScalarEnv",
    "TabularModel",
    "UserEnv",
    "UserVectorEnv",
    "VectorEnv",
    "WorkerError",
    "WorkerVectorEnv",
    "can_make",
    "check_vector_env",
    "compiled",
    "make_evaluation_env",
    "make_training_env",
    "reward_threshold",
]

COMPILED = tuple(TABLE)
"""Ids of the compiled environments."""

for _id, _row in TABLE.items():
    gymnasium.register(
        f"fastrl/{_id}",
        entry_point="fastrl.envs:ScalarEnv",
        vector_entry_point="fastrl.envs:VectorEnv",
        max_episode_steps=None if _row.max_episode_steps == NO_LIMIT else _row.max_episode_steps,
        reward_threshold=_row.reward_threshold,
        kwargs={"env_id": _id},
    )
