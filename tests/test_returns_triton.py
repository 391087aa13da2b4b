"""The returns family in Triton without a GPU, interpreted and compiled ahead of time."""

INTERPRETED = """
import numpy as np
from fastrl.kernels import gae
from fastrl.kernels._dispatch import available

assert "triton" in available("returns", "gae")

def rollout(steps, batch, dtype):
    rng = np.random.default_rng(steps * 1000 + batch)
    real = {name: rng.normal(size=(steps, batch)).astype(dtype) for name in ("reward", "value", "next_value")}
    return real | {name: rng.random((steps, batch)) < 0.2 for name in ("terminated", "truncated")}

def check(data, **options):
    got, exact = gae(**data, backend="triton", **options), gae(**data, backend="reference")
    assert got.dtype == data["reward"].dtype
    np.testing.assert_allclose(got, exact, rtol=4e-6, atol=4e-6 * np.abs(exact).max(initial=1))
    return got

# The interpreter rounds gamma to float32, so float64 is held to float32's tolerance too.
for steps, batch, dtype in [(5, 1, "f8"), (3, 35, "f4"), (40, 33, "f8"), (0, 3, "f4"), (3, 0, "f8")]:
    data = rollout(steps, batch, dtype)
    check(data)
    check(data | {"truncated": None})
    if steps:
        check(data | {"truncated": None, "next_value": data["next_value"][-1]})

data = rollout(40, 35, np.float32)
check({name: np.repeat(x.T, 2, axis=0)[::2].T for name, x in data.items()})
frame = np.full((42, 39), 9, np.float32)
assert check(data, out=frame[1:-1, 2:-2]).base is frame
frame[1:-1, 2:-2] = 9
assert (frame == 9).all()
own = data["value"].copy()
np.testing.assert_array_equal(gae(**(data | {"value": own}), out=own, backend="triton"), check(data))

data["terminated"][20] = True
for name in ("reward", "value", "next_value"):
    data[name][21:] = np.nan
data["next_value"][20] = np.inf
data["reward"][7, 3] = np.inf
got, exact = (gae(**data, backend=backend) for backend in ("triton", "reference"))
np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
np.testing.assert_array_equal(np.isinf(got), np.isinf(exact))
assert np.isfinite(got[20]).all()
"""

COMPILED = """
from fastrl.kernels.returns.triton import DEVICES, gae_kernel

assert DEVICES == ("cuda",)
reals = ("reward", "value", "next_value", "out")
flags = ("terminated", "truncated")
for real, after_last, block_t, block_b, unit in [
    ("fp32", False, 32, 32, True),
    ("fp32", True, 128, 8, True),
    ("fp32", True, 1024, 1, False),
    ("fp64", True, 32, 32, True),
]:
    constants = {"AFTER_LAST": after_last, "BLOCK_T": block_t, "BLOCK_B": block_b}
    constants |= {name + "_b": 1 for name in reals + flags} if unit else {}
    types = {"gamma": "fp64", "decay": "fp64"} | dict.fromkeys(reals, "*" + real) | dict.fromkeys(flags, "*i1")
    compiled(gae_kernel, types, constants, fusion=False)
"""


def test_interpreted_matches_the_reference(triton_interpreted) -> None:
    triton_interpreted(INTERPRETED)


def test_compiles_for_a100_and_h100_without_spilling(triton_compiled) -> None:
    triton_compiled(COMPILED, kernels=4)
