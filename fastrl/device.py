"""What an algorithm needs around a network on a CUDA device: batch, loss and optimiser stay there too.

Environments run on the CPU, so each of their steps waits once, for the actions. A batch is uploaded whole,
and its update waits for nothing but the diagnostics at its end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastrl.arrays import to_host
from fastrl.distributions import DiagonalGaussian
from fastrl.kernels.distributions import triton as sampling
from fastrl.kernels.network.triton import adam_step
from fastrl.minibatches import Samples, fields_of
from fastrl.policies import Act, ActorCritic
from fastrl.sources import Rollout, RolloutBatch
from fastrl.torch_device import Captured, DeviceNetwork


class DeviceAdam:
    """Adam with global-norm clipping on a device; see ``fastrl.optimizers.Adam``. Nothing waits for a step.

    A gradient that is not finite changes nothing, and its norm, which is not finite, ends the run with the
    batch's diagnostics.
    """

    def __init__(
        self, network: DeviceNetwork, *, eps: float = 1e-5, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.network = network
        self.eps = eps
        self.betas = betas
        self.m = torch.zeros_like(network.params)
        self.v = torch.zeros_like(network.params)
        self._t = torch.zeros((), dtype=torch.int64, device=network.device)
        self._rate = torch.zeros((), dtype=torch.float32, device=network.device)

    @property
    def learning_rate(self) -> float:
        """Step size of the next steps, captured ones too."""
        return float(self._rate)

    @learning_rate.setter
    def learning_rate(self, learning_rate: float) -> None:
        self._rate.fill_(learning_rate)

    def step(self, max_grad_norm: float = np.inf) -> torch.Tensor:
        """Global norm of the gradient, float32 []; updates the parameters and zeroes the gradient."""
        network = self.network
        self._t += 1
        norm = adam_step(
            network.params,
            network.grad,
            self.m,
            self.v,
            self._t,
            self._rate,
            *self.betas,
            self.eps,
            max_grad_norm,
        )
        network.zero_grad()
        return norm

    def state(self) -> dict[str, Any]:
        """Moments and step count, for a checkpoint."""
        return {"m": self.m.cpu().numpy(), "v": self.v.cpu().numpy(), "t": int(self._t)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        for x, name in ((self.m, "m"), (self.v, "v")):
            x.copy_(torch.from_numpy(np.array(state[name])))
        self._t.fill_(int(state["t"]))


class DevicePolicy(ActorCritic):
    """An actor-critic that draws on its device: one upload, one captured graph and one download a step."""

    network: DeviceNetwork

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._drawn = Captured(self._draw)

    def act(self, x: NDArray[Any], counter: int) -> Act:
        """As ``ActorCritic.act``, and the same draws."""
        key = torch.from_numpy(np.array([self.seed, counter], np.uint64).view(np.int64))
        device = self.network.device
        with torch.no_grad():
            drawn = self._drawn(torch.from_numpy(x).to(device), key.to(device))
            action, log_prob, value = (part.cpu().numpy() for part in drawn)
        return Act(action, log_prob, value)

    def _draw(self, x: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, ...]:
        distribution = self.distribution
        y = self.network.acting(x)
        log_prob = y.new_empty(len(x))
        if isinstance(distribution, DiagonalGaussian):
            action = y.new_empty((len(x), distribution.size))
            log_std, _ = distribution.log_std(self.network)
            mean, rest = y[:, : distribution.size], y[:, distribution.size : -1]
            sampling.gaussian_sample(
                mean, rest if log_std is None else log_std, action, log_prob, self.seed, key
            )
        else:
            sizes = getattr(distribution, "sizes", None)
            action = torch.empty((len(x), *distribution.shape), dtype=torch.int64, device=y.device)
            sampling.categorical_sample(y[:, :-1], action, log_prob, self.seed, key, sizes=sizes)
        return action, log_prob, y[:, -1].contiguous()


UPLOADED = (
    "obs", "action", "log_prob", "value", "next_value", "reward", "terminated", "truncated", "valid"
)  # fmt: skip


class DeviceRollout(Rollout):
    """Rollouts whose batches are tensors on the policy's device."""

    def next(self) -> RolloutBatch:
        """The next T steps; see ``Rollout.next``."""
        batch = super().next()
        arrays = {name: getattr(batch, name) for name in UPLOADED}
        device = self.policy.network.device  # type: ignore[attr-defined]
        uploaded: Any = {
            name: torch.from_numpy(x).to(device) for name, x in arrays.items() if x is not None
        }  # waited for: the arrays are the source's, and overwritten by its next batch
        return replace(batch, **uploaded)


class DeviceSamples(Samples):
    """Minibatches of samples gathered on the device; the order is the CPU's."""

    def epoch(
        self, batch: RolloutBatch, advantage: Any, return_: Any, rng: np.random.Generator
    ) -> Iterator[list[Any]]:
        """As ``Samples.epoch``."""
        tensors: list[Any] = list(fields_of(batch, advantage, return_))
        fields = [x.flatten(0, 1) for x in tensors]
        rows = np.arange(advantage.numel())
        if batch.valid is not None:
            rows = np.flatnonzero(to_host(batch.valid))
        order = torch.from_numpy(rows[rng.permutation(len(rows))]).to(advantage.device)
        for start in range(0, len(rows), self.minibatch_size):
            chosen = order[start : start + self.minibatch_size]
            yield [x.index_select(0, chosen) for x in fields]
