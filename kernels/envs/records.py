"""Records of environments that users wrote, and the source of the functions over them.

A record is a row of int64: key and counter of the episode's random numbers, then the state, 8 bytes a number.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

types: Any = numba.types  # whose stubs know less than it has
HEAD = 2
"""Numbers of a record before the state: key and counter."""


class Mistake(Exception):
    """What is wrong with a user's function, without the environment's name."""


@dataclass(frozen=True, slots=True)
class Part:
    """A number or an array of a state or an observation; it starts at ``offset`` of the numbers of all."""

    type: Any
    shape: tuple[int, ...] | None
    offset: int

    @property
    def number(self) -> Any:
        """Numba's type of a number of it."""
        return self.type if self.shape is None else self.type.dtype

    @property
    def is_float(self) -> bool:
        """Whether its numbers are float64."""
        return bool(self.number == types.float64)

    @property
    def is_bool(self) -> bool:
        """Whether it is a truth value."""
        return bool(self.number == types.boolean)

    @property
    def size(self) -> int:
        """Numbers of it."""
        return 1 if self.shape is None else int(np.prod(self.shape))


@dataclass(frozen=True, slots=True)
class Structure:
    """How a value consists of parts."""

    parts: tuple[Part, ...]
    tuple_class: type | None
    """Of the tuple, ``tuple`` or a named one; None: the value is one number or array."""

    @property
    def size(self) -> int:
        """Numbers of all parts."""
        return sum(part.size for part in self.parts)

    @property
    def type(self) -> Any:
        """Numba's type of the value."""
        if self.tuple_class is None:
            return self.parts[0].type
        named = None if self.tuple_class is tuple else self.tuple_class
        return types.BaseTuple.from_types([part.type for part in self.parts], named)

    def __str__(self) -> str:
        names = [
            str(part.number) if part.shape is None else f"{part.number} {list(part.shape)}"
            for part in self.parts
        ]
        return names[0] if self.tuple_class is None else f"({', '.join(names)})"

    def items(self, value: str) -> list[str]:
        """Expressions of the parts of the value that this expression gives."""
        if self.tuple_class is None:
            return [value]
        return [f"{value}[{k}]" for k in range(len(self.parts))]


def structure(what: str, type_: Any, sample: Any) -> Structure:
    """The structure of a value of this type, whose arrays have the shapes of the sample's.

    Raises:
        Mistake: it is no number, array, or tuple of these.
    """
    whole = isinstance(type_, types.BaseTuple)
    items = zip(type_.types, sample, strict=True) if whole else [(type_, sample)]
    parts: list[Part] = []
    for item, value in items:
        offset = parts[-1].offset + parts[-1].size if parts else 0
        array = isinstance(item, types.Array)
        number = item.dtype if array else item
        if isinstance(number, types.Boolean):
            kept = types.boolean
        elif isinstance(number, types.Integer):
            kept = types.int64
        elif isinstance(number, types.Float):
            kept = types.float64
        else:
            raise Mistake(f"{what} must be a number, an array, or a tuple of these, got {type_}")
        if array:
            parts.append(Part(types.Array(number, item.ndim, "C"), np.shape(value), offset))
        else:
            parts.append(Part(kept, None, offset))
    if not parts:
        raise Mistake(f"{what} must not be empty")
    return Structure(tuple(parts), getattr(type_, "instance_class", tuple) if whole else None)


@dataclass(frozen=True, slots=True)
class Spaces:
    """What the compiled functions must know of an environment's spaces."""

    obs_size: int
    """Floats of an observation; 0: Discrete."""
    obs_states: int
    """Of a Discrete observation."""
    action_low: tuple[float, ...]
    """Bounds of the floats of an action; empty: Discrete."""
    action_high: tuple[float, ...]


def _each_number(memory: str, place: str, part: Part, value: str) -> list[str]:
    """Lines that store the numbers of an array one after the other."""
    shape = part.shape or ()
    index = ", ".join(f"i{axis}" for axis in range(len(shape)))
    loops = [f"{'    ' * axis}for i{axis} in range({size}):" for axis, size in enumerate(shape)]
    indent = "    " * len(shape)
    return [
        f"if {value}.shape != {shape}: raise ValueError('an array has another shape')",
        f"k = {place}",
        *loops,
        f"{indent}{memory}[k] = {value}[{index}]",
        f"{indent}k += 1",
    ]


def source(state: Structure, obs: Structure, observes: bool, spaces: Spaces) -> str:
    """The functions over records. An error in a user's function, caught, makes the record a failed one."""
    width = HEAD + state.size
    loads, stores, writes = [], [], []
    for part, value in zip(state.parts, state.items("state"), strict=True):
        memory = "floats" if part.is_float else "record"
        place = HEAD + part.offset
        if part.shape is None:
            loads.append(f"{memory}[{place}]" + (" != 0" if part.is_bool else ""))
            stores.append(f"{memory}[{place}] = {value}")
        else:  # a copy, so that a step that fails has changed nothing
            loads.append(f"carray(_shifted({memory}, {place}), {part.shape}).copy()")
            stores += _each_number(memory, str(place), part, value)
    loaded = f"({', '.join(loads)},)" if state.tuple_class else loads[0]
    if state.tuple_class not in (None, tuple):
        loaded = f"State({', '.join(loads)})"
    for part, value in zip(obs.parts, obs.items("value"), strict=True):
        if part.shape is None:
            writes.append(f"obs[at + {part.offset}] = {value}")
        else:
            writes += _each_number("obs", f"at + {part.offset}", part, value)
    value = "user_observe(load(record))" if observes else "load(record)"
    count = max(spaces.obs_size, 1)
    valid = "np.isfinite(obs[k])" if spaces.obs_size else f"0 <= obs[k] < {spaces.obs_states}"
    choice = "choice" if spaces.action_low else "action[i]"
    lines = "\n    ".join
    clip = ""
    if spaces.action_low:
        size = len(spaces.action_low)
        clip = f"""
                for k in range({size}):
                    choice[k] = min(max(action[i * {size} + k], low[k]), high[k])"""
    return f"""
def load(record):
    floats = _floats(record)
    return {loaded}

def store(record, state):
    floats = _floats(record)
    {lines(stores)}

def write(obs, at, value):
    {lines(writes)}

def reset_record(record):
    failed = -1
    try:
        store(record, user_reset(_random_at(record)))
    except Exception:
        failed = 0
    return failed

def step_records(records, action, skip, reward, terminated, n):
    failed, i = -1, 0
    choice = {f"np.empty({len(spaces.action_low)})" if spaces.action_low else "0"}
    while i < n and failed < 0:
        if skip[i] == 0:
            record = _shifted(records, i * {width})
            draws = record[1]
            try:{clip}
                made = user_step(load(record), {choice}, _random_at(record))
                gain = 1.0 * made[1]
                if np.isfinite(gain):
                    store(record, made[0])
                    reward[i] = gain
                    terminated[i] = made[2]
                else:
                    failed = i
            except Exception:
                failed = i
            if failed >= 0:
                record[1] = draws
        i += 1
    return failed

def observe_records(records, obs, n):
    failed, i = -1, 0
    while i < n and failed < 0:
        record = _shifted(records, i * {width})
        try:
            write(obs, i * {count}, {value})
            for k in range(i * {count}, (i + 1) * {count}):
                if not ({valid}):
                    failed = i
        except Exception:
            failed = i
        i += 1
    return failed
"""
