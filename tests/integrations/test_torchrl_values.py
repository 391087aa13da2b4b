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


@pytest.mark.parametrize("grad", [False, True])
def test_termination_that_is_not_done_does_not_end_the_sum(grad: bool) -> None:
    data = rollout((2, 20, 1))
    data["terminated"] = torch.rand(2, 20, 1, generator=torch.Generator().manual_seed(2)) < 0.3
    assert (data["terminated"] & ~data["done"]).any()
    expected = call(functional, NAMES[0], data, **options_of(NAMES[0]))
    data["state_value"].requires_grad_(grad)
    for x, y in zip(call(ours, NAMES[0], data, **options_of(NAMES[0])), expected, strict=True):
        torch.testing.assert_close(x.detach(), y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_numbers_out_of_range_with_gradients_too(name: str) -> None:
    data = rollout((2, 20, 1))
    if "vtrace" not in name:
        data["next_state_value"].requires_grad_()
        with pytest.raises(ValueError, match=f"{name}: lmbda must be in"):
            call(ours, name, data, **(options_of(name) | {"lmbda": -0.1}))
    with pytest.raises(ValueError, match=f"{name}: gamma must be in"):
        call(ours, name, data, **(options_of(name) | {"gamma": 5.0}))
    if "vtrace" in name:
        for bar in ("rho_thresh", "c_thresh"):
            with pytest.raises(ValueError, match=rf"{name}: {bar} must be a number, got float32 \[2\]"):
                call(ours, name, data, **(options_of(name) | {bar: torch.ones(2)}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2, 0, 1), (0, 5, 1), (2, 5, 0)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    for x in call(ours, name, rollout(shape), **options_of(name)):
        assert x.shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays(name: str) -> None:
    data = rollout((2, 20, 1), torch.float32)
    half = {key: x.half() if x.dtype == torch.float32 else x for key, x in data.items()}
    exact = call(ours, name, data, **options_of(name))
    for x, y in zip(call(ours, name, half, **options_of(name)), exact, strict=True):
        assert x.dtype == torch.float16
        torch.testing.assert_close(x.float(), y, rtol=1e-2, atol=2e-2)
