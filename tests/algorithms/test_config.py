"""Configurations: what a field takes, from Python, NumPy and JSON, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.algorithms.ppo import PPOConfig
from fastrl.envs import VectorEnv


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("num_envs", 2.5, "must be an int, got 2.5"),
        ("num_steps", True, "must be an int, got True"),
        ("minibatch_size", "64", "must be an int, got '64'"),
        ("learning_rate", "fast", "must be a float, got 'fast'"),
        ("learning_rate", None, "must be a float, got None"),
        ("learning_rate", [1e-3], r"must be a float, got \[0.001\]"),
        ("target_kl", "0.1", "must be a float or None, got '0.1'"),
        ("anneal_lr", "no", "must be a bool, got 'no'"),
        ("normalize_obs", 1, "must be a bool, got 1"),
        ("hidden", 64, "must be a sequence of int, got 64"),
        ("hidden", (64, 2.5), r"must be a sequence of int, got \(64, 2.5\)"),
        ("hidden", np.array(64), "must be a sequence of int, got 64"),
        ("hidden", "64", "must be a sequence of int, got '64'"),
        ("activation", "gelu", "must be tanh, relu or silu, got 'gelu'"),
        ("network", "resnet", "must be auto, mlp, nature or impala, got 'resnet'"),
        ("device", 0, "must be a str, got 0"),
        ("seed", -1, "must be >= 0, got -1"),
        ("seed", 1.5, "must be an int, got 1.5"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_error(field, value, rule):
    with pytest.raises(ValueError, match=f"PPOConfig: {field} {rule}$"):
        PPOConfig(**{field: value})
    with pytest.raises(ValueError, match=f"PPOConfig: {field} {rule}$"):
        PPOConfig.from_mapping({field: value})


def test_values_become_pythons_own():
    config = PPOConfig(
        total_timesteps=1e6, num_envs=np.int32(4), gamma=np.float64(0.5), anneal_lr=np.False_,
        hidden=[np.int64(8), 16], vf_coef=1, target_kl=np.float32(0.25), minibatch_size=512.0,
    )  # fmt: skip
    assert config == PPOConfig(
        total_timesteps=1_000_000, num_envs=4, gamma=0.5, anneal_lr=False, hidden=(8, 16), vf_coef=1.0,
        target_kl=0.25, minibatch_size=512,
    )  # fmt: skip
    assert type(config.total_timesteps) is int
    assert PPOConfig.from_mapping(json.loads(json.dumps(asdict(config)))) == config


@dataclass(frozen=True, kw_only=True)
class Mine(PPOConfig):
    """A user's, with fields of types that JSON lacks, which are theirs to check, and of some that it has."""

    folder: Path = Path()
    schedule: Callable[[float], float] = float
    names: dict[str, int] = field(default_factory=dict)
    shape: tuple[int, float] = (1, 0.5)
    order: Literal[1, 2] = 1
    anything: Any = None
    kind: ClassVar[int] = 3
    unknown: "Unheard" = None  # noqa: F821
    sizes: tuple[int, ...] | None = None
    limit: int | None = None


def test_fields_of_other_types_are_the_users_to_check():
    mine = Mine(folder=Path("here"), shape=(2, 1.0), order=2, sizes=[3, 4.0], limit=1e3, num_envs=np.array(4))
    assert (mine.folder, mine.shape, mine.order) == (Path("here"), (2, 1.0), 2)
    assert (mine.sizes, mine.limit, mine.num_envs) == ((3, 4), 1000, 4)
    with pytest.raises(ValueError, match="Mine: sizes must be a sequence of int or None, got 3"):
        Mine(sizes=3)


def test_the_number_of_given_environments_counts_before_anything_is_checked():
    envs = VectorEnv("CartPole-v1", 64, autoreset_mode=AutoresetMode.SAME_STEP)
    assert fastrl.PPO(envs, num_steps=16, minibatch_size=1024).config.num_envs == 64
    with pytest.raises(ValueError, match=r"minibatch_size must be <= num_envs \* num_steps = 1024, got 1025"):
        fastrl.PPO(envs, num_steps=16, minibatch_size=1025)
