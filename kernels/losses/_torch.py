"""The losses as torch operators: called directly, or as a ``torch.library`` operator while compiling."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastrl.kernels import losses
from fastrl.kernels._dispatch import resolve
from fastrl.kernels.losses import PPO_STATS

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]


def ppo_categorical(
    logits: Tensor,
    value: Tensor,
    action: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    return_: Tensor,
    old_value: Tensor | None,
    action_mask: Tensor | None,
    stats: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, d_logits and d_value; the loss is differentiable by logits and value."""
    constants = {
        "old_log_prob": old_log_prob,
        "advantage": advantage,
        "return_": return_,
        "old_value": old_value,
    }
    for name, x in constants.items():
        if x is not None and x.requires_grad:
            raise ValueError(
                f"ppo_categorical: {name} must not require a gradient, which would be lost: detach it"
            )
    run: Callable[..., Outputs] = (
        torch.ops.fastrl.ppo_categorical if torch.compiler.is_compiling() else _PPOCategorical.apply
    )
    loss, d_logits, d_value, sums = run(
        *(logits, value, action, old_log_prob, advantage, return_, old_value, action_mask), *options
    )
    if stats is not None:
        stats += sums
    return loss, d_logits, d_value


def _forward(
    logits: Tensor,
    value: Tensor,
    action: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    return_: Tensor,
    old_value: Tensor | None,
    action_mask: Tensor | None,
    clip_coef: float,
    vf_coef: float,
    ent_coef: float,
    kl_coef: float,
    clip_value: float | None,
    scale: float | None,
    backend: str | None,
) -> Outputs:
    resolve(
        "losses", "ppo_categorical", logits.device.type, backend
    )  # before .numpy() refuses another device
    sums = torch.zeros(len(PPO_STATS), dtype=torch.float64)
    constants = [x.numpy() for x in (action, old_log_prob, advantage, return_)]
    result = losses.ppo_categorical(
        logits.detach().numpy(),
        value.detach().numpy(),
        *constants,
        clip_coef=clip_coef,
        vf_coef=vf_coef,
        ent_coef=ent_coef,
        kl_coef=kl_coef,
        clip_value=clip_value,
        old_value=None if old_value is None else old_value.numpy(),
        action_mask=None if action_mask is None else action_mask.numpy(),
        scale=scale,
        stats=sums.numpy(),
        backend=backend,
    )
    loss, d_logits, d_value = map(torch.from_numpy, result)
    return loss, d_logits, d_value, sums


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    _, d_logits, d_value, sums = output
    scale, batch = inputs[13], inputs[0].shape[0]
    ctx.unscale = max(batch, 1) if scale is None else 1.0 / scale
    ctx.save_for_backward(d_logits, d_value)
    ctx.mark_non_differentiable(d_logits, d_value, sums)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if (
        torch.is_grad_enabled()
    ):  # create_graph=True: d_logits is a constant here, so its derivative would be wrong
        raise RuntimeError("ppo_categorical: second derivatives are not implemented (create_graph=True)")
    if grad is None:
        return (None,) * 15
    d_logits, d_value = ctx.saved_tensors
    weight = grad * ctx.unscale
    return weight[:, None] * d_logits, weight * d_value, *(None,) * 13


class _PPOCategorical(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Outputs:  # with setup_context apart, a call costs 15 us more
        output = _forward(*inputs)
        _setup_context(ctx, inputs, output)
        return output

    backward = staticmethod(_backward)


_op = torch.library.custom_op("fastrl::ppo_categorical", _forward, mutates_args=())
_op.register_autograd(_backward, setup_context=_setup_context)


@_op.register_fake
def _(logits: Tensor, value: Tensor, *_: Any) -> Outputs:
    batch = logits.shape[0]
    return (
        logits.new_empty(batch),
        logits.new_empty(logits.shape),
        logits.new_empty(batch),
        logits.new_empty(len(PPO_STATS), dtype=torch.float64),
    )
