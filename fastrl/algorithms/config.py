"""Configurations: frozen dataclasses whose fields are checked when they are made."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmConfig:
    """Fields that every algorithm has. Subclasses add theirs and validate them."""

    total_timesteps: int = 200_000
    """Environment steps to train for, over all environments together; learn() may be given another number."""
    seed: int = 0
    """Seed of everything random; one seed repeats a run bit for bit on one machine."""
    num_envs: int = 8
    """Environments stepped side by side."""
    num_workers: int = 0
    """Processes that step environments which are not compiled; 0: this process does. A handful pays where a
    step takes a millisecond, as many as there are environments where it waits."""
    gamma: float = 0.99
    """Discount factor, in [0, 1]."""
    engine: Literal["auto", "native", "torch"] = "auto"
    """What runs the networks: native CPU kernels, or torch. auto picks native wherever it can run."""

    def __post_init__(self) -> None:
        for name, hint in ((field.name, field.type) for field in fields(self) if _is_plain(field.type)):
            object.__setattr__(self, name, _plain(getattr(self, name), hint))
            self.require(name, _fits(getattr(self, name), hint), f"must be {_named(hint)}")
        self.require("total_timesteps", self.total_timesteps >= 1, "must be >= 1")
        self.require("seed", self.seed >= 0, "must be >= 0")
        self.require("num_envs", self.num_envs >= 1, "must be >= 1")
        self.require("num_workers", self.num_workers >= 0, "must be >= 0")
        self.require("gamma", 0.0 <= self.gamma <= 1.0, "must be in [0, 1]")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Self:
        """The configuration with these fields, as JSON or TOML gives them.

        Raises:
            ValueError: an unknown field, or a value of another type or out of its range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := given.keys() - known:
            raise ValueError(f"{cls.__name__}: unknown fields {', '.join(sorted(unknown))}")
        return cls(**given)

    def require(self, name: str, ok: bool, rule: str) -> None:
        """Raise ValueError, naming field, rule and value, unless ``ok``."""
        if not ok:
            raise ValueError(f"{type(self).__name__}: {name} {rule}, got {getattr(self, name)!r}")


def _is_plain(hint: Any) -> bool:
    """Whether a field's type is one that JSON and TOML know; a user's subclass may have others."""
    if get_origin(hint) in (Union, UnionType):
        return all(map(_is_plain, get_args(hint)))
    if get_origin(hint) is Literal:
        return all(isinstance(choice, str) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return get_args(hint) in ((int, ...), (float, ...), (str, ...))
    return hint in (int, float, bool, str, NoneType)


def _plain(value: Any, hint: Any) -> Any:
    """A value as Python's types have it, that NumPy, JSON or TOML gave; 1e6 is an int where one is due."""
    if get_origin(hint) in (Union, UnionType):
        return reduce(_plain, get_args(hint), value)
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    if get_origin(hint) is tuple and isinstance(value, list | tuple | np.ndarray):
        return tuple(_plain(item, get_args(hint)[0]) for item in value)
    return int(value) if hint is int and isinstance(value, float) and value.is_integer() else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type; ints are floats, bools are not ints."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    kinds = (int, float) if hint is float else hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def _named(hint: Any) -> str:
    """A field's type, in words."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_named, get_args(hint)))
    if get_origin(hint) is Literal:
        *others, last = get_args(hint)
        return f"{', '.join(others)} or {last}"
    if get_origin(hint) is tuple:
        return f"a sequence of {get_args(hint)[0].__name__}"
    if hint is NoneType:
        return "None"
    return {int: "an int", float: "a float", bool: "a bool", str: "a str"}[hint]
