"""Time of the losses and distributions beside what users run today: ``python bench/bench_losses.py``."""

import _harness

# isort: split
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastrl.kernels.distributions import (
    CategoricalSample,
    GaussianSample,
    categorical_log_prob,
    categorical_sample,
    gaussian_log_prob,
    gaussian_sample,
    multi_categorical_log_prob,
)
from fastrl.kernels.losses import normalize_advantage
from fastrl.kernels.losses.cpp import PPOCategorical, PPOGaussian, PPOMultiCategorical

CLIP, VF, ENT = 0.2, 0.5, 0.01


def torch_ppo(
    log_prob: Any, entropy: Any, value: Any, old_log_prob: Any, advantage: Any, return_: Any
) -> Any:
    ratio = (log_prob - old_log_prob).exp()
    policy_loss = torch.max(-advantage * ratio, -advantage * torch.clamp(ratio, 1 - CLIP, 1 + CLIP))
    value_loss = 0.5 * (value - return_) ** 2
    return policy_loss.mean() - ENT * entropy.mean() + VF * value_loss.mean()


def cleanrl_loss(y: Any, action: Any, *rest: Any) -> Any:
    policy = torch.distributions.Categorical(logits=y[:, :-1])
    return torch_ppo(policy.log_prob(action), policy.entropy(), y[:, -1], *rest)


def cleanrl_multi_loss(sizes: tuple[int, ...], y: Any, action: Any, *rest: Any) -> Any:
    parts = [torch.distributions.Categorical(logits=part) for part in y[:, :-1].split(sizes, 1)]
    log_prob = torch.stack([part.log_prob(a) for part, a in zip(parts, action.T, strict=True)]).sum(0)
    return torch_ppo(log_prob, torch.stack([part.entropy() for part in parts]).sum(0), y[:, -1], *rest)


def cleanrl_gaussian_loss(y: Any, log_std: Any, action: Any, *rest: Any) -> Any:
    mean = y[:, :-1]
    policy = torch.distributions.Normal(mean, log_std.expand_as(mean).exp())
    return torch_ppo(policy.log_prob(action).sum(1), policy.entropy().sum(1), y[:, -1], *rest)


def raw_loss(y: Any, action: Any, *rest: Any) -> Any:
    """The same without the distribution object."""
    log_p = torch.log_softmax(y[:, :-1], dim=1)
    entropy = -(log_p.exp() * log_p).sum(1)
    return torch_ppo(log_p.gather(1, action[:, None])[:, 0], entropy, y[:, -1], *rest)


def numpy_gradient(
    y: NDArray[Any], action: Any, old_log_prob: Any, advantage: Any, return_: Any
) -> NDArray[Any]:
    batch = len(y)
    row = np.arange(batch)
    z = y[:, :-1] - y[:, :-1].max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    p = np.exp(log_p)
    ratio = np.exp(log_p[row, action] - old_log_prob)
    flows = advantage * np.clip(ratio, 1 - CLIP, 1 + CLIP) >= advantage * ratio
    d_log_prob = -advantage * ratio * flows / batch
    entropy = -(p * log_p).sum(1, keepdims=True)
    dy = np.empty_like(y)
    dy[:, :-1] = p * (ENT / batch * (log_p + entropy) - d_log_prob[:, None])
    dy[row, action] += d_log_prob
    dy[:, -1] = (y[:, -1] - return_) * (VF / batch)
    return dy


