"""The C++ kernels (csrc/distributions.cpp): float32, vectorised over rows."""

from fastrl import _core

DEVICES = ("cpu",)

categorical_sample = _core.categorical_sample
categorical_mode = _core.categorical_mode
categorical_log_prob = _core.categorical_log_prob
categorical_entropy = _core.categorical_entropy
