"""Tianshou's prioritized replay and advantages on compiled kernels.

from fastrl.integrations.tianshou import PrioritizedVectorReplayBuffer   # instead of tianshou.data's
buffer = PrioritizedVectorReplayBuffer(1_000_000, 16, alpha=0.6, beta=0.4)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import extras
from fastrl.kernels import SumTree
from fastrl.kernels import gae as compiled_gae

extras.require("tianshou", "fastrl.integrations.tianshou")

from tianshou import data  # noqa: E402  # after the error that says what is missing

__all__ = ["PrioritizedReplayBuffer", "PrioritizedVectorReplayBuffer", "SegmentTree", "gae"]


class SegmentTree:
    """``tianshou.data.SegmentTree`` over ``fastrl.kernels.SumTree``.

    Two things differ. Masses on the edge of two leaves, and the mass 0, give the leaf that begins there and
    not the one that ends: Tianshou draws a leaf of 0 for the mass 0. And bad input raises ValueError or
    TypeError, not AssertionError; negative, infinite and NaN values are bad input.

    Args:
        size: number of leaves.
    """

    def __init__(self, size: int) -> None:
        self._tree = SumTree(size, seed=0)  # draws nothing itself

    def __len__(self) -> int:
        return len(self._tree)

    def __getitem__(self, index: Any) -> Any:
        """Leaves, float64 of the shape of ``index``, or a float for an integer; negative: from behind.

        Raises:
            IndexError: out of range.
        """
        if isinstance(index, np.ndarray) and index.ndim == 1 and index.dtype == np.int64:
            try:
                return self._tree[index]
            except IndexError:  # maybe negative
                pass
        at = _places(index)
        if at.dtype == np.int64:  # `buffer[-1]` reads its weight as well
            at = np.where(at < 0, at + len(self), at)
        leaf: NDArray[np.float64] = self._tree[at.reshape(-1)].reshape(at.shape)
        return leaf if at.ndim > 0 else leaf.item()

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write leaves; of an index that is repeated, the last one."""
        at = _places(index)
        leaf = np.asarray(value)
        if leaf.dtype not in (np.float32, np.float64):
            leaf = leaf.astype(np.float64)
        if leaf.shape != at.shape:
            leaf = np.broadcast_to(leaf, at.shape)
        self._tree.update(at.reshape(-1), leaf.reshape(-1))

    def reduce(self, start: int = 0, end: int | None = None) -> float:
        """Sum of the leaves [start, end); ``end`` None: to the last; negative: counted from behind."""
        if start == 0 and end is None:
            return self._tree.total
        return self._tree.sum(start, end if end is None or end >= 0 else end + len(self))

    def get_prefix_sum_idx(self, value: Any) -> Any:
        """The i under which each mass falls: Σ_{j<i} leaf_j <= value < Σ_{j<=i} leaf_j, up to rounding."""
        if isinstance(value, np.ndarray):
            mass = value if value.dtype == np.float64 else value.astype(np.float64)
            return self._tree.prefix_index(mass.reshape(-1)).reshape(value.shape)
        return self._tree.prefix_index(float(value))


def _places(index: Any) -> NDArray[Any]:
    at = np.asarray(index)
    return at.astype(np.int64) if at.dtype.kind in "iu" and at.dtype.itemsize < 8 else at


class PrioritizedReplayBuffer(data.PrioritizedReplayBuffer):
    """``tianshou.data.PrioritizedReplayBuffer`` on a compiled tree; same arguments and results."""

    def __init__(self, size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(size, *args, **kwargs)
        self.weight = SegmentTree(size)  # type: ignore[assignment]


class PrioritizedVectorReplayBuffer(data.PrioritizedVectorReplayBuffer):
    """``tianshou.data.PrioritizedVectorReplayBuffer`` on a compiled tree; same arguments and results."""

    def __init__(self, total_size: int, buffer_num: int, **kwargs: Any) -> None:
        super().__init__(total_size, buffer_num, **kwargs)
        self.weight = SegmentTree(self.maxsize)  # type: ignore[assignment]


def gae(
    v_s: NDArray[Any],
    v_s_: NDArray[Any],
    rew: NDArray[Any],
    end_flag: NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float64]:
    """Advantages as Tianshou's ``algorithm_base._gae`` gives them, to the bit: float64 [T].

    Args:
        v_s: [T], V of the observation before each step.
        v_s_: [T], V of the one after, 0 where the step terminated its episode.
        rew: [T].
        end_flag: bool [T]: the step was its episode's last, terminated, truncated or not finished.
        gamma: discount in [0, 1].
        gae_lambda: λ in [0, 1].

    Raises:
        ValueError: a wrong shape, or ``gamma`` or ``gae_lambda`` outside [0, 1].
    """
    reward, value, next_value = (np.asarray(x, np.float64)[:, None] for x in (rew, v_s, v_s_))
    end = np.asarray(end_flag, np.bool_)[:, None]
    advantage: NDArray[np.float64] = compiled_gae(
        reward, value, next_value, np.zeros_like(end), end, gamma=gamma, lam=gae_lambda
    )
    return advantage[:, 0]
