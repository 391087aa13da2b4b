"""Quantile losses as other libraries reduce them: their conventions as data, our options that give the same."""

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl.kernels.distributional import quantile_huber

Array = NDArray[Any]
B, N, M = 12, 25, 31

CONVENTIONS: dict[str, dict[str, Any]] = {
    "sb3-contrib QR-DQN": {"reduction": "sum over quantiles"},
    "sb3-contrib TQC": {"reduction": "mean"},
    "tianshou QR-DQN": {"reduction": "sum over targets"},
    "torchrl TQC": {"reduction": "mean"},
    "d3rlpy": {"reduction": "sum over quantiles"},
    "rlax": {"reduction": "sum over quantiles", "kappa": 0.0},  # its default
    "rlax huber 0.5": {"reduction": "sum over quantiles", "kappa": 0.5},
    "dopamine": {"reduction": "sum over quantiles", "kappa": 0.5, "scaled": True},
}


def batch_of(n: int = N, m: int = M) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, (B, n)).astype(np.float32), rng.normal(0.5, 2, (B, m)).astype(np.float32)


def same(peer: str, loss: Any, leaf: Any, taus: Array | None = None) -> None:
    """The peer's mean loss and its gradient are ours."""
    torch = pytest.importorskip("torch")
    quantiles, targets = batch_of()
    got = quantile_huber(quantiles, targets, taus=taus, **CONVENTIONS[peer])
    np.testing.assert_allclose(got.loss.mean(), loss.item(), rtol=1e-5)
    (gradient,) = torch.autograd.grad(loss, leaf)
    np.testing.assert_allclose(got.d_quantiles, gradient.reshape(B, N), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("peer", ["sb3-contrib QR-DQN", "sb3-contrib TQC"])
def test_sb3_contrib(peer: str) -> None:
    torch = pytest.importorskip("torch")
    utils = pytest.importorskip("sb3_contrib.common.utils")
    quantiles, targets = map(torch.from_numpy, batch_of())
    quantiles.requires_grad_()
    if peer.endswith("TQC"):  # one critic
        loss = utils.quantile_huber_loss(quantiles[:, None], targets[:, None], sum_over_quantiles=False)
    else:
        loss = utils.quantile_huber_loss(quantiles, targets, sum_over_quantiles=True)
    same(peer, loss, quantiles)


def test_fractions_of_the_documented_shape_go_to_the_wrong_axis_in_sb3_contrib() -> None:
    """Of [B, N] it says that they are one for each quantile; they meet the axis of targets."""
    torch = pytest.importorskip("torch")
    utils = pytest.importorskip("sb3_contrib.common.utils")
    quantiles, targets = batch_of(B, B)  # so that the shapes fit
    taus = np.random.default_rng(1).random((B, B), np.float32)
    tensors = [torch.from_numpy(x) for x in (quantiles, targets, taus)]
    ours = quantile_huber(quantiles, targets, taus=taus).loss.mean()
    right = utils.quantile_huber_loss(*tensors[:2], tensors[2][:, :, None]).item()
    wrong = utils.quantile_huber_loss(*tensors).item()
    np.testing.assert_allclose(ours, right, rtol=1e-5)
    assert abs(wrong - right) > 1e-3 * abs(right)  # ours agrees to 1e-5


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_tianshou() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("tianshou")
    from tianshou.algorithm.modelfree.qrdqn import QRDQN
    from tianshou.data import Batch

    quantiles, targets = map(torch.from_numpy, batch_of())
    leaf = quantiles[:, None].clone().requires_grad_()
    losses: list[Any] = []
    algorithm = SimpleNamespace(
        _periodically_update_lagged_network_weights=lambda: None,
        policy=lambda batch: SimpleNamespace(logits=leaf),
        tau_hat=((torch.arange(N) + 0.5) / N).view(1, -1, 1),
        optim=SimpleNamespace(step=losses.append),
    )
    batch = Batch(act=np.zeros(B, int), returns=targets)
    QRDQN._update_with_batch(algorithm, batch)  # type: ignore[arg-type]
    same("tianshou QR-DQN", losses[0], leaf)


def test_torchrl() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchrl")
    from torchrl.objectives import TQCLoss

    quantiles, targets = map(torch.from_numpy, batch_of())
    quantiles.requires_grad_()
    critic = {"quantiles": quantiles[None]}
    module = SimpleNamespace(
        _maybe_get_priority_weight=lambda data: None,
        compute_target=lambda data: targets,
        qvalue_network=SimpleNamespace(in_keys=[]),
        qvalue_network_params=None,
        _vmap_qnetworkN0=lambda data, parameters: critic,
        tensor_keys=SimpleNamespace(state_action_value="quantiles"),
        _reduce_loss=lambda loss, **_: loss.mean(),
    )
    qvalue_loss = inspect.unwrap(TQCLoss.qvalue_v2_loss)
    loss, _ = qvalue_loss(module, SimpleNamespace(select=lambda *_, **__: None, ndim=1))  # type: ignore[arg-type]
    same("torchrl TQC", loss, quantiles)


@pytest.mark.parametrize("peer", ["dopamine", "d3rlpy"])
def test_formulas(peer: str) -> None:
    """As the peer's source writes it."""
    torch = pytest.importorskip("torch")
    quantiles, targets = map(torch.from_numpy, batch_of())
    quantiles.requires_grad_()
    taus = np.random.default_rng(1).random((B, N), np.float32)
    tau = torch.from_numpy(taus)[:, None, :]
    error = targets[:, :, None] - quantiles[:, None, :]  # [B, M, N], as both have it
    kappa = CONVENTIONS[peer].get("kappa", 1.0)
    small = (error.abs() <= kappa).float()
    huber = small * 0.5 * error**2 + (1 - small) * kappa * (error.abs() - 0.5 * kappa)
    loss = (tau - (error.detach() < 0).float()).abs() * huber
    if peer == "dopamine":
        loss = loss / kappa
    same(peer, loss.sum(2).mean(1).mean(), quantiles, taus)


@pytest.mark.parametrize("peer", ["rlax", "rlax huber 0.5"])
def test_rlax(peer: str) -> None:
    jax = pytest.importorskip("jax")
    rlax = pytest.importorskip("rlax")
    quantiles, targets = batch_of()
    taus = np.random.default_rng(1).random((B, N), np.float32)
    kappa = CONVENTIONS[peer]["kappa"]

    def mean_loss(x: Any) -> Any:
        one = lambda q, tau, t: rlax.quantile_regression_loss(q, tau, t, kappa)  # noqa: E731
        losses = jax.vmap(one)(x, jax.numpy.asarray(taus), jax.numpy.asarray(targets))
        return losses.mean(), losses

    (_, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(jax.numpy.asarray(quantiles))
    got = quantile_huber(quantiles, targets, taus=taus, **CONVENTIONS[peer])
    np.testing.assert_allclose(got.loss, losses, rtol=1e-5)
    np.testing.assert_allclose(got.d_quantiles, gradient, rtol=1e-4, atol=1e-7)
