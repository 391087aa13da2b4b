"""Every op of the returns family on NumPy arrays: each backend and instruction set against the definition."""

import itertools
from typing import Any

import numpy as np
import pytest
from _memory import needs_proc, peak_of
from _returns import VARIANTS, Array, close, exact, forms, make, options, run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from fastrl import _core
from fastrl.kernels import n_step, vtrace
from fastrl.kernels.returns._ops import FLAGS, OPS

ISAS = [isa for isa in ("baseline", "avx2", "avx512") if _core.isa_supported(isa)]
SHAPES = [(1, 1), (7, 1), (1, 5), (5, 3), (9, 4), (3, 8), (6, 15), (4, 33), (40, 130), (3, 2051), (2, 600)]
EXPONENTIAL = ("vtrace", "retrace")  # their exp is fused where the machine can
NEW = [op for op in OPS if op != "gae"]
each_op = pytest.mark.parametrize("op", NEW)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", OPS)
def test_matches_the_definition(isa: str, op: str, shape: tuple[int, int], dtype: Any) -> None:
    data = make(op, *shape, dtype=dtype)
    for form, variant in itertools.product(forms(op, data), VARIANTS[op]):
        given_options = options(op, variant, data)
        got = run(op, form, **given_options)
        assert got[0].dtype == dtype
        close(got, exact(op, form, **given_options))


@pytest.mark.parametrize("shape", [(1, 1), (50, 1), (9, 37), (4, 2051)])
@pytest.mark.parametrize("op", OPS)
def test_same_bits_on_every_instruction_set(op: str, shape: tuple[int, int]) -> None:
    before = _core.isa()
    data = make(op, *shape)
    try:
        for form, variant in itertools.product(forms(op, data), VARIANTS[op]):
            results, given_options = {}, options(op, variant, data)
            for name in ISAS:
                _core.set_isa(name)
                results[name] = run(op, form, **given_options)
            if op in EXPONENTIAL:
                close(results["baseline"], results[ISAS[-1]])
                del results["baseline"]
            assert len({b"".join(x.tobytes() for x in y) for y in results.values()}) <= 1
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize(("low", "high", "ulps"), [(-10, 10, 1.5), (-103, 88.7, 5)])
def test_ratios_are_as_accurate_as_promised(isa: str, low: float, high: float, ulps: float) -> None:
    """With nothing after and no bar, V-trace's advantage of reward 1 is exp(log_rho)."""
    x = np.random.default_rng(0).uniform(low, high, (64, 512)).astype(np.float32)
    zero, exp = np.zeros_like(x), np.exp(x.astype(float))
    arguments = (np.ones_like(x), zero, zero, np.zeros(x.shape, bool))
    got = vtrace(x, *arguments, gamma=0.0, pg_rho_bar=np.inf)[1]
    assert (np.abs(got - exp) <= ulps * np.spacing(exp.astype(np.float32))).all()
    alone = vtrace(x[:, :1], *(y[:, :1] for y in arguments), gamma=0.0, pg_rho_bar=np.inf)[1]
    np.testing.assert_array_equal(alone, got[:, :1])


def strided(x: Array, how: str) -> Array:
    """The same numbers in another memory layout."""
    if how == "transposed":
        return np.ascontiguousarray(x.T).T
    if how == "reversed":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    return np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3]


@pytest.mark.parametrize("how", ["transposed", "reversed", "apart"])
@pytest.mark.parametrize("shape", [(5, 3), (4, 33), (30, 70), (3, 200)])
@each_op
def test_strides(isa: str, op: str, shape: tuple[int, int], how: str) -> None:
    data = make(op, *shape)
    for variant in VARIANTS[op][-2:]:
        given_options = options(op, variant, data)
        expected = run(op, data, **given_options)
        views = {name: strided(x, how) for name, x in data.items()}
        moved = {k: strided(x, how) if isinstance(x, np.ndarray) else x for k, x in given_options.items()}
        out = tuple(strided(np.full_like(x, np.nan), how) for x in expected)
        given_out = out if len(out) == 2 else out[0]
        for got in (run(op, views, **moved), run(op, views, **moved, out=given_out), out):
            for x, y in zip(got, expected, strict=True):
                np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@each_op
def test_out_may_be_an_input(backend: str, op: str) -> None:
    data = make(op, 6, 40)
    variant = VARIANTS[op][0]
    expected = run(op, data, **variant)
    names = [name for name in OPS[op].arrays if name not in FLAGS]
    for name in names:
        changed = data | {name: data[name].copy()}
        other = np.empty_like(data["reward"])
        out = (changed[name], other) if OPS[op].outputs == 2 else changed[name]
        got = run(op, changed, **variant, out=out, backend=backend)
        assert got[0] is changed[name]
        close(got, expected)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("op", OPS)
