"""Stand-ins for TorchRL's compiled trees, which do not load with every torch: what it documents of them, in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch


class StandIn:
    """A tree of TorchRL's, slow: ``[]``, ``query``, ``scan_lower_bound``."""

    def __init__(self, capacity: int) -> None:
        self.leaf = np.full(capacity, self.neutral)

    def __getitem__(self, index: Any) -> Any:
        return (
            torch.from_numpy(self.leaf[index.numpy()])
            if isinstance(index, torch.Tensor)
            else self.leaf[index]
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        self.leaf[np.asarray(index)] = np.asarray(value)


class SumStandIn(StandIn):
    neutral = 0.0

    def query(self, start: int, stop: int) -> float:
        return float(self.leaf[start:stop].sum())

    def scan_lower_bound(self, mass: Any) -> Any:
        return np.searchsorted(self.leaf.cumsum(), np.asarray(mass))


class MinStandIn(StandIn):
    neutral = np.inf

    def query(self, start: int, stop: int) -> float:
        return float(self.leaf[start:stop].min())


def runnable_sampler(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TorchRL's own ``PrioritizedSampler``, over stand-ins for the rest of the test."""
    from torchrl.data.replay_buffers.samplers import prioritized

    for width in ("32", "64"):
        monkeypatch.setattr(prioritized, f"SumSegmentTreeFp{width}", SumStandIn)
        monkeypatch.setattr(prioritized, f"MinSegmentTreeFp{width}", MinStandIn)
    return prioritized.PrioritizedSampler
