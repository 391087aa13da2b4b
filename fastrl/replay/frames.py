"""Fields that share memory with their neighbours: stacks of frames, and what follows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fastrl.kernels._check import require_choice
from fastrl.replay.fields import Field, names_of

MOST_FRAMES = 128
"""In a stack."""
REFERENCES = 16
"""Bytes of a row that says where its frames are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frames:
    """A field of which each frame is stored once, and maybe the one that follows it."""

    current: str
    """The field."""
    following: str | None
    """The same one step on."""
    stack: int
    """Frames in it; 1: not a stack."""
    stack_last: bool
    """Whether the stack is its last axis, else its first."""

    def row_bytes(self, field: Field) -> int:
        """What a row takes if no episode ends."""
        return field.bytes // self.stack + REFERENCES


def parse_frames(
    fields: Sequence[Field],
    env_dict: Mapping[str, Mapping[str, Any]],
    next_of: str | Sequence[str] | None,
    stack_compress: str | Sequence[str] | None,
) -> tuple[tuple[Field, ...], tuple[Frames, ...]]:
    """All fields, those that ``next_of`` adds included, and which are kept as frames.

    Raises:
        ValueError: a name that is no field, or a field that will not do.
    """
    by_name = {field.name: field for field in fields}
    shared, stacked = names_of(next_of), names_of(stack_compress)
    for name in shared:
        require_choice("replay", "a field that next_of names", name, tuple(by_name))
        after = dataclasses.replace(by_name[name], name=f"next_{name}")
        if by_name.setdefault(after.name, after) != after:
            raise ValueError(
                f"replay: {after.name} must be as {name} is, {by_name[name]}, got {by_name[after.name]}"
            )
    frames = []
    for name in dict.fromkeys((*shared, *stacked)):
        require_choice("replay", "a field that stack_compress names", name, tuple(by_name))
        if name.removeprefix("next_") in shared and name not in shared:
            continue  # stored with the field that it follows
        stack, last = 1, True
        if name in stacked:
            stack, last = _stack(by_name[name], env_dict.get(name, {}))
        frames.append(Frames(name, f"next_{name}" if name in shared else None, stack, last))
    return tuple(by_name.values()), tuple(frames)


def _stack(field: Field, options: Mapping[str, Any]) -> tuple[int, bool]:
    shape = field.shape
    if not shape:
        raise ValueError(
            f"replay: {field.name}, which stack_compress names, must have an axis of frames, got none"
        )
    axis = options.get("stack_axis", 0 if shape[0] < shape[-1] else -1)
    require_choice("replay", f"stack_axis of {field.name}", axis, (0, -1))
    if not shape[axis] <= MOST_FRAMES:
        raise ValueError(
            f"replay: {field.name}, which stack_compress names, must have at most {MOST_FRAMES} frames, "
            f"got {list(shape)}: say which axis they are on by stack_axis"
        )
    return shape[axis], axis == -1


def row_bytes(fields: Sequence[Field], frames: Sequence[Frames]) -> int:
    """What a row of these fields takes at least."""
    by_name = {field.name: field for field in fields}
    kept = {name for one in frames for name in (one.current, one.following)}
    columns = sum(field.bytes for field in fields if field.name not in kept)
    return columns + sum(one.row_bytes(by_name[one.current]) for one in frames)