def test_out_may_lie_a_row_before_an_input(backend: str, op: str) -> None:
    """A row of out is the row of the input that is read after it."""
    data = make(op, 6, 40)
    for variant in VARIANTS[op]:
        arguments = data | options(op, variant, data)
        expected = run(op, arguments, backend=backend)
        for name, x in arguments.items():
            if not isinstance(x, np.ndarray):
                continue
            for place in range(OPS[op].outputs):
                memory, outs = np.empty((7, 40), np.float32), [np.empty_like(y) for y in expected]
                moved, outs[place] = memory.view(x.dtype)[1:, :40], memory[:-1]
                moved[...] = x
                out = tuple(outs) if OPS[op].outputs == 2 else outs[0]
                got = run(op, arguments | {name: moved}, out=out, backend=backend)
                for y, wanted in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("op", OPS)
def test_empty(backend: str, op: str, shape: tuple[int, int]) -> None:
    data = make(op, *shape)
    for form in forms(op, data):
        assert all(x.shape == shape for x in run(op, form, **VARIANTS[op][0], backend=backend))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(12, 1), (12, 3), (12, 40), (12, 300)])
@pytest.mark.parametrize("op", OPS)
def test_nonfinite_as_in_the_definition(isa: str, op: str, shape: tuple[int, int], poison: float) -> None:
    data = make(op, *shape)
    rng = np.random.default_rng(1)
    for name in (name for name in OPS[op].arrays if name not in FLAGS):
        data[name][rng.random(shape) < 0.05] = poison
    for form, variant in itertools.product(forms(op, data), VARIANTS[op]):
        given_options = options(op, variant, data)
        for x, y in zip(run(op, form, **given_options), exact(op, form, **given_options), strict=True):
            np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
            np.testing.assert_array_equal(np.isposinf(x), np.isposinf(y))
            np.testing.assert_array_equal(np.isneginf(x), np.isneginf(y))
            assert np.isfinite(x).any()


def test_an_infinite_reward_counts_however_far_away() -> None:
    """γ^k underflows long before."""
    data = make("n_step", 400, 3, ends=0) | {"mask": None}
    data["reward"][300] = np.inf
    got = n_step(**data, gamma=0.5, n=350)
    assert np.isinf(got[:301]).all()
    assert np.isfinite(got[301:]).all()


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("op", OPS)
def test_padding_and_other_episodes_do_not_leak(isa: str, op: str, batch: int) -> None:
    """Poison in padding, and after an episode's end, changes nothing before."""
    data = make(op, 9, batch, ends=0)
    data["mask"][:] = True
    for name in ("mask", "terminated", "truncated"):
        marked = data | {name: data[name].copy()}
        marked[name][4] = name != "mask"
        last = 3 if name == "mask" else 4
        poisoned = marked | {
            key: np.where(np.arange(9)[:, None] > last, np.nan, x) if key not in FLAGS else x
            for key, x in marked.items()
        }
        poisoned = {k: x.astype(np.float32) if k not in FLAGS else x for k, x in poisoned.items()}
        if name == "terminated":
            poisoned["next_value"][last] = np.nan
        for x, y in zip(
            run(op, poisoned, **VARIANTS[op][0]), run(op, marked, **VARIANTS[op][0]), strict=True
        ):
            np.testing.assert_array_equal(x[: last + 1], y[: last + 1])
            assert np.isfinite(y[: last + 1]).all()
            if name == "mask":
                assert (x[4] == 0).all()


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[str, dict[str, Array], dict[str, Any]]:
    op = draw(st.sampled_from(list(OPS)))
    data = make(
        op,
        draw(st.integers(1, 40)),
        draw(st.integers(1, 40)),
        seed=draw(st.integers(0, 2**32 - 1)),
        dtype=draw(st.sampled_from([np.float32, np.float64])),
        ends=draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])),
    )
    unit = st.floats(0, 1)
    given_options = {
        name: draw(
            st.integers(1, 50) if name == "n" else unit if name in ("gamma", "lam") else st.floats(0.1, 9)
        )
        for name in OPS[op].options
    }
    return op, data, given_options


@settings(deadline=None, derandomize=True, max_examples=200)
@given(rollouts())
def test_property_matches_the_definition(rollout: tuple[str, dict[str, Array], dict[str, Any]]) -> None:
    op, data, given_options = rollout
    for form in forms(op, data):
        # relative to the largest result, which shrinks where the terms of a sum cancel
        close(
            run(op, form, **given_options), exact(op, form, **given_options), 2e-5 if op == "vtrace" else None
        )


