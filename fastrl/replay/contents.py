"""A replay buffer as arrays, each frame once: for copies, pickles and saves in one piece."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.kernels.replay._check import require_integer

if TYPE_CHECKING:
    from fastrl.replay.buffer import ReplayBuffer

Outline = tuple[Any, NDArray[np.uint8], NDArray[np.float64] | None, list[Any]]
Contents = tuple[Outline, dict[str, Any], list[list[NDArray[np.uint8]]]]


def contents(buffer: "ReplayBuffer") -> Contents:
    """All that :func:`put` needs, as arrays, each frame once.

    Raises:
        RuntimeError: another thread added rows.
    """
    outline = buffer._core.outline()
    (added, *_), flags, _, stores = outline
    frames = [
        [buffer._core.frames(added, i, env, *extent) for env, extent in enumerate(store[0].tolist())]
        for i, store in enumerate(stores)
    ]
    return outline, buffer._core.rows(added, added - len(flags), added), frames


def put(buffer: "ReplayBuffer", held: Contents) -> None:
    """Put what :func:`contents` returned into a buffer that was made with the same arguments.

    Raises:
        TypeError, ValueError: other contents; the buffer is unchanged.
        MemoryError: no memory for the frames; the buffer is empty.
    """
    _require_whole(buffer, held)
    outline, rows, stores = held
    (added, *_), flags, _, outlines = outline
    with begun(buffer, outline):
        buffer._core.load_rows(added - len(flags), rows)
        for i, frames in enumerate(stores):
            for env, (first, _) in enumerate(outlines[i][0].tolist()):
                buffer._core.load_frames(i, env, first, frames[env])


@contextmanager
def begun(buffer: "ReplayBuffer", outline: Outline) -> Iterator[None]:
    """A buffer that is filled meanwhile, and is empty if that fails."""
    buffer._core.begin_load()
    try:
        yield
        buffer._core.end_load(outline)
    except BaseException:
        buffer.clear()
        raise


def require_place(op: str, added: Any, seed: Any, counter: Any, largest: Any) -> tuple[int, int, int, float]:
    """Rows ever added, seed, number of draws and largest priority, after checking them.

    Raises:
        TypeError: others than three integers and a number.
        ValueError: out of range.
    """
    if not isinstance(largest, int | float | np.floating | np.integer):
        raise TypeError(f"{op}: max_priority must be a number, got {describe(largest)}")
    if not 0 <= largest < math.inf:
        raise ValueError(f"{op}: max_priority must be finite and >= 0, got {largest}")
    return (
        require_integer(op, "added", added, 0, 2**63),
        require_integer(op, "seed", seed, 0, 2**64),
        require_integer(op, "counter", counter, 0, 2**64),
        float(largest),
    )


def _require_whole(buffer: "ReplayBuffer", held: Any) -> None:
    """Raise TypeError or ValueError unless :func:`put` can put this into the buffer."""
    try:
        ((added, seed, counter, largest), flags, leaves, outlines), rows, stores = held
        given = {name: _form(values) for name, values in rows.items()}
        given_frames = [[_form(frames) for frames in store] for store in stores]
        outlines = [tuple(store) for store in outlines]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"load: contents must be those of a replay buffer, got others: {error}") from error
    place = require_place("load", added, seed, counter, largest)
    buffer._core.check_load((place, flags, leaves, outlines))
    kept = {name for one in buffer.frames for name in (one.current, one.following)}
    columns = [field for field in buffer.fields if field.name not in kept]
    wanted = {field.name: ((len(flags), *field.shape), field.dtype) for field in columns}
    if given != wanted:
        raise ValueError(f"load: fields must be {wanted}, got {given}")
    by_name = {field.name: field for field in buffer.fields}
    frame_bytes = [by_name[one.current].bytes // one.stack for one in buffer.frames]
    wanted_frames = [
        [((end - first, size), np.dtype(np.uint8)) for first, end in extents.tolist()]
        for size, (extents, _, _) in zip(frame_bytes, outlines, strict=True)
    ]
    if given_frames != wanted_frames:
        raise ValueError(f"load: frames must be {wanted_frames}, got {given_frames}")


def _form(values: NDArray[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return values.shape, values.dtype
