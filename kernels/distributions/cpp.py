"""The C++ kernels (csrc/distributions.cpp): float32, vectorised over rows."""

from functools import partial

from fastrl._core import (
    categorical_entropy,
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
    gaussian_entropy,
    gaussian_log_prob,
    gaussian_sample,
    squash,
)

DEVICES = ("cpu",)

__all__ = [
    "categorical_entropy",
    "categorical_log_prob",
    "categorical_mode",
    "categorical_sample",
    "gaussian_entropy",
    "gaussian_log_prob",
    "gaussian_sample",
    "squash",
    "squashed_gaussian_log_prob",
]

squashed_gaussian_log_prob = partial(gaussian_log_prob, squashed=True)
