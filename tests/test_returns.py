"""The returns family on NumPy arrays: every backend and instruction set against the float64 definition."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels import gae

Array = NDArray[Any]
ISAS = [isa for isa in ("baseline", "avx2", "avx512") if _core.isa_supported(isa)]
# One column, fewer columns than a vector holds, whole vectors and rests of them, more than a block of 2048.
SHAPES = [(1, 1), (7, 1), (1, 5), (5, 3), (9, 4), (3, 8), (6, 15), (4, 33), (3, 127), (2, 130), (3, 2051)]


def rollout(
    steps: int, batch: int, seed: int = 0, dtype: Any = np.float32, ends: float = 0.2
) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    real = {name: rng.normal(size=(steps, batch)).astype(dtype) for name in ("reward", "value", "next_value")}
    return real | {name: rng.random((steps, batch)) < ends for name in ("terminated", "truncated")}


def after_last(data: dict[str, Array]) -> dict[str, Array]:
    """The same rollout in the form that gives V after the last step only."""
    return data | {"next_value": data["next_value"][-1], "truncated": None}


def reference(data: dict[str, Array], **options: Any) -> Array:
    return gae(**data, backend="reference", **options)


def close(got: Array, data: dict[str, Array], **options: Any) -> None:
    """Within a few roundings of the definition, relative to the largest advantage."""
    exact = reference(
        {k: v if v is None or v.dtype == bool else v.astype(float) for k, v in data.items()}, **options
    )
    assert got.dtype == data["reward"].dtype
    tolerance = 4e-6 if got.dtype == np.float32 else 1e-14
    np.testing.assert_allclose(got, exact, rtol=tolerance, atol=tolerance * np.abs(exact).max(initial=1))


def test_reference_by_hand() -> None:
    data = {
        "reward": np.array([[1.0], [2.0], [3.0], [4.0]]),
        "value": np.array([[10.0], [20.0], [30.0], [40.0]]),
        "next_value": np.array([[20.0], [7.0], [8.0], [50.0]]),
        "terminated": np.array([[False], [False], [True], [False]]),
        "truncated": np.array([[False], [True], [False], [False]]),
    }
    last = 4 + 0.5 * 50 - 40
    ended = 3 - 30
    cut = 2 + 0.5 * 7 - 20
    first = 1 + 0.5 * 20 - 10 + 0.5 * 0.8 * cut
    np.testing.assert_allclose(reference(data, gamma=0.5, lam=0.8)[:, 0], [first, cut, ended, last])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_reference(isa: str, shape: tuple[int, int], dtype: Any) -> None:
    data = rollout(*shape, dtype=dtype)
    for form in (data, data | {"truncated": None}, after_last(data)):
        for options in ({}, {"gamma": 1.0, "lam": 1.0}, {"gamma": 0.0}, {"lam": 0.0}):
            close(gae(**form, **options), form, **options)


@pytest.mark.parametrize("shape", [*SHAPES, (1024, 8), (300, 1)])
def test_same_bits_on_every_instruction_set(shape: tuple[int, int]) -> None:
    before = _core.isa()
    data = rollout(*shape, ends=0.02)
    try:
        for form in (data, after_last(data)):
            results = []
            for name in ISAS:
                _core.set_isa(name)
                results.append(gae(**form).tobytes())
            assert len(set(results)) == 1
    finally:
        _core.set_isa(before)


def test_long_rollout_stays_accurate() -> None:
    data = rollout(2048, 3, ends=0.001)
    close(gae(**data), data)


def strided(x: Array, how: str) -> Array:
    """The same numbers in another memory layout."""
    if how == "transposed":
        return np.ascontiguousarray(x.T).T
    if how == "reversed":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1] if x.ndim == 2 else x[::-1].copy()[::-1]
    if how == "every other row":
        wide = np.repeat(x, 2, axis=0)
        return wide[::2]
    wide = np.repeat(x, 3, axis=-1)
    return wide[..., ::3]


@pytest.mark.parametrize("how", ["transposed", "reversed", "every other row", "every third column"])
@pytest.mark.parametrize("shape", [(5, 3), (4, 33), (3, 200)])
def test_strides(isa: str, how: str, shape: tuple[int, int]) -> None:
    data = rollout(*shape)
    for form in (data, after_last(data)):
        expected = gae(**form)
        views = {name: x if x is None else strided(x, how) for name, x in form.items()}
        np.testing.assert_array_equal(gae(**views), expected)
        for name in (name for name in form if form[name] is not None):
            np.testing.assert_array_equal(gae(**(form | {name: views[name]})), expected)
        out = strided(np.full_like(expected, np.nan), how)
        assert gae(**form, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_repeated_input() -> None:
    data = rollout(6, 40)
    zero = np.broadcast_to(np.float32(0), (6, 40))
    np.testing.assert_array_equal(gae(**(data | {"value": zero})), gae(**(data | {"value": zero.copy()})))


def test_out_leaves_its_surroundings() -> None:
    data = rollout(5, 37)
    frame = np.full((7, 40), 9, np.float32)
    gae(**data, out=frame[1:-1, 1:-2])
    frame[1:-1, 1:-2] = 9
    assert (frame == 9).all()


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("name", ["reward", "value", "next_value"])
def test_out_may_be_an_input(backend: str, name: str) -> None:
    for form in (rollout(6, 40), after_last(rollout(6, 40))):
        if form[name].ndim == 1:
            continue
        expected = gae(**form, backend=backend)
        form = form | {name: form[name].copy()}
        gae(**form, backend=backend, out=form[name])
        np.testing.assert_array_equal(form[name], expected)


def test_out_may_overlap_by_a_row() -> None:
    data = rollout(6, 40)
    expected = gae(**data)
    memory = np.empty((7, 40), np.float32)
    memory[1:] = data["value"]
    np.testing.assert_array_equal(gae(**(data | {"value": memory[1:]}), out=memory[:-1]), expected)


def test_out_may_overlap_a_reversed_input() -> None:
    data = rollout(1, 40)
    expected = gae(**data)
    memory = np.empty((1, 70), np.float32)
    value = memory[:, 30:][:, ::-1]
    value[...] = data["value"]
    np.testing.assert_array_equal(gae(**(data | {"value": value}), out=memory[:, :40]), expected)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty(backend: str, shape: tuple[int, int]) -> None:
    data = rollout(*shape)
    assert gae(**data, backend=backend).shape == shape
    last = np.zeros(shape[1], np.float32)
    assert gae(**(data | {"next_value": last, "truncated": None}), backend=backend).shape == shape


def test_all_terminated() -> None:
    data = rollout(6, 20) | {"terminated": np.ones((6, 20), bool)}
    np.testing.assert_array_equal(gae(**data), data["reward"] - data["value"])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(12, 1), (12, 3), (12, 40), (12, 300)])
def test_nonfinite_as_in_the_reference(isa: str, shape: tuple[int, int], poison: float) -> None:
    data = rollout(*shape)
    rng = np.random.default_rng(1)
    for name in ("reward", "value", "next_value"):
        data[name][rng.random(shape) < 0.05] = poison
    for form in (data, after_last(data)):
        got, expected = gae(**form), reference(form)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
        assert np.isfinite(got).any()


@pytest.mark.parametrize("batch", [1, 40])
def test_nothing_leaks_into_a_finished_episode(isa: str, batch: int) -> None:
    data = rollout(6, batch, ends=0)
    clean = data | {"terminated": np.zeros((6, batch), bool), "truncated": np.zeros((6, batch), bool)}
    clean["terminated"][2] = True
    poisoned = {name: x.copy() for name, x in clean.items()}
    for name in ("reward", "value", "next_value"):
        poisoned[name][3:] = np.nan
    poisoned["next_value"][2] = np.nan
    np.testing.assert_array_equal(gae(**poisoned)[:3], gae(**clean)[:3])
    np.testing.assert_array_equal(
        gae(**after_last(poisoned))[:3], gae(**after_last(clean | {"next_value": poisoned["next_value"]}))[:3]
    )
    cut = poisoned | {
        "terminated": clean["truncated"],
        "truncated": clean["terminated"],
        "next_value": clean["next_value"],
    }
    assert np.isfinite(gae(**cut)[:3]).all()


def test_any_true_byte_is_true(isa: str) -> None:
    data = rollout(6, 40)
    bytes_of = np.where(data["terminated"], np.uint8(0x80), np.uint8(0)).view(bool)
    np.testing.assert_array_equal(gae(**(data | {"terminated": bytes_of})), gae(**data))


rollouts = st.builds(
    rollout,
    st.integers(1, 40),
    st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    ends=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
unit = st.floats(0, 1)


@settings(deadline=None, derandomize=True)
@given(rollouts, unit, unit)
def test_property_matches_reference(data: dict[str, Array], gamma: float, lam: float) -> None:
    close(gae(**data, gamma=gamma, lam=lam), data, gamma=gamma, lam=lam)


@settings(deadline=None, derandomize=True)
@given(rollouts, unit)
def test_property_lambda_zero_is_the_td_error(data: dict[str, Array], gamma: float) -> None:
    real = data["reward"].dtype.type
    follows = np.where(data["terminated"], real(0), real(gamma) * data["next_value"])
    np.testing.assert_array_equal(gae(**data, gamma=gamma, lam=0), data["reward"] + follows - data["value"])


@settings(deadline=None, derandomize=True)
@given(rollouts, unit)
def test_property_lambda_one_is_return_minus_value(data: dict[str, Array], gamma: float) -> None:
    """In one unbroken episode, whose next values are its values."""
    no = np.zeros_like(data["terminated"])
    last = data["next_value"][-1].astype(float)
    expected = np.empty(no.shape)
    for t in reversed(range(len(no))):
        last = data["reward"][t] + gamma * last
        expected[t] = last - data["value"][t]
    got = gae(data["reward"], data["value"], data["next_value"][-1], no, gamma=gamma, lam=1)
    tolerance = 2e-5 if got.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@settings(deadline=None, derandomize=True)
@given(rollouts)
def test_property_columns_do_not_mix(data: dict[str, Array]) -> None:
    column = {name: x[:, :1] for name, x in data.items()}
    np.testing.assert_array_equal(gae(**column), gae(**data)[:, :1])


@settings(deadline=None, derandomize=True)
@given(rollouts, st.integers(0, 39))
def test_property_episodes_do_not_mix(data: dict[str, Array], cut: int) -> None:
    cut = min(cut, len(data["reward"]) - 1)
    data["truncated"][cut] = True
    head, tail = (
        {name: x[rows] for name, x in data.items()} for rows in (slice(cut + 1), slice(cut + 1, None))
    )
    np.testing.assert_array_equal(gae(**data), np.concatenate([gae(**head), gae(**tail)]))


F32 = np.zeros((4, 3), np.float32)
BOOL = np.zeros((4, 3), bool)
REFUSED = [
    ({"reward": F32.astype(int)}, TypeError, r"gae: reward must be float32 \[T, B\], got int64 \[4, 3\]"),
    ({"reward": F32.tolist()}, TypeError, r"gae: reward must be a float32 array \[T, B\], got list"),
    ({"reward": F32[0]}, ValueError, r"gae: reward must be float32 \[T, B\], got float32 \[3\]"),
    ({"reward": F32.astype(">f4")}, TypeError, r"gae: reward must be float32 \[T, B\], got >f4 \[4, 3\]"),
    ({"value": F32.astype(float)}, TypeError, r"gae: value must be float32 \[T, B\], got float64 \[4, 3\]"),
    (
        {"value": F32[:-1]},
        ValueError,
        r"gae: value must be float32 \[T, B\] = \[4, 3\], got float32 \[3, 3\]",
    ),
    ({"next_value": F32[:, :-1]}, ValueError, r"gae: next_value must be .* = \[4, 3\], got float32 \[4, 2\]"),
    ({"next_value": F32[:, 0], "truncated": None}, ValueError, r"next_value must be float32 \[B\] = \[3\]"),
    ({"next_value": F32[0]}, ValueError, r"gae: truncated needs next_value \[T, B\].*got float32 \[3\]"),
    ({"next_value": None}, TypeError, "gae: next_value must be .*, got NoneType"),
    ({"terminated": F32}, TypeError, r"gae: terminated must be bool \[T, B\], got float32 \[4, 3\]"),
    ({"terminated": BOOL.view(np.uint8)}, TypeError, "gae: terminated must be bool"),
    ({"truncated": BOOL[0]}, ValueError, r"gae: truncated must be bool \[T, B\] = \[4, 3\], got bool \[3\]"),
    ({"gamma": 1.5}, ValueError, r"gae: gamma must be in \[0, 1\], got 1.5"),
    ({"lam": -0.1}, ValueError, r"gae: lam must be in \[0, 1\], got -0.1"),
    ({"lam": np.nan}, ValueError, "gae: lam must be in"),
    ({"out": np.zeros((4, 3))}, TypeError, r"gae: out must be float32 \[T, B\], got float64 \[4, 3\]"),
    ({"out": F32[:-1].copy()}, ValueError, r"gae: out must be .* = \[4, 3\], got float32 \[3, 3\]"),
    ({"out": as_strided(F32.copy(), F32.shape, (0, 4))}, ValueError, "gae: out must hold each element once"),
    ({"out": np.broadcast_to(F32[0], F32.shape)}, ValueError, "gae: out must hold each element once"),
]


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED)
def test_refuses(backend: str, wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    good = {"reward": F32, "value": F32, "next_value": F32, "terminated": BOOL, "truncated": BOOL}
    with pytest.raises(error, match=message):
        gae(**(good | wrong), backend=backend)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_refuses_memory_it_cannot_use(backend: str) -> None:
    data = rollout(4, 3)
    data["value"].flags.writeable = False
    gae(**data, backend=backend)
    with pytest.raises(ValueError, match="gae: out must be writeable, got a read-only array"):
        gae(**data, backend=backend, out=data["value"])
    packed = np.zeros((4, 3), np.dtype([("flag", "?"), ("reward", "<f4")]))
    with pytest.raises(ValueError, match="gae: reward must be aligned to its dtype"):
        gae(**(data | {"reward": packed["reward"]}), backend=backend)


def test_refused_changes_nothing() -> None:
    data = rollout(4, 3)
    out = np.full((4, 3), 9, np.float32)
    with pytest.raises(ValueError, match="gamma"):
        gae(**data, out=out, gamma=2.0)
    assert (out == 9).all()


def test_field_of_an_aligned_record() -> None:
    data = rollout(4, 30)
    records = np.zeros((4, 30), np.dtype([("flag", "?"), ("reward", "f4"), ("value", "f4")], align=True))
    records["flag"], records["reward"], records["value"] = data["terminated"], data["reward"], data["value"]
    views = data | {"reward": records["reward"], "value": records["value"], "terminated": records["flag"]}
    np.testing.assert_array_equal(gae(**views), gae(**data))
