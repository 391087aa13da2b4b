"""Compiled environments: the table of what Python must know of each; ``csrc/envs/`` holds what they do.

An environment is a header in ``csrc/envs/``, its rows in ``csrc/envs.cpp`` and ``csrc/envs_fast.cpp`` and
its row here.
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
    """Upper bounds of the observation."""
    obs_low: tuple[float, ...] | None = None
    """Lower ones; None: the negatives of the upper ones."""
    max_episode_steps: int
    """Steps after which an episode is truncated; ``NO_LIMIT`` if it never is."""
    reward_threshold: float | None = None
    """Return at which the task counts as solved, if somebody said so."""
    action_high: tuple[float, ...] = ()
    """Upper bounds of a continuous action; the lower ones are their negatives. Empty: discrete actions."""
    reset_options: tuple[str, str] = ("low", "high")
    """Options of ``reset``: bounds of the initial state, or half widths of two intervals around 0."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Keyword arguments of the environment and their defaults, in the kernel's order."""
    gymnasium_class: str
    """Gymnasium's own class, ``"module:Class"``: it draws the frames, from its attribute ``state``."""
    drawn_action: str | None = None
    """Its attribute for the last action, clipped, if it draws that too; None after a reset."""
    render_fps: int
    """Steps a second of simulated time."""


_PI = 3.141592653589793
_MAX_ANGLE = 12 * 2 * _PI / 360
_CARTPOLE = CompiledEnv(
    kernel="CartPole",
    obs_high=(2 * 2.4, float("inf"), 2 * _MAX_ANGLE, float("inf")),
    max_episode_steps=500,
    reward_threshold=475.0,
    options={"sutton_barto_reward": False},
    gymnasium_class="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
    render_fps=50,
)
_MOUNTAIN_CAR = CompiledEnv(
    kernel="MountainCar",
    obs_high=(0.6, 0.07),
    obs_low=(-1.2, -0.07),
    max_episode_steps=200,
    reward_threshold=-110.0,
    options={"goal_velocity": 0.0},
    gymnasium_class="gymnasium.envs.classic_control.mountain_car:MountainCarEnv",
    render_fps=30,
)
TABLE: Mapping[str, CompiledEnv] = {
    "Acrobot-v1": CompiledEnv(
        kernel="Acrobot",
        obs_high=(1.0, 1.0, 1.0, 1.0, 4 * _PI, 9 * _PI),
        max_episode_steps=500,
        reward_threshold=-100.0,
        gymnasium_class="gymnasium.envs.classic_control.acrobot:AcrobotEnv",
        render_fps=15,
    ),
    "CartPole-v0": replace(_CARTPOLE, max_episode_steps=200, reward_threshold=195.0),
    "CartPole-v1": _CARTPOLE,
    "MountainCar-v0": _MOUNTAIN_CAR,
    "MountainCarContinuous-v0": replace(
        _MOUNTAIN_CAR,
        kernel="MountainCarContinuous",
        max_episode_steps=999,
        reward_threshold=90.0,
        action_high=(1.0,),
        gymnasium_class="gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv",
    ),
    "Pendulum-v1": CompiledEnv(
        kernel="Pendulum",
        obs_high=(1.0, 1.0, 8.0),
        max_episode_steps=200,
        action_high=(2.0,),
        reset_options=("x_init", "y_init"),
        options={"g": 10.0},
        gymnasium_class="gymnasium.envs.classic_control.pendulum:PendulumEnv",
        drawn_action="last_u",
        render_fps=30,
    ),
}
MODES = ("exact", "fast")


def make(
    env_id: str,
    num_envs: int,
    max_episode_steps: int,
    autoreset: str,
    options: Mapping[str, float],
    mode: str = "exact",
) -> _core.VecEnv:
    """``num_envs`` copies of a compiled environment, as the native code knows them.

    Args:
        env_id: a key of ``TABLE``.
        num_envs: at least 1.
        max_episode_steps: at least 1, or ``NO_LIMIT``.
        autoreset: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        options: some of the environment's ``options``.
        mode: ``"exact"`` computes in float64 with Gymnasium's bits, ``"fast"`` in float32.

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
    if mode not in MODES:
        raise ValueError(f"{env_id}: mode must be one of {', '.join(MODES)}, got {mode!r}")
    known = TABLE[env_id].options
    for name in options:
        if name not in known:
            raise TypeError(f"{env_id}: no argument {name!r}; it has {', '.join(known) or 'none of its own'}")
    values = [float(options.get(name, default)) for name, default in known.items()]
    fast = mode == "fast"
    return _core.VecEnv(TABLE[env_id].kernel, fast, num_envs, max_episode_steps, autoreset, values)
