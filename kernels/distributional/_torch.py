"""The torch entrance of the distributional family: kernels for eager calls, operators for traced ones."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastrl.kernels._dispatch import resolve
from fastrl.kernels.distributional import _check

_SUPPORT = "Tensor? support, float? v_min, float? v_max"
_BELLMAN = f"Tensor reward, Tensor? discount, Tensor? terminated, float? gamma, {_SUPPORT}"
_PARAMETERS = {
    "c51_project": f"Tensor probs, {_BELLMAN}, Tensor? target_support",
    "two_hot": f"Tensor x, {_SUPPORT}, int? atoms",
    "hl_gauss": f"Tensor x, {_SUPPORT}, int? atoms, float sigma",
    "expectation": f"Tensor x, {_SUPPORT}, bool logits",
    "c51_loss": (
        f"Tensor logits, Tensor? action, Tensor next_logits, {_BELLMAN}, Tensor? next_selector, bool kl, "
        "float? scale"
    ),
    "quantile_huber": (
        "Tensor quantiles, Tensor targets, Tensor? taus, float kappa, float weight, float? scale"
    ),
}
_CHECKS: dict[str, Any] = {
    "c51_project": _check.require_projection,
    "two_hot": _check.require_two_hot,
    "hl_gauss": _check.require_hl_gauss,
    "expectation": _check.require_expectation,
    "c51_loss": _check.require_c51_loss,
    "quantile_huber": _check.require_quantile_huber,
}
_direct: dict[str, type[torch.autograd.Function]] = {}


def constant(op: str, arguments: tuple[Any, ...], backend: str | None) -> Tensor:
    """The result of an op without gradient. Of ``c51_project`` the last argument is ``out``."""
    out = arguments[-1] if op == "c51_project" else None
    if getattr(out, "requires_grad", False):
        raise ValueError(f"{op}: out must not require grad")
    if torch.is_grad_enabled():
        _refuse_grad(op, arguments, 0)
    if _traced(arguments[0]):
        _CHECKS[op](*arguments)
        inputs = arguments[:-1] if op == "c51_project" else arguments
        result: Tensor = getattr(torch.ops.fastrl, op)(*_plain(inputs), backend)
        return result if out is None else out.copy_(result)
    return _run(op, arguments, backend)  # type: ignore[no-any-return]


def loss(op: str, arguments: tuple[Any, ...], backend: str | None) -> tuple[Any, Any]:
    """Loss and gradient; the loss is differentiable by the first argument. The last argument is ``out``."""
    *inputs, out = arguments
    if out is not None:
        raise ValueError(f"{op}: out takes NumPy arrays only")
    _refuse_grad(op, inputs, 1)
    if _traced(inputs[0]):
        _CHECKS[op](*arguments)
        result: tuple[Tensor, Tensor] = getattr(torch.ops.fastrl, op)(*_plain(inputs), backend)
        return result
    if not _followed(inputs[0]):
        return _run(op, arguments, backend)  # type: ignore[no-any-return]
    return _direct[op].apply(*inputs, backend)  # type: ignore[no-any-return, no-untyped-call]


def expectation(x: Tensor, support: Any, v_min: Any, v_max: Any, logits: bool, backend: str | None) -> Tensor:
    """``fastrl.kernels.expectation`` of rows [B, N]."""
    arguments = (x, support, v_min, v_max, logits)
    _refuse_grad("expectation", arguments, 1)
    if _traced(x):
        _check.require_expectation(*arguments)
        result: Tensor = torch.ops.fastrl.expectation(*_plain(arguments), backend)
        return result
    if not _followed(x):
        return _run("expectation", arguments, backend)  # type: ignore[no-any-return]
    return _direct["expectation"].apply(*arguments, backend)  # type: ignore[no-any-return, no-untyped-call]


def _name(op: str, i: int) -> str:
    """Of an argument."""
    return _PARAMETERS[op].split(", ")[i].split()[-1]


def _refuse_grad(op: str, arguments: Any, first: int) -> None:
    lost = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad and i >= first]
    if lost:
        raise ValueError(
            f"{op}: {_name(op, lost[0])} must not require a gradient, which would be lost: detach it"
        )


def _traced(x: Tensor) -> bool:
    """Whether something follows the call instead of the numbers."""
    return torch.compiler.is_compiling() or type(x) is not Tensor or torch._C._len_torch_dispatch_stack() > 0


def _followed(x: Tensor) -> bool:
    """Whether autograd follows the call, in either mode."""
    return (x.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0


def _plain(arguments: Any) -> list[Any]:
    """Numbers as an operator's schema wants them: Python's."""
    return [x.item() if isinstance(x, np.generic) else x for x in arguments]


def _run(op: str, arguments: tuple[Any, ...], backend: str | None) -> Any:
    """By the kernel of the device. What a kernel makes, it returns."""
    first = arguments[0]
    out = arguments[-1] if op == "c51_project" else None
    if not first.is_cpu:
        _CHECKS[op](*arguments)
        result = resolve("distributional", op, first.device.type, backend)(*arguments)
        return result if out is None else _written(out)
    if [x for x in arguments if isinstance(x, np.ndarray)]:
        _CHECKS[op](*arguments)  # which refuses it
    try:
        arrays = [
            (x.detach() if x.requires_grad else x).numpy() if isinstance(x, Tensor) else x for x in arguments
        ]
    except (TypeError, RuntimeError) as error:
        raise _unreadable(op, arguments, error) from None
    result = resolve("distributional", op, "cpu", backend)(*arrays)
    if out is not None:
        return _written(out)
    return tuple(map(torch.from_numpy, result)) if isinstance(result, tuple) else torch.from_numpy(result)


def _unreadable(op: str, arguments: tuple[Any, ...], error: Exception) -> Exception:
    """What is wrong with tensors of which NumPy has not all."""
    _CHECKS[op](*arguments)  # which tells of a dtype that NumPy lacks
    for i, x in enumerate(arguments):  # of supports they do not: other devices' kernels copy them
        if isinstance(x, Tensor) and not x.is_cpu:
            return ValueError(f"{op}: {_name(op, i)} must be on cpu as the first argument is, got {x.device}")
    return TypeError(f"{op}: tensors must have memory of their own, got {str(error).partition(chr(10))[0]}")


def _written(out: Tensor) -> Tensor:
    """``out``, after telling autograd that it was written to."""
    torch.autograd.graph.increment_version(out)
    return out


def _define_constant(op: str) -> None:
    def run(*inputs: Any) -> Any:
        *arguments, backend = inputs
        if op == "c51_project":
            arguments.append(None)
        return _run(op, tuple(arguments), backend)

    def fake(*inputs: Any) -> Any:
        x = inputs[0]
        if op == "expectation":
            return x.new_empty(x.shape[:1])
        if op in ("two_hot", "hl_gauss"):
            return x.new_empty((x.shape[0], inputs[4] if inputs[1] is None else inputs[1].shape[0]))
        target = inputs[8]
        return x.new_empty((x.shape[0], x.shape[1] if target is None else target.shape[0]))

    registered = torch.library.custom_op(
        f"fastrl::{op}", run, mutates_args=(), schema=f"({_PARAMETERS[op]}, str? backend) -> Tensor"
    )
    registered.register_fake(fake)
    if op == "expectation":
        registered.register_autograd(_expectation_backward, setup_context=_save_expectation)


def _save_expectation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, support, v_min, v_max, logits, _ = inputs
    if support is None:
        support = torch.linspace(float(v_min), float(v_max), x.shape[1], device=x.device)
    elif support.dtype != x.dtype:
        support = support.to(x.dtype)
    ctx.save_for_backward(x, support, output)
    ctx.logits = logits


def _expectation_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError("expectation: second derivatives are not implemented (create_graph=True)")
    x, z, mean = ctx.saved_tensors
    d = torch.softmax(x, 1) * (z - mean[:, None]) if ctx.logits else z.expand(x.shape)
    return grad[:, None] * d, None, None, None, None, None


def _define_loss(op: str) -> None:
    names = [part.split()[-1] for part in _PARAMETERS[op].split(", ")]
    nothing, position = (None,) * len(names), names.index("scale")

    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        *arguments, backend = inputs
        return _run(op, (*arguments, None), backend)  # type: ignore[no-any-return]

    def fake(*inputs: Any) -> tuple[Tensor, Tensor]:
        x = inputs[0]
        return x.new_empty(x.shape[:1]), x.new_empty(x.shape)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        scale, batch = inputs[position], inputs[0].shape[0]
        # a gradient scaled by 0 cannot be scaled back
        ctx.unscale = max(batch, 1) if scale is None else 1.0 / scale
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the gradient is a constant, so it would be wrong
            raise RuntimeError(f"{op}: second derivatives are not implemented (create_graph=True)")
        if grad is None:
            return None, *nothing
        (d,) = ctx.saved_tensors
        weight = (grad * ctx.unscale).reshape(-1, *(1,) * (d.ndim - 1))
        return weight * d, *nothing

    _direct[op] = _function(forward, setup_context, backward)
    registered = torch.library.custom_op(
        f"fastrl::{op}",
        forward,
        mutates_args=(),
        schema=f"({_PARAMETERS[op]}, str? backend) -> (Tensor, Tensor)",
    )
    registered.register_autograd(backward, setup_context=setup_context)
    registered.register_fake(fake)


def _function(run: Any, setup: Any, back: Any) -> type[torch.autograd.Function]:
    class _Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:  # apart, a call costs 15 us more
            output = run(*inputs)
            setup(ctx, inputs, output)
            return output

        backward = staticmethod(back)

    return _Function


for _op in ("c51_project", "two_hot", "hl_gauss", "expectation"):
    _define_constant(_op)
for _op in ("c51_loss", "quantile_huber"):
    _define_loss(_op)
_direct["expectation"] = _function(
    lambda *inputs: _run("expectation", inputs[:-1], inputs[-1]), _save_expectation, _expectation_backward
)
