"""Every op of the returns family on torch tensors: eager, compiled, traced, differentiated."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from _returns import VARIANTS, forms, make, options, run  # noqa: E402

from fastrl.kernels import discounted, n_step, td_lambda, vtrace  # noqa: E402
from fastrl.kernels.returns import _torch  # noqa: E402
from fastrl.kernels.returns._ops import DIFFERENTIABLE, FLAGS, OPS  # noqa: E402

each_op = pytest.mark.parametrize("op", OPS)


def tensors(data: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in data.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (5, 3), (4, 33), (3, 300), (0, 4), (4, 0)])
@each_op
def test_eager_equals_numpy(op: str, shape: tuple[int, int], dtype: Any) -> None:
    data = make(op, *shape, dtype=dtype)
    for form in forms(op, data):
        for variant in VARIANTS[op]:
            given = options(op, variant, data)
            for x, y in zip(run(op, tensors(form), **tensors(given)), run(op, form, **given), strict=True):
                assert isinstance(x, torch.Tensor)
                assert not x.requires_grad
                np.testing.assert_array_equal(x.numpy(), y)


@each_op
def test_eager_takes_strides_and_out(op: str) -> None:
    data, variant = tensors(make(op, 6, 40)), VARIANTS[op][0]
    expected = run(op, data, **variant)
    transposed = {name: x.T.contiguous().T for name, x in data.items()}
    out = tuple(torch.empty(40, 6).T for _ in expected)
    got = run(op, transposed, **variant, out=out if len(out) == 2 else out[0])
    for x, y, z in zip(got, out, expected, strict=True):
        assert x is y
        assert torch.equal(x, z)


@each_op
def test_eager_calls_no_operator(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch, "_operators", {})
    run(op, tensors(make(op, 4, 3)), **VARIANTS[op][0])


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@each_op
def test_compiled_equals_eager(op: str, backend: str) -> None:
    torch.compiler.reset()
    data = make(op, 9, 5)
    variant = tensors(options(op, VARIANTS[op][-1], data))

    def graph(arrays: dict[str, Any]) -> list[Any]:
        first = OPS[op].arrays[0]
        return [x - x.mean() for x in run(op, arrays | {first: arrays[first] * 2}, **variant)]

    compiled = torch.compile(graph, fullgraph=True, backend=backend)
    for form in forms(op, data):
        for x, y in zip(compiled(tensors(form)), graph(tensors(form)), strict=True):
            torch.testing.assert_close(x, y)


def test_compiled_writes_out() -> None:
    torch.compiler.reset()
    data, out = tensors(make("vtrace", 9, 5)), (torch.zeros(9, 5), torch.zeros(9, 5))
    compiled = torch.compile(lambda *out: vtrace(**data, out=out)[0] + 1, fullgraph=True, backend="aot_eager")
    target, advantage = vtrace(**data)
    torch.testing.assert_close(compiled(*out), target + 1)
    torch.testing.assert_close(out, (target, advantage))


@each_op
def test_traced_keeps_the_op(op: str) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    data, other = tensors(make(op, 9, 5)), tensors(make(op, 9, 5, seed=1))
    names = list(data)
    graph = make_fx(lambda *xs: run(op, dict(zip(names, xs, strict=True)), **VARIANTS[op][0]))(*data.values())
    for x, y in zip(graph(*other.values()), run(op, other, **VARIANTS[op][0]), strict=True):
        assert torch.equal(x, y)


@each_op
def test_fake_tensors(op: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        fake = {name: mode.from_tensor(x) for name, x in tensors(make(op, 9, 5)).items()}
        for x in run(op, fake, **VARIANTS[op][0]):
            assert (x.shape, x.dtype) == ((9, 5), torch.float32)
        name = OPS[op].arrays[1]
        with pytest.raises(ValueError, match=f"{op}: {name} must be"):
            run(op, fake | {name: fake[name][:-1]}, **VARIANTS[op][0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_op
def test_opcheck(op: str, dtype: Any) -> None:
    data = make(op, 9, 5, dtype=dtype)
    spec = OPS[op]
    defaults = {"gamma": 0.9, "lam": 0.8, "n": 3}
    for form in forms(op, data):
        for as_arrays in {False, bool(spec.factors)}:
            factors = [
                torch.rand(9, 5, dtype=tensors(data)["reward"].dtype) if as_arrays else None
                for _ in spec.factors
            ]
            numbers = [defaults.get(name, 1.5) for name in spec.options]
            arrays = [
                x.requires_grad_() if x is not None and name in DIFFERENTIABLE.get(op, ()) else x
                for name, x in tensors(form).items()
            ]
            torch.library.opcheck(getattr(torch.ops.fastrl, op).default, (*arrays, *factors, *numbers, None))


def differentiable(op: str, form: dict[str, Any]) -> tuple[list[str], list[Any]]:
    names = [name for name in DIFFERENTIABLE[op] if form[name] is not None]
    return names, [torch.from_numpy(form[name]).requires_grad_() for name in names]


@pytest.mark.parametrize("shape", [(1, 1), (6, 3)])
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_gradients(op: str, shape: tuple[int, int]) -> None:
    """First and second derivatives against finite differences."""
    data = make(op, *shape, dtype=np.float64)
    for form in forms(op, data):
        for variant in VARIANTS[op]:
            given = tensors(options(op, variant, data))
            names, inputs = differentiable(op, form)

            def function(*xs: Any, form: Any = form, names: Any = names, given: Any = given) -> Any:
                return run(op, tensors(form) | dict(zip(names, xs, strict=True)), **given)[0]

            assert torch.autograd.gradcheck(function, inputs)
            # of a product, as the op itself is linear
            assert torch.autograd.gradgradcheck(lambda *xs, f=function: f(*xs) * xs[0] ** 2, inputs)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_gradients_are_of_what_counts(op: str) -> None:
    """A NaN in a value that is not used gives no NaN in the gradient."""
    form = make(op, 6, 3, dtype=np.float64) | {"mask": None}
    form["terminated"][2] = True
    form["next_value"][2] = np.nan
    names, inputs = differentiable(op, form)
    result = run(op, tensors(form) | dict(zip(names, inputs, strict=True)))[0]
    assert torch.isfinite(result).all()
    of_reward, of_value = torch.autograd.grad(result.sum(), inputs)
    assert torch.isfinite(of_reward).all()
    assert torch.isfinite(of_value).all()
    assert (of_value[2] == 0).all()


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_empty_gradients(op: str, shape: tuple[int, int]) -> None:
    for form in forms(op, make(op, *shape)):
        names, inputs = differentiable(op, form)
        result = run(op, tensors(form) | dict(zip(names, inputs, strict=True)))[0]
        for x, grad in zip(inputs, torch.autograd.grad(result.sum(), inputs), strict=True):
            assert grad.shape == x.shape


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_compiled_gradients_equal_eager(op: str, backend: str) -> None:
    data = make(op, 9, 5)
    for form in forms(op, data):
        torch.compiler.reset()
        for variant in (VARIANTS[op][0], VARIANTS[op][-1]):
            given = tensors(options(op, variant, data))
            names, inputs = differentiable(op, form)

            def loss(*xs: Any, form: Any = form, names: Any = names, given: Any = given) -> Any:
                return (run(op, tensors(form) | dict(zip(names, xs, strict=True)), **given)[0] ** 2).mean()

            compiled = torch.compile(loss, fullgraph=True, backend=backend)
            torch.testing.assert_close(
                torch.autograd.grad(compiled(*inputs), inputs), torch.autograd.grad(loss(*inputs), inputs)
            )


@each_op
def test_gradients_are_refused_where_there_are_none(op: str) -> None:
    data = tensors(make(op, 4, 3))
    real = [name for name in OPS[op].arrays if name not in FLAGS]
    for name in real:
        wanting = data | {name: data[name].clone().requires_grad_()}
        if name in DIFFERENTIABLE.get(op, ()):
            with pytest.raises(ValueError, match=f"{op}: out must be None where an input requires grad"):
                run(op, wanting, **VARIANTS[op][0], out=torch.empty(4, 3))
        else:
            with pytest.raises(ValueError, match=f"{op}: inputs must not require grad"):
                run(op, wanting, **VARIANTS[op][0])
        with torch.no_grad():
            assert not any(x.requires_grad for x in run(op, wanting, **VARIANTS[op][0]))
    out = tuple(torch.empty(4, 3, requires_grad=True) for _ in range(OPS[op].outputs))
    with pytest.raises(ValueError, match=f"{op}: out must not require grad"):
        run(op, data, **VARIANTS[op][0], out=out if len(out) == 2 else out[0])


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_factors_have_no_gradient(op: str) -> None:
    factor = torch.rand(4, 3, requires_grad=True)
    for name in OPS[op].factors:
        with pytest.raises(ValueError, match=f"{op}: {name} must not require grad"):
            run(op, tensors(make(op, 4, 3)), **{name: factor})


@each_op
def test_refuses(op: str) -> None:
    data, variant = tensors(make(op, 4, 3)), VARIANTS[op][0]
    first = OPS[op].arrays[0]
    for name in OPS[op].arrays[1:]:
        kind = "bool" if name in FLAGS else "float32"
        for wrong, error, message in [
            (data[name].numpy(), TypeError, rf"must be a {kind} tensor \[T, B\], got ndarray"),
            (data[name][:, :2], ValueError, rf"must be {kind} \[T, B\] = \[4, 3\], got {kind} \[4, 2\]"),
            (data[name].to("meta"), ValueError, "must be on cpu as .* is, got meta"),
            (data[name].to(torch.bfloat16), TypeError, rf"must be {kind} \[T, B\], got bfloat16 \[4, 3\]"),
        ]:
            with pytest.raises(error, match=f"{op}: {name} {message}"):
                run(op, data | {name: wrong}, **variant)
    for wrong in (data[first].half(), data[first].long(), data[first][0]):
        with pytest.raises((TypeError, ValueError), match=f"{op}: {first} must be float32"):
            run(op, data | {first: wrong}, **variant)
    with pytest.raises(ValueError, match=f"{op}: gamma must be in"):
        run(op, data, **(variant | {"gamma": 2}))


def test_factors_are_tensors_where_the_rest_are() -> None:
    data = tensors(make("td_lambda", 4, 3))
    with pytest.raises(TypeError, match="td_lambda: lam must be a float32 tensor"):
        td_lambda(**data, lam=np.zeros((4, 3), np.float32))
    with pytest.raises(TypeError, match="discounted: gamma must be float32"):
        discounted(**tensors(make("discounted", 4, 3)), gamma=torch.zeros(4, 3).double())


def test_out_counts_as_written() -> None:
    """Else autograd would take what was in it before for what a product needs."""
    data, out = tensors(make("gae", 4, 3)), torch.ones(4, 3)
    weight = torch.ones(4, 3, requires_grad=True)
    product = (weight * out).sum()
    run("gae", data, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    pair = torch.ones(4, 3), torch.ones(4, 3)
    run("vtrace", tensors(make("vtrace", 4, 3)), out=pair)
    assert [x._version for x in pair] == [1, 1]


def test_factors_changed_before_the_backward_pass() -> None:
    data = tensors(make("discounted", 4, 3))
    reward, gamma = data["reward"].requires_grad_(), torch.full((4, 3), 0.9)
    total = discounted(reward, data["terminated"], gamma=gamma)
    gamma.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.sum().backward()


def test_padding_without_a_factor_has_no_gradient() -> None:
    data = tensors(make("td_lambda", 5, 3))
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[3:] = False
    nothing = torch.where(mask, 0.9, torch.nan)
    leaves = [data[name].requires_grad_() for name in ("reward", "next_value")]
    arrays = (*leaves, data["terminated"], data["truncated"])
    gradients = [
        torch.autograd.grad(td_lambda(*arrays, mask=mask, gamma=x, lam=x).sum(), leaves)
        for x in (nothing, torch.full((5, 3), 0.9))
    ]
    for x, y in zip(*gradients, strict=True):
        assert torch.equal(x, y)


def test_compiled_with_numbers_and_sizes_that_change() -> None:
    torch.compiler.reset()

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def both(reward, next_value, terminated, gamma):
        target = n_step(reward, next_value, terminated, gamma=gamma, n=reward.shape[0] - 1)
        return target, td_lambda(reward, next_value, terminated, gamma=gamma, lam=0.5 * gamma)

    for steps, gamma in ((4, 0.9), (5, 0.91), (9, 0.5)):
        data = tensors(make("td_lambda", steps, 3))
        arrays = data["reward"], data["next_value"], data["terminated"]
        wanted = (
            n_step(*arrays, gamma=gamma, n=steps - 1),
            td_lambda(*arrays, gamma=gamma, lam=0.5 * gamma),
        )
        for x, y in zip(both(*arrays, gamma), wanted, strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("gamma", [np.float32(0.9), np.array(0.9), torch.tensor(0.9)])
def test_compiled_refuses_numbers_that_a_graph_does_not_hold(gamma: Any) -> None:
    torch.compiler.reset()
    arrays = tensors(make("n_step", 4, 3))
    compiled = torch.compile(lambda: n_step(**arrays, gamma=gamma, n=2), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"n_step: gamma must be a number of Python's under torch.compile"):
        compiled()
