"""An :class:`~fastrl.tabular.MDP` in a file."""

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

FORMAT = "fastrl-mdp-1"


def save(mdp: "MDP", path: Path | str) -> Path:
    """See ``MDP.save``."""
    target = Path(path)
    values = {field.name: getattr(mdp, field.name) for field in fields(mdp)}
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in values.items() if value is not None}
    with target.open("wb") as file:  # a name would be given another ending
        np.savez(file, format=np.array(FORMAT), **arrays)
    return target


def load(cls: "type[MDP]", path: Path | str) -> "MDP":
    """See ``MDP.load``, the checks left out."""
    source = Path(path)
    try:
        with source.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = "it is no archive of arrays" if "pickle" in str(error) else error  # NumPy's advice is unsafe
        raise ValueError(f"MDP load: {source} must be a file that MDP.save wrote: {reason}") from error
    if str(arrays.pop("format", "")) != FORMAT:
        raise ValueError(f"MDP load: {source} must be a file that MDP.save wrote, of format {FORMAT}")
    try:
        states = int(arrays.pop("num_states"))
        grid = arrays.pop("grid", None)
        shape = None if grid is None else (int(grid[0]), int(grid[1]))
        return cls(num_states=states, grid=shape, **arrays)
    except (KeyError, TypeError) as error:
        raise ValueError(f"MDP load: {source} lacks what an MDP has: {error}") from error
