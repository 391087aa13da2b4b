"""Value functions beside TorchRL's of the same names."""

from typing import Any

import pytest
import torch

pytest.importorskip("torchrl")

from torchrl.objectives.value import functional

import fastrl.integrations.torchrl as ours

SHAPES = [
    ((2, 20, 1), -2),
    ((20, 1), -2),
    ((3, 2, 15, 4), -2),
    ((20, 3), 0),
    ((3, 20), -1),
    ((5, 9, 2), 1),
    ((1, 1, 1), -2),
]


def rollout(shape: tuple[int, ...], dtype: Any = torch.float64, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = ("state_value", "next_state_value", "reward", "log_pi", "log_mu")
    real = {name: torch.randn(shape, generator=generator, dtype=dtype) for name in names}
    done = torch.rand(shape, generator=generator) < 0.2
    return real | {"done": done, "terminated": done & (torch.rand(shape, generator=generator) < 0.5)}


def call(module: Any, name: str, data: dict[str, torch.Tensor], **options: Any) -> tuple[torch.Tensor, ...]:
    unused = {"generalized_advantage_estimate": ("log_pi", "log_mu"), "vtrace_advantage_estimate": ()}
    drop = unused.get(name, ("log_pi", "log_mu", "state_value"))
    result = getattr(module, name)(**{key: x for key, x in data.items() if key not in drop}, **options)
    return result if isinstance(result, tuple) else (result,)


NAMES = ["generalized_advantage_estimate", "td_lambda_return_estimate", "vtrace_advantage_estimate"]


def options_of(name: str) -> dict[str, Any]:
    return (
        {"gamma": 0.95, "rho_thresh": 1.5, "c_thresh": 1.1}
        if "vtrace" in name
        else {"gamma": 0.95, "lmbda": 0.8}
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "time_dim"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_torchrl(name: str, shape: tuple[int, ...], time_dim: int, dtype: Any) -> None:
    """TorchRL's GAE and V-trace have their discounts in float32, whatever the dtype."""
    data = rollout(shape, dtype)
    exact = dtype == torch.float64 and name == "td_lambda_return_estimate"
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if exact else {"rtol": 1e-5, "atol": 1e-5}
    for case in (data, data | {"terminated": None}):
        got = call(ours, name, case, time_dim=time_dim, **options_of(name))
        expected = call(functional, name, case, time_dim=time_dim, **options_of(name))
        for x, y in zip(got, expected, strict=True):
            assert x.shape == y.shape
            torch.testing.assert_close(x, y, **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_as_tensors_and_one_a_step(name: str) -> None:
    data = rollout((2, 20, 1))
    given = options_of(name)
    for make in (
        torch.tensor,
        lambda x: x - 0.5 * torch.rand(2, 20, 1, generator=torch.Generator().manual_seed(1)).double(),
    ):
        options = given | {key: make(given[key]) for key in ("gamma", "lmbda") if key in given}
        for x, y in zip(
            call(ours, name, data, **options), call(functional, name, data, **options), strict=True
        ):
            torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES[:2])
def test_gradients(name: str) -> None:
    results = []
    for module in (ours, functional):
        data = rollout((2, 20, 1))
        leaves = [data[key].requires_grad_() for key in ("reward", "next_state_value", "state_value")]
        total = sum(
            (x * torch.arange(20.0)[:, None]).sum() for x in call(module, name, data, **options_of(name))
        )
        used = leaves if "advantage" in name else leaves[:2]
        results.append(torch.autograd.grad(total, used))
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_rolling_gamma() -> None:
    data = rollout((2, 6, 1))
    gamma = torch.rand(2, 6, 1).double()
    got = call(ours, NAMES[1], data, gamma=gamma, lmbda=0.5, rolling_gamma=False)
    torch.testing.assert_close(
        got, call(functional, NAMES[1], data, gamma=gamma, lmbda=0.5, rolling_gamma=False)
    )


@pytest.mark.parametrize("name", NAMES)
def test_refusals(name: str) -> None:
    data = rollout((2, 20, 1))
    with pytest.raises(RuntimeError, match="must share a unique shape"):
        call(ours, name, data | {"reward": data["reward"][:, :-1]}, **options_of(name))
    with pytest.raises(RuntimeError, match="time_dim must be a dimension"):
        call(ours, name, data, time_dim=3, **options_of(name))
    if "vtrace" not in name:
        with pytest.raises(ValueError, match="gamma must be in"):
            call(ours, name, data, **(options_of(name) | {"gamma": 1.5}))
