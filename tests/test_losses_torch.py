"""PPO's loss and torch: the reference and the operator against autograd, eager and compiled."""

from typing import Any

import numpy as np
import pytest

from fastrl.kernels.losses import PPO_STATS, PPOLoss, ppo_categorical

torch = pytest.importorskip("torch")

OPTIONS = {
    "plain": {"clip_coef": 0.2},
    "full": {"clip_coef": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "kl_coef": 0.4, "clip_value": 0.3},
}
VARIANTS = pytest.mark.parametrize("variant", OPTIONS)


def arguments_of(variant: str, batch: int, actions: int, dtype: Any = torch.float32) -> dict[str, Any]:
    """Tensors on both sides of each clipping; logits and value want a gradient."""
    torch.manual_seed(batch)
    logits, value = torch.randn(batch, actions, dtype=dtype), torch.randn(batch, dtype=dtype)
    action = torch.randint(actions, (batch,))
    x = {"logits": logits, "value": value, "action": action}
    x["old_log_prob"] = logits.log_softmax(1)[torch.arange(batch), action] + 0.4 * torch.randn(batch)
    x["advantage"] = torch.randn(batch, dtype=dtype)
    x["return_"] = value + torch.randn(batch)
    if variant == "full":
        x["old_value"] = value + 0.5 * torch.randn(batch)
        x["action_mask"] = (torch.rand(batch, actions) < 0.6).scatter(1, action[:, None], True)
    logits.requires_grad_()
    value.requires_grad_()
    return x | OPTIONS[variant]


def ppo_in_torch(x: dict[str, Any]) -> Any:
    """The loss per sample as CleanRL writes it."""
    defaults = {
        "vf_coef": 0.5,
        "ent_coef": 0.0,
        "kl_coef": 0.0,
        "action_mask": torch.ones_like(x["logits"]) > 0,
    }
    x = defaults | x
    least = torch.finfo(x["logits"].dtype).min
    policy = torch.distributions.Categorical(logits=x["logits"].masked_fill(~x["action_mask"], least))
    log_ratio = policy.log_prob(x["action"]) - x["old_log_prob"]
    ratio = log_ratio.exp()
    clipped = torch.clamp(ratio, 1 - x["clip_coef"], 1 + x["clip_coef"])
    policy_loss = torch.max(-x["advantage"] * ratio, -x["advantage"] * clipped)
    value_loss = (x["value"] - x["return_"]) ** 2
    if "old_value" in x:
        step = torch.clamp(x["value"] - x["old_value"], -x["clip_value"], x["clip_value"])
        value_loss = torch.max(value_loss, (x["old_value"] + step - x["return_"]) ** 2)
    kl = (ratio - 1) - log_ratio
    return (
        policy_loss + x["vf_coef"] * 0.5 * value_loss - x["ent_coef"] * policy.entropy() + x["kl_coef"] * kl
    )


def gradients(loss: Any, x: dict[str, Any]) -> tuple[Any, Any]:
    d_logits, d_value = torch.autograd.grad(loss, (x["logits"], x["value"]))
    return d_logits, d_value


@VARIANTS
def test_the_reference_equals_autograd_in_float64(variant: str) -> None:
    from fastrl.kernels.losses import reference

    x = arguments_of(variant, 300, 5, torch.float64)
    want = ppo_in_torch(x)
    arrays = {name: v.detach().numpy() if isinstance(v, torch.Tensor) else v for name, v in x.items()}
    optional = dict.fromkeys(("old_value", "action_mask", "clip_value", "scale", "stats"))
    defaults = {"vf_coef": 0.5, "ent_coef": 0.0, "kl_coef": 0.0}
    got = PPOLoss(np.empty(300), np.empty((300, 5)), np.empty(300))
    reference.ppo_categorical(**optional | defaults | arrays, out=got)
    d_logits, d_value = gradients(want.mean(), x)
    np.testing.assert_allclose(got.loss, want.detach(), atol=1e-12)
    np.testing.assert_allclose(got.d_logits, d_logits, atol=1e-14)
    np.testing.assert_allclose(got.d_value, d_value, atol=1e-14)


@VARIANTS
@pytest.mark.parametrize("compiled", [False, True])
def test_the_loss_is_differentiable(variant: str, compiled: bool) -> None:
    x = arguments_of(variant, 50, 3)
    op = torch.compile(ppo_categorical, backend="aot_eager", fullgraph=True) if compiled else ppo_categorical
    weight = torch.linspace(-1, 1, 50)
    want = ppo_in_torch(x)
    (sum_gradient,) = torch.autograd.grad(want.sum(), x["logits"], retain_graph=True)
    want_gradients = gradients((want * weight).sum(), x)
    stats = torch.zeros(len(PPO_STATS), dtype=torch.float64)
    for scale in (None, 0.3):
        got = op(**x, stats=stats, scale=scale)
        torch.testing.assert_close(got.loss, want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            gradients((got.loss * weight).sum(), x), want_gradients, rtol=1e-4, atol=1e-6
        )
        assert not got.d_logits.requires_grad
        torch.testing.assert_close(got.d_logits, sum_gradient * (scale or 1 / 50), rtol=1e-4, atol=1e-6)
    eager_stats = torch.zeros(len(PPO_STATS), dtype=torch.float64)
    eager = ppo_categorical(**x, stats=eager_stats)
    assert torch.equal(eager.loss, got.loss)
    assert torch.equal(2 * eager_stats, stats)


@pytest.mark.filterwarnings("ignore:.*not a double precision")
def test_gradcheck() -> None:
    x = arguments_of("full", 6, 3)

    def loss(logits: Any, value: Any) -> Any:
        return ppo_categorical(**x | {"logits": logits, "value": value}).loss

    assert torch.autograd.gradcheck(loss, (x["logits"], x["value"]), eps=1e-2, atol=2e-3)


def test_the_operator_is_well_formed() -> None:
    x = arguments_of("full", 7, 3)
    arrays = ("logits", "value", "action", "old_log_prob", "advantage", "return_", "old_value", "action_mask")
    options = ("clip_coef", "vf_coef", "ent_coef", "kl_coef", "clip_value")
    inputs = [x[name] for name in (*arrays, *options)]
    torch.library.opcheck(torch.ops.fastrl.ppo_categorical, (*inputs, None, None))


def test_what_it_cannot_do() -> None:
    x = arguments_of("full", 5, 3)
    loss = ppo_categorical(**x).loss.sum()
    with pytest.raises(RuntimeError, match="ppo_categorical: second derivatives are not implemented"):
        torch.autograd.grad(loss, x["logits"], create_graph=True)
    with pytest.raises(ValueError, match="ppo_categorical: out takes NumPy arrays only"):
        ppo_categorical(**x, out=PPOLoss(x["value"], x["logits"], x["value"]))
    for name in ("old_log_prob", "advantage", "return_", "old_value"):
        with pytest.raises(ValueError, match=f"ppo_categorical: {name} must not require a gradient"):
            ppo_categorical(**x | {name: x[name].clone().requires_grad_()})
    elsewhere = {name: v.to("meta") if isinstance(v, torch.Tensor) else v for name, v in x.items()}
    with pytest.raises(NotImplementedError, match="no backend runs ppo_categorical on meta"):
        ppo_categorical(**elsewhere)
    with pytest.raises(TypeError, match=r"ppo_categorical: logits must be float32 \[B, A\], got float64"):
        ppo_categorical(**x | {"logits": x["logits"].double()})
