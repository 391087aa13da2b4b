"""The distributional family in C++ (csrc/distributional.cpp): vectors of one row's atoms or quantiles."""

from fastrl._core import c51_loss, c51_project, expectation, hl_gauss, quantile_huber, two_hot

__all__ = ["DEVICES", "c51_loss", "c51_project", "expectation", "hl_gauss", "quantile_huber", "two_hot"]

DEVICES = ("cpu",)
