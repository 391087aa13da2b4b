"""Compiled ops, one subpackage a family, each importable alone: ``from fastrl.kernels import gae``."""

if __name__ != "fastrl.kernels":
    raise ImportError(
        f"import fastrl.kernels, not {__name__!r}: under another name its operators would register twice"
    )

from fastrl.kernels.distributions import (
    categorical_entropy,
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
)
from fastrl.kernels.losses import normalize_advantage, ppo_categorical
from fastrl.kernels.network import adam_step, polyak
from fastrl.kernels.returns import gae

__all__ = [
    "adam_step",
    "categorical_entropy",
    "categorical_log_prob",
    "categorical_mode",
    "categorical_sample",
    "gae",
    "normalize_advantage",
    "polyak",
    "ppo_categorical",
]