def ppo(batch: int, actions: int) -> dict[str, Any]:
    """Gradient of the mean loss by the network's output [B, A + 1]."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((batch, actions + 1), np.float32)
    action = rng.integers(actions, size=batch)
    old_log_prob = categorical_log_prob(y[:, :actions], action) + 0.1 * rng.standard_normal(batch, np.float32)
    rest = (action, old_log_prob, *rng.standard_normal((2, batch), np.float32))
    dy, stats = np.empty_like(y), np.zeros(5)
    kernel = PPOCategorical(clip_coef=CLIP, vf_coef=VF, ent_coef=ENT)
    tensors = [torch.from_numpy(x) for x in (y, *rest)]
    leaf = tensors[0].clone().requires_grad_()

    def ours() -> NDArray[Any]:
        kernel(y, dy, *rest, stats)
        return dy

    def autograd(loss: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(loss(leaf, *tensors[1:]), leaf)[0].numpy()

    return {
        "ours": ours,
        "peers": {
            "torch, as CleanRL": autograd(cleanrl_loss),
            "torch, raw logits": autograd(raw_loss),
            "torch.compile, raw logits": autograd(torch.compile(raw_loss)),
            "numpy": lambda: numpy_gradient(y, *rest),
        },
        "agree": lambda a, b: np.allclose(a, b, rtol=1e-4, atol=1e-6 / batch),
        "bytes": 2 * y.nbytes + sum(x.nbytes for x in rest),
    }


def ppo_multi(batch: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Gradient of the mean loss by the network's output [B, sum(sizes) + 1]."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((batch, sum(sizes) + 1), np.float32)
    action = rng.integers(sizes, size=(batch, len(sizes)))
    old_log_prob = multi_categorical_log_prob(y[:, :-1], sizes, action)
    old_log_prob += np.float32(0.1) * rng.standard_normal(batch, np.float32)
    rest = (action, old_log_prob, *rng.standard_normal((2, batch), np.float32))
    dy, stats = np.empty_like(y), np.zeros(5)
    kernel = PPOMultiCategorical(sizes, clip_coef=CLIP, vf_coef=VF, ent_coef=ENT)
    tensors = [torch.from_numpy(x) for x in rest]
    leaf = torch.from_numpy(y).clone().requires_grad_()

    def ours() -> NDArray[Any]:
        kernel(y, dy, *rest, stats)
        return dy

    def by_torch() -> NDArray[Any]:
        return torch.autograd.grad(cleanrl_multi_loss(sizes, leaf, *tensors), leaf)[0].numpy()

    return {
        "ours": ours,
        "peers": {"torch, as CleanRL": by_torch},
        "agree": lambda a, b: np.allclose(a, b, rtol=1e-4, atol=1e-6 / batch),
        "bytes": 2 * y.nbytes + sum(x.nbytes for x in rest),
    }


def ppo_gaussian(batch: int, actions: int) -> dict[str, Any]:
    """Gradient of the mean loss by the network's output [B, A + 1] and a state-independent log_std [A]."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((batch, actions + 1), np.float32)
    log_std = 0.3 * rng.standard_normal(actions, np.float32)
    action = y[:, :-1] + np.exp(log_std) * rng.standard_normal((batch, actions), np.float32)
    old_log_prob = gaussian_log_prob(y[:, :-1], log_std, action)
    old_log_prob += np.float32(0.1) * rng.standard_normal(batch, np.float32)
    rest = (action, old_log_prob, *rng.standard_normal((2, batch), np.float32))
    dy, d_log_std, stats = np.empty_like(y), np.zeros_like(log_std), np.zeros(5)
    kernel = PPOGaussian(clip_coef=CLIP, vf_coef=VF, ent_coef=ENT)
    leaves = [torch.from_numpy(x).clone().requires_grad_() for x in (y, log_std)]
    tensors = [torch.from_numpy(x) for x in rest]

    def ours() -> tuple[NDArray[Any], NDArray[Any]]:
        d_log_std[:] = 0
        kernel(y, dy, log_std, d_log_std, *rest, stats)
        return dy, d_log_std

    def autograd(loss: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(loss(*leaves, *tensors), leaves)

    return {
        "ours": ours,
        "peers": {
            "torch, as CleanRL": autograd(cleanrl_gaussian_loss),
            "torch.compile": autograd(torch.compile(cleanrl_gaussian_loss)),
        },
        "agree": lambda a, b: all(
            np.allclose(x, y, rtol=1e-4, atol=1e-5 / np.sqrt(batch)) for x, y in zip(a, b, strict=True)
        ),
        "bytes": 2 * y.nbytes + sum(x.nbytes for x in rest),
    }


def normalize(batch: int) -> dict[str, Any]:
    x = np.random.default_rng(0).standard_normal(batch, np.float32)
    out, tensor = np.empty_like(x), torch.from_numpy(x)
    return {
        "ours": lambda: normalize_advantage(x, out=out),
        "peers": {
            "torch": lambda: ((tensor - tensor.mean()) / (tensor.std() + 1e-8)).numpy(),
            "numpy": lambda: (x - x.mean()) / (x.std(ddof=1) + 1e-8),
        },
        "agree": lambda a, b: np.allclose(a, b, atol=1e-5),
        "bytes": 2 * x.nbytes,
    }


def sample(batch: int, actions: int) -> dict[str, Any]:
    """Actions and their log-probability; draws differ, so a peer's log-probability of its own is checked."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((batch, actions), np.float32)
    tensor = torch.from_numpy(logits)
    out = CategoricalSample(np.empty(batch, np.int64), np.empty(batch, np.float32))

    def by_torch() -> tuple[Any, Any]:
        policy = torch.distributions.Categorical(logits=tensor)
        action = policy.sample()
        return action.numpy(), policy.log_prob(action).numpy()

    def by_gumbel() -> tuple[Any, Any]:
        action = (logits + rng.gumbel(size=logits.shape)).argmax(1)
        z = logits - logits.max(1, keepdims=True)
        return action, z[np.arange(batch), action] - np.log(np.exp(z).sum(1))

    return {
        "ours": lambda: categorical_sample(logits, seed=1, counter=2, out=out),
        "peers": {"torch Categorical": by_torch, "numpy, Gumbel": by_gumbel},
        "agree": lambda _, b: np.allclose(categorical_log_prob(logits, b[0]), b[1], atol=1e-5),
        "bytes": logits.nbytes + 12 * batch,
    }


def sample_gaussian(batch: int, actions: int) -> dict[str, Any]:
    """Actions and their log-probability; draws differ, so a peer's log-probability of its own is checked."""
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((batch, actions), np.float32)
    log_std = np.full(actions, -0.5, np.float32)
    tensors = torch.from_numpy(mean), torch.from_numpy(log_std)
    out = GaussianSample(np.empty_like(mean), np.empty(batch, np.float32))

    def by_torch() -> tuple[Any, Any]:
        policy = torch.distributions.Normal(tensors[0], tensors[1].expand_as(tensors[0]).exp())
        action = policy.sample()
        return action.numpy(), policy.log_prob(action).sum(1).numpy()

    def by_numpy() -> tuple[Any, Any]:
        noise = rng.standard_normal(mean.shape, np.float32)
        log_prob = -0.5 * (noise**2).sum(1) - log_std.sum() - 0.5 * np.log(2 * np.pi) * actions
        return mean + np.exp(log_std) * noise, log_prob

    return {
        "ours": lambda: gaussian_sample(mean, log_std, seed=1, counter=2, out=out),
        "peers": {"torch Normal": by_torch, "numpy": by_numpy},
        "agree": lambda _, b: np.allclose(gaussian_log_prob(mean, log_std, b[0]), b[1], atol=1e-4),
        "bytes": 2 * mean.nbytes + 4 * batch,
    }


def cases() -> Iterator[_harness.Case]:
    torch.set_num_threads(1)
    for batch, actions in [(64, 2), (256, 2), (256, 18), (32768, 2)]:
        yield _harness.Case(name=f"ppo gradient, B={batch} A={actions}", **ppo(batch, actions))
    for batch, sizes in [(256, (3, 3, 3)), (256, (2,) * 8)]:
        yield _harness.Case(name=f"ppo multi gradient, B={batch} sizes={sizes}", **ppo_multi(batch, sizes))
    for batch, actions in [(64, 3), (256, 1), (256, 8), (32768, 6)]:
        yield _harness.Case(
            name=f"ppo gaussian gradient, B={batch} A={actions}", **ppo_gaussian(batch, actions)
        )
    for batch in (256, 32768):
        yield _harness.Case(name=f"normalize advantage, B={batch}", **normalize(batch))
    for batch, actions in [(8, 2), (8, 18), (1024, 2), (1024, 18)]:
        yield _harness.Case(name=f"categorical sample, B={batch} A={actions}", **sample(batch, actions))
    for batch, actions in [(8, 1), (8, 6), (1024, 6)]:
        yield _harness.Case(name=f"gaussian sample, B={batch} A={actions}", **sample_gaussian(batch, actions))


if __name__ == "__main__":
    _harness.main("losses", cases, ["torch"])
