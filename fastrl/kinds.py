"""What kinds of policy, source, minibatches and optimiser go with a network."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fastrl.minibatches import Samples
from fastrl.networks import Network
from fastrl.optimizers import Adam
from fastrl.policies import ActorCritic
from fastrl.recurrent import EnvironmentSequences, RecurrentPolicy, RecurrentRollout
from fastrl.sources import Rollout


class Kinds(NamedTuple):
    """Classes to build around a network."""

    policy: type[ActorCritic]
    source: type[Rollout]
    minibatches: type[Samples]
    optimizer: Any
    captured: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes of the update of a minibatch what to call instead of it."""


def kinds(network: Network) -> Kinds:
    """What a network needs around it."""
    if hasattr(network, "state_size"):
        return Kinds(RecurrentPolicy, RecurrentRollout, EnvironmentSequences, Adam, lambda step: step)
    if hasattr(network, "device"):
        from fastrl import device
        from fastrl.torch_device import Captured

        return Kinds(
            device.DevicePolicy, device.DeviceRollout, device.DeviceSamples, device.DeviceAdam, Captured
        )
    return Kinds(ActorCritic, Rollout, Samples, Adam, lambda step: step)
