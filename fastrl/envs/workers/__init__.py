"""Vector environments whose environments run in other processes."""

from fastrl.envs.workers.pool import WorkerError
from fastrl.envs.workers.vector_env import WorkerVectorEnv

__all__ = ["WorkerError", "WorkerVectorEnv"]
