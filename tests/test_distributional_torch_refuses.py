"""What the distributional ops refuse of tensors, each in one error of its own."""

from typing import Any

import pytest
from _distributional_torch import ALL, N, arguments_of

from fastrl.kernels.distributional import c51_project, expectation, hl_gauss, two_hot

torch = pytest.importorskip("torch")


@ALL
def test_refuses(op: Any) -> None:
    x = arguments_of(op)
    name = next(iter(x))
    with pytest.raises(TypeError, match=f"{op.__name__}: {name} must be a dense tensor, got one of layout"):
        op(**x | {name: x[name].detach().to_sparse()})
    with pytest.raises(TypeError, match=f"{op.__name__}: {name} must be float32"):
        op(**x | {name: x[name].detach().to(torch.bfloat16)})
    elsewhere = {k: v.detach().to("meta") if isinstance(v, torch.Tensor) else v for k, v in x.items()}
    with pytest.raises(NotImplementedError, match=f"no backend runs {op.__name__} on meta"):
        op(**elsewhere)
    others = [k for k, v in x.items() if isinstance(v, torch.Tensor)][1:]
    for other in others:
        with pytest.raises(
            ValueError, match=f"{op.__name__}: {other} must be on cpu as the first argument is, got meta"
        ):
            op(**x | {other: elsewhere[other]})
        with pytest.raises(TypeError, match=f"{op.__name__}: {other} must be a .* tensor"):
            op(**x | {other: x[other].detach().numpy()})


@pytest.mark.parametrize("op", [c51_project, expectation, hl_gauss, two_hot])
def test_refuses_a_support_elsewhere(op: Any) -> None:
    x = {name: value for name, value in arguments_of(op).items() if name not in ("v_min", "v_max", "atoms")}
    support = torch.linspace(-2.0, 3.0, N)
    op(**x, support=support)
    with pytest.raises(ValueError, match=f"{op.__name__}: support must be on cpu as the first argument is, "):
        op(**x, support=support.to("meta"))


@ALL
def test_refuses_tensors_within_vmap(op: Any) -> None:
    x = arguments_of(op)
    first = next(iter(x))
    with pytest.raises(TypeError, match=f"{op.__name__}: tensors must have memory of their own, got "):
        torch.vmap(lambda y: op(**x | {first: y}))(x[first].detach()[None])
