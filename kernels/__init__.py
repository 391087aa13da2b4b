"""Compiled ops, one subpackage a family, each importable alone: ``from fastrl.kernels import gae``."""

if __name__ != "fastrl.kernels":
    raise ImportError(
        f"import fastrl.kernels, not {__name__!r}: under another name its operators would register twice"
    )

from fastrl.kernels.distributional import (
    c51_loss,
    c51_project,
    expectation,
    hl_gauss,
    quantile_huber,
    two_hot,
)
from fastrl.kernels.distributions import (
    categorical_entropy,
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
    gaussian_entropy,
    gaussian_log_prob,
    gaussian_sample,
    multi_categorical_entropy,
    multi_categorical_log_prob,
    multi_categorical_mode,
    multi_categorical_sample,
    squash,
    squashed_gaussian_log_prob,
)
from fastrl.kernels.frames import grayscale, grayscale_resize, push_frames
from fastrl.kernels.losses import (
    normalize_advantage,
    ppo_categorical,
    ppo_gaussian,
    ppo_multi_categorical,
)
from fastrl.kernels.network import adam_step, polyak
from fastrl.kernels.replay import SumTree
from fastrl.kernels.returns import discounted, gae, n_step, q_lambda, retrace, td_lambda, vtrace

__all__ = [
    "SumTree",
    "adam_step",
    "c51_loss",
    "c51_project",
    "categorical_entropy",
    "categorical_log_prob",
    "categorical_mode",
    "categorical_sample",
    "discounted",
    "expectation",
    "gae",
    "gaussian_entropy",
    "gaussian_log_prob",
    "gaussian_sample",
    "grayscale",
    "grayscale_resize",
    "hl_gauss",
    "multi_categorical_entropy",
    "multi_categorical_log_prob",
    "multi_categorical_mode",
    "multi_categorical_sample",
    "n_step",
    "normalize_advantage",
    "polyak",
    "ppo_categorical",
    "ppo_gaussian",
    "ppo_multi_categorical",
    "push_frames",
    "q_lambda",
    "quantile_huber",
    "retrace",
    "squash",
    "squashed_gaussian_log_prob",
    "td_lambda",
    "two_hot",
    "vtrace",
]