@settings(deadline=None, derandomize=True)
@given(rollouts())
def test_property_columns_do_not_mix(rollout: tuple[str, dict[str, Array], dict[str, Any]]) -> None:
    op, data, given_options = rollout
    column = {name: x[:, :1] for name, x in data.items()}
    for x, y in zip(run(op, column, **given_options), run(op, data, **given_options), strict=True):
        np.testing.assert_array_equal(x, y[:, :1])


F32, BOOL = np.zeros((4, 3), np.float32), np.zeros((4, 3), bool)


def wrong_values(name: str) -> list[tuple[Any, type[Exception], str]]:
    """Values of an array argument that no op takes."""
    kind = "bool" if name in FLAGS else "float32"
    good = BOOL if name in FLAGS else F32
    other = F32 if name in FLAGS else F32.astype(float)
    return [
        (good[:-1], ValueError, rf"{name} must be {kind} \[T, B\] = \[4, 3\], got {kind} \[3, 3\]"),
        (good[None], ValueError, rf"{name} must be {kind} \[T, B\]"),
        (other, TypeError, rf"{name} must be {kind} \[T, B\], got float\d\d \[4, 3\]"),
        (good.astype(">f4") if kind == "float32" else good.astype("i1"), TypeError, f"{name} must be {kind}"),
        (good.tolist(), TypeError, rf"{name} must be a {kind} array \[T, B\], got list"),
        (3.0, TypeError, f"{name} must be a {kind} array"),
    ]


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("op", OPS)
def test_refuses_wrong_arrays(backend: str, op: str) -> None:
    good = {name: BOOL if name in FLAGS else F32 for name in OPS[op].arrays}
    for name in OPS[op].arrays[1:]:
        for wrong, error, message in wrong_values(name):
            with pytest.raises(error, match=f"^{op}: {message}"):
                run(op, good | {name: wrong}, **VARIANTS[op][0], backend=backend)
    first = OPS[op].arrays[0]
    for wrong in (F32[0], F32[None], F32.astype(int), F32.astype(np.float16), F32.tolist(), None):
        with pytest.raises((TypeError, ValueError), match=f"^{op}: {first} must be "):
            run(op, good | {first: wrong}, **VARIANTS[op][0], backend=backend)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("op", OPS)
def test_refuses_wrong_options(backend: str, op: str) -> None:
    data, good = make(op, 4, 3), VARIANTS[op][0]
    wrong: dict[str, list[Any]] = {name: [-0.1, 1.5, np.nan, np.inf, "a", None] for name in ("gamma", "lam")}
    wrong |= {name: [0.0, -1.0, np.nan, "a", None] for name in ("rho_bar", "c_bar", "pg_rho_bar")}
    wrong |= {"n": [0, -1, 1.5, "a", None]}
    for name in OPS[op].options:
        for x in wrong[name]:
            with pytest.raises((TypeError, ValueError), match=f"^{op}: {name} must be .*, got"):
                run(op, data, **(good | {name: x}), backend=backend)
    for name in OPS[op].factors:
        for x in (np.zeros((3, 3), np.float32), np.zeros((4, 3))):
            with pytest.raises((TypeError, ValueError), match=rf"^{op}: {name} must be float32 \[T, B\]"):
                run(op, data, **(good | {name: x}), backend=backend)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("op", OPS)
def test_refuses_wrong_out(backend: str, op: str) -> None:
    data = make(op, 4, 3)
    frozen = F32.copy()
    frozen.flags.writeable = False
    for out, message in [
        (np.zeros((4, 3)), "must be float32"),
        (np.zeros((3, 3), np.float32), "must be float32"),
        (as_strided(F32.copy(), (4, 3), (0, 4)), "must hold each element once"),
        (frozen, "must be writeable"),
    ]:
        for given_out in [(out, F32.copy()), (F32.copy(), out)] if OPS[op].outputs == 2 else [out]:
            with pytest.raises((TypeError, ValueError), match=f"^{op}: out.* {message}"):
                run(op, data, **VARIANTS[op][0], out=given_out, backend=backend)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_vtrace_refuses_outputs_that_are_not_two(backend: str) -> None:
    data, memory = make("vtrace", 4, 3), np.zeros((8, 3), np.float32)
    with pytest.raises(ValueError, match="vtrace: out must be two arrays apart"):
        vtrace(**data, out=(memory[:4], memory[2:6]), backend=backend)
    for out in (memory[:4], (memory[:4],)):
        with pytest.raises(TypeError, match=r"vtrace: out must be a pair of arrays \[T, B\]"):
            vtrace(**data, out=out, backend=backend)


