"""Distributional value learning: C51's projection and loss, quantile regression, categorical targets.

The losses give per-sample values and the gradient of ``scale * loss[b]``, ``scale = 1 / B`` unless given, as
those of ``fastrl.kernels.losses`` do. NaN and infinity propagate as each op says.
"""

from fastrl.kernels.distributional.c51 import C51Loss, c51_loss, c51_project
from fastrl.kernels.distributional.quantiles import REDUCTIONS, QuantileHuberLoss, quantile_huber
from fastrl.kernels.distributional.scalars import expectation, hl_gauss, two_hot

__all__ = [
    "REDUCTIONS",
    "C51Loss",
    "QuantileHuberLoss",
    "c51_loss",
    "c51_project",
    "expectation",
    "hl_gauss",
    "quantile_huber",
    "two_hot",
]
