"""Draws in proportion to priorities in NumPy, float64: the definition, of which the order of sums is part.

The leaves are in rows of eight, filled up with zeros. A row's sum, taken from left to right, is an entry of
the level above, down to one row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.distributions.reference import philox

TREE_STREAM = 3
FAN = 8


def levels(leaf: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The tree over these leaves as rows [., 8], from the leaves up; the last has one row."""
    rows = [_rows(leaf)]
    while len(rows[-1]) > 1:
        rows.append(_rows(_running(rows[-1])[:, -1]))
    return rows


def total(leaf: NDArray[np.float64]) -> float:
    """Sum of the leaves, as the tree adds them."""
    return float(_running(levels(leaf)[-1])[0, -1])


def find(leaf: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.int64]:
    """The leaf under which each mass falls, [B].

    On each level it is under the first child whose running sum is over what is left of the mass. What
    rounding leaves over a child's sum is cut off, so that no leaf of 0 is ever the one.
    """
    tree = levels(leaf)
    rest = np.minimum(mass, np.nextafter(total(leaf), 0))
    node = np.zeros(len(mass), np.int64)
    for rows in reversed(tree):
        sums = _running(rows)[node]
        child = (sums[:, :-1] <= rest[:, None]).sum(axis=1)
        before = np.where(
            child > 0, np.take_along_axis(sums, np.maximum(child - 1, 0)[:, None], 1)[:, 0], 0.0
        )
        rest = np.minimum(rest - before, np.nextafter(rows[node, child], 0))
        node = node * FAN + child
    return node


def uniforms(seed: int, call: int, batch_size: int) -> NDArray[np.float64]:
    """The numbers in [0, 1), [B], of 52 bits, behind the draws of a call: two from a Philox block."""
    words = philox(seed, call, np.arange((batch_size + 1) // 2, dtype=np.uint64), TREE_STREAM)
    high, low = words[:, 0::2], words[:, 1::2]
    bits = high << np.uint64(20) | low >> np.uint64(12)
    return bits.reshape(-1)[:batch_size].astype(np.float64) * 2.0**-52


def sample(
    leaf: NDArray[np.float64], seed: int, call: int, batch_size: int, stratified: bool
) -> NDArray[np.int64]:
    """The items that a call draws, [B]."""
    u, weight = uniforms(seed, call, batch_size), total(leaf)
    mass = (np.arange(batch_size) + u) * (1 / batch_size) * weight if stratified else u * weight
    return find(leaf, mass)


def importance_weights(
    leaf: NDArray[np.float64], index: NDArray[np.int64], beta: float, normalize: str | None
) -> NDArray[np.float64]:
    """w = (leaf / reference)^-beta, [B], in float64."""
    stored = leaf[leaf > 0]
    reference = {
        "batch": leaf[index].min(),
        "buffer": stored.min(),
        None: total(leaf) / len(stored),
    }[normalize]
    weight: NDArray[np.float64] = (leaf[index] / reference) ** -beta
    return weight


def leaves(priority: NDArray[Any], eps: float, alpha: float) -> NDArray[np.float64]:
    """(p + eps)^alpha, and 0 for p + eps = 0."""
    base = priority.astype(np.float64) + eps
    with np.errstate(divide="ignore"):
        return np.where(base == 0, 0.0, base**alpha)


def _rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([x, np.zeros(-len(x) % FAN)]).reshape(-1, FAN)


def _running(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.add.accumulate(rows, axis=1)
