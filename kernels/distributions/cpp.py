"""The C++ kernels (csrc/distributions.cpp): float32, vectorised over rows."""

from fastrl._core import categorical_entropy, categorical_log_prob, categorical_mode, categorical_sample

DEVICES = ("cpu",)

__all__ = ["categorical_entropy", "categorical_log_prob", "categorical_mode", "categorical_sample"]
