"""The torch entrance of the returns family: eager calls go to the kernels, traced ones to an operator.

Both are built from the table of ops. λ-returns and discounted sums are linear in rewards and values; their
backward pass is a discounted sum over reversed time, written in differentiable ops, so that second
derivatives are right too.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.kernels._dispatch import resolve
from fastrl.kernels.returns._check import require
from fastrl.kernels.returns._ops import DIFFERENTIABLE, OPS, is_optional

Arrays = tuple[Any, ...]
_operators: dict[str, Any] = {}


def call(op: str, arrays: Arrays, out: Any, options: Arrays, backend: str | None) -> Any:
    """``op`` of tensors."""
    differentiated = (
        torch.is_grad_enabled()
        and any([isinstance(x, Tensor) and x.requires_grad for x in arrays + options])
        and _require_gradients(op, arrays, out, options)
    )
    if out is not None and any(getattr(x, "requires_grad", False) for x in _results(op, out)):
        raise ValueError(f"{op}: out must not require grad")
    if (
        torch.compiler.is_compiling()
        or type(arrays[0]) is not Tensor
        or torch._C._len_torch_dispatch_stack() > 0
    ):
        if torch.compiler.is_compiling():
            _require_traceable(op, options)
        require(op, arrays, out, options)
        numbers, factors = _split(op, options)
        result = _operators[op](*arrays, *factors, *numbers, backend)
        if out is None:
            return result
        for x, y in zip(_results(op, out), _results(op, result), strict=True):
            x.copy_(y)
        return out
    if differentiated:
        require(op, arrays, out, options)
        return _Differentiable.apply(op, backend, options, *arrays)  # type: ignore[no-untyped-call]
    return _run(op, arrays, out, options, backend)


def _require_traceable(op: str, options: Arrays) -> None:
    """Raise where an option is a number only when the graph runs, as NumPy's scalars are to Dynamo."""
    for name, x in zip(OPS[op].options, options, strict=True):
        if isinstance(x, np.ndarray | Tensor) and x.ndim == 0:
            rule = "a number of Python's under torch.compile"
            raise TypeError(f"{op}: {name} must be {rule}, got one of no dimensions: pass float({name})")


def _require_gradients(op: str, arrays: Arrays, out: Any, options: Arrays) -> bool:
    """Raise unless there are the gradients that are asked for; else True."""
    wanted = [
        name
        for name, x in zip(OPS[op].arrays + OPS[op].options, arrays + options, strict=True)
        if isinstance(x, Tensor) and x.requires_grad
    ]
    if op not in DIFFERENTIABLE:
        kind = "advantages" if op == "gae" else "returns"
        raise ValueError(f"{op}: inputs must not require grad, {kind} are constants: detach them first")
    constant = [name for name in wanted if name not in DIFFERENTIABLE[op]]
    if constant:
        raise ValueError(f"{op}: {constant[0]} must not require grad, there is none: detach it first")
    if out is not None:
        raise ValueError(f"{op}: out must be None where an input requires grad")
    return True


def _results(op: str, result: Any) -> Arrays:
    return tuple(result) if OPS[op].outputs == 2 else (result,)


def _split(op: str, options: Arrays) -> tuple[list[Any], list[Tensor | None]]:
    """Options as numbers, and those that may be arrays as tensors or None."""
    numbers = [1.0 if isinstance(x, Tensor) and x.ndim else x for x in options]
    named = dict(zip(OPS[op].options, options, strict=True))
    factors = [named[name] for name in OPS[op].factors]
    return numbers, [x if isinstance(x, Tensor) and x.ndim else None for x in factors]


def _run(op: str, arrays: Arrays, out: Any, options: Arrays, backend: str | None) -> Any:
    first = arrays[0]
    if not first.is_cpu:
        require(op, arrays, out, options)
        result = resolve("returns", op, first.device.type, backend)(*arrays, out, *options)
        return result if out is None else _written(out)
    try:
        views = [_array(x) for x in arrays]
        target = _array(out) if OPS[op].outputs == 1 or out is None else tuple(map(_array, out))
        numbers = [_number(x) for x in options]
    except (AttributeError, TypeError):  # one is no CPU tensor, or of a dtype that NumPy lacks
        require(op, arrays, out, options)
        raise
    result = resolve("returns", op, "cpu", backend)(*views, target, *numbers)
    if out is not None:
        return _written(out)
    return torch.from_numpy(result) if OPS[op].outputs == 1 else tuple(map(torch.from_numpy, result))


def _written(out: Any) -> Any:
    """``out``, after telling autograd that it was written to."""
    torch.autograd.graph.increment_version(out)
    return out


def _array(x: Tensor | None) -> Any:
    if x is None:
        return None
    return x.detach().numpy() if x.requires_grad else x.numpy()


def _number(x: Any) -> Any:
    shape: Any = getattr(x, "shape", ())
    return _array(x) if isinstance(x, Tensor) or shape else x


