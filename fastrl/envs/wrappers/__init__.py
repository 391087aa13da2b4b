"""Wrappers of vector environments, for any ``gymnasium.vector.VectorEnv`` in any autoreset mode."""

from fastrl.envs.wrappers.limit import TimeLimit
from fastrl.envs.wrappers.normalize import NormalizeObservation, NormalizeReward
from fastrl.envs.wrappers.rewards import ClipReward, PotentialShaping, ScaleReward, SignReward
from fastrl.envs.wrappers.skip import FrameSkip, GrayscaleResize
from fastrl.envs.wrappers.stack import FrameStack

__all__ = [
    "ClipReward",
    "FrameSkip",
    "FrameStack",
    "GrayscaleResize",
    "NormalizeObservation",
    "NormalizeReward",
    "PotentialShaping",
    "ScaleReward",
    "SignReward",
    "TimeLimit",
]
