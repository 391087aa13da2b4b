"""Clip and Adam in Triton without a GPU, interpreted and compiled ahead of time."""

INTERPRETED = """
import numpy as np
import torch
from fastrl.kernels.network import adam_step, triton

rng = np.random.default_rng(0)
for size in (1, 1024, 5000):
    params, grad, m = rng.normal(size=(3, size)).astype(np.float32)
    ours = [params, grad, m, np.abs(params)]
    theirs = [x.copy() for x in ours]
    for t, max_grad_norm in [(1, 0.5), (2, np.inf), (1000, 1e6)]:
        step, rate = torch.tensor(t), torch.tensor(1e-3)
        norm = triton.adam_step(*ours, step, rate, 0.9, 0.999, 1e-5, max_grad_norm)
        exact = adam_step(*theirs, t=t, learning_rate=1e-3, eps=1e-5, max_grad_norm=max_grad_norm)
        np.testing.assert_allclose(norm.item(), exact, rtol=1e-6)
        for got, wanted in zip(ours, theirs):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)

    before = [x.copy() for x in ours]
    for bad in (np.nan, np.inf):
        ours[1][0] = bad
        norm = triton.adam_step(*ours, 3, 1e-3, 0.9, 0.999, 1e-5, 0.5)
        assert not np.isfinite(norm.item())
        for k in (0, 2, 3):
            np.testing.assert_array_equal(ours[k], before[k])
"""

COMPILED = """
from fastrl.kernels.network.triton import adam_kernel, squares_kernel

arrays = ("params", "grad", "m", "v", "norm", "learning_rate")
types = dict.fromkeys(arrays, "*fp32") | {"partial": "*fp64", "squares": "*fp64", "step": "*i64"}
types |= dict.fromkeys(("beta1", "beta2", "eps", "max_grad_norm"), "fp32")
types |= dict.fromkeys(("log_beta1", "log_beta2"), "fp64")
compiled(squares_kernel, types, {"BLOCK": 1024})
compiled(adam_kernel, types, {"BLOCK": 1024})
"""


def test_interpreted_matches_the_cpu(triton_interpreted) -> None:
    triton_interpreted(INTERPRETED)


def test_compiles_for_a100_and_h100_without_spilling(triton_compiled) -> None:
    triton_compiled(COMPILED, kernels=2)
