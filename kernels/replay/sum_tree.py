"""Priorities in a tree of sums: what prioritized replay draws from."""

import operator
import secrets
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels._check import describe
from fastrl.kernels._dispatch import is_tensor
from fastrl.kernels.replay._check import (
    plain_indices,
    plain_leaves,
    plain_masses,
    plain_priorities,
    plain_sample,
    plain_state,
    require_capacity,
    require_exponents,
    require_seed,
    require_span,
)


class SumTree:
    """Priorities of ``capacity`` items, drawn in proportion to p^α, with importance weights.

    ::

        leaf_i = (p_i + eps)^α,  applied once, when p_i is written; 0 for p_i + eps = 0
        P(i)   = leaf_i / Σ_j leaf_j
        w_i    = (leaf_i / reference)^-β

    Sums are float64 and recomputed from the nodes below, so that nothing drifts; an item of leaf 0 is never
    drawn. Draws are a function of the seed, how many times ``sample`` was called before, and the leaves: the
    same bits on every instruction set. Calls hold the interpreter's lock, which guards the tree.

    NumPy arrays in, arrays out. Torch tensors on the CPU are read and written in place, without gradient.

    Args:
        capacity: items, at least 1; all begin with leaf 0. A leaf takes 10.3 bytes.
        alpha: exponent α >= 0; 0 draws all items alike whose p + eps is not 0.
        eps: added to each priority, >= 0.
        seed: in [0, 2^64); None: one from the operating system.

    Raises:
        TypeError: ``capacity`` or ``seed`` is no integer.
        ValueError: an argument out of its range.
        MemoryError: no memory for so many items.

    Source: Schaul et al. 2016, Prioritized Experience Replay, eq. 1 and section 3.4, appendix B.2.1.
    """

    def __init__(
        self, capacity: int, *, alpha: float = 1.0, eps: float = 0.0, seed: int | None = None
    ) -> None:
        self._capacity = require_capacity(capacity)
        require_exponents(alpha, eps)
        self._alpha, self._eps = float(alpha), float(eps)
        number = secrets.randbits(64) if seed is None else require_seed(seed)
        self._tree = _core.SumTree(self._capacity, self._alpha, self._eps, number)

    def __len__(self) -> int:
        return self._capacity

    def __repr__(self) -> str:
        return f"SumTree({self._capacity}, alpha={self._alpha:g}, eps={self._eps:g}, total={self.total:g})"

    def __getstate__(self) -> dict[str, Any]:
        return {"capacity": self._capacity, "alpha": self._alpha, "eps": self._eps, "state": self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        SumTree.__init__(self, state["capacity"], alpha=state["alpha"], eps=state["eps"], seed=0)
        self.load_state(state["state"])

    @property
    def alpha(self) -> float:
        """Exponent α of the priorities."""
        return self._alpha

    @property
    def eps(self) -> float:
        """What is added to each priority."""
        return self._eps

    @property
    def total(self) -> float:
        """Sum of the leaves."""
        return self._tree.total

    @property
    def count(self) -> int:
        """Items that can be drawn: those whose leaf is not 0."""
        return self._tree.count

    @property
    def max_priority(self) -> float:
        """The largest priority p ever written; 0 before any was."""
        return self._tree.largest

    @property
    def leaves(self) -> NDArray[np.float64]:
        """A copy of all leaves, [capacity]."""
        return self._tree.leaves()

    def update(self, index: Any, priority: Any) -> None:
        """Write priorities; of an index that is repeated, the last one.

        Args:
            index: int64 [B], each in [0, capacity), or one integer.
            priority: float32 or float64 [B], or one number for all: p, finite and >= 0.

        Raises:
            TypeError: a wrong dtype, or a tensor that is not on the CPU.
            ValueError: a wrong shape, an index out of range, a priority that is negative, not finite, or so
                large that (p + eps)^α is over 2^960. Nothing is changed then.
        """
        if self._tree.update(index, priority):
            return
        if is_tensor(index) and self._tree.update(_array(index), _array(priority)):
            return
        index = plain_indices("SumTree.update", index, self._capacity)
        priority = plain_priorities("SumTree.update", priority, len(index))
        if not self._tree.update(index, priority):
            raise ValueError(
                "SumTree.update: (priority + eps) ** alpha must be at most 2^960, "
                f"got priority {priority.max():g} with alpha = {self._alpha:g}"
            )

    def set_leaves(self, index: Any, leaf: NDArray[np.float64]) -> None:
        """Write leaves as they are, without α and eps; ``max_priority`` stays.

        Args:
            index: int64 [B], each in [0, capacity).
            leaf: float64 [B], each in [0, 2^960].

        Raises:
            TypeError: a wrong dtype.
            ValueError: a wrong shape, an index or a leaf out of range. Nothing is changed then.
        """
        if self._tree.set_leaves(index, leaf):
            return
        op = "SumTree.set_leaves"
        index = plain_indices(op, index, self._capacity)
        leaf = plain_leaves(op, leaf, len(index))
        if not self._tree.set_leaves(index, leaf):
            raise ValueError(
                f"{op}: index and leaf must be of this tree, got {describe(index)}, {describe(leaf)}"
            )

    def sample(
        self,
        batch_size: int,
        *,
        beta: float = 0.4,
        stratified: bool = True,
        normalize: Literal["batch", "buffer"] | None = "batch",
        out: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Draw items with replacement: ``(index, weight)``, int64 [B] and float32 [B].

        Args:
            batch_size: B >= 0.
            beta: exponent β >= 0 of the importance weights; 0 gives ones.
            stratified: one draw from each of B equal parts of the total, in order; False: independent draws.
            normalize: the reference of the weights. ``"batch"``: the least leaf drawn, so that the batch's
                largest weight is 1. ``"buffer"``: the least leaf that is not 0, so that no weight is over 1.
                None: the mean of the leaves that are not 0, which gives the paper's (N · P(i))^-β.
            out: where to write both: contiguous arrays or CPU tensors that share no memory; returned.

        Raises:
            TypeError: a wrong dtype.
            ValueError: a wrong argument, or no item has a leaf over 0. No draw is used up then.
        """
        if isinstance(out, tuple) and out and is_tensor(out[0]):
            self._sample(batch_size, beta, stratified, normalize, tuple(_array(x) for x in out))
            return out
        drawn: tuple[Any, Any] = self._sample(batch_size, beta, stratified, normalize, out)
        return drawn

    def _sample(self, batch_size: int, beta: float, stratified: bool, normalize: Any, out: Any) -> Any:
        drawn = self._tree.sample(batch_size, beta, stratified, normalize, out)
        if drawn is None:
            size = plain_sample(batch_size, beta, normalize, out, self.total)
            drawn = self._tree.sample(size, beta, stratified, normalize, out)
        return drawn

    def prefix_index(self, mass: Any) -> Any:
        """The item i under which a mass falls: Σ_{j<i} leaf_j <= mass < Σ_{j<=i} leaf_j, up to rounding.

        Never one of leaf 0: mass 0 gives the first item that is not, the total the last (up to rounding).

        Args:
            mass: float64 [B], each in [0, total], or one number.

        Returns:
            int64 [B], or an int.

        Raises:
            TypeError: a wrong dtype.
            ValueError: a wrong shape, a mass out of range, or no item has a leaf over 0.
        """
        found = self._tree.find(mass)
        if found is None:
            found = self._tree.find(plain_masses(mass, self.total))
        if isinstance(mass, np.ndarray) and mass.ndim == 1:
            return found
        return _like(mass, found)

    def __getitem__(self, index: Any) -> Any:
        """Leaves of some items, float64 [B], or of one, a float.

        Raises:
            TypeError: a wrong dtype.
            IndexError: an index out of range, so that the tree can be iterated over.
        """
        found = self._tree.get(index)
        if found is None:
            found = self._tree.get(plain_indices("SumTree", index, self._capacity, IndexError))
        return _like(index, found)

    def __setitem__(self, index: Any, priority: Any) -> None:
        """``update(index, priority)``."""
        self.update(index, priority)

    def sum(self, start: int = 0, stop: int | None = None) -> float:
        """Sum of the leaves [start, stop), 0 if there are none; ``stop`` None: up to the last.

        Raises:
            ValueError: not 0 <= start <= stop <= capacity.
        """
        start, stop = require_span("SumTree.sum", start, stop, self._capacity)
        return self._tree.sum(start, stop)

    def min(self, start: int = 0, stop: int | None = None) -> float:
        """Least leaf of [start, stop) that is not 0, inf if there is none; ``stop`` None: up to the last.

        Raises:
            ValueError: not 0 <= start <= stop <= capacity.
        """
        start, stop = require_span("SumTree.min", start, stop, self._capacity)
        return self._tree.min(start, stop)

    def state(self) -> dict[str, Any]:
        """Everything that decides what is drawn next, to be stored."""
        return {
            "leaf": self._tree.leaves(),
            "max_priority": self._tree.largest,
            "seed": self._tree.seed,
            "draws": self._tree.counter,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state()`` was taken, of a tree of the same capacity; α and eps are not part of it.

        Raises:
            TypeError: a value of another type.
            ValueError: a missing key, another capacity, or leaves that no tree has. Nothing is changed then.
        """
        leaf, largest, seed, draws = plain_state(state, self._capacity)
        if not self._tree.load(leaf, largest, seed, draws):
            raise ValueError(f"SumTree.load_state: state must be one of {self!r}, got another")


def _array(x: Any) -> Any:
    """The memory of a tensor as an array; what has none that NumPy knows stays as it is."""
    if is_tensor(x) and x.device.type == "cpu":
        try:
            return x.detach().numpy()
        except (TypeError, RuntimeError):  # such as bfloat16, and one that is the negative of its memory
            return x
    return x


def _like(given: Any, found: NDArray[Any]) -> Any:
    """``found`` as what was asked with was: a number, a tensor or an array."""
    if is_tensor(given):
        import torch

        result = torch.from_numpy(found)
        return result.reshape(given.shape)
    if isinstance(given, np.ndarray) and given.ndim > 0:
        return found
    return found.item() if _is_number(given) else found


def _is_number(x: Any) -> bool:
    if isinstance(x, float):
        return True
    try:
        operator.index(x)
    except TypeError:
        return np.ndim(x) == 0
    return True
