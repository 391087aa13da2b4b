"""The distributional family in Triton without a GPU, interpreted and compiled ahead of time."""

INTERPRETED = """
import numpy as np
from fastrl.kernels._dispatch import available
from fastrl.kernels.distributional import (
    REDUCTIONS, c51_loss, c51_project, expectation, hl_gauss, quantile_huber, two_hot
)

assert "triton" in available("distributional", "c51_loss")
rng = np.random.default_rng(0)
BOTH = ("triton", "reference")

def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

def check(op, *arguments, tolerance=2e-5, **options):
    got, exact = (op(*arguments, **options, backend=backend) for backend in BOTH)
    for x, y in zip(*((r,) if isinstance(r, np.ndarray) else r for r in (got, exact))):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)

EVEN = {"v_min": -3, "v_max": 4}
for rows, n in [(0, 5), (1, 2), (7, 5), (33, 17), (3, 51), (2, 130)]:
    uneven = np.sort(rng.normal(0, 3, n))
    flags = rng.random(rows) < 0.3
    wide = rng.dirichlet(np.ones(n + 3), rows).astype(np.float32) if rows else np.zeros((0, n + 3), np.float32)
    probs = wide[:, 1:-2]
    reward, discount = 3 * normal(rows), rng.choice([0, 0.99, 0.5, 1.2, -0.3], rows).astype(np.float32)
    for support in (EVEN, {"support": uneven}):
        for target in (None, np.linspace(-2, 3, 7), np.sort(rng.normal(0, 2, 20))):
            check(c51_project, probs, reward, discount, **support, target_support=target)
        check(c51_project, probs, reward, terminated=flags, gamma=0.9, **support)
        check(c51_project, *(x.astype(float) for x in (probs, reward, discount)), **support, tolerance=1e-12)
        logits, following, selector = 2 * normal(3, rows, 4, n)
        action = rng.integers(4, size=rows)
        check(c51_loss, logits, action, following, reward, discount, **support)
        options = support | {"gamma": 0.9, "scale": 0.3}
        check(c51_loss, logits, action, following, reward, next_selector=selector, kl=True, **options)
        check(c51_loss, logits[:, 1], None, following[:, 0], reward, terminated=flags, **options)
        for shape in ((rows, n), (rows, 3, n)):
            check(expectation, normal(*shape), logits=True, **support)
            check(expectation, normal(*shape), **support, tolerance=1e-4)
    check(two_hot, 3 * normal(rows), **EVEN, atoms=n)
    check(two_hot, 3 * normal(rows), support=uneven, tolerance=1e-4)
    check(hl_gauss, 3 * normal(rows), **EVEN, atoms=n, sigma=0.4)
    check(hl_gauss, 3 * normal(rows), support=uneven, sigma=0.4)
    for sigma in (1e-310, 1e-6, 1e3, 1e300):
        check(hl_gauss, 3 * normal(rows), **EVEN, atoms=n, sigma=sigma)

for rows, n, m in [(0, 3, 3), (1, 1, 1), (3, 5, 7), (2, 70, 33), (2, 17, 130)]:
    quantiles, targets = normal(rows, n), normal(rows, 2 * m)[:, ::2]
    targets[:, 0] = quantiles[:, 0]
    for taus in (None, rng.random(n, np.float32), rng.random((rows, n), np.float32)):
        for kappa in (0, 0.5, 1.0, np.inf):
            check(quantile_huber, quantiles, targets, taus=taus, kappa=kappa, reduction=REDUCTIONS[n % 3], scale=0.2)

# atoms far from 0 are as far apart as near it
for low in (1e3, 1e5):
    probs, reward = rng.dirichlet(np.ones(51), 16).astype(np.float32), normal(16) + np.float32(0.01 * low)
    check(c51_project, probs, reward, gamma=0.99, v_min=low, v_max=low + 20, tolerance=2e-5)
    logits, action = normal(2, 16, 3, 51), rng.integers(3, size=16)
    check(c51_loss, logits[0], action, logits[1], reward, gamma=0.99, v_min=low, v_max=low + 20)

# a result goes where it is wanted
out = np.zeros((9, 2), np.float32).T
probs = rng.dirichlet(np.ones(5), 2).astype(np.float32)
out = np.zeros((5, 2), np.float32).T
assert c51_project(probs, normal(2), gamma=0.5, **EVEN, out=out, backend="triton") is out
np.testing.assert_allclose(out.sum(1), 1, rtol=1e-6)

# tensors go to the kernel as they are, and the loss is differentiable
import torch
torch.manual_seed(0)
x = torch.randn(6, 3, 9, requires_grad=True)
rest = (torch.randint(3, (6,)), torch.randn(6, 3, 9), torch.randn(6))
y, t = torch.randn(6, 9, requires_grad=True), torch.randn(6, 4)
for loss in (
    lambda backend: c51_loss(x, *rest, gamma=0.9, **EVEN, backend=backend).loss,
    lambda backend: quantile_huber(y, t, backend=backend).loss,
    lambda backend: expectation(x, **EVEN, logits=True, backend=backend).sum(1),
):
    got, exact = (
        torch.autograd.grad((loss(backend) * torch.arange(6)).sum(), (x, y), allow_unused=True)
        for backend in ("triton", "cpp")
    )
    assert any(g is not None for g in got)
    torch.testing.assert_close(got, exact, rtol=2e-5, atol=2e-5)

# NaN stays in its row; so does an action that is out of range, which the CPU's kernels refuse
import warnings
warnings.simplefilter("ignore", RuntimeWarning)
reward, discount = normal(8), np.full(8, 0.9, np.float32)
reward[0], reward[1], discount[2] = np.nan, np.inf, np.inf
logits, following = normal(2, 8, 3, 5)
logits[3, 1, 2] = logits[4, 0, 2] = following[5, 2, 0] = np.nan
probs = rng.dirichlet(np.ones(5), 8).astype(np.float32)
probs[6, 2] = np.inf
check(c51_project, probs, reward, discount, **EVEN)
action = np.ones(8, int)
check(c51_loss, logits, action, following, reward, discount, **EVEN)
action[6], action[7] = 3, -1
got = c51_loss(logits, action, following, reward, discount, **EVEN, backend="triton")
np.testing.assert_array_equal(np.isnan(got.loss), [1, 0, 1, 1, 0, 1, 1, 1])
assert np.isnan(got.d_logits[6:]).all()
"""

