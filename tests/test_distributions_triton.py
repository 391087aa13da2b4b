"""Sampling in Triton without a GPU, interpreted and compiled ahead of time."""

INTERPRETED = """
import numpy as np
from fastrl.kernels import categorical_sample, gaussian_sample, multi_categorical_sample

rng = np.random.default_rng(0)

def check(op, *policy, action_rtol=0, **options):
    key = {"seed": 2**64 - 5, "counter": 2**40 + 3}
    got, exact = (op(*policy, **key, **options, backend=backend) for backend in ("triton", "cpp"))
    np.testing.assert_allclose(got.action, exact.action, rtol=action_rtol, atol=action_rtol)
    np.testing.assert_allclose(got.log_prob, exact.log_prob, rtol=1e-4, atol=1e-4)

for batch, actions in [(0, 2), (1, 1), (5, 2), (131, 7)]:
    logits = rng.normal(size=(batch, actions + 1)).astype(np.float32)[:, 1:]
    mask = rng.random((batch, actions)) < 0.5
    mask[:, 0] = True
    check(categorical_sample, logits)
    check(categorical_sample, logits, action_mask=mask)
    for log_std in (0.1 * logits, np.linspace(-1, 1, actions, dtype=np.float32)):
        check(gaussian_sample, logits, log_std, action_rtol=2e-5)
logits = rng.normal(size=(130, 7)).astype(np.float32)
check(multi_categorical_sample, logits, (2, 4, 1))

import warnings
warnings.simplefilter("ignore", RuntimeWarning)
logits[1, 0] = np.nan
got = categorical_sample(logits, seed=1, backend="triton")
assert got.action[1] == -1 and np.isnan(got.log_prob[1])
assert (np.delete(got.action, 1) >= 0).all() and np.isfinite(np.delete(got.log_prob, 1)).all()
"""

COMPILED = """
from fastrl.kernels.distributions.triton import categorical_sample_kernel, gaussian_sample_kernel

types = dict.fromkeys(("logits", "mean", "log_std", "log_prob"), "*fp32")
types |= {"mask": "*i1", "offsets": "*i64", "key": "*i64"}
for masked, rows, columns in [(False, 128, 2), (True, 8, 32), (True, 1, 256)]:
    constants = {"MASKED": masked, "BLOCK_B": rows, "BLOCK_A": columns}
    compiled(categorical_sample_kernel, types | {"action": "*i64"}, constants)
compiled(gaussian_sample_kernel, types | {"action": "*fp32"}, {"BLOCK_B": 128})
"""


def test_interpreted_draws_what_the_cpu_draws(triton_interpreted) -> None:
    triton_interpreted(INTERPRETED)


def test_compiles_for_a100_and_h100_without_spilling(triton_compiled) -> None:
    triton_compiled(COMPILED, kernels=4)
