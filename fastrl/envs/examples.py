"""Environments written with :func:`fastrl.envs.compiled`: to use, and to copy from.

``Catch`` and ``DeepSea`` are those of bsuite (Osband et al. 2020, "Behaviour suite for reinforcement
learning"). ``GridWorld`` is example 4.1 of Sutton and Barto (2018), of any size, ``Maze`` their example 8.1,
of any layout.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from gymnasium.spaces import Box, Discrete

from fastrl.envs.user import UserEnv, compiled
from fastrl.tabular.layouts import DYNA_MAZE, maze_cells

ROWS, COLUMNS = 10, 5


class CatchState(NamedTuple):
    """Where ball and paddle of :data:`Catch` are."""

    ball_row: int
    ball_column: int
    paddle: int


@compiled(observation_space=Box(0, 1, (ROWS * COLUMNS,), np.float32), action_space=Discrete(3))
class Catch:
    """A ball falls straight down a board of 10 rows; the paddle in the last row must be below it then.

    Actions: left, stay, right. The reward is 0 until the ball arrives, then 1 if it is caught, else -1. The
    observation is the board, its two occupied cells 1.
    """

    @staticmethod
    def reset(rng: Any) -> Any:
        """A ball in the first row."""
        return CatchState(0, rng.integers(COLUMNS), COLUMNS // 2)

    @staticmethod
    def step(state: Any, action: Any, rng: Any) -> Any:
        """The paddle moves, the ball falls."""
        row = state.ball_row + 1
        paddle = min(max(state.paddle + action - 1, 0), COLUMNS - 1)
        landed = row == ROWS - 1
        reward = 0.0
        if landed:
            reward = 1.0 if paddle == state.ball_column else -1.0
        return CatchState(row, state.ball_column, paddle), reward, landed

    @staticmethod
    def observe(state: Any) -> Any:
        """The board."""
        board = np.zeros(ROWS * COLUMNS, np.float32)
        board[state.ball_row * COLUMNS + state.ball_column] = 1
        board[(ROWS - 1) * COLUMNS + state.paddle] = 1
        return board


def deep_sea(size: int = 10) -> UserEnv:
    """bsuite's deterministic DeepSea: a treasure that only one sequence of ``size`` actions finds.

    The agent falls one row a step, to the right with action 1, else to the left. A step to the right costs
    0.01 / size, and the last one, in the lower right corner, finds 1. The observation is the board of
    size x size cells, the agent's 1; it is empty when the episode is over. bsuite maps actions by a random
    matrix in addition.

    Raises:
        ValueError: a size below 2.
    """
    if size < 2:
        raise ValueError(f"deep_sea: size must be >= 2, got {size}")

    @compiled(observation_space=Box(0, 1, (size * size,), np.float32), action_space=Discrete(2))
    class DeepSea:
        """bsuite's DeepSea."""

        @staticmethod
        def reset(rng: Any) -> Any:
            """The upper left corner."""
            return 0, 0

        @staticmethod
        def step(state: Any, action: Any, rng: Any) -> Any:
            """One row down, and one column aside."""
            row, column = state
            reward = 0.0
            if action == 1:
                reward = 1.0 if column == size - 1 else 0.0
                reward -= 0.01 / size
                column = min(column + 1, size - 1)
            else:
                column = max(column - 1, 0)
            return (row + 1, column), reward, row + 1 == size

        @staticmethod
        def observe(state: Any) -> Any:
            """The board."""
            row, column = state
            board = np.zeros(size * size, np.float32)
            if row < size:
                board[row * size + column] = 1
            return board

    return cast(UserEnv, DeepSea)


def grid_world(size: int = 4) -> UserEnv:
    """The grid of Sutton and Barto's example 4.1, of size x size cells, two opposite corners terminal.

    Actions: up, down, right, left; one that would leave the grid does nothing. Every step gives -1. The
    observation is the number of the cell, row by row; an episode starts in any that is not terminal.

    Raises:
        ValueError: a size below 2.
    """
    if size < 2:
        raise ValueError(f"grid_world: size must be >= 2, got {size}")
    last = size - 1

    @compiled(observation_space=Discrete(size * size), action_space=Discrete(4))
    class GridWorld:
        """Example 4.1."""

        @staticmethod
        def reset(rng: Any) -> Any:
            """A cell that is not terminal."""
            return 1 + rng.integers(size * size - 2)

        @staticmethod
        def step(state: Any, action: Any, rng: Any) -> Any:
            """To the next cell."""
            row, column = state // size, state % size
            if action == 0:
                row = max(row - 1, 0)
            elif action == 1:
                row = min(row + 1, last)
            elif action == 2:
                column = min(column + 1, last)
            else:
                column = max(column - 1, 0)
            cell = row * size + column
            return cell, -1.0, cell == 0 or cell == size * size - 1

    return cast(UserEnv, GridWorld)


def maze(layout: Sequence[str] = DYNA_MAZE) -> UserEnv:
    """A maze from a start to a goal: Sutton and Barto's example 8.1 ("Dyna maze"), or another layout.

    Actions: up, down, right, left; one into a wall or out of the maze does nothing. Reaching a goal gives 1
    and ends the episode, every other step gives 0. The observation is the number of the cell, row by row.

    Args:
        layout: rows of equal length: ``.`` free, ``#`` a wall, one ``S`` where episodes start, ``G`` goals.

    Raises:
        ValueError: a layout that is not such.
    """
    text = maze_cells(layout)
    rows, columns, start = len(layout), len(layout[0]), text.index("S")
    walls = np.array([cell == "#" for cell in text])
    goals = np.array([cell == "G" for cell in text])

    @compiled(observation_space=Discrete(len(text)), action_space=Discrete(4))
    class Maze:
        """Example 8.1."""

        @staticmethod
        def reset(rng: Any) -> Any:
            """The start."""
            return start

        @staticmethod
        def step(state: Any, action: Any, rng: Any) -> Any:
            """To the next cell, if that is free."""
            row, column = state // columns, state % columns
            if action == 0:
                row = max(row - 1, 0)
            elif action == 1:
                row = min(row + 1, rows - 1)
            elif action == 2:
                column = min(column + 1, columns - 1)
            else:
                column = max(column - 1, 0)
            cell = row * columns + column
            if walls[cell]:
                cell = state
            return cell, 1.0 if goals[cell] else 0.0, goals[cell]

    return cast(UserEnv, Maze)
