"""The distributional family and torch: operators eager and compiled, gradients against autograd."""

from typing import Any

import numpy as np
import pytest
from _distributional_torch import ALL, RANGE, A, B, N, arguments_of

from fastrl.kernels.distributional import (
    c51_loss,
    c51_project,
    expectation,
    hl_gauss,
    quantile_huber,
    two_hot,
)

torch = pytest.importorskip("torch")

DIFFERENTIABLE = pytest.mark.parametrize(
    "op", [c51_loss, quantile_huber, expectation], ids=lambda op: op.__name__
)


def leaf_of(x: dict[str, Any]) -> Any:
    return next(v for v in x.values() if isinstance(v, torch.Tensor) and v.requires_grad)


def parts(result: Any) -> tuple[Any, ...]:
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


@ALL
def test_tensors_give_the_numbers_of_arrays(op: Any) -> None:
    x = arguments_of(op)
    arrays = {name: v.detach().numpy() if isinstance(v, torch.Tensor) else v for name, v in x.items()}
    want = op(**arrays)
    want = want if isinstance(want, tuple) else (want,)
    for got, array in zip(parts(op(**x)), want, strict=True):
        assert torch.equal(got.detach(), torch.from_numpy(array))


@ALL
@pytest.mark.parametrize("how", ["support", "range"])
def test_compiled_equals_eager(op: Any, how: str) -> None:
    x = arguments_of(op)
    if how == "support" and op is not quantile_huber:
        x = {name: v for name, v in x.items() if name not in ("v_min", "v_max", "atoms")}
        x["support"] = torch.linspace(-2.0, 3.0, N)
    torch._dynamo.reset()
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    eager, traced = op(**x), compiled(**x)
    for a, b in zip(parts(eager), parts(traced), strict=True):
        assert torch.equal(a, b)
    if any(isinstance(v, torch.Tensor) and v.requires_grad for v in x.values()):
        first = parts(eager)[0]
        weight = torch.linspace(-1, 1, first.numel()).reshape(first.shape)
        gradients = [
            torch.autograd.grad((parts(y)[0] * weight).sum(), leaf_of(x))[0] for y in (eager, traced)
        ]
        assert torch.equal(*gradients)


