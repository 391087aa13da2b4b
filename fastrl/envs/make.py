"""Environments as training and evaluation want them: vectorised, in SAME_STEP autoreset mode."""

from importlib import import_module
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from fastrl.envs.user import UserEnv
from fastrl.envs.vector import VectorEnv
from fastrl.kernels.envs import TABLE


def make_training_env(env: Any, num_envs: int) -> tuple[str, gymnasium.vector.VectorEnv[Any, Any, Any]]:
    """Id and vector environment of ``env``.

    Args:
        env: an id, with or without ``fastrl/`` (compiled where there is such an environment, else
            Gymnasium's own: ALE's vector environment for ``ALE/...``, SyncVectorEnv otherwise), what
            :func:`fastrl.envs.compiled` made, a function that makes one environment, or a vector
            environment, taken as it is.
        num_envs: environments side by side, for an id or a function.

    Raises:
        ValueError: no such environment.
        TypeError: none of these.
    """
    if isinstance(env, gymnasium.vector.VectorEnv):
        if isinstance(env.unwrapped, VectorEnv):
            return env.unwrapped.env_id, env
        return _name(env), env
    if isinstance(env, UserEnv):
        return env.name, env(num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    if callable(env):
        made = gymnasium.vector.SyncVectorEnv([env] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        return _name(made.envs[0]), made
    if not isinstance(env, str):
        kind = type(env).__name__
        raise TypeError(f"env: must be an id, a function that makes one, or a vector environment, got {kind}")
    env_id = env.removeprefix("fastrl/")
    if env_id in TABLE:
        return env_id, VectorEnv(env_id, num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    return env, _gymnasium(env, num_envs)


def _gymnasium(env_id: str, num_envs: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    mode: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    try:
        if env_id.startswith(
            "ALE/"
        ):  # its own vector environment: threads, 84x84 grey, stacks of four frames
            gymnasium.register_envs(import_module("ale_py"))
            return gymnasium.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **mode)
        return gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync", vector_kwargs=mode)
    except ModuleNotFoundError as error:
        raise ValueError(f"env: {env_id} needs a package that is not installed: {error}") from None
    except gymnasium.error.Error as error:
        raise ValueError(f"env: {error} Compiled environments: {', '.join(TABLE)}") from None


def _name(env: Any) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def reward_threshold(env_id: str) -> float | None:
    """Mean return at which Gymnasium counts an environment as solved, if it says so."""
    spec = gymnasium.registry.get(env_id.split(":")[-1])
    return None if spec is None else spec.reward_threshold
