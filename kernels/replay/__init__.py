"""Replay: draws in proportion to priorities."""

from fastrl.kernels.replay.sum_tree import SumTree

__all__ = ["SumTree"]
