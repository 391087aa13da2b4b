"""What acts: an actor-critic network joined with an observation encoder and an action distribution."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl import _core
from fastrl.distributions import Distribution
from fastrl.networks import NativeNetwork, Network, NetworkOptions, actor_critic
from fastrl.normalize import RunningMeanStd
from fastrl.observations import Encoder

Float32 = NDArray[np.float32]


class Act(NamedTuple):
    """What a policy gives for a batch of observations."""

    action: NDArray[Any]
    log_prob: Float32
    value: Float32


class ActorCritic:
    """An actor and a critic: columns of one network, those of the action distribution first, then the value.

    Args:
        network: with ``distribution.columns + 1`` outputs.
        encoder: turns observations into what the network reads.
        distribution: what the columns mean.
        seed: of the actions; a draw depends on (seed, counter, row) and on nothing else.
        normalize: whether observations are shifted and scaled by their running mean and variance.
    """

    def __init__(
        self,
        network: Network,
        encoder: Encoder,
        distribution: Distribution,
        seed: int,
        *,
        normalize: bool = False,
    ) -> None:
        if normalize and encoder.image:
            raise ValueError(f"normalize_obs is for vectors, not for observations of {encoder.space}")
        self.network = network
        self.encoder = encoder
        self.distribution = distribution
        self.seed = seed
        self.normalizer = RunningMeanStd(encoder.shape) if normalize else None

    @property
    def native(self) -> bool:
        """Whether a compiled rollout can run this policy."""
        return isinstance(self.network, NativeNetwork) and self.encoder.identity

    def observe(self, obs: Any) -> NDArray[Any]:
        """What the network reads for a batch of observations."""
        return self.normalize(self.encoder.encode(obs))

    def normalize(self, x: NDArray[Any]) -> NDArray[Any]:
        """What the network reads for encoded observations."""
        return x if self.normalizer is None else self.normalizer.normalize(x)

    def update_statistics(self, x: NDArray[Any]) -> None:
        """Take encoded observations into the running statistics, if there are such."""
        if self.normalizer is not None:
            self.normalizer.update(x)

    def act(self, x: NDArray[Any], counter: int) -> Act:
        """Sampled actions [N, ...], their log-probabilities and the values, float32 [N], for observed x."""
        network, distribution = self.network, self.distribution
        if isinstance(network, NativeNetwork):
            columns = distribution.compiled(network)
            return Act(*_core.act(network.plan.core, network.layer_params, x, self.seed, counter, **columns))
        y = require_drawable(network.infer(x))
        action, log_prob = distribution.sample(network, y[:, :-1], self.seed, counter)
        return Act(action, log_prob, y[:, -1].copy())

    def respond(
        self, x: NDArray[Any], counter: int | None, state: Any, start: NDArray[np.bool_] | None
    ) -> tuple[NDArray[Any], Any]:
        """Actions [N, ...] for observed x, and the recurrent state, which this policy passes through.

        Without a ``counter`` they are the most probable ones.
        """
        return self.mode(x) if counter is None else self.act(x, counter).action, state

    def mode(self, x: NDArray[Any]) -> NDArray[Any]:
        """The most probable actions, [N, ...], for observed x."""
        return self.distribution.mode(self.network.infer(x)[:, :-1])

    def value(self, x: NDArray[Any]) -> Float32:
        """Values float32 [N] of observed x."""
        return self.network.infer(x)[:, -1].copy()

    def state(self) -> dict[str, Any]:
        """Named tensors and normalisation statistics, for a checkpoint."""
        tensors = {name: np.array(tensor) for name, tensor in self.network.named_tensors().items()}
        return {"tensors": tensors, "normalizer": self.normalizer and self.normalizer.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.network.load_tensors(state["tensors"])
        if self.normalizer is not None:
            self.normalizer.load_state(state["normalizer"])


def require_drawable(y: Float32) -> Float32:
    """Outputs [N, ...] of a network, to draw actions from; -inf is the logit of a masked one.

    Raises:
        FloatingPointError: NaN or inf.
    """
    drawable = y < np.inf
    if not drawable.all():
        row = int(drawable.all(axis=1).argmin())
        raise FloatingPointError(f"the policy's output is not finite in row {row}")
    return y


def build_network(
    encoder: Encoder,
    distribution: Distribution,
    options: NetworkOptions,
    seed: np.random.SeedSequence,
    module: Any = None,
) -> Network:
    """The actor-critic network for these observations: the distribution's columns, then the value.

    Args:
        encoder: what the network reads.
        distribution: says how many columns the policy head has, and what parameters it has beside.
        options: the user's choices.
        seed: of the initial parameters.
        module: a torch module of the user's to run instead.

    Raises:
        ValueError: a combination that cannot run, and why.
    """
    trunk = options.trunk
    if trunk == "auto":
        trunk = "nature" if encoder.image else "mlp"
    if module is not None and options.recurrent != "none":
        raise ValueError(
            f"recurrent={options.recurrent!r} is for fastrl's networks; a module of your own that has an "
            "attribute recurrent_state_size is recurrent"
        )
    if module is None and (trunk == "mlp") == encoder.image:
        raise ValueError(f"network={trunk!r} does not read observations of {encoder.space}")
    needs_torch = {
        "a module of your own": module is not None,
        f"network={trunk!r}": trunk != "mlp",
        f"recurrent={options.recurrent!r}": options.recurrent != "none",
        "compile=True": options.compiled,
        "bf16=True": options.bf16,
        f"device={options.device!r}": options.device != "cpu",
        "engine='torch'": options.engine == "torch",
    }
    reasons = [reason for reason, holds in needs_torch.items() if holds]
    if not reasons:
        rng = np.random.Generator(np.random.PCG64(seed))
        spec = actor_critic(encoder.shape[0], distribution.columns, options, distribution.free)
        return NativeNetwork(spec, rng)
    if options.engine == "native":
        raise ValueError(f"engine='native' cannot run {reasons[0]}; engine='torch' does")
    recurrent = options.recurrent != "none" or hasattr(module, "recurrent_state_size")
    if recurrent and options.compiled:
        raise ValueError("compile=True cannot run a network with a memory")
    if recurrent and options.device != "cpu":
        raise ValueError(f"device={options.device!r} cannot run a network with a memory; device='cpu' does")
    try:
        from fastrl import torch_networks, torch_recurrent
    except ModuleNotFoundError as error:
        raise ValueError(f"{reasons[0]} needs torch: {error}") from None
    build = torch_recurrent.build if recurrent else torch_networks.build
    return build(encoder.shape, distribution.columns, trunk, options, seed, module, distribution.free)