def _gradients(
    op: str, grad: Tensor, saved: Arrays, values: int | None, options: Arrays, backend: str | None
) -> tuple[Tensor, Tensor | None]:
    """Of the reward, and of next_value, which had ``values`` axes (None: it was not given).

    With h_t the derivative by y_t, y_{t+1} gets γ_t λ_t h_t where it was used: h is a discounted sum from
    the last step to the first.
    """
    terminated, truncated, mask = saved
    if mask is not None:  # a factor of padding may be NaN
        options = tuple(torch.where(mask, x, 0) if isinstance(x, Tensor) and x.ndim else x for x in options)
    gamma, lam = options if op == "td_lambda" else (options[0], 1.0)
    last = terminated.clone() if truncated is None else terminated | truncated
    last[-1:] = True
    if mask is not None:
        last[:-1] |= ~mask[1:]
        grad = torch.where(mask, grad, 0)
    decay = gamma * lam
    earlier = decay.roll(1, 0).flip(0) if isinstance(decay, Tensor) else decay
    reversed_ends = (last.roll(1, 0).flip(0), None, None, None)
    total = call("discounted", (grad.flip(0), *reversed_ends), None, (earlier,), backend).flip(0)
    if values is None:
        return total, None
    share = torch.where(last, total, (1.0 - lam) * total if op == "td_lambda" else 0)
    to_value = torch.where(terminated, 0, gamma * share)
    if values == 1:
        return total, to_value[-1:].sum(0)
    return total, to_value


class _Differentiable(torch.autograd.Function):
    """Eager calls whose rewards or values require grad."""

    @staticmethod
    def forward(ctx: Any, op: str, backend: str | None, options: Arrays, *arrays: Any) -> Tensor:
        """The op; ``options`` may hold tensors, which are constants."""
        tensors = [x if isinstance(x, Tensor) and x.ndim else None for x in options]
        ctx.numbers = [float(x) if y is None else None for x, y in zip(options, tensors, strict=True)]
        _save(ctx, op, backend, arrays, *tensors)
        result: Tensor = _run(op, arrays, None, options, backend)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        """Of rewards and values."""
        tensors = ctx.saved_tensors[3:]
        options = [y if x is None else x for x, y in zip(tensors, ctx.numbers, strict=True)]
        return None, None, None, *_backward(ctx, grad, tuple(options))


def _save(ctx: Any, op: str, backend: str | None, arrays: Arrays, *more: Tensor | None) -> None:
    given = dict(zip(OPS[op].arrays, arrays, strict=True))
    ctx.op, ctx.backend = op, backend
    ctx.values = None if given["next_value"] is None else given["next_value"].ndim
    ctx.save_for_backward(given["terminated"], given["truncated"], given["mask"], *more)


def _backward(ctx: Any, grad: Tensor, options: Arrays) -> list[Tensor | None]:
    found = _gradients(ctx.op, grad, ctx.saved_tensors[:3], ctx.values, options, ctx.backend)
    by_name = dict(zip(DIFFERENTIABLE[ctx.op], found, strict=True))
    return [by_name.get(name) for name in OPS[ctx.op].arrays]


def _define(op: str) -> None:
    spec = OPS[op]
    count, factors = len(spec.arrays), len(spec.factors)

    def arguments(inputs: Arrays) -> tuple[Arrays, Arrays, str | None]:
        """Arrays, options with arrays among them, backend."""
        numbers = dict(zip(spec.options, inputs[count + factors : -1], strict=True))
        given = zip(spec.factors, inputs[count : count + factors], strict=True)
        numbers |= {name: x for name, x in given if x is not None}
        return inputs[:count], tuple(numbers.values()), inputs[-1]

    def forward(*inputs: Any) -> Any:
        arrays, options, backend = arguments(inputs)
        return _run(op, arrays, None, options, backend)

    def fake(*inputs: Any) -> Any:
        first = inputs[0]
        results = [first.new_empty(first.shape) for _ in range(spec.outputs)]
        return tuple(results) if spec.outputs == 2 else results[0]

    def setup_context(ctx: Any, inputs: Arrays, output: Any) -> None:
        arrays, _, backend = arguments(inputs)
        _save(ctx, op, backend, arrays, *inputs[count : count + factors])
        ctx.numbers = inputs[count + factors :]

    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        inputs = (None,) * count + ctx.saved_tensors[3:] + ctx.numbers
        _, options, _ = arguments(inputs)
        return *_backward(ctx, grad, options), *(None,) * (len(inputs) - count)

    tensors = [f"Tensor{'?' if is_optional(op, name) else ''} {name}" for name in spec.arrays]
    tensors += [f"Tensor? {name}_array" for name in spec.factors]
    numbers = [f"{'SymInt' if name == 'n' else 'float'} {name}" for name in spec.options]
    schema = f"({', '.join([*tensors, *numbers, 'str? backend'])})"
    results = "Tensor" if spec.outputs == 1 else "(Tensor, Tensor)"
    registered = torch.library.custom_op(
        f"fastrl::{op}", forward, mutates_args=(), schema=f"{schema} -> {results}"
    )
    registered.register_fake(fake)
    if op in DIFFERENTIABLE:
        registered.register_autograd(backward, setup_context=setup_context)
    _operators[op] = registered


for _op in OPS:
    _define(_op)