COMPILED = """
from fastrl.kernels.distributional.triton import (
    DEVICES, c51_loss_kernel, c51_project_kernel, expectation_kernel, hl_gauss_kernel, quantile_huber_kernel
)

assert DEVICES == ("cuda",)
FLOATS = (
    "probs reward discount source target out logits next_logits selector atoms loss d_logits theta tau d_theta x"
)
types = dict.fromkeys(FLOATS.split(), "*fp32") | {"action": "*i64"}
types |= {"edges": "*fp64"}
doubles = dict.fromkeys(("source", "target", "atoms"), "*fp64")
types |= dict.fromkeys("kappa weight scale".split(), "fp32") | dict.fromkeys(("gamma", "sigma"), "fp64")
wide = types | dict.fromkeys("probs reward discount source target out".split(), "*fp64")
for rows, columns in [(16, 64), (1, 1024)]:
    for discount in (True, False):
        constants = {"DISCOUNT": discount, "FLAGS": not discount, "BLOCK_B": rows}
        flags = {} if discount else {"discount": "*i1"}
        compiled(c51_project_kernel, types | doubles | flags, constants | {"BLOCK_M": columns})
        compiled(c51_loss_kernel, types | doubles | flags, constants | {"KL": discount, "BLOCK_N": columns})
    compiled(c51_project_kernel, wide | flags, constants | {"BLOCK_M": columns})
    block = {"BLOCK_B": rows, "BLOCK_N": columns}
    compiled(expectation_kernel, types, block | {"LOGITS": rows == 1})
    compiled(hl_gauss_kernel, types, block)
    compiled(quantile_huber_kernel, types, {"PLAIN": rows == 1, "BLOCK_N": 64, "BLOCK_M": 64})
"""


def test_interpreted_matches_the_reference(triton_interpreted) -> None:
    triton_interpreted(INTERPRETED)


def test_compiles_for_a100_and_h100_without_spilling(triton_compiled) -> None:
    triton_compiled(COMPILED, kernels=16)
