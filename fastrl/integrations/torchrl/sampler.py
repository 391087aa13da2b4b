"""TorchRL's ``PrioritizedSampler`` over a compiled tree."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchrl.data.replay_buffers import samplers
from torchrl.data.replay_buffers.utils import unravel_index

from fastrl.kernels import SumTree

Index = int | torch.Tensor


class PrioritizedSampler(samplers.PrioritizedSampler):  # type: ignore[misc]
    """``torchrl.data.replay_buffers.samplers.PrioritizedSampler``, drawing from ``fastrl.kernels.SumTree``.

    Its arguments, draws, weights and errors are TorchRL's, and ``isinstance`` says that it is one, so that
    every buffer of TorchRL takes it. It needs no extension of TorchRL's: it also runs where that one does not
    load. What
    differs: sums are float64 for either ``dtype``; an item of priority 0 (with ``eps=0``) is never drawn,
    where TorchRL stops at "non-positive p_min"; a negative, infinite or NaN priority raises ValueError and
    changes nothing; with a generator of the buffer's, masses are drawn in float64, as float32 misses items of
    large buffers.

    Args:
        max_capacity: items.
        alpha: exponent α of priorities, applied when they are written; may be set later, in one pass over all
        items.
        beta: exponent β of the importance weights (leaf / least leaf of the buffer)^-β; may be set later.
        eps: added to each priority.
        dtype: of the weights, float32 or float64.
        reduction: of several priorities a trajectory: "max", "min", "median" or "mean".
        max_priority_within_buffer: new items get the largest priority that is in the buffer, not the largest
        ever.
        device: None or the CPU.

    Raises:
        ValueError: ``alpha`` or ``beta`` < 0.
        NotImplementedError: another dtype or device.
    """

    _max_priority: Any  # (value, index) once it was written

    def __init__(
        self,
        max_capacity: int,
        alpha: float,
        beta: float,
        eps: float = 1e-8,
        dtype: torch.dtype = torch.float32,
        reduction: str = "max",
        max_priority_within_buffer: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        # TorchRL's own would warn that its extension is missing.
        for name, x in (("alpha", alpha), ("beta", beta)):
            if not x >= 0:
                raise ValueError(f"PrioritizedSampler: {name} must be >= 0, got {x}")
        self._max_capacity = max_capacity
        self._alpha, self._beta, self._eps = alpha, beta, eps
        self.reduction = reduction
        self.dtype = dtype
        self._max_priority_within_buffer = max_priority_within_buffer
        self._device = None if device is None else torch.device(device)
        self._init()

    def _init(self) -> None:
        if self.dtype not in (torch.float32, torch.float64):
            raise NotImplementedError(
                f"PrioritizedSampler: dtype must be float32 or float64, got {self.dtype}"
            )
        if self._device is not None and self._device.type != "cpu":
            raise NotImplementedError(f"PrioritizedSampler: device must be the CPU, got {self._device}")
        self._tree = SumTree(self._max_capacity, alpha=self._alpha, eps=self._eps, seed=0)
        self._max_priority = None

    def _maybe_init_from_storage(self, storage: Any) -> None:
        """The tree is on the CPU, wherever the storage is."""

    @property
    def _sum_tree(self) -> "_SumView":
        return _SumView(self._tree, self.dtype)

    @property
    def _min_tree(self) -> "_MinView":
        return _MinView(self._tree, self.dtype)

    def _retransform_priority_trees(self, old_alpha: float, new_alpha: float) -> None:
        super()._retransform_priority_trees(old_alpha, new_alpha)
        state = self._tree.state()
        self._tree = SumTree(self._max_capacity, alpha=new_alpha, eps=self._eps)
        self._tree.load_state(state)

    def sample(self, storage: Any, batch_size: int) -> tuple[Any, dict[str, torch.Tensor]]:
        """Independent draws: index, int64 [B], of as many columns as the storage has axes, and their weights.

        Raises:
            RuntimeError: an empty storage, or no item has a priority over 0.
        """
        size = len(storage)
        if size == 0:
            raise RuntimeError("Cannot sample from an empty storage.")
        total = self._tree.sum(0, size)
        if total <= 0:
            raise RuntimeError("non-positive p_sum")
        if self._rng is None:  # then TorchRL draws from NumPy's global generator
            mass = np.random.uniform(0.0, total, batch_size)  # noqa: NPY002
        else:
            mass = torch.rand(batch_size, generator=self._rng, dtype=torch.float64).numpy() * total
        drawn = self._tree.prefix_index(mass)
        index: Any = torch.from_numpy(np.minimum(drawn, size - 1, out=drawn))
        leaf = torch.from_numpy(self._tree[drawn])
        weight = leaf.div_(self._tree.min(0, size)).pow_(-self._beta).to(self.dtype)
        if storage.ndim > 1:
            index = unravel_index(index, storage.shape)
        return index, {"priority_weight": weight}

    def update_priority(self, index: Index, priority: float | torch.Tensor, *, storage: Any = None) -> None:
        """Write priorities.

        Args:
            index: int64 [B], or with a column for each axis of the storage, or an integer; -1 stands for no
            item.
            priority: [B], or one number.
            storage: needed for an index of several columns.

        Raises:
            ValueError: a priority that is negative or not finite, or an index out of range.
            RuntimeError: other numbers of priorities than indices, or several columns without ``storage``.
                Nothing is changed then.
        """
        if not self._max_priority_within_buffer and self._updated(index, priority):
            self._note_largest()
            return
        at, value = self._plain(index, priority, storage)
        wrong = ~((value >= 0) & (value < torch.inf))
        if wrong.any():
            raise ValueError(
                f"PrioritizedSampler: priority must be finite and >= 0, got {value[wrong][0].item()}"
            )
        if at.numel() == 0:
            return
        if self._max_priority_within_buffer:
            super().update_priority(at, value)
            return
        self._tree.update(at, value)
        self._note_largest()

    def _updated(self, index: Any, priority: Any) -> bool:
        """Whether the tree took the two as they are, tensors [B]."""
        if not (isinstance(index, torch.Tensor) and isinstance(priority, torch.Tensor)) or index.ndim != 1:
            return False
        try:
            self._tree.update(index, priority)
        except (TypeError, ValueError):  # another form of them, or an error that `_plain` makes clear
            return False
        return index.numel() > 0

    def _note_largest(self) -> None:
        largest, known = self._tree.max_priority, self._max_priority[0]
        if known is None or largest > known:
            self._max_priority = (torch.tensor(largest, dtype=self.dtype), None)

    def _plain(self, index: Index, priority: Any, storage: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Both [B] on the CPU, without the items that stand for none."""
        at = torch.as_tensor(index, dtype=torch.int64, device="cpu")
        value = torch.as_tensor(priority, device="cpu").detach()
        if value.dtype not in (torch.float32, torch.float64):
            value = value.double()
        if at.ndim > 1:
            if storage is None:
                raise RuntimeError("PrioritizedSampler: an index of several columns needs storage")
            at = _flat(at, tuple(storage.shape))
        at = at.reshape(-1)
        if value.numel() != 1 and value.numel() != at.numel():
            raise RuntimeError(
                "PrioritizedSampler: priority must be a number or as many as index has, "
                f"got {value.numel()} for {at.numel()}"
            )
        value = value.reshape(-1).expand(at.shape)
        if (at < 0).any():
            at, value = at[at >= 0], value[at >= 0]
        return at, value.contiguous()

    def state_dict(self) -> dict[str, Any]:
        """Leaves, exponents and the largest priority: tensors and numbers."""
        return {
            "_schema_version": self._STATE_SCHEMA_VERSION,
            "_alpha": self._alpha,
            "_beta": self._beta,
            "_eps": self._eps,
            "_max_priority": _numbers(self._max_priority),
            "_leaf": torch.from_numpy(self._tree.leaves),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where ``state_dict()`` was taken, of a sampler of the same capacity.

        Raises:
            KeyError: a state of TorchRL's own sampler, or no state.
            ValueError: another capacity, or leaves that no tree has.
        """
        self._load(state_dict, state_dict["_leaf"].numpy())

    def dumps(self, path: str | Path) -> None:
        """Write a folder with TorchRL's files of the same name."""
        folder = Path(path).absolute()
        folder.mkdir(exist_ok=True)
        leaf = self._tree.leaves
        leaf.tofile(folder / "sumtree.memmap")
        np.where(leaf == 0, np.inf, leaf).tofile(folder / "mintree.memmap")
        state = {name: x for name, x in self.state_dict().items() if name != "_leaf"}
        text = json.dumps(state | {"_max_capacity": self._max_capacity})
        (folder / "sampler_metadata.json").write_text(text)

    def loads(self, path: str | Path) -> None:
        """Go on where ``dumps`` was called, here or in TorchRL.

        Raises:
            RuntimeError: another capacity.
            ValueError: files that are cut short, or leaves that no tree has.
        """
        folder = Path(path).absolute()
        state = json.loads((folder / "sampler_metadata.json").read_text())
        if state["_max_capacity"] != self._max_capacity:
            raise RuntimeError(
                f"max capacity of loaded metadata ({state['_max_capacity']}) differs from "
                f"self._max_capacity ({self._max_capacity})."
            )
        self._load(state, np.fromfile(folder / "sumtree.memmap", np.float64))

    def _load(self, state: dict[str, Any], leaf: NDArray[np.float64]) -> None:
        value, index = state["_max_priority"] or (None, None)
        tree = SumTree(self._max_capacity, alpha=state["_alpha"], eps=state["_eps"])
        tree.load_state({"leaf": leaf, "max_priority": value or 0.0, "seed": 0, "draws": 0})
        self._tree = tree
        self._alpha, self._beta, self._eps = state["_alpha"], state["_beta"], state["_eps"]
        self._max_priority = None
        if value is not None:
            self._max_priority = (torch.tensor(value, dtype=self.dtype), index and torch.tensor(int(index)))


class _View:
    """A tree as TorchRL's sampler knows it; both of its trees are one."""

    def __init__(self, tree: SumTree, dtype: torch.dtype) -> None:
        self._tree, self._dtype = tree, dtype

    def __getitem__(self, index: Index) -> Any:
        if isinstance(index, torch.Tensor):
            return self._tree[index].to(self._dtype)
        return self._tree[index]


class _SumView(_View):
    def __setitem__(self, index: Index, leaf: Any) -> None:
        at = torch.as_tensor(index).reshape(-1)
        value = torch.as_tensor(leaf, dtype=torch.float64).broadcast_to(at.shape)
        self._tree.set_leaves(at.numpy(), value.contiguous().numpy())

    def query(self, start: int, stop: int) -> float:
        return self._tree.sum(start, stop)

    def scan_lower_bound(self, mass: Any) -> Any:
        return self._tree.prefix_index(mass)


class _MinView(_View):
    def __setitem__(self, index: Index, leaf: Any) -> None:
        """The sum tree, which is the same, was written."""

    def query(self, start: int, stop: int) -> float:
        return self._tree.min(start, stop)


def _flat(index: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Items by a column for each axis; -1 where a column is negative: no item."""
    extents = torch.tensor(shape)
    if index.shape[-1] != len(shape) or (index >= extents).any():
        raise ValueError(f"PrioritizedSampler: index must be in {list(shape)}, got {index.tolist()}")
    strides = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
    return (index * strides).sum(-1).where((index >= 0).all(-1), -1)


def _numbers(pair: tuple[Any, Any]) -> tuple[float | None, int | None]:
    value, index = pair
    return None if value is None else float(value), None if index is None else int(index)
