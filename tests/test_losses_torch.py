"""PPO's losses and torch: the references and the operators against autograd, eager and compiled."""

from typing import Any

import numpy as np
import pytest

from fastrl.kernels.losses import (
    PPO_STATS,
    PPOGaussianLoss,
    PPOLoss,
    ppo_categorical,
    ppo_gaussian,
    ppo_multi_categorical,
)

torch = pytest.importorskip("torch")

OPS = {
    "categorical": ppo_categorical,
    "multi": ppo_multi_categorical,
    "gaussian": ppo_gaussian,
    "gaussian shared": ppo_gaussian,
}
OPTIONS = {
    "plain": {"clip_coef": 0.2},
    "full": {"clip_coef": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "kl_coef": 0.4, "clip_value": 0.3},
}
DEFAULTS = {"vf_coef": 0.5, "ent_coef": 0.0, "kl_coef": 0.0}
SIZES = (2, 4, 1)
POLICIES = pytest.mark.parametrize("policy", OPS)
VARIANTS = pytest.mark.parametrize("variant", OPTIONS)


def arguments_of(policy: str, variant: str, batch: int, dtype: Any = torch.float32) -> dict[str, Any]:
    """Tensors on both sides of each clipping; the policy's and the value want a gradient."""
    torch.manual_seed(batch)
    full = variant == "full"
    value = torch.randn(batch, dtype=dtype)
    if "gaussian" in policy:
        mean = torch.randn(batch, 3, dtype=dtype)
        log_std = torch.rand(3 if "shared" in policy else (batch, 3), dtype=dtype) - 0.5
        action = mean + log_std.exp() * torch.randn(batch, 3, dtype=dtype)
        x = {"mean": mean, "log_std": log_std, "value": value}
    else:
        sizes = SIZES if policy == "multi" else (5,)
        logits = torch.randn(batch, sum(sizes), dtype=dtype)
        choices = [torch.randint(size, (batch, 1)) for size in sizes]
        x = {"logits": logits, "value": value}
        if full:
            parts = zip(sizes, choices, strict=True)
            masks = [(torch.rand(batch, size) < 0.6).scatter(1, chosen, True) for size, chosen in parts]
            x["action_mask"] = torch.cat(masks, 1)
        action = torch.cat(choices, 1) if policy == "multi" else choices[0][:, 0]
        if policy == "multi":
            x["sizes"] = SIZES
    x["action"] = action
    log_prob, _ = log_prob_and_entropy(x)
    x["old_log_prob"] = log_prob + 0.4 * torch.randn(batch, dtype=dtype)
    x["advantage"] = torch.randn(batch, dtype=dtype)
    x["return_"] = value + torch.randn(batch, dtype=dtype)
    if full:
        x["old_value"] = value + 0.5 * torch.randn(batch, dtype=dtype)
    for leaf in leaves(x):
        leaf.requires_grad_()
    return x | OPTIONS[variant]


def leaves(x: dict[str, Any]) -> list[Any]:
    return [x[name] for name in ("logits", "mean", "log_std", "value") if name in x]


def log_prob_and_entropy(x: dict[str, Any]) -> tuple[Any, Any]:
    if "mean" in x:
        std = x["log_std"].exp().expand(x["mean"].shape)
        normal = torch.distributions.Independent(torch.distributions.Normal(x["mean"], std), 1)
        return normal.log_prob(x["action"]), normal.entropy()
    logits, sizes = x["logits"], x.get("sizes", (x["logits"].shape[1],))
    if "action_mask" in x:
        logits = logits.masked_fill(~x["action_mask"], torch.finfo(logits.dtype).min)
    actions = x["action"].reshape(len(logits), -1).T
    parts = [torch.distributions.Categorical(logits=part) for part in logits.split(sizes, 1)]
    log_prob = sum(part.log_prob(action) for part, action in zip(parts, actions, strict=True))
    return log_prob, sum(part.entropy() for part in parts)


def ppo_in_torch(x: dict[str, Any]) -> Any:
    """The loss per sample as CleanRL writes it."""
    x = DEFAULTS | x
    log_prob, entropy = log_prob_and_entropy(x)
    log_ratio = log_prob - x["old_log_prob"]
    ratio = log_ratio.exp()
    clipped = torch.clamp(ratio, 1 - x["clip_coef"], 1 + x["clip_coef"])
    policy_loss = torch.max(-x["advantage"] * ratio, -x["advantage"] * clipped)
    value_loss = (x["value"] - x["return_"]) ** 2
    if "old_value" in x:
        step = torch.clamp(x["value"] - x["old_value"], -x["clip_value"], x["clip_value"])
        value_loss = torch.max(value_loss, (x["old_value"] + step - x["return_"]) ** 2)
    kl = (ratio - 1) - log_ratio
    return policy_loss + x["vf_coef"] * 0.5 * value_loss - x["ent_coef"] * entropy + x["kl_coef"] * kl


