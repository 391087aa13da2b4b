"""Replay buffers: transitions as dictionaries of arrays, stored and drawn by one compiled call."""

from fastrl.replay.buffer import ReplayBuffer
from fastrl.replay.prioritized import PrioritizedReplayBuffer

__all__ = ["PrioritizedReplayBuffer", "ReplayBuffer"]
