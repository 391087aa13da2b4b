"""The losses as torch operators: called directly, or as ``torch.library`` operators while compiling."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastrl.kernels import losses
from fastrl.kernels._check import describe, require_tensor
from fastrl.kernels._dispatch import resolve
from fastrl.kernels.distributions._check import require_sizes
from fastrl.kernels.losses import PPO_STATS, PPOGaussianLoss, PPOLoss

_SAMPLES = "Tensor action, Tensor old_log_prob, Tensor advantage, Tensor return_, Tensor? old_value"
_OPTIONS = (
    "float clip_coef, float vf_coef, float ent_coef, float kl_coef, float? clip_value, float? scale, "
    "str? backend"
)
_PARAMETERS = {
    "ppo_categorical": f"Tensor logits, Tensor value, {_SAMPLES}, Tensor? action_mask, {_OPTIONS}",
    "ppo_multi_categorical": (
        f"Tensor logits, Tensor value, {_SAMPLES}, Tensor? action_mask, int[] sizes, {_OPTIONS}"
    ),
    "ppo_gaussian": f"Tensor mean, Tensor log_std, Tensor value, {_SAMPLES}, {_OPTIONS}",
}
_direct: dict[str, type[torch.autograd.Function]] = {}


def run(op: str, stats: Tensor | None, arrays: tuple[Any, ...], options: tuple[Any, ...]) -> list[Tensor]:
    """Loss and gradients; the loss is differentiable by what comes before ``action``."""
    names = _names(op)
    count = names.index("action")
    for name, x in zip(names[count:], arrays[count:], strict=False):
        if x is not None and x.requires_grad:
            raise ValueError(f"{op}: {name} must not require a gradient, which would be lost: detach it")
    call = getattr(torch.ops.fastrl, op) if torch.compiler.is_compiling() else _direct[op].apply
    *result, sums = call(*arrays, *options)
    if stats is not None:
        stats += sums
    gradients = zip(result[1:], arrays, strict=False)
    return [result[0], *(g if g.ndim == x.ndim else g.sum(0) for g, x in gradients)]


def _names(op: str) -> list[str]:
    return [parameter.split()[-1] for parameter in _PARAMETERS[op].split(", ")]


def _define(op: str) -> None:
    names = _names(op)
    count = names.index("action")

    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        arguments: dict[str, Any] = dict(zip(names, inputs, strict=True))
        policy = inputs[0]
        kernel = resolve("losses", op, policy.device.type, arguments["backend"])
        if "log_std" in arguments and arguments["log_std"].ndim == 1:  # autograd weights its rows apart
            arguments["log_std"] = arguments["log_std"].expand(len(policy), -1)
        if not policy.is_cpu or arguments["backend"] == "triton":
            return _on_device(op, kernel, arguments)
        for name, x in arguments.items():
            if isinstance(x, Tensor):
                arguments[name] = x.detach().numpy()
        sums = torch.zeros(len(PPO_STATS), dtype=torch.float64)
        result = getattr(losses, op)(**arguments, stats=sums.numpy())
        return *map(torch.from_numpy, result), sums

    def fake(*inputs: Any) -> tuple[Tensor, ...]:
        policy, value = inputs[0], inputs[count - 1]
        sums = value.new_empty(len(PPO_STATS), dtype=torch.float64)
        gradients = [policy.new_empty(policy.shape) for _ in range(count - 1)]
        return value.new_empty(value.shape), *gradients, value.new_empty(value.shape), sums

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, *constants = output
        scale, batch = inputs[names.index("scale")], inputs[0].shape[0]
        ctx.unscale = max(batch, 1) if scale is None else 1.0 / scale
        ctx.axes = [x.ndim for x in inputs[:count]]
        ctx.save_for_backward(*constants[:-1])
        ctx.mark_non_differentiable(*constants)
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if (
            torch.is_grad_enabled()
        ):  # create_graph=True: the gradients are constants here, so it would be wrong
            raise RuntimeError(f"{op}: second derivatives are not implemented (create_graph=True)")
        if grad is None:
            return (None,) * len(names)
        weight = grad * ctx.unscale
        gradients = [(weight if d.ndim == 1 else weight[:, None]) * d for d in ctx.saved_tensors]
        summed = [d if d.ndim == axes else d.sum(0) for d, axes in zip(gradients, ctx.axes, strict=True)]
        return *summed, *(None,) * (len(names) - count)

    class _Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:  # apart, a call costs 15 us more
            output = forward(*inputs)
            setup_context(ctx, inputs, output)
            return output

    _Loss.backward = staticmethod(backward)  # type: ignore[method-assign]
    _direct[op] = _Loss
    returns = ", ".join(["Tensor"] * (count + 2))
    registered = torch.library.custom_op(
        f"fastrl::{op}", forward, mutates_args=(), schema=f"({_PARAMETERS[op]}) -> ({returns})"
    )
    registered.register_autograd(backward, setup_context=setup_context)
    registered.register_fake(fake)


def _on_device(op: str, kernel: Any, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    """Loss, gradients and sums by a kernel that takes tensors."""
    names = [part.split()[1] for part in _PARAMETERS[op].split(", ") if part.startswith("Tensor")]
    arrays = {name: arguments.pop(name) for name in names}
    del arguments["backend"]
    if (arguments["clip_value"] is None) != (arrays["old_value"] is None):
        raise ValueError(f"{op}: clip_value and old_value must be given together")
    gaussian = op == "ppo_gaussian"
    policy = arrays[names[0]]
    if policy.ndim != 2:
        raise ValueError(f"{op}: {names[0]} must be float32 [B, A], got {describe(policy)}")
    batch, columns = policy.shape
    matrices = {"mean", "log_std", "logits", "action_mask"}
    for name, x in arrays.items():
        dtype, dims = torch.float32, "[B]"
        shape: tuple[int, ...] = (batch,)
        if name in matrices or (gaussian and name == "action"):
            shape, dims = (batch, columns), "[B, A]"
        if name == "action_mask":
            dtype = torch.bool
        elif name == "action" and not gaussian:
            dtype = torch.int64
            if "sizes" in arguments:
                shape, dims = (batch, len(arguments["sizes"])), "[B, K]"
        if x is not None:
            require_tensor(op, name, x, dtype, shape, dims, policy.device)
    if "sizes" in arguments:
        require_sizes(op, arguments["sizes"], columns)

    new = partial(torch.empty, dtype=torch.float32, device=policy.device)
    gradients = [new(batch, columns) for name in names if name in matrices - {"action_mask"}]
    result: Any = PPOGaussianLoss if gaussian else PPOLoss
    out = result(new(batch), *gradients, new(batch))
    sums = torch.zeros(len(PPO_STATS), dtype=torch.float64, device=policy.device)
    kernel(*(x if x is None else x.detach() for x in arrays.values()), out, sums, **arguments)
    return *out, sums


for _op in _PARAMETERS:
    _define(_op)
