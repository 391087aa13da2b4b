"""How an update goes through a batch: its samples in random order, minibatch by minibatch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.sequences import Sequences
from fastrl.sources import RolloutBatch

Float32 = NDArray[np.float32]


class Samples:
    """Minibatches of single samples; the last one of an epoch takes what is left.

    Args:
        minibatch_size: samples of a minibatch.
        num_steps: T of the batches.
    """

    def __init__(self, minibatch_size: int, num_steps: int) -> None:
        self.minibatch_size = minibatch_size

    def epoch(
        self, batch: RolloutBatch, advantage: Float32, return_: Float32, rng: np.random.Generator
    ) -> Iterator[list[Any]]:
        """Observations, actions, log-probabilities, advantages, returns, values: [rows, ...], in an order
        drawn from ``rng``.
        """
        fields = [x.reshape(-1, *x.shape[2:]) for x in fields_of(batch, advantage, return_)]
        if batch.valid is not None:
            fields = [x[batch.valid.ravel()] for x in fields]
        order = rng.permutation(batch.samples)
        shuffled = [x.take(order, axis=0) for x in fields]
        for start in range(0, batch.samples, self.minibatch_size):
            yield [x[start : start + self.minibatch_size] for x in shuffled]


def chunks(obs: NDArray[Any] | Sequences, size: int) -> Iterator[tuple[slice, Any]]:
    """Rows of a minibatch that go through the network together, with their observations: sequences whole.

    Minibatches of more than ``size`` rows accumulate gradients.
    """
    if isinstance(obs, Sequences):
        yield slice(None), obs
    else:
        for start in range(0, len(obs), size):
            rows = slice(start, start + size)
            yield rows, obs[rows]


def fields_of(batch: RolloutBatch, advantage: Float32, return_: Float32) -> list[NDArray[Any]]:
    """Observations, actions, log-probabilities, advantages, returns and values, [T, N, ...]."""
    return [batch.obs, batch.action, batch.log_prob, advantage, return_, batch.value]
