"""Every op of the returns family on NumPy arrays: each backend and instruction set against the definition."""

import itertools
from typing import Any

import numpy as np
import pytest
from _returns import VARIANTS, Array, close, exact, forms, make, options, run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from fastrl import _core
from fastrl.kernels import discounted, gae, n_step, q_lambda, retrace, td_lambda, vtrace
from fastrl.kernels.returns._ops import FLAGS, OPS

ISAS = [isa for isa in ("baseline", "avx2", "avx512") if _core.isa_supported(isa)]
SHAPES = [(1, 1), (7, 1), (1, 5), (5, 3), (9, 4), (3, 8), (6, 15), (4, 33), (40, 130), (3, 2051), (2, 600)]
NEW = [op for op in OPS if op != "gae"]
each_op = pytest.mark.parametrize("op", NEW)


def by_hand() -> dict[str, Array]:
    """One sequence: an episode that is truncated, one that terminates, and the beginning of one."""
    return {
        "reward": np.array([[1.0], [2.0], [3.0], [4.0]]),
        "terminated": np.array([[False], [False], [True], [False]]),
        "truncated": np.array([[False], [True], [False], [False]]),
        "next_value": np.array([[20.0], [7.0], [8.0], [50.0]]),
    }


def test_td_lambda_by_hand() -> None:
    cut = 2 + 0.5 * 7
    first = 1 + 0.5 * (0.2 * 20 + 0.8 * cut)
    got = td_lambda(**by_hand(), gamma=0.5, lam=0.8, backend="reference")
    np.testing.assert_allclose(got[:, 0], [first, cut, 3, 4 + 0.5 * 50])


def test_discounted_by_hand() -> None:
    data = by_hand()
    got = discounted(**data, gamma=0.5, backend="reference")
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * 5.5, 5.5, 3, 4 + 25])
    del data["next_value"]
    got = discounted(**data, gamma=0.5, backend="reference")
    np.testing.assert_allclose(got[:, 0], [2, 2, 3, 4])


def test_n_step_by_hand() -> None:
    got = n_step(**by_hand(), gamma=0.5, n=2, backend="reference")
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * 2 + 0.25 * 7, 2 + 0.5 * 7, 3, 4 + 25])
    got = n_step(**by_hand(), gamma=0.5, n=1, backend="reference")
    np.testing.assert_allclose(got[:, 0], [11, 5.5, 3, 29])


def test_vtrace_by_hand() -> None:
    value = np.array([[10.0], [20.0], [30.0], [40.0]])
    log_rho = np.log([[0.5], [3.0], [1.0], [0.25]])
    target, advantage = vtrace(
        log_rho,
        value=value,
        **by_hand(),
        gamma=0.5,
        lam=0.8,
        rho_bar=2.0,
        pg_rho_bar=4.0,
        backend="reference",
    )
    last = 40 + 0.25 * (4 + 25 - 40)
    cut = 20 + 2 * (2 + 3.5 - 20)
    first = 10 + 0.5 * (1 + 10 - 10) + 0.5 * 0.8 * 0.5 * (cut - 20)
    np.testing.assert_allclose(target[:, 0], [first, cut, 3, last])
    np.testing.assert_allclose(
        advantage[:, 0], [0.5 * (1 + 0.5 * cut - 10), 3 * (2 + 3.5 - 20), 3 - 30, 0.25 * (4 + 25 - 40)]
    )


def test_retrace_by_hand() -> None:
    q = np.array([[10.0], [20.0], [30.0], [40.0]])
    got = retrace(
        np.log([[0.5], [0.6], [1.0], [2.0]]), q=q, **by_hand(), gamma=0.5, lam=0.9, backend="reference"
    )
    cut = 2 + 0.5 * 7
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * (20 + 0.9 * 0.6 * (cut - 20)), cut, 3, 29])


@pytest.mark.parametrize("greedy", [False, True])
def test_q_lambda_by_hand(greedy: bool) -> None:
    actions = np.array([[True], [greedy], [True], [False]])
    got = q_lambda(greedy=actions, **by_hand(), gamma=0.5, lam=0.8, backend="reference")
    cut = 2 + 0.5 * 7
    first = 1 + 0.5 * ((0.2 * 20 + 0.8 * cut) if greedy else 20)
    np.testing.assert_allclose(got[:, 0], [first, cut, 3, 29])


def test_mask_by_hand() -> None:
    data = by_hand() | {"mask": np.array([[True], [False], [True], [False]])}
    got = td_lambda(**data, gamma=0.5, backend="reference")
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * 20, 0, 3, 0])


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
            results, given_options = set(), options(op, variant, data)
            for name in ISAS:
                _core.set_isa(name)
                results.add(b"".join(x.tobytes() for x in run(op, form, **given_options)))
            assert len(results) == 1
    finally:
        _core.set_isa(before)


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


def consistent(seed: int) -> dict[str, Array]:
    """A rollout whose next values are its values, in one unbroken episode."""
    data = make("gae", 30, 7, seed=seed, dtype=np.float64, ends=0) | {"mask": None, "truncated": None}
    data["next_value"][:-1] = data["value"][1:]
    return data


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_ops_agree_where_they_are_the_same(lam: float) -> None:
    data = consistent(0)
    value, rest = data["value"], {k: x for k, x in data.items() if k != "value"}
    target = td_lambda(**rest, lam=lam)
    np.testing.assert_allclose(gae(**data, lam=lam) + value, target, atol=1e-12)
    zeros, greedy = np.zeros_like(value), np.ones(value.shape, bool)
    np.testing.assert_allclose(vtrace(zeros, **data, lam=lam)[0], target, atol=1e-12)
    np.testing.assert_allclose(q_lambda(greedy=greedy, **rest, lam=lam), target, atol=1e-12)
    np.testing.assert_allclose(retrace(zeros, q=value, **rest, lam=lam), target, atol=1e-12)
    full = td_lambda(**rest, lam=1.0)
    np.testing.assert_allclose(discounted(**rest), full, atol=1e-12)
    np.testing.assert_allclose(
        discounted(**(rest | {"next_value": data["next_value"][-1]})), full, atol=1e-12
    )
    np.testing.assert_allclose(n_step(**rest, n=30), full, atol=1e-12)
    np.testing.assert_allclose(n_step(**rest, n=1), td_lambda(**rest, lam=0.0), atol=1e-12)
    same = np.full(value.shape, lam)
    np.testing.assert_array_equal(td_lambda(**rest, lam=same), target)
    never = np.zeros_like(greedy)
    np.testing.assert_array_equal(q_lambda(greedy=never, **rest, lam=lam), td_lambda(**rest, lam=0.0))


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
