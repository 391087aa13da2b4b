"""Where an agent's environments came from: what makes them again, for evaluation and from a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import gymnasium
from gymnasium.envs.registration import EnvSpec

from fastrl.envs.atari_video import make_drawn_game
from fastrl.envs.foreign import ForeignVectorEnv
from fastrl.envs.make import Alike, Env, can_make
from fastrl.envs.user import UserEnv, UserVectorEnv
from fastrl.envs.vector import VectorEnv
from fastrl.kernels.envs import TABLE

VECTOR_ONLY = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
"""Arguments of ``gymnasium.make_vec`` that its spec keeps among the environment's."""
SIDE_BY_SIDE = ("autoreset_mode", "num_threads", "validate")
"""Arguments of a compiled vector environment that one environment alone does not take."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of how to make an agent's environments again."""

    source: Any
    """An id or a function, for ``make_evaluation_env``; None: nothing known makes them."""
    by_id: bool
    """Whether the id alone makes them."""
    options: Mapping[str, Any] | None = None
    """Arguments of a compiled vector environment that was given as such."""

    @classmethod
    def of(cls, env: Any, env_id: str, made: Env) -> Self:
        """The origin of ``made``, which ``make_training_env`` made of ``env``."""
        if isinstance(env, str):
            return cls(env_id, True)
        if isinstance(env, ForeignVectorEnv):
            env = env.env
        if type(env) in (VectorEnv, UserVectorEnv):
            first, _ = env._ezpickle_args
            options = {k: v for k, v in env._ezpickle_kwargs.items() if k not in ("copy", "render_mode")}
            options["autoreset_mode"] = env.metadata["autoreset_mode"].value
            remake = Alike(type(env), first, options)
            return cls(remake, False, options if isinstance(first, str) else None)
        if isinstance(env, gymnasium.vector.VectorEnv):
            plain = env.unwrapped is env and _plain(env.spec)
            return cls(env_id if plain else None, plain)
        singles = getattr(made.unwrapped, "envs", ())  # of SyncVectorEnv
        return cls(env, any(_plain(single.spec) for single in singles[:1]))

    def single(self, env_id: str) -> Callable[..., Any] | None:
        """What makes one environment alone, with the arguments of the agent's; None: nothing known does, as
        for compiled environments of a user's, which come as vectors only.
        """
        if env_id.startswith("ALE/") and self.source == env_id:
            return partial(make_drawn_game, env_id)
        if self.by_id or self.options is not None:
            options = {name: x for name, x in (self.options or {}).items() if name not in SIDE_BY_SIDE}
            return partial(gymnasium.make, f"fastrl/{env_id}" if env_id in TABLE else env_id, **options)
        return None if isinstance(self.source, UserEnv | Alike) else self.source

    def state(self) -> dict[str, Any]:
        """What :meth:`again` needs, beside the id."""
        return {"env_by_id": self.by_id, "env_options": self.options and dict(self.options)}

    @staticmethod
    def again(state: Mapping[str, Any], num_envs: int) -> Any:
        """Id or vector environment of a checkpoint's agent.

        Raises:
            ValueError: nothing known makes it.
        """
        env_id, options = state["env_id"], state.get("env_options")
        if options is not None:
            return VectorEnv(env_id, num_envs, **options)
        if not state.get("env_by_id", True):
            raise ValueError(f"load: env must be given: the id {env_id} alone does not make the agent's")
        return env_id


def _plain(spec: Any) -> bool:
    """Whether an environment is what its id makes: no wrappers, no arguments of its own."""
    if not isinstance(spec, EnvSpec) or not can_make(spec.id) or spec.kwargs.get("wrappers"):
        return False
    registered = gymnasium.spec(spec.id)
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in VECTOR_ONLY}
    # of environments that are vectorised by themselves it keeps the limit there as well
    limit = kwargs.pop("max_episode_steps", registered.max_episode_steps)
    return limit == registered.max_episode_steps and replace(spec, kwargs=kwargs) == registered
