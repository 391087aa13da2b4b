"""What a transition consists of: named fields, each with a dtype and the shape of one row."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrl.kernels._check import describe, require_choice, require_unit
from fastrl.state import DTYPES

RESERVED = ("indexes", "weights", "priorities", "out")
FLAGS = ("done", "terminated", "truncated")
"""Fields that say where episodes end."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a transition."""

    name: str
    """As in ``add(name=...)``."""
    dtype: np.dtype[Any]
    """Of its elements."""
    shape: tuple[int, ...]
    """Of one row."""

    @property
    def bytes(self) -> int:
        """Of one row."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class NStep:
    """What n-step sampling returns: the option ``Nstep``."""

    size: int
    """n: the most steps that are summed."""
    gamma: float
    """Discount of a step."""
    rewards: tuple[str, ...]
    """Fields that are summed, discounted."""
    following: tuple[str, ...]
    """Fields of which the window's last row is returned."""


def parse_fields(env_dict: Mapping[str, Mapping[str, Any]], default_dtype: DTypeLike) -> tuple[Field, ...]:
    """The fields that ``env_dict`` names.

    Raises:
        TypeError, ValueError: a name, shape or dtype that will not do.
    """
    if not isinstance(env_dict, Mapping) or not env_dict:
        raise TypeError(f"replay: env_dict must be a dict of fields, got {env_dict!r}")
    return tuple(_field(name, options, default_dtype) for name, options in env_dict.items())


def _field(name: str, options: Mapping[str, Any], default_dtype: DTypeLike) -> Field:
    if not isinstance(name, str):
        raise TypeError(f"replay: a field's name must be a str, got {describe(name)}")
    if not isinstance(options, Mapping) or not set(options) <= {"shape", "dtype", "stack_axis"}:
        raise ValueError(f"replay: {name} must be a dict of shape, dtype and stack_axis, got {options!r}")
    shape = options.get("shape", ())
    try:
        shape = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
    except TypeError:
        raise TypeError(f"replay: the shape of {name} must be integers, got {shape!r}") from None
    if min(shape, default=1) < 1 or len(shape) > 31:
        raise ValueError(
            f"replay: the shape of {name} must be at least 1 in each of <= 31 axes, got {list(shape)}"
        )
    given = options.get("dtype", default_dtype)
    try:
        dtype = np.dtype(given)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.name not in DTYPES:
        raise TypeError(f"replay: the dtype of {name} must be one of {', '.join(DTYPES)}, got {given}")
    return Field(
        name, np.dtype(dtype.type), shape
    )  # in native byte order, and the one object that NumPy's arrays share


def require_names(fields: Sequence[Field], reserved: Sequence[str]) -> None:
    """Raise ValueError if a field has the name of something else."""
    for field in fields:
        if field.name in reserved:
            raise ValueError(
                f"replay: a field's name must be none of {', '.join(reserved)}, got {field.name}"
            )


def integer(name: str, x: object) -> int:
    """``x`` as an int.

    Raises:
        TypeError: no integer.
    """
    try:
        return operator.index(x)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"replay: {name} must be an integer, got {describe(x)}") from None


def number(name: str, x: object) -> float:
    """``x`` as a float.

    Raises:
        TypeError: no real number.
    """
    if not isinstance(x, int | float | np.floating | np.integer):
        raise TypeError(f"replay: {name} must be a number, got {describe(x)}")
    return float(x)


def parse_n_step(options: Mapping[str, Any] | None, fields: Sequence[Field]) -> NStep:
    """The option ``Nstep``; one step if it is None.

    Raises:
        TypeError, ValueError: an option that will not do.
    """
    if options is None:
        return NStep(1, 1.0, (), ())
    if not isinstance(options, Mapping) or not {"size", "rew"} <= set(options) <= {
        "size",
        "gamma",
        "rew",
        "next",
    }:
        raise ValueError(f"replay: Nstep must be a dict of size, gamma, rew and next, got {options!r}")
    size = integer("Nstep's size", options["size"])
    if not 1 <= size < 2**63:
        raise ValueError(f"replay: Nstep's size must be {'>= 1' if size < 1 else '< 2^63'}, got {size}")
    gamma = number("Nstep's gamma", options.get("gamma", 0.99))
    require_unit("replay", "Nstep's gamma", gamma)
    n_step = NStep(size, gamma, names_of(options["rew"]), names_of(options.get("next", ())))
    by_name = {field.name: field for field in fields}
    for name in (*n_step.rewards, *n_step.following):
        require_choice("replay", "a field that Nstep names", name, tuple(by_name))
    for name in n_step.rewards:
        if name in (*n_step.following, *FLAGS):
            raise ValueError(
                f"replay: a field that Nstep sums must not be one of which it returns the last, got {name}"
            )
        if by_name[name].dtype.name not in ("float32", "float64"):
            raise TypeError(
                f"replay: {name}, which Nstep sums, must be float32 or float64, got {by_name[name].dtype}"
            )
    if not {"done", "terminated"} & set(by_name):
        raise ValueError("replay: Nstep needs a field done or terminated, got " + ", ".join(by_name))
    return n_step


def names_of(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, or several, as a tuple.

    Raises:
        TypeError: no names.
    """
    if names is None or isinstance(names, str):
        return () if names is None else (names,)
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"replay: fields must be named by a str or several, got {describe(name)}")
    return tuple(dict.fromkeys(found))


def flag_fields(fields: Sequence[Field]) -> tuple[str | None, str | None]:
    """Names of the fields that say that an episode terminated, and that it was truncated.

    Raises:
        ValueError: both ``done`` and ``terminated``, or more than one element a row.
    """
    by_name = {field.name: field for field in fields}
    if {"done", "terminated"} <= set(by_name):
        raise ValueError("replay: env_dict must have done or terminated, which mean the same, got both")
    for name in set(FLAGS) & set(by_name):
        if math.prod(by_name[name].shape) != 1 or by_name[name].dtype.kind == "c":
            raise ValueError(f"replay: {name} must be one real number a row, got {by_name[name]}")
    terminated = next((name for name in ("terminated", "done") if name in by_name), None)
    return terminated, "truncated" if "truncated" in by_name else None
