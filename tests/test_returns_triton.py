"""The returns family in Triton without a GPU, interpreted and compiled ahead of time."""

from pathlib import Path

SHARED = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"

INTERPRETED = """
import itertools
import numpy as np
import torch
from _returns import VARIANTS, close, forms, make, options, run
from fastrl.kernels import gae, vtrace
from fastrl.kernels._dispatch import available
from fastrl.kernels.returns import triton
from fastrl.kernels.returns._ops import FLAGS, OPS

def check(op, data, **given):
    got, exact = (run(op, data, **given, backend=backend) for backend in ("triton", "reference"))
    assert got[0].dtype == data["reward"].dtype
    close(got, exact, 1e-5)  # the interpreter rounds gamma to float32, so float64 is held to its tolerance too
    return got

# one block, several, and chunks of several: few columns and many steps are split
for op in OPS:
    assert "triton" in available("returns", op)
    for steps, batch, dtype in [(5, 1, "f8"), (40, 3, "f8"), (3, 35, "f4"), (0, 3, "f4"), (3, 0, "f8")]:
        data = make(op, steps, batch, dtype=dtype)
        for form in forms(op, data) if steps < 40 else [data]:
            check(op, form, **VARIANTS[op][0])
        for variant in VARIANTS[op][1:]:
            check(op, data, **options(op, variant, data))

launched = []
kernel = triton.scan_kernel
class Spy:
    def __getitem__(self, grid):
        launched.append(grid)
        return kernel[grid]
triton.scan_kernel = Spy()
for op in OPS:
    for steps, batch in [(2100, 1), (300, 5)]:
        data = make(op, steps, batch, ends=0.005)
        data["mask"] |= np.random.default_rng(0).random((steps, batch)) < 0.98
        launched.clear()
        check(op, data, **VARIANTS[op][0])
        assert op == "n_step" or (len(launched) == 2 and launched[0][1] > 1)
triton.scan_kernel = kernel

# CUDA's grids have 65,535 programs at most along the second axis: tiles of many steps lie along the first
for name, op in [("n_step_kernel", "n_step"), ("vtrace_advantage_kernel", "vtrace")]:
    kernel = getattr(triton, name)
    setattr(triton, name, Spy())
    launched.clear()
    data = make(op, 70, 33)
    check(op, data, **VARIANTS[op][0])
    assert launched == [(2 * 3,)], launched
    setattr(triton, name, kernel)

for op in OPS:
    data, variant = make(op, 9, 35), VARIANTS[op][0]
    expected = check(op, data, **variant)
    strided = {name: np.repeat(x.T, 2, axis=0)[::2].T for name, x in data.items()}
    for x, y in zip(check(op, strided, **variant), expected, strict=True):
        np.testing.assert_array_equal(x, y)
    frames = [np.full((11, 39), 9, np.float32) for _ in expected]
    out = tuple(frame[1:-1, 2:-2] for frame in frames)
    run(op, data, **variant, out=out if len(out) == 2 else out[0], backend="triton")
    for x, y, frame in zip(out, expected, frames, strict=True):
        np.testing.assert_array_equal(x, y)
        x[:] = 9
        assert (frame == 9).all()
    for name in (name for name in OPS[op].arrays if name not in FLAGS):
        changed = data | {name: data[name].copy()}
        out = (changed[name], np.empty_like(data["reward"]))
        got = run(op, changed, **variant, out=out if len(expected) == 2 else out[0], backend="triton")
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_array_equal(x, y)
    # the torch entrance
    tensors = {name: torch.from_numpy(x) for name, x in data.items()}
    for x, y in zip(run(op, tensors, **variant, backend="triton"), expected, strict=True):
        np.testing.assert_array_equal(x, y)

# NaN and infinity stay where the definition has them
for op, steps in itertools.product(OPS, (40, 300)):
    data = make(op, steps, 5)
    data["terminated"][20] = True
    for name in (name for name in OPS[op].arrays if name not in FLAGS):
        data[name][21:25] = np.nan
    data["next_value"][20] = np.inf
    data["reward"][7, 3] = np.inf
    results = (run(op, data, **VARIANTS[op][0], backend=backend) for backend in ("triton", "reference"))
    for x, y in zip(*results, strict=True):
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        np.testing.assert_array_equal(np.isinf(x), np.isinf(y))
        assert np.isfinite(x[20]).all()

data = make("vtrace", 4, 3)
shared = np.zeros((8, 3), np.float32)
for wrong in ({"out": (shared[:4], shared[2:6])}, {"gamma": 2.0}, {"reward": shared}):
    try:
        vtrace(**(data | wrong), backend="triton")
        raise AssertionError
    except ValueError as error:
        assert str(error).startswith("vtrace: "), error
"""

COMPILED = """
from fastrl.kernels.returns._ops import OPS
from fastrl.kernels.returns._scan import n_step_kernel, scan_kernel, vtrace_advantage_kernel
from fastrl.kernels.returns.triton import DEVICES

assert DEVICES == ("cuda",)
inputs, flags = ("x0", "x1", "x2", "x3"), ("terminated", "truncated", "valid", "greedy")
outputs = ("out", "target", "maps", "factors")
numbers = dict.fromkeys(("gamma", "decay", "rho_bar", "c_bar", "pg_rho_bar"), "fp64")

def compile_for(kernel, real, unit, **constants):
    types = numbers | dict.fromkeys(inputs + outputs, "*" + real) | dict.fromkeys(flags, "*i1") | {"cuts": "*i32"}
    arrays = inputs + flags + ("out", "target")
    strides = {f"{name}_b": 1 for name in arrays if f"{name}_b" in kernel.arg_names} if unit else {}
    compiled(kernel, types, constants | strides, fusion=False)

wide, long = {"BLOCK_T": 32, "BLOCK_B": 32}, {"BLOCK_T": 1024, "BLOCK_B": 1}
for op in OPS:
    for real, tile, unit, full in [("fp32", wide, True, False), ("fp32", long, False, True), ("fp64", wide, True, True)]:
        if op == "n_step":
            if full:
                compile_for(n_step_kernel, real, unit, MASKED=True, **tile)
        elif real == "fp32" or op in ("gae", "vtrace"):
            constants = {"ARRAYS": bool(OPS[op].factors) and full, "VALUES": 1 if OPS[op].row and not full else 2}
            for mode in (0,) if not full else (1, 2) if op == "gae" else (2,):
                compile_for(scan_kernel, real, unit, OP=op, MASKED=full, MODE=mode, BLOCK_S=64, **constants, **tile)
            if op == "vtrace" and full:
                compile_for(vtrace_advantage_kernel, real, unit, MASKED=True, **tile)
"""
KERNELS = 6 * 2 + 1 + 3 + 2 + 2


def test_interpreted_matches_the_reference(triton_interpreted) -> None:
    triton_interpreted(SHARED + INTERPRETED)


def test_compiles_for_a100_and_h100_without_spilling(triton_compiled) -> None:
    triton_compiled(COMPILED, kernels=KERNELS)
