"""Environments that a user wrote, compiled to the functions over records that ``csrc/envs.h`` wants.

A record is a row of int64: key and counter of the episode's random numbers, then the state, 8 bytes a number.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, extending
from numba.core.errors import NumbaError

from fastrl.kernels.envs.random import STREAM, Random
from fastrl.kernels.envs.records import HEAD, Mistake, Part, Spaces, Structure, source, structure

types: Any = numba.types  # whose stubs know less than it has
carray: Any = numba.carray  # type: ignore[attr-defined]
intrinsic: Any = extending.intrinsic
njit: Any = numba.njit


class RandomType(types.Type):  # type: ignore[misc]
    """Numba's type of ``rng``: a pointer to key and counter."""

    def __init__(self) -> None:
        super().__init__("Random")


RANDOM = RandomType()
_WORDS = types.CPointer(types.uint64)


@extending.register_model(RandomType)
class _RandomModel(extending.models.StructModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, [("words", _WORDS)])


@intrinsic
def _random_at(typingctx, words):
    """The generator whose key and counter are at this pointer to int64."""

    def codegen(context, builder, signature, args):
        rng = cgutils.create_struct_proxy(RANDOM)(context, builder)
        rng.words = builder.bitcast(args[0], context.get_value_type(_WORDS))
        return rng._getvalue()

    return RANDOM(words), codegen


@intrinsic
def _advance(typingctx, rng):
    """Key and counter; the counter moves on."""

    def codegen(context, builder, signature, args):
        words = cgutils.create_struct_proxy(RANDOM)(context, builder, args[0]).words
        place = cgutils.gep_inbounds(builder, words, 1)
        key, counter = builder.load(words), builder.load(place)
        builder.store(builder.add(counter, counter.type(1)), place)
        return context.make_tuple(builder, signature.return_type, [key, counter])

    return types.UniTuple(types.uint64, 2)(rng), codegen


@intrinsic
def _shifted(typingctx, pointer, count):
    """A pointer to int64, moved by this many."""

    def codegen(context, builder, signature, args):
        return cgutils.gep_inbounds(builder, args[0], args[1])

    return pointer(pointer, types.int64), codegen


