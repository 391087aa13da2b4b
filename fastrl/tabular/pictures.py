"""Values and policies on grids, as text and as figures. matplotlib is imported on first use."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_array
from fastrl.tabular.mdp import MDP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARROWS = {
    (-1, 0): "↑", (1, 0): "↓", (0, 1): "→", (0, -1): "←",
    (-1, 1): "↗", (-1, -1): "↖", (1, 1): "↘", (1, -1): "↙",
}  # fmt: skip
STAYS, ENDS = "·", "■"


def directions(mdp: MDP, policy: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows and columns [S, 2], in [-1, 1], that the policy's actions move by.

    An action has one direction, whatever ice or wind does: the median over states of where it leads, compared
    with the mean of the state's actions. NaN in states that are terminal, or that no action leads out of.

    Args:
        mdp: with a ``grid``.
        policy: int64 [S]: actions, any number in terminal states.

    Raises:
        ValueError: a process without a grid, or with one of another number of cells; a policy of another
            shape, or with an action that its state lacks.
    """
    middle, acting = _moves(mdp, policy)
    return np.where(acting[:, None], middle[np.where(acting, policy, 0)], np.nan)


def _moves(mdp: MDP, policy: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Direction of each action [A, 2], and the states [S] that some action leads out of."""
    if mdp.grid is None:
        raise ValueError("directions: mdp must have a grid, got None")
    if mdp.grid[0] * mdp.grid[1] != mdp.num_states:
        raise ValueError(f"directions: mdp must have a grid of {mdp.num_states} cells, got {mdp.grid}")
    require_array("directions", "policy", policy, np.int64, (mdp.num_states,), "[S]")
    cells = np.stack(np.divmod(np.arange(mdp.num_states), mdp.grid[1]), axis=1)
    acting = np.zeros(mdp.num_states, np.bool_)
    effects: list[list[NDArray[np.float64]]] = [[] for _ in range(mdp.num_actions)]
    for s in range(mdp.num_states):
        pairs = range(mdp.pair_offset[s], mdp.pair_offset[s + 1])
        if not pairs or (mdp.terminal is not None and mdp.terminal[s]):
            continue
        if policy[s] not in mdp.action[pairs.start : pairs.stop]:
            raise ValueError(f"directions: policy must take an action of state {s}'s, got {policy[s]}")
        moves = []
        for states, probability in map(mdp.row, pairs):
            acting[s] |= (states != s).any()
            moves.append(probability @ (cells[states] - cells[s]))
        for pair, move in zip(pairs, moves, strict=True):
            effects[mdp.action[pair]].append(move - np.mean(moves, axis=0))
    middle = np.array([np.median(moves, axis=0) if moves else (0.0, 0.0) for moves in effects])
    return np.clip(middle, -1, 1).reshape(-1, 2), acting


def names(mdp: MDP, policy: NDArray[np.int64]) -> list[str] | None:
    """What the policy's actions [S] are called where they are no moves, ``■`` where nothing is done; else
    None.

    Actions are no moves if the process has ``action_names``, or if two of them would be the same arrow: then
    they are called by their numbers.

    Args and Raises: as :func:`directions`.
    """
    middle, acting = _moves(mdp, policy)
    called = mdp.action_names
    if called is None:
        shown = [arrow for arrow in map(_arrow, middle) if arrow != STAYS]
        if len(set(shown)) == len(shown):
            return None
        called = tuple(map(str, range(mdp.num_actions)))
    if len(called) < mdp.num_actions:
        raise ValueError(f"names: mdp must have {mdp.num_actions} action_names, got {len(called)}")
    return [called[a] if moves else ENDS for a, moves in zip(policy, acting, strict=True)]


def arrows(mdp: MDP, policy: NDArray[np.int64]) -> list[str]:
    """The policy as text, a line for each row of the grid; ``■`` where nothing is done, ``·``: it stays.
    Actions that are no moves are called as by :func:`names`.

    Args and Raises: as :func:`directions`.
    """
    called = names(mdp, policy)
    if called is None:
        moves = directions(mdp, policy)
        called = [ENDS if np.isnan(move).any() else _arrow(move) for move in moves]
    assert mdp.grid is not None
    rows, columns = mdp.grid
    width = max(map(len, called))
    cells = [cell.rjust(width) for cell in called]
    return [" ".join(cells[row * columns : (row + 1) * columns]) for row in range(rows)]


def _arrow(move: NDArray[np.float64]) -> str:
    """The nearest of eight directions."""
    if np.abs(move).max() < 1e-9:
        return STAYS
    return ARROWS[max(ARROWS, key=lambda step: float(move @ np.array(step)) / float(np.hypot(*step)))]


def require_format(out: Path) -> None:
    """Raise ValueError unless the file's suffix is one that can be drawn."""
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"draw: out must end in .png, .svg or .pdf, got {out.name}")


def draw(
    mdp: MDP, value: NDArray[np.float64], policy: NDArray[np.int64], out: Path | str, *, title: str = ""
) -> Path:
    """Draw values as colours and numbers, and the policy as arrows or, where actions are no moves, by their
    names, to a PNG, SVG or PDF file.

    Args:
        mdp: with a ``grid``.
        value: float64 [S].
        policy: int64 [S].
        out: the file; its suffix is the format. Missing folders are made.
        title: above the picture.

    Raises:
        ValueError: a process without a grid, arrays of other shapes, another format.
    """
    out = Path(out)
    require_format(out)
    require_array("draw", "value", value, np.float64, (mdp.num_states,), "[S]")
    figure = _figure(mdp, value, directions(mdp, policy), names(mdp, policy), title)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    return out


def _figure(
    mdp: MDP,
    value: NDArray[np.float64],
    moves: NDArray[np.float64],
    called: list[str] | None,
    title: str,
) -> "Figure":
    from matplotlib.figure import Figure

    assert mdp.grid is not None
    rows, columns = mdp.grid
    size = min(0.9, 14 / max(rows, columns))  # inches a cell
    figure = Figure(figsize=(columns * size + 1.6, rows * size + 0.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(value.reshape(mdp.grid), cmap="viridis")
    figure.colorbar(image, ax=axes, label="value", fraction=0.05)
    row, column = np.divmod(np.arange(mdp.num_states), columns)
    low, high = value.min(), value.max()
    light = (value - low) > 0.6 * (high - low)
    colours = np.where(light, "black", "white")
    numbers = size >= 0.5
    length = np.hypot(moves[:, 0], moves[:, 1])
    shown = (length > 1e-9) & (called is None)  # NaN is not
    step = 0.3 * moves[shown] / length[shown, None]
    axes.quiver(
        column[shown] - step[:, 1] / 2, row[shown] + 0.15 * numbers - step[:, 0] / 2, step[:, 1], step[:, 0],
        color=colours[shown], angles="xy", scale_units="xy", scale=1,
        width=0.05 * size / figure.get_figwidth(),
    )  # fmt: skip
    told = np.where(np.abs(value) < 1e-6 * np.abs(value).max(), 0.0, value)  # as planners' eps has it
    for s in range(mdp.num_states):
        middle = {"ha": "center", "va": "center", "color": colours[s]}
        if numbers:
            axes.text(column[s], row[s] - 0.25, f"{told[s]:.3g}", fontsize="small", **middle)
        if called is not None and size >= 0.25:
            axes.text(column[s], row[s] + 0.15 * numbers, called[s], fontsize=24 * size, **middle)
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, loc="left", fontweight="bold")
    return figure
