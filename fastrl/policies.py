"""What acts: a network joined with an action distribution."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import categorical_mode
from fastrl.networks import Head, NativeNetwork, NetworkSpec

Float32 = NDArray[np.float32]


class Act(NamedTuple):
    """What a policy gives for a batch of observations."""

    action: NDArray[np.int64]
    log_prob: Float32
    value: Float32


class CategoricalPolicy:
    """A categorical actor and a critic, columns of one network: a logit for each action, then the value.

    Args:
        inputs: floats an observation has.
        num_actions: actions to choose from.
        hidden: widths of the hidden layers of the actor and of the critic, which share none.
        activation: of the hidden layers.
        rng: draws the initial parameters.
        seed: of the actions; a draw depends on (seed, counter, row) and on nothing else.
    """

    def __init__(
        self,
        inputs: int,
        num_actions: int,
        *,
        hidden: tuple[int, ...],
        activation: str,
        rng: np.random.Generator,
        seed: int,
    ) -> None:
        self.num_actions = num_actions
        self.seed = seed
        # gains: Huang et al. 2022, detail 2
        spec = NetworkSpec(
            inputs=inputs,
            heads=(
                Head(name="policy", outputs=num_actions, hidden=hidden, gain=0.01),
                Head(name="value", outputs=1, hidden=hidden, gain=1.0),
            ),
            activation=activation,
        )
        self.network = NativeNetwork(spec, rng)

    def act(self, obs: Float32, counter: int) -> Act:
        """Sampled actions int64 [N], their log-probabilities and the values, float32 [N], for obs [N, D]."""
        network = self.network
        return Act(*_core.act(network.plan.core, network.params, obs, self.seed, counter))

    def mode(self, obs: Float32) -> NDArray[np.int64]:
        """The most probable actions, int64 [N]."""
        return categorical_mode(self.network.infer(obs)[:, : self.num_actions])

    def value(self, obs: Float32) -> Float32:
        """Values float32 [N]."""
        return self.network.infer(obs)[:, self.num_actions].copy()

    def state(self) -> dict[str, Any]:
        """Named tensors, for a checkpoint."""
        return {name: tensor.copy() for name, tensor in self.network.named_tensors().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.network.load_tensors(state)
