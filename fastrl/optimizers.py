"""Optimisers over an executor's flat vectors."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import _core
from fastrl.networks import Network

Float32 = NDArray[np.float32]


class Adam:
    """Adam with global-norm clipping over an executor's flat vectors.

    Args:
        network: whose ``params`` and ``grad`` it works on.
        eps: added after the bias-corrected root; PPO uses 1e-5 (Huang et al. 2022, detail 3).
        betas: decay of the moments.
    """

    learning_rate = 0.0
    """Step size of the next steps; set it first."""

    def __init__(
        self, network: Network, *, eps: float = 1e-5, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.network = network
        self.eps = eps
        self.betas = betas
        self.m: Float32 = np.zeros_like(network.params)
        self.v: Float32 = np.zeros_like(network.params)
        self.t = 0

    def step(self, max_grad_norm: float = np.inf) -> float:
        """Global norm of the gradient; updates the parameters and zeroes the gradient.

        Raises:
            FloatingPointError: the gradient is not finite; it is dropped, and nothing else is changed.
        """
        network = self.network
        norm = _core.adam_step(
            network.params,
            network.grad,
            self.m,
            self.v,
            self.t + 1,
            self.learning_rate,
            *self.betas,
            self.eps,
            max_grad_norm,
        )
        if not math.isfinite(norm):
            network.zero_grad()  # else it would be in every later gradient, too
            raise FloatingPointError(f"Adam: the gradient's norm is {norm} at step {self.t + 1}")
        self.t += 1
        network.zero_grad()
        return norm

    def state(self) -> dict[str, Any]:
        """Moments and step count, for a checkpoint."""
        return {"m": self.m.copy(), "v": self.v.copy(), "t": self.t}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.m[...] = state["m"]
        self.v[...] = state["v"]
        self.t = int(state["t"])
