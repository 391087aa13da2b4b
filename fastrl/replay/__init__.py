"""Replay buffers: transitions as dictionaries of arrays, stored and drawn by one compiled call."""

from fastrl.replay.buffer import ReplayBuffer
from fastrl.replay.prioritized import PrioritizedReplayBuffer
from fastrl.replay.sequences import SequenceReplayBuffer

__all__ = ["PrioritizedReplayBuffer", "ReplayBuffer", "SequenceReplayBuffer"]
