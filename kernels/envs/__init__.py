"""Compiled environments: the table of what Python must know of each; ``csrc/envs/`` holds what they do.

An environment is a header in ``csrc/envs/``, its row in ``csrc/envs.cpp`` and its row here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fastrl import _core

NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEnv:
    """One environment of the table."""

    kernel: str
    """Name of the compiled dynamics."""
    obs_high: tuple[float, ...]
    """Upper bounds of the observation; the lower ones are their negatives."""
    max_episode_steps: int
    """Steps after which an episode is truncated; ``NO_LIMIT`` if it never is."""
    reward_threshold: float
    """Return at which the task counts as solved."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Keyword arguments of the environment and their defaults, in the kernel's order."""
    gymnasium_class: str
    """Gymnasium's own class, ``"module:Class"``: it draws the frames, from its attribute ``state``."""
    render_fps: int
    """Steps a second of simulated time."""


_MAX_ANGLE = 12 * 2 * 3.141592653589793 / 360
_CARTPOLE = CompiledEnv(
    kernel="CartPole",
    obs_high=(2 * 2.4, float("inf"), 2 * _MAX_ANGLE, float("inf")),
    max_episode_steps=500,
    reward_threshold=475.0,
    options={"sutton_barto_reward": False},
    gymnasium_class="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
    render_fps=50,
)
TABLE: Mapping[str, CompiledEnv] = {
    "CartPole-v0": replace(_CARTPOLE, max_episode_steps=200, reward_threshold=195.0),
    "CartPole-v1": _CARTPOLE,
}


def make(
    env_id: str, num_envs: int, max_episode_steps: int, autoreset: str, options: Mapping[str, float]
) -> _core.VecEnv:
    """``num_envs`` copies of a compiled environment, as the native code knows them.

    Args:
        env_id: a key of ``TABLE``.
        num_envs: at least 1.
        max_episode_steps: at least 1, or ``NO_LIMIT``.
        autoreset: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        options: some of the environment's ``options``.

    Raises:
        ValueError: no such environment, or an argument out of range.
        TypeError: an option that the environment does not have.
    """
    if env_id not in TABLE:
        raise ValueError(f"env_id must be one of {', '.join(TABLE)}, got {env_id!r}")
    if num_envs < 1:
        raise ValueError(f"{env_id}: num_envs must be >= 1, got {num_envs}")
    if max_episode_steps < 1:
        raise ValueError(f"{env_id}: max_episode_steps must be >= 1, got {max_episode_steps}")
    known = TABLE[env_id].options
    for name in options:
        if name not in known:
            raise TypeError(f"{env_id}: no argument {name!r}; it has {', '.join(known) or 'none of its own'}")
    values = [float(options.get(name, default)) for name, default in known.items()]
    return _core.VecEnv(TABLE[env_id].kernel, num_envs, max_episode_steps, autoreset, values)