@VARIANTS
@POLICIES
def test_the_reference_equals_autograd_in_float64(policy: str, variant: str) -> None:
    from fastrl.kernels.losses import reference

    x = arguments_of(policy, variant, 300, torch.float64)
    want = ppo_in_torch(x)
    arrays = {name: v.detach().numpy() if isinstance(v, torch.Tensor) else v for name, v in x.items()}
    optional = dict.fromkeys(("old_value", "clip_value", "scale", "stats"))
    if "mean" not in x:
        optional["action_mask"] = None
    kind = PPOGaussianLoss if "mean" in x else PPOLoss
    policy_leaves = leaves(x)[:-1]
    got = kind(np.empty(300), *(np.empty(leaf.shape) for leaf in policy_leaves), np.empty(300))
    getattr(reference, OPS[policy].__name__)(**optional | DEFAULTS | arrays, out=got)
    np.testing.assert_allclose(got.loss, want.detach(), atol=1e-12)
    for gradient, expected in zip(got[1:], torch.autograd.grad(want.mean(), leaves(x)), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-13)


@VARIANTS
@POLICIES
@pytest.mark.parametrize("compiled", [False, True])
def test_the_loss_is_differentiable(policy: str, variant: str, compiled: bool) -> None:
    x = arguments_of(policy, variant, 50)
    eager_op = OPS[policy]
    op = torch.compile(eager_op, backend="aot_eager", fullgraph=True) if compiled else eager_op
    weight = torch.linspace(-1, 1, 50)
    want = ppo_in_torch(x)
    sum_gradients = torch.autograd.grad(want.sum(), leaves(x), retain_graph=True)
    want_gradients = torch.autograd.grad((want * weight).sum(), leaves(x))
    stats = torch.zeros(len(PPO_STATS), dtype=torch.float64)
    for scale in (None, 0.3):
        got = op(**x, stats=stats, scale=scale)
        torch.testing.assert_close(got.loss, want, rtol=1e-5, atol=1e-5)
        gradients = torch.autograd.grad((got.loss * weight).sum(), leaves(x))
        torch.testing.assert_close(gradients, want_gradients, rtol=1e-4, atol=2e-5)
        for gradient, sum_gradient in zip(got[1:], sum_gradients, strict=True):
            assert not gradient.requires_grad
            torch.testing.assert_close(gradient, sum_gradient * (scale or 1 / 50), rtol=1e-4, atol=2e-5)
    eager_stats = torch.zeros(len(PPO_STATS), dtype=torch.float64)
    eager = eager_op(**x, stats=eager_stats)
    assert torch.equal(eager.loss, got.loss)
    assert torch.equal(2 * eager_stats, stats)


@POLICIES
@pytest.mark.filterwarnings("ignore:.*not a double precision")
def test_gradcheck(policy: str) -> None:
    x = arguments_of(policy, "full", 6)
    names = [name for name in ("logits", "mean", "log_std", "value") if name in x]

    def loss(*inputs: Any) -> Any:
        return OPS[policy](**x | dict(zip(names, inputs, strict=True))).loss

    assert torch.autograd.gradcheck(loss, leaves(x), eps=1e-2, atol=4e-3)


@POLICIES
def test_the_operator_is_well_formed(policy: str) -> None:
    x = arguments_of(policy, "full", 7)
    OPS[policy](**x)  # which registers it
    samples = ("action", "old_log_prob", "advantage", "return_", "old_value", "action_mask", "sizes")
    options = ("clip_coef", "vf_coef", "ent_coef", "kl_coef", "clip_value")
    inputs = [*leaves(x), *(x[name] for name in (*samples, *options) if name in x), None, None]
    inputs = [list(v) if isinstance(v, tuple) else v for v in inputs]
    torch.library.opcheck(getattr(torch.ops.fastrl, OPS[policy].__name__), tuple(inputs))


@POLICIES
def test_what_it_cannot_do(policy: str) -> None:
    x = arguments_of(policy, "full", 5)
    op = OPS[policy]
    loss = op(**x).loss.sum()
    with pytest.raises(RuntimeError, match=f"{op.__name__}: second derivatives are not implemented"):
        torch.autograd.grad(loss, x["value"], create_graph=True)
    with pytest.raises(ValueError, match=f"{op.__name__}: out takes NumPy arrays only"):
        op(**x, out=op(**x))
    constants = ["old_log_prob", "advantage", "return_", "old_value"]
    for name in constants + ["action"] * ("mean" in x):
        with pytest.raises(ValueError, match=f"{op.__name__}: {name} must not require a gradient"):
            op(**x | {name: x[name].clone().requires_grad_()})
    elsewhere = {name: v.to("meta") if isinstance(v, torch.Tensor) else v for name, v in x.items()}
    with pytest.raises(NotImplementedError, match=f"no backend runs {op.__name__} on meta"):
        op(**elsewhere)
    first = "mean" if "mean" in x else "logits"
    with pytest.raises(TypeError, match=rf"{op.__name__}: {first} must be float32 \[B, A\], got float64"):
        op(**x | {first: x[first].double()})
