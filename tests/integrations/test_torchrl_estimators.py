"""Value estimators beside TorchRL's of the same names."""

from typing import Any

import pytest
import torch

pytest.importorskip("torchrl")

from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import nn
from torch.distributions import Categorical
from torchrl.objectives import value as theirs
from torchrl.objectives.value import functional

import fastrl.integrations.torchrl as ours
from fastrl import kernels
from fastrl.integrations.torchrl import estimators


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels' functions that our estimators called."""
    calls: list[str] = []

    def counting(name: str, run: Any) -> Any:
        return lambda *args, **options: (calls.append(name), run(*args, **options))[1]

    for name in ("gae", "discounted", "td_lambda"):
        monkeypatch.setattr(kernels, name, counting(name, getattr(kernels, name)))
    return calls


def critic() -> TensorDictModule:
    torch.manual_seed(0)
    return TensorDictModule(nn.Linear(3, 1), in_keys=["obs"], out_keys=["state_value"])


def actor() -> ProbabilisticTensorDictSequential:
    torch.manual_seed(1)
    return ProbabilisticTensorDictSequential(
        TensorDictModule(nn.Linear(3, 4), in_keys=["obs"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(
            in_keys=["logits"], out_keys=["action"], distribution_class=Categorical, return_log_prob=True
        ),
    )


def rollout(steps: int = 30) -> TensorDict:
    torch.manual_seed(2)
    obs = torch.randn(4, steps + 1, 3)
    done = torch.rand(4, steps, 1) < 0.1
    return TensorDict(
        {
            "obs": obs[:, :-1],
            "action": torch.randint(0, 4, (4, steps)),
            "action_log_prob": torch.randn(4, steps) - 1,
            "next": {
                "obs": obs[:, 1:],
                "reward": torch.randn(4, steps, 1),
                "done": done,
                "terminated": done & (torch.rand(4, steps, 1) < 0.5),
            },
        },
        [4, steps],
    )


def close(got: TensorDict, expected: TensorDict) -> None:
    assert set(got.keys(True, True)) == set(expected.keys(True, True))
    for key in ("advantage", "value_target"):
        torch.testing.assert_close(got[key], expected[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("options", [{}, {"average_gae": True}, {"differentiable": True}, {"shifted": True}])
def test_gae(counted: list[str], vectorized: bool, options: dict[str, Any]) -> None:
    settings = {"gamma": 0.97, "lmbda": 0.9, "value_network": critic(), "vectorized": vectorized} | options
    got, expected = (module.GAE(**settings)(rollout()) for module in (ours, theirs))
    close(got, expected)
    assert counted == ["gae"]
    assert isinstance(ours.GAE(**settings), theirs.GAE)
    if options.get("differentiable"):
        gradients = []
        for module in (ours, theirs):
            data = rollout()
            data["next", "reward"].requires_grad_()
            module.GAE(**settings)(data)["advantage"].square().sum().backward()
            gradients.append(data["next", "reward"].grad)
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
        assert counted == ["gae", "discounted"]
    got, expected = (module.GAE(**settings).value_estimate(rollout()) for module in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vectorized", [False, True])
def test_td_lambda(counted: list[str], vectorized: bool) -> None:
    settings = {"gamma": 0.97, "lmbda": 0.9, "value_network": critic(), "vectorized": vectorized}
    got, expected = (module.TDLambdaEstimator(**settings)(rollout()) for module in (ours, theirs))
    close(got, expected)
    assert counted == ["td_lambda"]
    got, expected = (
        module.TDLambdaEstimator(**settings).value_estimate(rollout()) for module in (ours, theirs)
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_vtrace(counted: list[str]) -> None:
    settings = {
        "gamma": 0.97,
        "value_network": critic(),
        "actor_network": actor(),
        "rho_thresh": 1.2,
        "c_thresh": 0.9,
    }
    got, expected = (module.VTrace(**settings)(rollout()) for module in (ours, theirs))
    close(got, expected)
    assert counted == ["discounted"]


def test_torchrls_own_stay_as_they_are(counted: list[str]) -> None:
    theirs.GAE(gamma=0.9, lmbda=0.9, value_network=critic())(rollout())
    assert counted == []
    assert theirs.advantages.generalized_advantage_estimate is functional.generalized_advantage_estimate
    assert estimators._on_kernels(len) is len
