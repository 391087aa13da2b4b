"""Targets of off-policy and λ-methods beside TorchRL's and RLax's, which tests where they are installed."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl.kernels import q_lambda, retrace, td_lambda, vtrace

Array = NDArray[Any]
T, A, GAMMA = 9, 4, 0.9
LAMBDAS = pytest.mark.parametrize("lam", [1.0, 0.7])
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def rlax() -> Any:
    return pytest.importorskip("rlax")


def episode(seed: int = 0) -> dict[str, Array]:
    """A rollout of one environment: values and policies have a row more, of where the last step led to."""
    rng = np.random.default_rng(seed)
    ended = rng.random(T) < 0.3
    x = {
        "reward": rng.normal(size=T),
        "value": rng.normal(size=T + 1),
        "log_rho": rng.normal(size=T),
        "q": rng.normal(size=(T + 1, A)),
        "pi": rng.dirichlet(np.ones(A), T + 1),
        "mu": rng.dirichlet(np.ones(A), T + 1),
        "discount": GAMMA * ~ended,
    }
    numbers = {name: y.astype(np.float32) for name, y in x.items()}
    return numbers | {"ended": ended, "action": rng.integers(A, size=T + 1)}


def column(x: Array) -> Array:
    """One environment of [T, B]."""
    return x[:, None]


@LAMBDAS
def test_td_lambda_of_rlax(rlax: Any, lam: float) -> None:
    x = episode()
    ours = td_lambda(column(x["reward"]), column(x["value"][1:]), column(x["ended"]), gamma=GAMMA, lam=lam)
    theirs = rlax.lambda_returns(x["reward"], x["discount"], x["value"][1:], lam)
    np.testing.assert_allclose(ours[:, 0], theirs, **CLOSE)


def test_vtrace_of_rlax(rlax: Any) -> None:
    """With λ = 1: below, RLax's advantage mixes the value in, ours is the paper's."""
    x = episode()
    names = ("log_rho", "reward")
    values = column(x["value"][:-1]), column(x["value"][1:])
    target, advantage = vtrace(*(column(x[name]) for name in names), *values, column(x["ended"]), gamma=GAMMA)
    theirs = rlax.vtrace_td_error_and_advantage(
        x["value"][:-1], x["value"][1:], x["reward"], x["discount"], np.exp(x["log_rho"]), lambda_=1.0
    )
    np.testing.assert_allclose(target[:, 0], x["value"][:-1] + theirs.errors, **CLOSE)
    np.testing.assert_allclose(advantage[:, 0], theirs.pg_advantage, **CLOSE)


@LAMBDAS
def test_retrace_of_rlax(rlax: Any, lam: float) -> None:
    x, row = episode(), np.arange(T + 1)
    q, action = x["q"], x["action"]
    taken = q[row, action]
    log_rho = np.log(x["pi"][row, action] / x["mu"][row, action])
    ours = retrace(
        column(log_rho[:-1]),
        column(x["reward"]),
        column(taken[:-1]),
        column((x["pi"] * q).sum(1)[1:]),
        column(x["ended"]),
        gamma=GAMMA,
        lam=lam,
    )
    theirs = rlax.retrace(
        *(q[:-1], q[1:], action[:-1], action[1:], x["reward"], x["discount"]),
        *(x["pi"][1:], x["mu"][row, action][1:], lam),
    )
    np.testing.assert_allclose(ours[:, 0] - taken[:-1], theirs, **CLOSE)


@LAMBDAS
@pytest.mark.parametrize("cut", [False, True], ids=["Peng", "Watkins"])
def test_q_lambda_of_rlax(rlax: Any, lam: float, cut: bool) -> None:
    x, row = episode(), np.arange(T + 1)
    q, action = x["q"], x["action"]
    greedy = action == q.argmax(1) if cut else np.ones(T + 1, np.bool_)
    ours = q_lambda(
        *(column(x["reward"]), column(q.max(1)[1:]), column(greedy[:-1]), column(x["ended"])),
        gamma=GAMMA,
        lam=lam,
    )
    weight = (lam * greedy[1:]).astype(np.float32)
    theirs = rlax.q_lambda(q[:-1], action[:-1], x["reward"], x["discount"], q[1:], weight)
    np.testing.assert_allclose(ours[:, 0] - q[row, action][:-1], theirs, **CLOSE)


def of_torchrl(seed: int = 0) -> tuple[Any, dict[str, Array]]:
    """TorchRL's functions, and a rollout [T, B] with truncations."""
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    rng = np.random.default_rng(seed)
    names = ("reward", "value", "next_value", "log_pi", "log_mu")
    x = {name: rng.normal(size=(T, 5)) for name in names}
    done = rng.random((T, 5)) < 0.3
    return functional, x | {"done": done, "terminated": done & (rng.random((T, 5)) < 0.5)}


@LAMBDAS
def test_td_lambda_of_torchrl(lam: float) -> None:
    import torch

    functional, x = of_torchrl()
    names = ("next_value", "reward", "done", "terminated")
    arrays = [torch.from_numpy(x[name]) for name in names]
    theirs = functional.td_lambda_return_estimate(GAMMA, lam, *arrays)
    ours = td_lambda(x["reward"], x["next_value"], x["terminated"], x["done"], gamma=GAMMA, lam=lam)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_vtrace_of_torchrl() -> None:
    """Where values of the next step are those after the step, as there: its recursion takes V of the next step off."""
    import torch

    functional, x = of_torchrl()
    following = np.where(x["done"], x["next_value"], np.append(x["value"][1:], x["next_value"][-1:], axis=0))
    x["next_value"] = following
    names = ("log_pi", "log_mu", "value", "next_value", "reward", "done", "terminated")
    arrays = [torch.from_numpy(x[name]) for name in names]
    advantage, target = functional.vtrace_advantage_estimate(GAMMA, *arrays)
    ours = vtrace(
        x["log_pi"] - x["log_mu"],
        *(x[name] for name in ("reward", "value", "next_value", "terminated", "done")),
        gamma=GAMMA,
    )
    np.testing.assert_allclose(ours[0], target, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[1], advantage, rtol=1e-5, atol=1e-5)