@njit
def _philox(key, counter):
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    key0, key1 = key & mask, key >> half
    c0, c1, c2, c3 = counter & mask, counter >> half, np.uint64(0), np.uint64(STREAM)
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (product1 >> half) ^ c1 ^ key0, product1 & mask
        c2, c3 = (product0 >> half) ^ c3 ^ key1, product0 & mask
        key0, key1 = (key0 + np.uint64(0x9E3779B9)) & mask, (key1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1


@extending.overload_method(RandomType, "random")
def _random(rng):
    def random(rng):
        low, high = _philox(*_advance(rng))
        return np.int64((high << np.uint64(21)) | (low >> np.uint64(11))) * 2.0**-53

    return random


@extending.overload_method(RandomType, "integers")
def _integers(rng, n):
    if not isinstance(n, types.Integer | types.IntegerLiteral):
        return None

    def integers(rng, n):
        if n < 1 or n > 4294967296:
            raise ValueError("integers: n must be in [1, 2**32]")
        low, high = _philox(*_advance(rng))
        size, half = np.uint64(n), np.uint64(32)
        return np.int64((high * size + ((low * size) >> half)) >> half)

    return integers


@intrinsic
def _floats(typingctx, pointer):
    """The same memory as float64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(pointer), codegen


@dataclass(frozen=True, slots=True)
class Functions:
    """An environment's compiled functions over records."""

    addresses: tuple[int, int, int]
    """Of reset, step and observe."""
    state: Structure
    owner: Any
    """Keeps the code alive."""

    @property
    def words(self) -> int:
        """Numbers of a record."""
        return HEAD + self.state.size


def compile_functions(
    reset: Callable[..., Any], step: Callable[..., Any], observe: Callable[..., Any] | None, spaces: Spaces
) -> Functions:
    """Compiles a user's functions.

    Raises:
        Mistake: one of them cannot be compiled, or gives something that does not fit.
    """
    names: dict[str, Any] = {
        "np": np,
        "carray": carray,
        "_floats": _floats,
        "_random_at": _random_at,
        "_shifted": _shifted,
    }
    names["user_reset"], made = _compiled("reset", reset, (RANDOM,))
    sample = reset(Random(0))
    state = structure("reset: the state", made, sample)
    for part in state.parts:
        if part.shape is not None and part.number not in (types.int64, types.float64):
            raise Mistake(f"reset: an array of the state must be int64 or float64, got {part.number}")
    action = types.Array(types.float64, 1, "C") if spaces.action_low else types.int64
    names["user_step"], made = _compiled("step", step, (state.type, action, RANDOM))
    _check_step(state, made)
    obs = state
    if observe is not None:
        names["user_observe"], made = _compiled("observe", observe, (state.type,))
        obs = structure("observe: the observation", made, observe(sample))
    _check_obs(obs, spaces, "observe" if observe is not None else "reset")
    names |= {
        "low": np.array(spaces.action_low, np.float32),
        "high": np.array(spaces.action_high, np.float32),
    }
    if state.tuple_class is not None:
        names["State"] = state.tuple_class

    pointer, byte = types.CPointer, types.CPointer(types.uint8)
    record = pointer(types.int64)
    action = pointer(types.float32 if spaces.action_low else types.int64)
    out = pointer(types.float32 if spaces.obs_size else types.int64)
    text = source(state, obs, observe is not None, spaces)
    exec(compile(text, "<fastrl.envs.compiled>", "exec"), names)
    for name in ("load", "store", "write"):
        names[name] = njit(names[name])
    functions = (
        numba.cfunc(types.int64(record))(names["reset_record"]),
        numba.cfunc(types.int64(record, action, byte, pointer(types.float64), byte, types.int64))(
            names["step_records"]
        ),
        numba.cfunc(types.int64(record, out, types.int64))(names["observe_records"]),
    )
    return Functions(tuple(function.address for function in functions), state, functions)  # type: ignore[arg-type]


def _compiled(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """The compiled function and the type of what it gives."""
    dispatcher = njit(function, boundscheck=True)
    try:
        dispatcher.compile(arguments)
    except NumbaError as error:
        raise Mistake(f"{name} cannot be compiled: {_summary(error)}") from error
    return dispatcher, dispatcher.nopython_signatures[0].return_type


def _summary(error: NumbaError) -> str:
    """The reason and the line among the many lines that Numba writes."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()]
    lines = [
        line
        for line in lines
        if line and not line.startswith(("Failed in", "During:", "- Resolution", "- During"))
    ]
    places = [match for line in lines if (match := re.match(r'File "(.*)", line (\d+)', line))]
    where = f" ({places[-1][1].rsplit('/', 1)[-1]}, line {places[-1][2]})" if places else ""
    return (lines[0] if lines else type(error).__name__) + where


def _check_step(state: Structure, made: Any) -> None:
    wanted = "step must give (state, reward, terminated)"
    if not isinstance(made, types.BaseTuple) or len(made.types) != 3:
        raise Mistake(f"{wanted}, got {made}")
    next_state, reward, terminated = made.types
    if not isinstance(reward, types.Number | types.Boolean) or isinstance(reward, types.Complex):
        raise Mistake(f"{wanted} with a number as reward, got {reward}")
    if not isinstance(terminated, types.Boolean):
        raise Mistake(f"{wanted} with a bool as terminated, got {terminated}")
    items = next_state.types if isinstance(next_state, types.BaseTuple) else (next_state,)
    whole = isinstance(next_state, types.BaseTuple) == (state.tuple_class is not None)
    if not (whole and len(items) == len(state.parts) and all(map(_fits, state.parts, items))):
        raise Mistake(f"step must give a state as reset does, {state}, got {next_state}")


def _fits(part: Part, item: Any) -> bool:
    if (part.shape is not None) != isinstance(item, types.Array):
        return False
    if part.shape is not None:
        return bool(item.dtype == part.number and item.ndim == len(part.shape))
    if part.number == types.boolean:
        return isinstance(item, types.Boolean)
    return isinstance(item, types.Integer | types.Boolean) or (
        part.number == types.float64 and isinstance(item, types.Float)
    )


def _check_obs(obs: Structure, spaces: Spaces, function: str) -> None:
    if spaces.obs_size == 0:
        if obs.tuple_class is not None or obs.parts[0].type != types.int64:
            raise Mistake(f"{function} must give an integer, as observation_space is Discrete, got {obs}")
    elif obs.size != spaces.obs_size:
        raise Mistake(
            f"{function} must give {spaces.obs_size} numbers, as observation_space says, got {obs.size}"
        )
