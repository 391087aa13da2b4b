"""Seeds and generators as Gymnasium has them: an env draws from ``Generator(PCG64(SeedSequence(seed)))``."""

import operator
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrl import _core

Seed = int | Sequence[int | None] | None


def seed_list(op: str, seed: Seed, num_envs: int) -> Sequence[int | None] | None:
    """One seed an env: ``seed + i`` of an int, the items of a sequence; None if there is no seed.

    Raises:
        TypeError: a seed that is not an integer.
        ValueError: a negative seed, or a sequence of another length than ``num_envs``.
    """
    if seed is None:
        return None
    if isinstance(seed, int | np.integer):
        seeds: Sequence[int | None] = range(int(seed), int(seed) + num_envs)
    elif not isinstance(seed, Sequence | np.ndarray):
        raise TypeError(f"{op}: seed must be an int, one int or None an env, or None, got {seed!r}")
    else:
        seeds = [None if item is None else _integer(op, i, item) for i, item in enumerate(seed)]
    if len(seeds) != num_envs:
        raise ValueError(f"{op}: seed must have one item for each of {num_envs} envs, got {len(seeds)}")
    for i, item in enumerate(seeds[:1] if isinstance(seeds, range) else seeds):
        if item is not None and item < 0:
            raise ValueError(f"{op}: seed of env {i} must be >= 0, got {item}")
    return seeds


def _integer(op: str, i: int, item: Any) -> int:
    try:
        return operator.index(item)
    except TypeError:
        raise TypeError(f"{op}: seed of env {i} must be an int or None, got {item!r}") from None


def rng_state(core: _core.VecEnv, i: int) -> dict[str, Any]:
    """What ``PCG64.state`` would be for the generator of env ``i``."""
    raw = core.get_rng(i)
    state = {"state": int.from_bytes(raw[:16], "little"), "inc": int.from_bytes(raw[16:32], "little")}
    has_half, half = struct.unpack("=II", raw[32:40])
    return {"bit_generator": "PCG64", "state": state, "has_uint32": has_half, "uinteger": half}


def set_rng_state(core: _core.VecEnv, i: int, generator: np.random.Generator) -> None:
    """Makes env ``i`` draw what ``generator``, a PCG64 one, would draw next.

    Raises:
        TypeError: a generator of another kind.
    """
    kind = generator.bit_generator.state
    if kind["bit_generator"] != "PCG64":
        raise TypeError(f"np_random of env {i} must use PCG64, got {kind['bit_generator']}")
    state = kind["state"]
    numbers = state["state"].to_bytes(16, "little") + state["inc"].to_bytes(16, "little")
    core.set_rng(i, numbers + struct.pack("=IIQ", kind["has_uint32"], kind["uinteger"], 0))
