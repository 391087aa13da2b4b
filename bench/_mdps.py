"""Processes that bench_planners.py solves, and reference values with a certificate of their own.

The references come from NumPy and SciPy alone, and are kept under bench/results.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.tabular import MDP, zoo

Floats = NDArray[np.float64]
FOLDER = Path(__file__).parent / "results" / "mdps"
SPAN_SWEEPS = 400
"""After so many, policy iteration with sparse solves takes over."""


@dataclass(frozen=True)
class Process:
    """How a case is made, and its discount."""

    make: Callable[[], MDP]
    gamma: float


def grid(side: int, *, walls: float = 0.1, slip: float = 0.25, seed: int = 0) -> MDP:
    """A square of cells, -1 a step until the goal in the last; a tenth are walls, some cells are closed in.

    A move slips to either side with probability ``slip / 2`` each; one into a wall or off the grid stays. The
    values of pockets that walls close are -1 / (1 - gamma), and only a discount ends them. The slip is a
    binary fraction, so that equal actions tie exactly: with 0.2, QuantEcon's policy iteration never ends.
    """
    rng = np.random.default_rng(seed)
    free = rng.random((side, side)) >= walls
    free[0, 0] = free[-1, -1] = True
    rows, columns = np.divmod(np.arange(side * side), side)
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    goal = side * side - 1
    terminal = ~free.ravel()
    terminal[goal] = True
    targets = []
    for down, right in moves:
        row, column = np.clip(rows + down, 0, side - 1), np.clip(columns + right, 0, side - 1)
        targets.append(np.where(free[row, column], row * side + column, np.arange(side * side)))
    (states,) = np.nonzero(~terminal)
    parts = [
        (states, np.full(len(states), a), targets[(a + turn) % 4][states], np.full(len(states), share))
        for a in range(4)
        for turn, share in ((0, 1 - slip), (1, slip / 2), (3, slip / 2))
    ]
    state, action, next_state, probability = (np.concatenate(x) for x in zip(*parts, strict=True))
    return MDP.from_outcomes(
        state,
        action,
        next_state,
        np.full(len(state), -1.0),
        probability,
        num_states=side * side,
        terminal=terminal,
        initial=0,
    )


def dense(states: int, actions: int, *, seed: int = 0) -> MDP:
    """All next states possible, with weights that are exponential; rewards standard normal."""
    rng = np.random.default_rng(seed)
    probability = rng.exponential(size=(states, actions, states))
    probability /= probability.sum(axis=2, keepdims=True)
    return MDP.from_dense(probability, rng.normal(size=(states, actions)))


CASES = {
    "garnet 1e3": Process(lambda: zoo.garnet(1000, 4, 5), 0.99),
    "garnet 1e4": Process(lambda: zoo.garnet(10_000, 4, 5), 0.99),
    "garnet 1e5": Process(lambda: zoo.garnet(100_000, 4, 5), 0.99),
    "garnet 1e5, .999": Process(lambda: zoo.garnet(100_000, 4, 5), 0.999),
    "wide garnet 1e5": Process(lambda: zoo.garnet(100_000, 8, 10), 0.99),
    "grid 1e4": Process(lambda: grid(100), 0.99),
    "grid 1e4, .999": Process(lambda: grid(100), 0.999),
    "grid 1e5, .999": Process(lambda: grid(316), 0.999),
    "garnet 1e6": Process(lambda: zoo.garnet(1_000_000, 4, 5), 0.99),
    "dense 1e3": Process(lambda: dense(1000, 10), 0.99),
}


def sweep_bytes(mdp: MDP) -> int:
    """What one sweep reads of the process at least; values, which stay in cache where they fit, left out."""
    arrays = (mdp.probability, mdp.next_state, mdp.offset, mdp.reward, mdp.discount)
    return sum(x.nbytes for x in arrays if x is not None)


def absorbing(mdp: MDP) -> dict[str, Any]:
    """Arrays for planners without terminal states: these get one action, which stays for nothing."""
    arrays = {"state": mdp.state, "action": mdp.action, "reward": mdp.reward, "probability": mdp.probability}
    if mdp.offset is None or mdp.next_state is None:
        return arrays
    idle = np.flatnonzero(np.diff(mdp.pair_offset) == 0)
    state = np.concatenate([mdp.state, idle])
    order = np.argsort(state, kind="stable")
    count = np.concatenate([np.diff(mdp.offset), np.ones(len(idle), mdp.offset.dtype)])[order]
    begin = np.concatenate([mdp.offset[:-1], mdp.probability.size + np.arange(len(idle))])[order]
    offset = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    entry = np.repeat(begin - offset[:-1], count) + np.arange(offset[-1])
    return {
        "state": state[order],
        "action": np.concatenate([mdp.action, np.zeros(len(idle), np.int64)])[order],
        "reward": np.concatenate([mdp.reward, np.zeros(len(idle))])[order],
        "probability": np.concatenate([mdp.probability, np.ones(len(idle))])[entry],
        "next_state": np.concatenate([mdp.next_state, idle])[entry].astype(np.int32),
        "offset": offset,
    }


def reference(mdp: MDP, gamma: float) -> tuple[Floats, float]:
    """Optimal values, and how far off they may be at most, from the cache or computed."""
    digest = hashlib.sha256(repr(gamma).encode())
    for field in fields(mdp):
        array = getattr(mdp, field.name)
        digest.update(f"{field.name} {np.shape(array)}".encode())
        digest.update(np.ascontiguousarray(0 if array is None else array))
    file = FOLDER / f"reference-{digest.hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as kept:
            return kept["value"], float(kept["error"])
    value, error = solve(mdp, gamma)
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez(file, value=value, error=error)
    return value, error


def solve(mdp: MDP, gamma: float) -> tuple[Floats, float]:
    """Value iteration until the span is nothing, or policy iteration; then a bound from one more sweep."""
    from scipy.sparse import csr_array, eye_array
    from scipy.sparse.linalg import spsolve

    states, pairs = mdp.num_states, mdp.num_pairs
    matrix: Any = mdp.probability
    if mdp.offset is not None:
        matrix = csr_array((mdp.probability, mdp.next_state, mdp.offset), shape=(pairs, states))
    acts = np.flatnonzero(np.diff(mdp.pair_offset))
    begins = mdp.pair_offset[acts]

    def sweep(value: Floats) -> tuple[Floats, Floats]:
        q = mdp.reward + gamma * (matrix @ value)
        new = np.zeros(states)
        new[acts] = np.maximum.reduceat(q, begins)
        return new, q

    def bounds(value: Floats, new: Floats) -> tuple[float, float]:
        """How far optimal values lie above ``new``, from ... to (Puterman 1994, theorem 6.6.6)."""
        change = (new - value) * gamma / (1 - gamma)
        low, high = float(change.min()), float(change.max())
        return (low, high) if len(acts) == states else (min(low, 0.0), max(high, 0.0))

    value = np.zeros(states)
    for _ in range(SPAN_SWEEPS):
        new, q = sweep(value)
        low, high = bounds(value, new)
        value = new
        if high - low <= 32 * np.finfo(np.float64).eps * np.abs(value).max() / (1 - gamma):
            break
    else:
        policy = None
        while True:
            _, q = sweep(value)
            most = np.maximum.reduceat(q, begins).repeat(np.diff(mdp.pair_offset)[acts])
            best = np.where(q >= most - 1e-12, np.arange(pairs), pairs)  # or it might never end
            chosen = np.minimum.reduceat(best, begins)
            if policy is not None and (chosen == policy).all():
                break
            policy = chosen
            rows = csr_array(matrix[policy]).tocoo()
            taken = csr_array((rows.data, (acts[rows.row], rows.col)), shape=(states, states))
            reward = np.zeros(states)
            reward[acts] = mdp.reward[policy]
            value = spsolve((eye_array(states) - gamma * taken).tocsc(), reward)
        new, _ = sweep(value)
        low, high = bounds(value, new)
        value = new
    if len(acts) == states:
        value = value + (low + high) / 2
    # The same bound for the values given: what a sweep changes, over 1 - gamma.
    return value, float(np.abs(sweep(value)[0] - value).max() / (1 - gamma))
