"""Environments as training and evaluation want them: vectorised, in SAME_STEP autoreset mode if it can be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from fastrl.envs.atari import make_ale
from fastrl.envs.envpool import EnvPoolEnv
from fastrl.envs.foreign import ForeignVectorEnv
from fastrl.envs.user import UserEnv
from fastrl.envs.vector import VectorEnv
from fastrl.envs.workers import WorkerVectorEnv
from fastrl.kernels.envs import TABLE

Env = gymnasium.vector.VectorEnv[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Alike:
    """Makes compiled vector environments with the arguments of one."""

    kind: type[VectorEnv]
    what: Any
    options: Mapping[str, Any]

    def __call__(self, num_envs: int, **others: Any) -> VectorEnv:
        """``num_envs`` of them."""
        return self.kind(self.what, num_envs, **{**self.options, **others})


def make_training_env(env: Any, num_envs: int, num_workers: int = 0) -> tuple[str, Env]:
    """Id and vector environment of ``env``, to train in.

    Args:
        env: an id, with or without ``fastrl/`` (compiled where there is such an environment, else
            Gymnasium's own: ALE's vector environment for ``ALE/...``, SyncVectorEnv otherwise; EnvPool's
            for ``envpool:...``), what :func:`fastrl.envs.compiled` made, a function that makes one
            environment, or a vector environment, which is taken as it is.
        num_envs: environments side by side, for an id or a function.
        num_workers: processes to step them in, for an id of Gymnasium's or a function; 0: this process.

    Raises:
        ValueError: no such environment, one whose package is not installed, or one that workers cannot step.
        TypeError: none of these.
    """
    if num_workers:
        return _in_workers(env, num_envs, num_workers)
    return _make(env, num_envs, training=True)


def make_evaluation_env(env: Any, num_envs: int) -> Env:
    """As :func:`make_training_env`, but Atari games are played to their end, with their own rewards.

    Raises:
        TypeError: a vector environment, which has a number of environments of its own.
    """
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise TypeError("env: must be an id or a function that makes one, got a vector environment")
    return _make(env, num_envs, training=False)[1]


def can_make(env_id: str) -> bool:
    """Whether there is an environment of this id, as far as can be known without making it."""
    return env_id in TABLE or env_id.split(":")[0] == "envpool" or env_id in gymnasium.registry


def _make(env: Any, num_envs: int, *, training: bool) -> tuple[str, Env]:
    if isinstance(env, gymnasium.vector.VectorEnv):
        if isinstance(env.unwrapped, VectorEnv):
            return env.unwrapped.env_id, env
        return _name(env), env if isinstance(env, ForeignVectorEnv) else ForeignVectorEnv(env)
    if isinstance(env, UserEnv | Alike):
        compiled = env(num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        return compiled.env_id, compiled
    if callable(env):
        makers = [partial(_single, env)] * num_envs
        made = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        return _name(made.envs[0]), ForeignVectorEnv(made)
    if not isinstance(env, str):
        kind = type(env).__name__
        raise TypeError(f"env: must be an id, a function that makes one, or a vector environment, got {kind}")
    env_id = env.removeprefix("fastrl/")
    if env_id in TABLE:
        return env_id, VectorEnv(env_id, num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        return env, _foreign(env, num_envs, training)
    except ModuleNotFoundError as error:
        raise ValueError(f"env: {env} needs a package that is not installed: {error}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(f"env: {env} needs a package that is not installed: {error}") from None
    except gymnasium.error.Error as error:
        raise ValueError(f"env: {error} Compiled environments: {', '.join(TABLE)}") from None


def _single(make: Callable[[], Any]) -> Any:
    """What the user's function makes, if it is an environment."""
    made = make()
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(made, name, None), gymnasium.Space):
            raise TypeError(f"env: what the function makes must have an {name}, got {made!r}")
    return made


def _in_workers(env: Any, num_envs: int, num_workers: int) -> tuple[str, WorkerVectorEnv]:
    if (
        isinstance(env, str)
        and not env.startswith(("ALE/", "envpool:"))
        and env.removeprefix("fastrl/") not in TABLE
    ):
        env = partial(gymnasium.make, env)
    if not callable(env):
        raise ValueError(f"num_workers: must be 0 for {env}, which steps its environments itself")
    made = WorkerVectorEnv([env] * num_envs, num_workers, autoreset_mode=AutoresetMode.SAME_STEP)
    return made.env_name, made


def _foreign(env_id: str, num_envs: int, training: bool) -> ForeignVectorEnv:
    if env_id.startswith("ALE/"):
        return make_ale(env_id, num_envs, training)
    if env_id.startswith("envpool:"):
        return EnvPoolEnv(env_id.removeprefix("envpool:"), num_envs, training)
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return ForeignVectorEnv(
        gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync", vector_kwargs=mode)
    )


def _name(env: Any) -> str:
    return getattr(env.spec, "id", None) or type(env.unwrapped).__name__


def reward_threshold(env_id: str) -> float | None:
    """Mean return at which Gymnasium counts an environment as solved, if it says so."""
    spec = gymnasium.registry.get(env_id.split(":")[-1])
    return None if spec is None else spec.reward_threshold
