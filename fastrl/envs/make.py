"""Environments as training and evaluation want them: vectorised, in SAME_STEP autoreset mode."""

from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from fastrl.envs.vector import VectorEnv
from fastrl.kernels.envs import TABLE


def make_training_env(env: Any, num_envs: int) -> tuple[str, gymnasium.vector.VectorEnv[Any, Any, Any]]:
    """Id and vector environment of ``env``.

    Args:
        env: an id, with or without ``fastrl/`` (compiled where there is such an environment, else
            ``gymnasium.vector.SyncVectorEnv`` over Gymnasium's own), or a vector environment, taken as it is.
        num_envs: environments side by side, for an id.

    Raises:
        ValueError: no such environment, or a vector environment in another autoreset mode.
        TypeError: neither an id nor a vector environment.
    """
    if isinstance(env, gymnasium.vector.VectorEnv):
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"env: the vector environment's autoreset mode must be SAME_STEP, got {mode}")
        if isinstance(env.unwrapped, VectorEnv):
            return env.unwrapped.env_id, env
        return (env.spec.id if env.spec is not None else type(env).__name__), env
    if not isinstance(env, str):
        kind = type(env).__name__
        raise TypeError(f"env: must be an environment id or a gymnasium.vector.VectorEnv, got {kind}")
    env_id = env.removeprefix("fastrl/")
    if env_id in TABLE:
        return env_id, VectorEnv(env_id, num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        made = gymnasium.make_vec(
            env,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        )
    except gymnasium.error.Error as error:
        raise ValueError(f"env: {error} Compiled environments: {', '.join(TABLE)}") from None
    return env, made


def reward_threshold(env_id: str) -> float | None:
    """Mean return at which Gymnasium counts an environment as solved, if it says so."""
    spec = gymnasium.registry.get(env_id.split(":")[-1])
    return None if spec is None else spec.reward_threshold
