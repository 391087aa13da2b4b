"""Time of small networks beside torch: ``python bench/bench_network.py [--compile] [--only CASE]``.

Actor and critic are separate tanh networks of two hidden layers of 64, for CartPole, unless a case says
otherwise. Torch starts from the same parameters. Outputs, gradients and, for the update, the parameters after
three steps are compared before anything is timed. --compile adds torch.compile, which takes tens of seconds.
"""

import _harness

# isort: split
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn.functional import log_softmax

import fastrl
from fastrl.networks import Head, NativeNetwork, NetworkSpec

torch.set_num_threads(1)
COMPILE = "--compile" in sys.argv
INPUTS, ACTIONS, MINIBATCH = 4, 2, 256
WIDTHS, BATCHES = (64, 256), (8, 64, 512, 4096, 65536)
COEFFICIENTS = {"clip_coef": 0.2, "vf_coef": 0.5, "ent_coef": 0.01, "max_grad_norm": 0.5}
LEARNING_RATE = 1e-3
Function = Callable[[], Any]


def twin(network: NativeNetwork, head: str) -> nn.Sequential:
    """A head of the network, without a trunk, as a torch module with parameters of its own."""
    tensors = network.named_tensors()
    modules: list[nn.Module] = []
    for depth in (*range(len(network.spec.heads[0].hidden)), "out"):
        weight, bias = tensors[f"{head}.{depth}.weight"], tensors[f"{head}.{depth}.bias"]
        layer = nn.Linear(*weight.shape)
        layer.load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
        modules += [layer, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def flat(answer: Any) -> Any:
    """Ours as it is; a list of torch's weights and biases as the network's flat vector."""
    if isinstance(answer, np.ndarray):
        return answer
    return np.concatenate([x.detach().numpy().T.ravel() for x in answer])


def close(ours: Any, peer: Any, tolerance: float = 1e-5) -> bool:
    """Whether two vectors are equal up to a relative norm."""
    return bool(np.linalg.norm(ours - peer) <= tolerance * np.linalg.norm(peer))


def policy_call() -> _harness.Case:
    policy = fastrl.PPO("CartPole-v1", hidden=(64, 64), seed=0).policy
    obs = np.random.default_rng(1).normal(size=(8, INPUTS)).astype(np.float32)
    x = torch.from_numpy(obs)
    actor, critic = twin(policy.network, "policy"), twin(policy.network, "value")
    both = nn.ModuleList([actor, critic])

    class Act(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor, self.critic = both

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            log_probs = log_softmax(self.actor(x), 1)
            action = torch.multinomial(log_probs.exp(), 1)
            return action[:, 0], log_probs.gather(1, action)[:, 0], self.critic(x)[:, 0]

    def distribution() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            distribution = Categorical(logits=actor(x))
            action = distribution.sample()
            return action, distribution.log_prob(action), critic(x)[:, 0]

    def under_no_grad(module: Any) -> Function:
        def run() -> Any:
            with torch.no_grad():
                return module(x)

        return run

    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(Act().eval(), x, check_trace=False))
        table, value = log_softmax(actor(x), 1).numpy(), critic(x)[:, 0].numpy()

    def agree(_: Any, answer: Any) -> bool:
        """Draws differ; their log-probabilities and the values do not."""
        action, log_prob, values = (np.asarray(part) for part in answer)
        return close(log_prob, table[np.arange(8), action]) and close(values, value)

    peers = {
        "torch eager, Categorical": distribution,
        "torch eager, logits": under_no_grad(Act()),
        "torch jit trace + freeze": under_no_grad(traced),
    }
    if COMPILE:
        peers["torch.compile"] = under_no_grad(torch.compile(Act()))
    return _harness.Case(
        name="policy call, batch 8: action, log-probability, value",
        ours=lambda: policy.act(obs, 0),
        peers=peers,
        agree=agree,
    )


def raw_logits(logits: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    log_probs = log_softmax(logits, 1)
    entropy = -(log_probs.exp() * log_probs).sum(1)
    return log_probs.gather(1, action[:, None])[:, 0], entropy


def categorical(logits: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    distribution = Categorical(logits=logits)
    return distribution.log_prob(action), distribution.entropy()


class TorchUpdate:
    """PPO's minibatch update as CleanRL writes it."""

    def __init__(
        self, network: NativeNetwork, data: list[Any], policy: Any, compiled: bool = False, **adam: Any
    ):
        self.actor, self.critic = twin(network, "policy"), twin(network, "value")
        self.parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.adam = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, eps=1e-5, **adam)
        self.data = [torch.from_numpy(x) for x in data]
        self.policy = policy
        self.loss = torch.compile(self._loss) if compiled else self._loss

    def _loss(self, obs, action, old_log_prob, advantage, return_):  # type: ignore[no-untyped-def]
        clip = COEFFICIENTS["clip_coef"]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_prob, entropy = self.policy(self.actor(obs), action)
        ratio = (log_prob - old_log_prob).exp()
        surrogate = torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
        value_loss = 0.5 * (self.critic(obs)[:, 0] - return_).square().mean()
        bonus = COEFFICIENTS["ent_coef"] * entropy.mean()
        return -surrogate.mean() - bonus + COEFFICIENTS["vf_coef"] * value_loss

    def __call__(self) -> torch.Tensor:
        self.adam.zero_grad()
        self.loss(*self.data).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, COEFFICIENTS["max_grad_norm"])
        self.adam.step()
        return norm


class OurUpdate:
    """What `PPO.learn` runs for every minibatch."""

    def __init__(self, data: list[Any]) -> None:
        self.agent = fastrl.PPO("CartPole-v1", seed=0, minibatch_size=MINIBATCH, **COEFFICIENTS)
        self.network = self.agent.policy.network
        self.data = [*data, data[-1]]  # the old values, unused without value clipping
        self.agent.optimizer.learning_rate = LEARNING_RATE

    def __call__(self) -> float:
        return self.agent.minibatch(*self.data)


def minibatch_update() -> _harness.Case:
    rng = np.random.default_rng(0)
    data = [
        rng.normal(size=(MINIBATCH, INPUTS)).astype(np.float32),
        rng.integers(0, ACTIONS, MINIBATCH),
        np.log(rng.uniform(0.3, 0.7, MINIBATCH)).astype(np.float32),
        *rng.normal(size=(2, MINIBATCH)).astype(np.float32),
    ]
    kinds: dict[str, dict[str, Any]] = {
        "torch eager, Categorical, Adam": {"policy": categorical},
        "torch eager, logits, Adam": {"policy": raw_logits},
        "torch eager, logits, fused Adam": {"policy": raw_logits, "fused": True},
    }
    if COMPILE:
        kinds["torch.compile loss, fused Adam"] = {"policy": raw_logits, "fused": True, "compiled": True}
    start = OurUpdate(data).network
    trained: dict[str, Any] = {}
    for name, kind in kinds.items():
        ours, peer = OurUpdate(data), TorchUpdate(start, data, **kind)
        for _ in range(3):
            ours(), peer()
        trained[name] = close(ours.network.params - start.params, flat(peer.parameters) - start.params, 1e-3)
    if not all(trained.values()):
        raise SystemExit(f"the parameters after three updates differ: {trained}")
    return _harness.Case(
        name=f"PPO minibatch update, batch {MINIBATCH}: two networks, clipped loss, norm clip, Adam",
        ours=OurUpdate(data),
        peers={name: TorchUpdate(start, data, **kind) for name, kind in kinds.items()},
        agree=lambda ours, peer: abs(ours - float(peer)) <= 1e-4 * ours,  # the gradient's norm
    )


def passes(width: int, batch: int) -> Iterator[_harness.Case]:
    spec = NetworkSpec(inputs=INPUTS, heads=(Head(name="policy", outputs=ACTIONS, hidden=(width, width)),))
    network = NativeNetwork(spec, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(batch, INPUTS)).astype(np.float32)
    dy = rng.normal(size=(batch, ACTIONS)).astype(np.float32)
    module, x_torch, dy_torch = twin(network, "policy"), torch.from_numpy(x), torch.from_numpy(dy)

    def infer(module: Any) -> Function:
        def run() -> Any:
            with torch.no_grad():
                return module(x_torch)

        return run

    def ours_both() -> Any:
        network.zero_grad()
        _, tape = network.forward(x)
        network.backward(tape, dy)
        return network.grad

    def torch_both() -> list[Any]:
        module.zero_grad()
        module(x_torch).backward(dy_torch)
        return [parameter.grad for parameter in module.parameters()]

    frozen = torch.jit.freeze(torch.jit.trace(module.eval(), x_torch))
    size = f"{width}x{width}, batch {batch}"
    yield _harness.Case(
        name=f"forward, {size}",
        ours=lambda: network.infer(x),
        peers={"torch eager": infer(module), "torch jit trace + freeze": infer(frozen)},
        agree=lambda ours, peer: close(np.asarray(ours), np.asarray(peer)),
    )
    yield _harness.Case(
        name=f"forward and backward to the parameters, {size}",
        ours=ours_both,
        peers={"torch eager": torch_both},
        agree=lambda ours, peer: close(ours, flat(peer), 1e-4),
    )


def cases() -> Iterator[_harness.Case]:
    yield policy_call()
    yield minibatch_update()
    for width in WIDTHS:
        for batch in BATCHES:
            yield from passes(width, batch)


if __name__ == "__main__":
    if COMPILE:
        sys.argv.remove("--compile")
    _harness.main("network", cases, ["torch"])
