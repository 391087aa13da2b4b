"""Arguments of the distributional ops, as tensors."""

from typing import Any

import pytest

from fastrl.kernels.distributional import (
    c51_loss,
    c51_project,
    expectation,
    hl_gauss,
    quantile_huber,
    two_hot,
)

torch = pytest.importorskip("torch")
B, A, N = 6, 3, 11
RANGE = {"v_min": -2.0, "v_max": 3.0}


def arguments_of(op: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    bellman = {"reward": torch.randn(B), "discount": torch.full((B,), 0.9)}
    logits = torch.randn(B, A, N)
    return {
        c51_project: {"probs": torch.softmax(logits[:, 0], 1)} | bellman | RANGE,
        c51_loss: {
            "logits": torch.randn(B, A, N, requires_grad=True),
            "action": torch.randint(A, (B,)),
            "next_logits": logits,
            "next_selector": torch.randn(B, A, N),
        }
        | bellman
        | RANGE,
        quantile_huber: {
            "quantiles": torch.randn(B, N, requires_grad=True),
            "targets": torch.randn(B, 7),
            "taus": torch.rand(B, N),
        },
        expectation: {"x": torch.randn(B, A, N, requires_grad=True), "logits": True} | RANGE,
        two_hot: {"x": torch.randn(B), "atoms": N} | RANGE,
        hl_gauss: {"x": torch.randn(B), "atoms": N, "sigma": 0.4} | RANGE,
    }[op]


OPS = [c51_project, c51_loss, quantile_huber, expectation, two_hot, hl_gauss]
ALL = pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