def test_c51_loss_is_that_of_torch() -> None:
    x = arguments_of(c51_loss)
    z, row = torch.linspace(-2.0, 3.0, N), torch.arange(B)
    with torch.no_grad():
        best = (torch.softmax(x["next_selector"], -1) @ z).argmax(1)
        p = torch.softmax(x["next_logits"][row, best], -1)
        land = (x["reward"][:, None] + x["discount"][:, None] * z).clamp(-2, 3)
        hat = (1 - (land[:, None, :] - z[None, :, None]).abs() / 0.5).clamp(0, 1)
        target = (hat * p[:, None, :]).sum(-1)
    want = -(target * torch.log_softmax(x["logits"][row, x["action"]], -1)).sum(-1)
    got = c51_loss(**x)
    torch.testing.assert_close(got.loss, want, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(-1, 1, B)
    gradients = [torch.autograd.grad((y * weight).sum(), x["logits"])[0] for y in (got.loss, want)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    total = torch.autograd.grad(c51_loss(**x).loss.mean(), x["logits"])[0]
    torch.testing.assert_close(got.d_logits, total)
    torch.testing.assert_close(c51_loss(**x, scale=0.5).d_logits, 0.5 * B * total)


@pytest.mark.parametrize("op", [c51_loss, quantile_huber], ids=lambda op: op.__name__)
def test_the_gradient_handed_over_is_that_of_the_mean(op: Any) -> None:
    x = arguments_of(op)
    name = next(iter(x))
    weight = torch.ones(B, requires_grad=True)
    predicted = x[name].detach() * weight.reshape(B, *(1,) * (x[name].ndim - 1))
    predicted.backward(op(**x | {name: predicted.detach()})[1], retain_graph=True)
    handed, weight.grad = weight.grad, None
    op(**x | {name: predicted}).loss.mean().backward()
    torch.testing.assert_close(handed, weight.grad)


def test_quantile_huber_is_that_of_torch() -> None:
    x = arguments_of(quantile_huber)
    delta = x["targets"][:, None, :] - x["quantiles"][:, :, None]
    huber = torch.nn.functional.huber_loss(
        x["quantiles"][:, :, None].expand_as(delta),
        x["targets"][:, None, :].expand_as(delta),
        reduction="none",
        delta=0.7,
    )
    want = ((x["taus"][:, :, None] - (delta < 0).float()).abs() * huber).sum(1).mean(1)
    got = quantile_huber(**x, kappa=0.7)
    torch.testing.assert_close(got.loss, want, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(-1, 1, B)
    gradients = [torch.autograd.grad((y * weight).sum(), x["quantiles"])[0] for y in (got.loss, want)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        got.d_quantiles, torch.autograd.grad(quantile_huber(**x, kappa=0.7).loss.mean(), x["quantiles"])[0]
    )


@DIFFERENTIABLE
@pytest.mark.filterwarnings("ignore:.*not a double precision")
def test_gradcheck(op: Any) -> None:
    x = arguments_of(op)
    name = next(name for name, v in x.items() if isinstance(v, torch.Tensor) and v.requires_grad)
    options = {"kappa": 5.0} if op is quantile_huber else {}

    def function(leaf: Any) -> Any:
        return parts(op(**x | {name: leaf}, **options))[0]

    assert torch.autograd.gradcheck(function, x[name], eps=1e-2, atol=4e-3)


def test_expectation_of_probabilities_has_a_gradient() -> None:
    p = torch.softmax(torch.randn(B, N), 1).requires_grad_()
    z = torch.linspace(-2.0, 3.0, N)
    (got,) = torch.autograd.grad(expectation(p, support=z).sum(), p)
    torch.testing.assert_close(got, z.expand(B, N))


@ALL
def test_the_operator_is_well_formed(op: Any) -> None:
    x = arguments_of(op)
    op(**x)  # which registers it
    support = (None, -2.0, 3.0)
    inputs = {
        c51_project: lambda: (x["probs"], x["reward"], x["discount"], None, None, *support, None),
        c51_loss: lambda: (
            x["logits"], x["action"], x["next_logits"], x["reward"], x["discount"], None, None, *support,
            x["next_selector"], False, None,
        ),
        quantile_huber: lambda: (x["quantiles"], x["targets"], x["taus"], 1.0, 0.1, None),
        expectation: lambda: (x["x"].detach()[:, 0].clone().requires_grad_(), *support, True),
        two_hot: lambda: (x["x"], *support, N),
        hl_gauss: lambda: (x["x"], *support, N, 0.4),
    }[op]()  # fmt: skip
    torch.library.opcheck(getattr(torch.ops.fastrl, op.__name__), (*inputs, None))


@ALL
def test_the_operator_of_other_arguments_is_well_formed(op: Any) -> None:
    """Supports as arrays, one action, discounts by gamma and flags."""
    op(**arguments_of(op))  # which registers it
    leaf, rows, reward = torch.randn(B, N, requires_grad=True), torch.randn(B, N), torch.randn(B)
    support = (torch.linspace(-2, 3, N, dtype=torch.float64), None, None)
    bellman = (reward, None, reward > 0, 0.9, *support)
    inputs = {
        c51_project: (rows.softmax(1), *bellman, torch.linspace(-1, 1, 5)),
        c51_loss: (leaf, None, rows, *bellman, None, True, 0.3),
        quantile_huber: (leaf, torch.randn(B, 3), None, 0.0, 0.1, 2.0),
        expectation: (leaf, *support, False),
        two_hot: (reward, *support, None),
        hl_gauss: (reward, *support, None, 0.4),
    }[op]
    torch.library.opcheck(getattr(torch.ops.fastrl, op.__name__), (*inputs, None))


@DIFFERENTIABLE
def test_without_gradient(op: Any) -> None:
    x = arguments_of(op)
    want = [y.detach() for y in parts(op(**x))]
    constants = {name: v.detach() if isinstance(v, torch.Tensor) else v for name, v in x.items()}
    with torch.no_grad():
        calls = [op(**x), op(**constants)]
    for got in map(parts, (*calls, op(**constants))):
        for a, b in zip(got, want, strict=True):
            assert torch.equal(a, b)
            assert not a.requires_grad


@DIFFERENTIABLE
@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")  # torch's own
def test_forward_mode_is_refused(op: Any) -> None:
    x = arguments_of(op)
    name = next(iter(x))
    leaf = x[name].detach()
    with torch.autograd.forward_ad.dual_level():
        x[name] = torch.autograd.forward_ad.make_dual(leaf, leaf)
        with pytest.raises(NotImplementedError, match="jvp"):
            op(**x)


def test_what_it_cannot_do() -> None:
    for op in (c51_loss, quantile_huber, expectation):
        x = arguments_of(op)
        first = parts(op(**x))[0].sum()
        with pytest.raises(RuntimeError, match=f"{op.__name__}: second derivatives are not implemented"):
            torch.autograd.grad(first, leaf_of(x), create_graph=True)
    for op, name in (
        (c51_project, "probs"),
        (c51_project, "reward"),
        (c51_loss, "next_logits"),
        (c51_loss, "next_selector"),
        (quantile_huber, "targets"),
        (quantile_huber, "taus"),
        (hl_gauss, "x"),
        (two_hot, "x"),
    ):
        x = arguments_of(op)
        x[name] = x[name].clone().requires_grad_()
        with pytest.raises(ValueError, match=f"{op.__name__}: {name} must not require a gradient"):
            op(**x)
    x = arguments_of(c51_project)
    with torch.no_grad():
        assert not c51_project(**x | {"probs": x["probs"].requires_grad_()}).requires_grad


def test_out() -> None:
    x = arguments_of(c51_project)
    want = c51_project(**x)
    out = torch.zeros(B, N)
    assert c51_project(**x, out=out) is out
    assert torch.equal(out, want)
    with pytest.raises(ValueError, match="c51_project: out must not require grad"):
        c51_project(**x, out=torch.zeros(B, N, requires_grad=True))
    losses = arguments_of(quantile_huber)
    with pytest.raises(ValueError, match="quantile_huber: out takes NumPy arrays only"):
        quantile_huber(**losses, out=(out, out))


def test_out_counts_as_written() -> None:
    x, out = arguments_of(c51_project), torch.ones(B, N)
    weight = torch.ones(B, N, requires_grad=True)
    product = (weight * out).sum()
    c51_project(**x, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_out_that_repeats_or_overlaps() -> None:
    x = arguments_of(c51_project)
    for out, what in (
        (torch.zeros(B, 1).expand(B, N), "hold each element once"),
        (torch.zeros(B + 3 * N).as_strided((B, N), (4, 1)), "hold each element once"),
        (x["probs"], "not share memory with an input"),
    ):
        with pytest.raises(ValueError, match=f"c51_project: out must {what}"):
            c51_project(**x, out=out)
    from fastrl.kernels.distributional._check import require_apart

    with pytest.raises(ValueError, match="c51_project: out must hold each element once"):
        require_apart("c51_project", torch.empty((2, 1), device="meta").expand(2, 3))


def test_compiled_and_faked_with_out() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    torch._dynamo.reset()
    x, out = arguments_of(c51_project), torch.zeros(B, N)
    compiled = torch.compile(lambda out: c51_project(**x, out=out) + 1, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(out), c51_project(**x) + 1)
    assert torch.equal(out, c51_project(**x))
    with FakeTensorMode() as mode:
        fake = {k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in x.items()}
        assert c51_project(**fake, out=mode.from_tensor(out)).shape == (B, N)


NUMBERS: list[tuple[Any, dict[str, Any]]] = [
    (c51_project, {"v_min": np.float64(-2.0)}),
    (c51_loss, {"scale": np.float32(0.5)}),
    (c51_loss, {"kl": np.bool_(True)}),
    (quantile_huber, {"kappa": np.int64(2)}),
    (quantile_huber, {"scaled": np.bool_(True)}),
    (expectation, {"v_max": np.int32(5)}),
    (two_hot, {"atoms": np.int64(N)}),
    (hl_gauss, {"sigma": np.float32(0.5)}),
]


@pytest.mark.parametrize(("op", "given"), NUMBERS, ids=[f"{op.__name__} {[*x]}" for op, x in NUMBERS])
def test_numbers_of_numpy(op: Any, given: dict[str, Any]) -> None:
    """Run as Python's by kernels and operators; compiled, where they are arrays, they are refused by name."""
    x = arguments_of(op) | given
    name = next(iter(x))
    wrapped = x | {name: torch.nn.Parameter(x[name].detach(), x[name].requires_grad)}
    for got, want in zip(parts(op(**wrapped)), parts(op(**x)), strict=True):
        torch.testing.assert_close(got, want)
    torch._dynamo.reset()
    with pytest.raises(Exception, match=f"{op.__name__}: {next(iter(given))} must be .* of no dimensions"):
        torch.compile(op, fullgraph=True, backend="aot_eager")(**x)


def changing(b: int) -> dict[Any, Any]:
    """An op's call at a size, of tensors and numbers that all change with it."""
    torch.manual_seed(b)
    real, scale = torch.randn, 1.0 / b
    return {
        c51_loss: (
            lambda x, a, y, r, g: c51_loss(x, a, y, r, gamma=g, scale=g, **RANGE),
            (real(b, A, b), torch.randint(A, (b,)), real(b, A, b), real(b), scale),
        ),
        quantile_huber: (
            lambda x, y, k: quantile_huber(x, y, kappa=k, reduction="mean"),
            (real(b, b + 1), real(b, b + 2), scale),
        ),
        c51_project: (
            lambda p, r, g: c51_project(p, r, gamma=g, v_min=-g, v_max=g),
            (torch.rand(b, b + 1), real(b), scale),
        ),
        expectation: (lambda x, v: expectation(x, v_min=0.0, v_max=v), (real(b, b + 1), 1.0 + b)),
        hl_gauss: (lambda x, s: hl_gauss(x, sigma=s, atoms=x.shape[0], **RANGE), (real(b), scale)),
        two_hot: (lambda x, v: two_hot(x, v_min=-v, v_max=v, atoms=x.shape[0]), (real(b), 2.0 * b)),
    }


@ALL
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_with_numbers_and_sizes_that_change(op: Any, backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(changing(4)[op][0], fullgraph=True, dynamic=True, backend=backend)
    for b in (4, 5, 9):
        function, x = changing(b)[op]
        for got, want in zip(parts(compiled(*x)), parts(function(*x)), strict=True):
            torch.testing.assert_close(got, want)


def test_scale_is_not_in_the_gradient() -> None:
    x = arguments_of(quantile_huber)
    want = torch.autograd.grad(quantile_huber(**x).loss.sum(), x["quantiles"])[0]
    for scale in (1e-20, 1e20):
        got = torch.autograd.grad(quantile_huber(**x, scale=scale).loss.sum(), x["quantiles"])[0]
        torch.testing.assert_close(got, want)
    for scale in (1e-43, 1e40):
        with pytest.raises(ValueError, match="quantile_huber: scale must be from 1e-20 to 1e20"):
            quantile_huber(**x, scale=scale)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_a_tensor_is_no_number(backend: str) -> None:
    arrays = {"probs": torch.full((B, N), 0.1).numpy(), "reward": torch.zeros(B).numpy()}
    with pytest.raises(TypeError, match="c51_project: gamma must be a number"):
        c51_project(**arrays, gamma=torch.tensor(0.9), **RANGE, backend=backend)
