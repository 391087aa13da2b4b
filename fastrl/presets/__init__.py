"""Tuned settings by algorithm and environment: ``<algorithm>.toml`` here, a table for each environment.

``fastrl train`` starts from them. In Python a configuration starts from its documented defaults; a preset is
asked for: ``fastrl.PPO("CartPole-v1", **preset("ppo", "CartPole-v1").fields)``.

A file has a ``version``, raised whenever a number in it changes; a comment above each table says where its
numbers are from and what was measured with them.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings for one environment."""

    env_id: str
    version: int
    fields: dict[str, Any]
    """Fields of the algorithm's configuration."""

    def __str__(self) -> str:
        return f"{self.env_id} (version {self.version})"


def preset(algorithm: str, env_id: str) -> Preset | None:
    """The preset of an algorithm, by its name as in ``fastrl train``, for an environment, or None."""
    return presets(algorithm).get(env_id.removeprefix("fastrl/"))


@cache
def presets(algorithm: str) -> dict[str, Preset]:
    """All presets of an algorithm, by environment; empty if it has none."""
    path = Path(__file__).with_name(f"{algorithm.lower()}.toml")
    if not path.is_file():
        return {}
    tables = tomllib.loads(path.read_text())
    version = tables.pop("version")
    return {
        env_id: Preset(env_id, version, {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
        for env_id, table in tables.items()
    }
