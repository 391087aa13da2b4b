"""Compiled environments: the table of what Python must know of each; ``csrc/envs/`` holds what they do.

An environment is a header in ``csrc/envs/``, its rows in ``csrc/envs.cpp`` and ``csrc/envs_fast.cpp`` and
its row here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastrl import _core
from fastrl.kernels.envs import blackjack, toy_text
from fastrl.kernels.envs.model import TabularModel

NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEnv:
    """One environment of the table."""

    kernel: str
    """Name of the compiled dynamics."""
    obs_high: tuple[float, ...] = ()
    """Upper bounds of the observation. Empty: Discrete observations."""
    obs_low: tuple[float, ...] | None = None
    """Lower ones; None: the negatives of the upper ones."""
    obs_sizes: tuple[int, ...] = ()
    """Of Discrete observations; empty: one, of the transition table's states."""
    max_episode_steps: int
    """Steps after which an episode is truncated; ``NO_LIMIT`` if it never is."""
    reward_threshold: float | None = None
    """Return at which the task counts as solved, if somebody said so."""
    action_high: tuple[float, ...] = ()
    """Upper bounds of a continuous action; the lower ones are their negatives. Empty: discrete actions."""
    reset_options: tuple[str, str] | None = ("low", "high")
    """Options of ``reset``: bounds of the initial state, or half widths of two intervals around 0."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment and their defaults; the numbers are the kernel's, in its order."""
    check: Callable[[str, Mapping[str, Any]], dict[str, Any]] | None = None
    """Checks all arguments together and gives what they mean."""
    mdp: Callable[..., TabularModel] | None = None
    """The exact model, of the checked arguments."""
    table: Callable[..., _core.TransitionTable] | None = None
    """What the kernel steps through, of the checked arguments."""
    gymnasium_class: str
    """Gymnasium's own class, ``"module:Class"``: it draws the frames."""
    drawn_state: str = "state"
    """Its attribute for the state: ``state`` takes all of it, ``s`` the number of the state, ``cards`` means
    Blackjack's hands."""
    text: bool = False
    """Whether it writes frames as text as well."""
    drawn_action: str | None = None
    """Its attribute for the last action (a continuous one clipped) if it draws that; None after a reset."""
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
_FROZEN_LAKE = CompiledEnv(
    kernel="Tabular",
    max_episode_steps=100,
    reward_threshold=0.7,
    reset_options=None,
    options={
        "desc": None,
        "map_name": "4x4",
        "is_slippery": True,
        "success_rate": 1.0 / 3.0,
        "reward_schedule": (1, 0, 0),
    },
    check=toy_text.frozen_lake_arguments,
    mdp=toy_text.frozen_lake,
    table=lambda **given: toy_text.frozen_lake(**given).compile(),
    gymnasium_class="gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv",
    drawn_state="s",
    drawn_action="lastaction",
    text=True,
    render_fps=4,
)
_CLIFF_WALKING = CompiledEnv(
    kernel="Tabular",
    max_episode_steps=NO_LIMIT,
    reset_options=None,
    options={"is_slippery": False},
    check=toy_text.cliff_walking_arguments,
    mdp=toy_text.cliff_walking,
    table=lambda **given: toy_text.cliff_walking(**given).compile(),
    gymnasium_class="gymnasium.envs.toy_text.cliffwalking:CliffWalkingEnv",
    drawn_state="s",
    drawn_action="lastaction",
    text=True,
    render_fps=4,
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
    "FrozenLake-v1": _FROZEN_LAKE,
    "FrozenLake8x8-v1": replace(
        _FROZEN_LAKE,
        max_episode_steps=200,
        reward_threshold=0.85,
        options={**_FROZEN_LAKE.options, "map_name": "8x8"},
    ),
    "Taxi-v4": CompiledEnv(
        kernel="Taxi",
        max_episode_steps=200,
        reward_threshold=8,
        reset_options=None,
        options={
            "is_rainy": False,
            "rainy_probability": 0.8,
            "fickle_passenger": False,
            "fickle_probability": 0.3,
        },
        check=toy_text.taxi_arguments,
        mdp=toy_text.taxi,
        table=lambda is_rainy, rainy_probability, **_fickle: toy_text.taxi_moves(
            is_rainy, rainy_probability
        ).compile(toy_text.taxi_action_mask()),
        gymnasium_class="gymnasium.envs.toy_text.taxi:TaxiEnv",
        drawn_state="s",
        drawn_action="lastaction",
        text=True,
        render_fps=4,
    ),
    "CliffWalking-v1": _CLIFF_WALKING,
    "CliffWalkingSlippery-v1": replace(_CLIFF_WALKING, options={"is_slippery": True}),
    "Blackjack-v1": CompiledEnv(
        kernel="Blackjack",
        obs_sizes=blackjack.OBSERVATION,
        max_episode_steps=NO_LIMIT,
        reset_options=None,
        options={"natural": False, "sab": True},
        check=blackjack.blackjack_arguments,
        mdp=blackjack.blackjack,
        gymnasium_class="gymnasium.envs.toy_text.blackjack:BlackjackEnv",
        drawn_state="cards",
        render_fps=4,
    ),
}
MODES = ("exact", "fast")


def arguments(env_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of an environment, checked: those of ``options`` and the defaults of the others.

    Giving them back gives the same, also where an argument stands for a random draw.

    Raises:
        ValueError: no such environment, or an argument out of range.
        TypeError: an option that the environment does not have.
    """
    if env_id not in TABLE:
        raise ValueError(f"env_id must be one of {', '.join(TABLE)}, got {env_id!r}")
    row = TABLE[env_id]
    for name in options:
        if name not in row.options:
            known = ", ".join(row.options) or "none of its own"
            raise TypeError(f"{env_id}: no argument {name!r}; it has {known}")
    given = {**row.options, **options}
    return given if row.check is None else row.check(env_id, given)


def make(
    env_id: str,
    num_envs: int,
    max_episode_steps: int,
    autoreset: str,
    options: Mapping[str, Any],
    mode: str = "exact",
    num_threads: int = 1,
) -> _core.VecEnv:
    """``num_envs`` copies of a compiled environment, as the native code knows them.

    Args:
        env_id: a key of ``TABLE``.
        num_envs: at least 1.
        max_episode_steps: at least 1, or ``NO_LIMIT``.
        autoreset: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        options: some of the environment's ``options``.
        mode: ``"exact"`` computes in float64 with Gymnasium's bits, ``"fast"`` in float32.
        num_threads: at least 1.

    Raises:
        ValueError: no such environment, or an argument out of range.
        TypeError: an option that the environment does not have.
    """
    given = arguments(env_id, options)
    if num_envs < 1:
        raise ValueError(f"{env_id}: num_envs must be >= 1, got {num_envs}")
    if max_episode_steps < 1:
        raise ValueError(f"{env_id}: max_episode_steps must be >= 1, got {max_episode_steps}")
    if num_threads < 1:
        raise ValueError(f"{env_id}: num_threads must be >= 1, got {num_threads}")
    if mode not in MODES:
        raise ValueError(f"{env_id}: mode must be one of {', '.join(MODES)}, got {mode!r}")
    row = TABLE[env_id]
    values = [
        float(given[name]) for name, default in row.options.items() if isinstance(default, bool | float)
    ]
    table = None if row.table is None else row.table(**given)
    fast = mode == "fast"
    return _core.VecEnv(row.kernel, fast, num_envs, max_episode_steps, autoreset, values, table, num_threads)
