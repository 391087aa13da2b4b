"""The returns family on torch tensors: eager, compiled, traced."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastrl.kernels import gae  # noqa: E402
from fastrl.kernels.returns import _torch  # noqa: E402

Tensor = Any


def rollout(steps: int, batch: int, dtype: Any = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real = {
        name: torch.randn(steps, batch, generator=generator, dtype=dtype)
        for name in ("reward", "value", "next_value")
    }
    flags = {
        name: torch.rand(steps, batch, generator=generator) < 0.2 for name in ("terminated", "truncated")
    }
    return real | flags


def forms(data: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    return [
        data,
        data | {"truncated": None},
        data | {"truncated": None, "next_value": data["next_value"][-1]},
    ]


def arrays(data: dict[str, Tensor]) -> dict[str, Any]:
    return {name: x if x is None else x.numpy() for name, x in data.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (5, 3), (4, 33), (3, 300), (0, 4), (4, 0)])
def test_eager_equals_numpy(shape: tuple[int, int], dtype: Any) -> None:
    for form in forms(rollout(*shape, dtype=dtype)) if shape[0] else [rollout(*shape, dtype=dtype)]:
        result = gae(**form)
        assert isinstance(result, torch.Tensor)
        assert (result.dtype, result.shape, result.requires_grad) == (dtype, shape, False)
        np.testing.assert_array_equal(result.numpy(), gae(**arrays(form)))


def test_eager_takes_strides_and_out() -> None:
    data = rollout(6, 40)
    expected = gae(**data)
    transposed = {name: x.T.contiguous().T for name, x in data.items()}
    out = torch.empty(40, 6).T
    assert gae(**transposed, out=out) is out
    assert torch.equal(out, expected)
    own = data["value"].clone()
    assert torch.equal(gae(**(data | {"value": own}), out=own), expected)


def test_eager_calls_no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch, "_operators", {})
    gae(**rollout(4, 3))


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_equals_eager(backend: str) -> None:
    @torch.compile(fullgraph=True, backend=backend)
    def normalized(reward, value, next_value, terminated, truncated):
        advantage = gae(reward * 2, value, next_value, terminated, truncated, gamma=0.9, lam=0.8)
        return advantage - advantage.mean()

    torch.compiler.reset()
    for form in forms(rollout(9, 5)):
        advantage = gae(**(form | {"reward": form["reward"] * 2}), gamma=0.9, lam=0.8)
        torch.testing.assert_close(normalized(**form), advantage - advantage.mean())


def test_compiled_writes_out() -> None:
    torch.compiler.reset()
    data, out = rollout(9, 5), torch.zeros(9, 5)
    compiled = torch.compile(lambda out: gae(**data, out=out) + 1, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(out), gae(**data) + 1)
    torch.testing.assert_close(out, gae(**data))


def test_traced_keeps_the_op() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    data, other = rollout(9, 5), rollout(9, 5, seed=1)
    names = list(data)
    graph = make_fx(lambda *xs: gae(**dict(zip(names, xs, strict=True))))(*data.values())
    assert torch.equal(graph(*other.values()), gae(**other))


def test_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        fake = {name: mode.from_tensor(x) for name, x in rollout(9, 5).items()}
        result = gae(**fake)
        assert (result.shape, result.dtype) == ((9, 5), torch.float32)
        with pytest.raises(ValueError, match="gae: value must be"):
            gae(**(fake | {"value": fake["value"][:-1]}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: Any) -> None:
    for form in forms(rollout(9, 5, dtype=dtype)):
        torch.library.opcheck(torch.ops.fastrl.gae.default, (*form.values(), None, 0.99, 0.95, None))


def test_gradients_are_refused() -> None:
    data = rollout(4, 3)
    with pytest.raises(ValueError, match="gae: inputs must not require grad"):
        gae(**(data | {"value": data["value"].requires_grad_()}))
    with torch.no_grad():
        result = gae(**data)
    assert not result.requires_grad
    detached = data | {"value": data["value"].detach()}
    with pytest.raises(ValueError, match="gae: out must not require grad"):
        gae(**detached, out=torch.empty(4, 3, requires_grad=True))
    parameter = torch.nn.Parameter(data["value"].detach(), requires_grad=False)
    assert torch.equal(gae(**(data | {"value": parameter})), result)


REFUSED = [
    (
        {"reward": torch.zeros(4, 3).bfloat16()},
        TypeError,
        r"gae: reward must be float32 \[T, B\], got bfloat16",
    ),
    (
        {"value": torch.zeros(4, 3).double()},
        TypeError,
        r"gae: value must be float32 \[T, B\], got float64 \[4, 3\]",
    ),
    (
        {"value": torch.zeros(4, 3).numpy()},
        TypeError,
        r"gae: value must be a float32 tensor \[T, B\], got ndarray",
    ),
    (
        {"value": torch.zeros(4, 2)},
        ValueError,
        r"gae: value must be float32 \[T, B\] = \[4, 3\], got float32",
    ),
    ({"value": torch.zeros(4, 3, device="meta")}, ValueError, "gae: value must be on cpu as .* is, got meta"),
    (
        {"reward": torch.zeros(4, 3, device="meta")},
        ValueError,
        "gae: value must be on meta as .* is, got cpu",
    ),
    ({"next_value": torch.zeros(3)}, ValueError, r"gae: truncated needs next_value \[T, B\]"),
    ({"terminated": torch.zeros(4, 3)}, TypeError, r"gae: terminated must be bool \[T, B\], got float32"),
    ({"out": torch.zeros(4, 3).double()}, TypeError, r"gae: out must be float32 \[T, B\], got float64"),
    ({"out": torch.zeros(1, 3).expand(4, 3)}, ValueError, "gae: out must hold each element once"),
    ({"gamma": 2}, ValueError, "gae: gamma must be in"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED)
def test_refuses(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gae(**(rollout(4, 3) | wrong))


def test_numpy_refuses_tensors() -> None:
    data = rollout(4, 3)
    with pytest.raises(TypeError, match=r"gae: value must be a float32 array \[T, B\], got Tensor"):
        gae(**(arrays(data) | {"value": data["value"]}))
