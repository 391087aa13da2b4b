"""What a network with a memory reads, and what its executor offers."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrl.networks import Network

Float32 = NDArray[np.float32]


class RecurrentNetwork(Network, Protocol):
    """What an executor with a memory offers beside; its ``forward`` and ``infer`` take :class:`Sequences`."""

    state_size: int

    def step(self, x: NDArray[Any], state: Float32) -> tuple[Float32, Float32]:
        """y [B, outputs] and the next state [B, state_size] for x [B, ...] and the state before it."""
        ...


@dataclass(frozen=True, slots=True)
class Sequences:
    """T steps of B environments, for a network with a memory."""

    obs: NDArray[Any]
    """[T, B, ...], encoded."""
    state: Float32
    """[B, state_size]: before the first step."""
    start: NDArray[np.bool_]
    """[T, B]: where an episode begins, before which the state is zero."""
    valid: NDArray[np.bool_] | None
    """[T, B]: the steps whose outputs are wanted; None: all."""
