"""Mazes as text."""

from collections.abc import Sequence

DYNA_MAZE = (
    ".......#G",
    "..#....#.",
    "S.#....#.",
    "..#......",
    ".....#...",
    ".........",
)
"""Sutton and Barto (2018), example 8.1."""


def maze_cells(layout: Sequence[str]) -> str:
    """The cells of a maze, row after row: ``.`` free, ``#`` a wall, one ``S`` for the start, ``G`` goals.

    Raises:
        ValueError: a layout that is not such.
    """
    text = "".join(layout)
    if not layout or len({len(row) for row in layout}) != 1 or not set(text) <= set(".#SG"):
        raise ValueError(f"maze: layout must be rows of equal length of the characters .#SG, got {layout!r}")
    if text.count("S") != 1 or "G" not in text:
        raise ValueError(f"maze: layout must have one S and at least one G, got {layout!r}")
    return text
