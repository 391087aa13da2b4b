"""An :class:`~fastrl.tabular.MDP` in a file."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrl.kernels._check import describe
from fastrl.tabular._check import check, distribution, seal

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

FORMAT = "fastrl-mdp-1"
Arrays = dict[str, Any]


def save(mdp: "MDP", path: Path | str) -> Path:
    """See ``MDP.save``."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(mdp, field.name) for field in fields(mdp)}
    arrays: Arrays = {name: np.asarray(value) for name, value in values.items() if value is not None}
    with target.open("wb") as file:  # a name would be given another ending
        np.savez(file, format=np.array(FORMAT), **arrays)
    return target


def load(cls: "type[MDP]", path: Path | str) -> "MDP":
    """See ``MDP.load``."""
    source = Path(path)
    try:
        with source.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise
    except Exception as error:  # of damaged files zipfile, zlib and NumPy raise nearly any
        reason = "it is no archive of arrays" if "pickle" in str(error) else error  # NumPy's advice is unsafe
        raise ValueError(f"MDP load: {source} must be a file that MDP.save wrote: {reason}") from error
    if str(arrays.pop("format", "")) != FORMAT:
        raise ValueError(f"MDP load: {source} must be a file that MDP.save wrote, of format {FORMAT}")
    try:
        return check(_read(cls, arrays))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"MDP load: {source} does not hold an MDP: {error}") from error


def _read(cls: "type[MDP]", arrays: Arrays) -> "MDP":
    """The process, of arrays that fit each other; what they say is not checked."""
    unknown = sorted(set(arrays) - {field.name for field in fields(cls)})
    if unknown:
        raise ValueError(f"there must be arrays of an MDP alone, got {', '.join(unknown)}")
    states = _whole("num_states", arrays, ())
    if states < 1:
        raise ValueError(f"num_states must be >= 1, got {states}")
    pairs = len(arrays["action"]) if np.ndim(arrays["action"]) == 1 else -1
    index: Any = getattr(arrays.get("offset"), "dtype", None)
    dense = index is None
    shape = (pairs, states) if dense else (np.size(arrays["probability"]),)
    if not dense and index not in (np.int32, np.int64):
        raise TypeError(f"offset must be int32 or int64, got {describe(arrays['offset'])}")
    if dense == ("next_state" in arrays):
        raise ValueError("offset and next_state must both be there, or none")
    rules: dict[str, tuple[Any, tuple[int, ...]]] = {
        "pair_offset": (np.int64, (states + 1,)),
        "action": (np.int64, (pairs,)),
        "probability": (np.float64, shape),
        "reward": (np.float64, (pairs,)),
        "offset": (index, (pairs + 1,)),
        "next_state": (index, shape),
        "outcome_reward": (np.float64, shape),
        "reward_variance": (np.float64, (pairs,)),
        "discount": (np.float64, shape),
        "terminal": (np.bool_, (states,)),
        "initial": (np.float64, (states,)),
    }
    needed = ("pair_offset", "action", "probability", "reward")
    read = {}
    for name, (dtype, wanted) in rules.items():
        if name not in arrays and name not in needed:
            continue
        read[name] = _array(name, arrays[name], dtype, wanted)
    _require_steps("pair_offset", read["pair_offset"], pairs)
    if not dense:
        _require_steps("offset", read["offset"], shape[0])
    distribution(read.get("initial"), states)
    seal(*read.values())
    names = arrays.get("action_names")
    return cls(
        num_states=states,
        grid=_grid(arrays, states),
        action_names=None if names is None else _names(names),
        **read,
    )


def _whole(name: str, arrays: Arrays, shape: tuple[int, ...]) -> Any:
    x = arrays[name]
    if x.dtype.kind not in "iu" or x.shape != shape:
        raise TypeError(f"{name} must be integers {list(shape)}, got {describe(x)}")
    return x.tolist()


def _grid(arrays: Arrays, states: int) -> tuple[int, int] | None:
    if "grid" not in arrays:
        return None
    rows, columns = _whole("grid", arrays, (2,))
    if rows < 1 or columns < 1 or rows * columns != states:
        raise ValueError(f"grid must have {states} cells, got {rows} rows and {columns} columns")
    return rows, columns


def _names(x: Any) -> tuple[str, ...]:
    if x.dtype.kind != "U" or x.ndim != 1:
        raise TypeError(f"action_names must be strings [A], got {describe(x)}")
    return tuple(x.tolist())


def _array(name: str, x: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    if x.dtype != dtype or x.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype).name} {list(shape)}, got {describe(x)}")
    return np.ascontiguousarray(x)


def _require_steps(name: str, x: Any, last: int) -> None:
    if x[0] != 0 or x[-1] != last or (np.diff(x) < 0).any():
        raise ValueError(f"{name} must not decrease, from 0 to {last}")
