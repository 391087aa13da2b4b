"""Cases of the losses and distributions families: ours beside what users run today, on the same inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastrl.kernels.distributions import CategoricalSample, categorical_log_prob, categorical_sample
from fastrl.kernels.losses import normalize_advantage
from fastrl.kernels.losses.cpp import PPOCategorical

CLIP, VF, ENT = 0.2, 0.5, 0.01


def cleanrl_loss(y: Any, action: Any, old_log_prob: Any, advantage: Any, return_: Any) -> Any:
    policy = torch.distributions.Categorical(logits=y[:, :-1])
    ratio = (policy.log_prob(action) - old_log_prob).exp()
    policy_loss = torch.max(-advantage * ratio, -advantage * torch.clamp(ratio, 1 - CLIP, 1 + CLIP))
    value_loss = 0.5 * (y[:, -1] - return_) ** 2
    return policy_loss.mean() - ENT * policy.entropy().mean() + VF * value_loss.mean()


def raw_loss(y: Any, action: Any, old_log_prob: Any, advantage: Any, return_: Any) -> Any:
    """The same without the distribution object."""
    log_p = torch.log_softmax(y[:, :-1], dim=1)
    ratio = (log_p.gather(1, action[:, None])[:, 0] - old_log_prob).exp()
    policy_loss = torch.max(-advantage * ratio, -advantage * torch.clamp(ratio, 1 - CLIP, 1 + CLIP))
    entropy = -(log_p.exp() * log_p).sum(1)
    value_loss = 0.5 * (y[:, -1] - return_) ** 2
    return (policy_loss - ENT * entropy + VF * value_loss).mean()


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


CASES = {
    **{f"ppo gradient, B={b} A={a}": ppo(b, a) for b, a in [(64, 2), (256, 2), (256, 18), (32768, 2)]},
    **{f"normalize advantage, B={b}": normalize(b) for b in (256, 32768)},
    **{f"categorical sample, B={b} A={a}": sample(b, a) for b, a in [(8, 2), (8, 18), (1024, 2), (1024, 18)]},
}
"""Name: the fields of a benchmark case."""
