"""TorchRL's prioritized sampler and value functions on compiled kernels.

from fastrl.integrations.torchrl import PrioritizedSampler   # instead of
torchrl.data.replay_buffers.samplers' buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(size),
sampler=PrioritizedSampler(size, 0.6, 0.4))
"""

from fastrl import extras

extras.require("torchrl", "fastrl.integrations.torchrl")

# After the error that says what is missing.
from fastrl.integrations.torchrl.estimators import GAE, TDLambdaEstimator, VTrace  # noqa: E402
from fastrl.integrations.torchrl.functional import (  # noqa: E402
    generalized_advantage_estimate,
    td_lambda_return_estimate,
    vtrace_advantage_estimate,
)
from fastrl.integrations.torchrl.sampler import PrioritizedSampler  # noqa: E402

__all__ = [
    "GAE",
    "PrioritizedSampler",
    "TDLambdaEstimator",
    "VTrace",
    "generalized_advantage_estimate",
    "td_lambda_return_estimate",
    "vtrace_advantage_estimate",
]