@pytest.mark.parametrize("op", ["gae", "discounted"])
@pytest.mark.parametrize("name", ["truncated", "mask"])
@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_a_value_after_the_last_step_only_refuses_other_ends(backend: str, op: str, name: str) -> None:
    data = make(op, 4, 3) | {"truncated": None, "mask": None}
    with pytest.raises(ValueError, match=rf"{op}: {name} needs next_value \[T, B\]"):
        run(op, data | {"next_value": F32[0], name: BOOL}, backend=backend)


@pytest.mark.parametrize("op", OPS)
def test_numbers_of_numpy(op: str) -> None:
    data, variant = make(op, 4, 3), VARIANTS[op][0]
    for gamma in (np.float32(0.5), np.array(0.5)):
        close(run(op, data, **(variant | {"gamma": gamma})), run(op, data, **(variant | {"gamma": 0.5})))


@each_op
def test_refused_changes_nothing(op: str) -> None:
    out = tuple(np.full((4, 3), 9, np.float32) for _ in range(OPS[op].outputs))
    with pytest.raises(ValueError, match="gamma"):
        run(op, make(op, 4, 3), **(VARIANTS[op][0] | {"gamma": 2.0}), out=out if len(out) == 2 else out[0])
    assert all((x == 9).all() for x in out)


DTYPES = ["f2", "f4", "f8", ">f4", "i4", "i8", "?", "c8", "O", "M8[s]"]


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_property_one_clear_error_or_a_result(draw: st.DataObject) -> None:
    """Any one argument, wrong in any way: a message that names op and argument, and ``out`` as it was."""
    op = draw.draw(st.sampled_from(list(OPS)))
    steps, batch = draw.draw(st.integers(0, 4)), draw.draw(st.integers(0, 4))
    data = make(op, steps, batch)
    outs = tuple(np.full((steps, batch), 9, np.float32) for _ in range(OPS[op].outputs))
    call = data | VARIANTS[op][0] | {"out": outs if len(outs) == 2 else outs[0]}
    name = draw.draw(st.sampled_from([*OPS[op].arrays, *OPS[op].options]))
    shape = draw.draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    array = np.zeros(shape, draw.draw(st.sampled_from(DTYPES)))
    number = st.floats() | st.integers(-3, 3) | st.sampled_from([None, "x", [], {}, 10**400, 1j, True])
    wrong = draw.draw(st.just(array) | number)
    backend = draw.draw(st.sampled_from(["cpp", "reference"]))
    message = None
    try:
        run(op, call | {name: wrong}, backend=backend)
    except (TypeError, ValueError) as error:
        message = str(error)
    if message is None:
        assert not isinstance(wrong, np.ndarray) or wrong.shape in ((), (steps, batch), (batch,))
    else:
        assert message.startswith(f"{op}: ")
        assert "refused its arguments" not in message
        assert all((x == 9).all() for x in outs)


def test_numbers_beyond_a_float() -> None:
    data = make("vtrace", 4, 3)
    with pytest.raises(ValueError, match="vtrace: rho_bar must be a number that a float holds, got int"):
        vtrace(**data, rho_bar=10**400)
    data = make("n_step", 4, 3)
    np.testing.assert_array_equal(n_step(**data, n=10**400), n_step(**data, n=4))


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_out_that_repeats_elements(backend: str) -> None:
    data = make("gae", 5, 6)
    expected = run("gae", data)[0]
    memory = np.zeros(120, np.float32)
    for strides in ((16, 16), (8, 12), (0, 4), (4, 0), (-4, 4), (12, 4)):
        out = as_strided(memory[40:], (5, 6), strides)
        with pytest.raises(ValueError, match="gae: out must hold each element once"):
            run("gae", data, out=out, backend=backend)
    assert not memory.any()
    for strides in ((24, 4), (4, 20), (-24, 4), (20, 28)):  # the last in between, but never at one place
        out = as_strided(memory[40:], (5, 6), strides)
        run("gae", data, out=out, backend=backend)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@needs_proc
def test_n_step_of_a_window_beyond_the_end_needs_no_scratch() -> None:
    data = make("n_step", 2**17, 1)
    peak = peak_of(lambda: n_step(**data, n=2**17))
    assert peak < 6 * data["reward"].nbytes


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_n_is_no_array(backend: str) -> None:
    with pytest.raises(ValueError, match="n_step: n must be an integer >= 1"):
        n_step(**make("n_step", 4, 3), n=np.array(2), backend=backend)
