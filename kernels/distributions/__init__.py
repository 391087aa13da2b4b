"""Distributions of actions: sampling, mode, log-probability and entropy.

Categorical: ``logits`` float32 [B, A], one distribution a row, any strides (the first columns of a wider
network output need no copy); ``action_mask`` bool [B, A], True where the action is legal. A masked action
behaves as one whose logit is -inf: it is never drawn and adds nothing to the entropy.

``pi(a | b) = exp(logits[b, a]) / sum over legal a' of exp(logits[b, a'])``

Multi-categorical: a row holds K independent choices of ``sizes[k]`` actions each, their logits one after
the other. Its log-probability and entropy are the sums of theirs. This is Gymnasium's MultiDiscrete.
MultiBinary(n) is ``sizes=(2,) * n``, where bit k is 1 with probability
``sigmoid(logits[2k + 1] - logits[2k])``: the Bernoulli policy, with two logits a bit.

Gaussian: independent components with ``mean`` float32 [B, A] and ``log_std`` float32 [B, A], or [A] where the
deviation does not depend on the row.

``action[b, a] ~ N(mean[b, a], exp(log_std[b, a])^2)``
"""

from fastrl.kernels.distributions.categorical import (
    CategoricalSample,
    categorical_entropy,
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
)
from fastrl.kernels.distributions.gaussian import (
    GaussianSample,
    gaussian_entropy,
    gaussian_log_prob,
    gaussian_sample,
    squash,
    squashed_gaussian_log_prob,
)
from fastrl.kernels.distributions.multi_categorical import (
    multi_categorical_entropy,
    multi_categorical_log_prob,
    multi_categorical_mode,
    multi_categorical_sample,
)

__all__ = [
    "CategoricalSample",
    "GaussianSample",
    "categorical_entropy",
    "categorical_log_prob",
    "categorical_mode",
    "categorical_sample",
    "gaussian_entropy",
    "gaussian_log_prob",
    "gaussian_sample",
    "multi_categorical_entropy",
    "multi_categorical_log_prob",
    "multi_categorical_mode",
    "multi_categorical_sample",
    "squash",
    "squashed_gaussian_log_prob",
]
