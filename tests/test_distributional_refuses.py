"""What the distributional family refuses: one clear error each, from every backend, and nothing changed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.kernels.distributional import (
    c51_loss,
    c51_project,
    expectation,
    hl_gauss,
    quantile_huber,
    two_hot,
)

B, A, N = 4, 3, 5
F = np.zeros(B, np.float32)
P = np.full((B, N), 0.2, np.float32)
Q = P.copy()
Y = np.zeros((B, A, N), np.float32)
RANGE = {"v_min": -1.0, "v_max": 1.0}
GOOD: dict[Any, dict[str, Any]] = {
    c51_project: {"probs": P, "reward": F, "discount": F} | RANGE,
    c51_loss: {"logits": Y, "action": np.zeros(B, np.int64), "next_logits": Y, "reward": F, "discount": F}
    | RANGE,
    quantile_huber: {"quantiles": P, "targets": P},
    expectation: {"x": P} | RANGE,
    two_hot: {"x": F, "atoms": N} | RANGE,
    hl_gauss: {"x": F, "atoms": N, "sigma": 1.0} | RANGE,
}
OPS = pytest.mark.parametrize("op", GOOD, ids=lambda op: op.__name__)
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
SUPPORT: dict[str, Any] = {"v_min": None, "v_max": None, "support": np.arange(N) * 1.0}
REFUSED = [
    (c51_project, {"probs": P.astype(int)}, TypeError, r"probs must be float32 \[B, N\], got int64 \[4, 5\]"),
    (c51_project, {"probs": P.tolist()}, TypeError, r"probs must be a float32 array \[B, N\], got list"),
    (c51_project, {"probs": P[0]}, ValueError, r"probs must be float32 \[B, N\], got float32 \[5\]"),
    (c51_project, {"probs": P.astype(">f4")}, TypeError, "probs must be float32"),
    (c51_project, {"reward": F[:2]}, ValueError, r"reward must be float32 \[B\] = \[4\], got float32 \[2\]"),
    (c51_project, {"reward": F.astype(float)}, TypeError, r"reward must be float32 \[B\], got float64 \[4\]"),
    (c51_project, {"discount": None}, ValueError, "discount must be given, or gamma, one of the two"),
    (c51_project, {"gamma": 0.9}, ValueError, "discount must be given, or gamma, one of the two"),
    (c51_project, {"terminated": F > 0}, ValueError, "terminated goes with gamma"),
    (c51_project, {"discount": None, "gamma": 1.1}, ValueError, r"gamma must be in \[0, 1\], got 1.1"),
    (c51_project, {"discount": None, "gamma": "x"}, TypeError, "gamma must be a number, got str 'x'"),
    (c51_project, {"discount": None, "gamma": 0.9, "terminated": F}, TypeError, "terminated must be bool"),
    (
        c51_project,
        {"target_support": np.zeros(3)},
        ValueError,
        "target_support must be finite and increasing",
    ),
    (c51_project, {"target_support": np.zeros(1)}, ValueError, "target_support must have at least 2 atoms"),
    (
        c51_project,
        {"out": np.zeros((B, N))},
        TypeError,
        r"out must be float32 \[B, M\], got float64 \[4, 5\]",
    ),
    (c51_project, {"out": P}, ValueError, "out must not share memory with an input"),
    (c51_project, {"out": np.broadcast_to(F[:1, None], (B, N))}, ValueError, "out must be writeable"),
    (
        c51_loss,
        {"logits": Y.astype(float)},
        TypeError,
        r"logits must be float32 \[B, A, N\] or \[B, N\], got float64",
    ),
    (
        c51_loss,
        {"logits": F},
        ValueError,
        r"logits must be float32 \[B, A, N\] or \[B, N\], got float32 \[4\]",
    ),
    (c51_loss, {"logits": Y[:, 0]}, ValueError, r"action must be None with logits \[B, N\]"),
    (c51_loss, {"action": None}, ValueError, r"action must be given with logits \[B, A, N\], got None"),
    (c51_loss, {"action": np.zeros(B, np.int32)}, TypeError, r"action must be int64 \[B\], got int32 \[4\]"),
    (
        c51_loss,
        {"action": np.array([0, 1, 3, -1])},
        ValueError,
        r"action must be in \[0, 3\), got 3 in row 2",
    ),
    (
        c51_loss,
        {"next_logits": Y[:, :, :4]},
        ValueError,
        r"next_logits must be .* = \[4, 3, 5\], got .* \[4, 3, 4\]",
    ),
    (c51_loss, {"next_selector": Y[:, :2]}, ValueError, r"next_selector must be .* = \[4, 3, 5\]"),
    (c51_loss, {"next_selector": Y[:, 0]}, ValueError, r"next_selector must be float32 \[B, A, N\], got"),
    (c51_loss, {"scale": 0.0}, ValueError, "scale must be from 1e-20 to 1e20, got 0.0"),
    (c51_loss, {"out": F}, (TypeError, ValueError), "out must be a pair|out.loss must be"),
    (c51_loss, {"out": (F.copy(), Y[:, :, ::-1])}, ValueError, "out.d_logits must be C-contiguous"),
    (c51_loss, {"logits": Y, "out": (F.copy(), Y)}, ValueError, "out.d_logits must not share memory with an"),
    (
        c51_loss,
        {"next_selector": Y, "logits": Y.copy(), "out": (F.copy(), Y)},
        ValueError,
        "out.d_logits must",
    ),
    (
        quantile_huber,
        {"targets": Q, "out": (F.copy(), Q)},
        ValueError,
        "out.d_quantiles must not share memory",
    ),
    (quantile_huber, {"out": (Q.ravel()[:B], Q)}, ValueError, "out must be two arrays apart, got memory"),
    (quantile_huber, {"quantiles": P[:, :0]}, ValueError, "quantiles must have N >= 1, got N = 0"),
    (quantile_huber, {"targets": P[:, :0]}, ValueError, "targets must have M >= 1, got M = 0"),
    (
        quantile_huber,
        {"targets": P[:2]},
        ValueError,
        r"targets must be float32 \[B, M\] = \[4, 5\], got float32 \[2, 5\]",
    ),
    (quantile_huber, {"targets": F}, ValueError, r"targets must be float32 \[B, M\], got float32 \[4\]"),
    (
        quantile_huber,
        {"taus": F},
        ValueError,
        r"taus must be float32 \[N\] or \[B, N\] = \[5\], got float32 \[4\]",
    ),
    (quantile_huber, {"taus": 0.5}, TypeError, "taus must be a float32 array"),
    (quantile_huber, {"kappa": -1.0}, ValueError, "kappa must be >= 0, got -1.0"),
    (quantile_huber, {"kappa": np.nan}, ValueError, "kappa must be >= 0, got nan"),
    (quantile_huber, {"kappa": "1"}, TypeError, "kappa must be a number"),
    (quantile_huber, {"kappa": 0, "scaled": True}, ValueError, "kappa must be > 0 where scaled, .* got 0"),
    (
        quantile_huber,
        {"kappa": np.inf, "scaled": True},
        ValueError,
        "kappa must be > 0 where scaled, .* got inf",
    ),
    (quantile_huber, {"kappa": None, "scaled": True}, TypeError, "kappa must be a number, got NoneType None"),
    (quantile_huber, {"kappa": 1e-46}, ValueError, "kappa must be 0 or at least 1e-30, got 1e-46"),
    (quantile_huber, {"kappa": 10**400}, ValueError, "kappa must be a number that a float holds, got int"),
    (quantile_huber, {"reduction": np.zeros(2)}, ValueError, "reduction must be one of sum over quantiles"),
    (
        quantile_huber,
        {"reduction": "max"},
        ValueError,
        "reduction must be one of sum over quantiles, mean, sum over",
    ),
    (expectation, {"x": P.astype(float)}, TypeError, r"x must be float32 \[B, N\], got float64 \[4, 5\]"),
    (expectation, {"x": 1.0}, TypeError, r"x must be float32 \[..., N\], got float 1.0"),
    (expectation, {"x": P[:, :1]}, ValueError, "support must have at least 2 atoms, got 1"),
    (expectation, {"x": P[:, :0]}, ValueError, "support must have at least 2 atoms"),
    (two_hot, {"x": P}, ValueError, r"x must be float32 \[B\], got float32 \[4, 5\]"),
    (two_hot, {"atoms": None}, TypeError, "atoms must be an integer with v_min and v_max, got NoneType None"),
    (two_hot, {"atoms": 1}, ValueError, "support must have at least 2 atoms, got 1"),
    (two_hot, {"atoms": 2**62}, ValueError, r"atoms must be at most 2\*\*31, got 4611686018427387904"),
    (hl_gauss, {"atoms": 2**62}, ValueError, r"atoms must be at most 2\*\*31, got 4611686018427387904"),
    (hl_gauss, {"atoms": 10**30}, ValueError, r"atoms must be at most 2\*\*31, got 1000"),
    (hl_gauss, {"sigma": 0.0}, ValueError, "sigma must be > 0 and finite, got 0.0"),
    (hl_gauss, {"sigma": np.nan}, ValueError, "sigma must be > 0 and finite, got nan"),
    (hl_gauss, {"atoms": 2.5}, TypeError, "atoms must be an integer"),
    (hl_gauss, {"atoms": True}, TypeError, "atoms must be an integer with v_min and v_max, got bool True"),
    (hl_gauss, {"atoms": "a"} | SUPPORT, TypeError, "atoms must be an integer or None, got str 'a'"),
    (two_hot, {"atoms": "a"} | SUPPORT, TypeError, "atoms must be an integer or None, got str 'a'"),
    (two_hot, {"atoms": -1} | SUPPORT, ValueError, "support must have at least 2 atoms, got -1"),
    (hl_gauss, {"atoms": -1} | SUPPORT, ValueError, "support must have at least 2 atoms, got -1"),
    (quantile_huber, {"scaled": "yes"}, TypeError, "scaled must be True or False, got str 'yes'"),
    (quantile_huber, {"scaled": Q}, TypeError, "scaled must be True or False, got float32"),
    (
        quantile_huber,
        {"kappa": np.array(1.0)},
        TypeError,
        r"kappa must be a number, got .*: pass float\(kappa\)",
    ),
    (two_hot, {"atoms": N + 1} | SUPPORT, ValueError, r"support must be \[N\] = \[6\], got float64 \[5\]"),
    (c51_loss, {"kl": "no"}, TypeError, "kl must be True or False, got str 'no'"),
    (c51_loss, {"kl": np.zeros(2)}, TypeError, r"kl must be True or False, got float64 \[2\]"),
    (c51_loss, {"kl": None}, TypeError, "kl must be True or False, got NoneType None"),
    (expectation, {"logits": "no"}, TypeError, "logits must be True or False, got str 'no'"),
    (expectation, {"logits": 1}, TypeError, "logits must be True or False, got int 1"),
]
BAD_SUPPORTS: list[tuple[dict[str, Any], Any, str]] = [
    ({"v_min": 1.0, "v_max": 1.0}, ValueError, "v_min must be < v_max, got 1.0 and 1.0"),
    ({"v_min": 2.0, "v_max": 1.0}, ValueError, "v_min must be < v_max, got 2.0 and 1.0"),
    ({"v_min": np.nan, "v_max": 1.0}, ValueError, "v_min must be finite, got nan"),
    ({"v_min": -(10**400), "v_max": 1.0}, ValueError, "v_min must be a number that a float holds, got int"),
    ({"v_min": -1e308, "v_max": 1e308}, ValueError, "v_max - v_min must be finite, got -1e\\+308 and 1e"),
    ({"v_min": 0.0, "v_max": np.inf}, ValueError, "v_max must be finite, got inf"),
    ({"v_min": 0.0, "v_max": "x"}, TypeError, "v_max must be a number, got str 'x'"),
    ({"v_min": 0.0, "v_max": None}, ValueError, "support must be given, or v_min and v_max, one of the two"),
    (
        {"support": np.arange(N) * 1.0},
        ValueError,
        "support must be given, or v_min and v_max, one of the two",
    ),
    (
        {"v_min": None, "v_max": None, "support": np.arange(N)},
        TypeError,
        r"support must be float32 or float64 \[N\], got",
    ),
    (
        {"v_min": None, "v_max": None, "support": np.arange(N)[::-1] * 1.0},
        ValueError,
        "must be finite and increasing",
    ),
    (
        {"v_min": None, "v_max": None, "support": np.array([0, 1, 1, 2, 3.0])},
        ValueError,
        "must be finite and increasing",
    ),
    (
        {"v_min": None, "v_max": None, "support": np.array([0, 1, np.nan, 2, 3])},
        ValueError,
        "must be finite and incre",
    ),
    (
        {"v_min": None, "v_max": None, "support": np.array([0, 1, 2, 3, np.inf])},
        ValueError,
        "must be finite and incre",
    ),
    ({"v_min": None, "v_max": None, "support": np.zeros((N, 1))}, ValueError, r"support must be \[N\]"),
]


@BACKENDS
@pytest.mark.parametrize(("op", "wrong", "error", "message"), REFUSED)
def test_refuses(op: Any, backend: str, wrong: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^{op.__name__}: {message}"):
        op(**GOOD[op] | wrong, backend=backend)


@BACKENDS
@pytest.mark.parametrize("op", [op for op in GOOD if op is not quantile_huber], ids=lambda op: op.__name__)
@pytest.mark.parametrize(("wrong", "error", "message"), BAD_SUPPORTS)
def test_refuses_a_bad_support(
    op: Any, backend: str, wrong: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=rf"^{op.__name__}: .*{message}"):
        op(**GOOD[op] | wrong, backend=backend)


@BACKENDS
@OPS
def test_accepts_what_is_right(op: Any, backend: str) -> None:
    op(**GOOD[op], backend=backend)
    flag = {c51_loss: {"kl": np.True_}, expectation: {"logits": np.True_}}.get(op, {})
    op(**GOOD[op] | flag, backend=backend)


@OPS
def test_refuses_a_backend_in_the_name_of_the_op_that_was_called(op: Any) -> None:
    with pytest.raises(NotImplementedError, match=f"^no backend runs {op.__name__} on cpu:"):
        op(**GOOD[op], backend="numba")
    with pytest.raises(ValueError, match=f"^{op.__name__}: backend must be one of .*, got 'cuda'"):
        op(**GOOD[op], backend="cuda")


@BACKENDS
def test_refused_changes_nothing(backend: str) -> None:
    out = (np.full(B, 9, np.float32), np.full((B, A, N), 9, np.float32))
    with pytest.raises(ValueError, match="in row 1"):
        c51_loss(**GOOD[c51_loss] | {"action": np.array([0, A, 0, 0])}, out=out, backend=backend)
    assert all((x == 9).all() for x in out)
    packed = np.zeros(B, np.dtype([("flag", "?"), ("reward", "<f4")]))
    with pytest.raises(ValueError, match="c51_project: reward must be aligned"):
        c51_project(**GOOD[c51_project] | {"reward": packed["reward"]}, backend=backend)


SHAPES = st.lists(st.integers(0, 3), min_size=0, max_size=3).map(tuple)
DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.complex64, np.object_])
ANYTHING = st.one_of(
    st.builds(lambda shape, dtype: np.zeros(shape, dtype), SHAPES, DTYPES),
    st.sampled_from([None, 0, 1.5, -1, "text", [1.0], float("nan"), float("inf"), object(), np.float32(2)]),
)


@settings(max_examples=400)
@given(st.sampled_from(list(GOOD)), st.data())
def test_property_any_argument_gives_a_result_or_one_of_our_errors(op: Any, data: Any) -> None:
    """And the two CPU backends agree on which."""
    name = data.draw(
        st.sampled_from([*GOOD[op], *("support", "terminated", "gamma", "taus", "kappa", "out")])
    )
    arguments = GOOD[op] | {name: data.draw(ANYTHING)}
    outcomes = [outcome(op, arguments | {"backend": backend}) for backend in ("cpp", "reference")]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].startswith(("result", f"{op.__name__}: ", f"{op.__name__}() got an unexpected"))


def outcome(op: Any, arguments: dict[str, Any]) -> str:
    try:
        op(**arguments)
    except (TypeError, ValueError) as error:
        return str(error)
    return "result"


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("name", ["probs", "reward", "discount", "terminated", "support", "target_support"])
def test_out_is_apart_from_every_input(backend: str, name: str) -> None:
    out = np.zeros((B, N), np.float32)
    flat = out.ravel()
    x = {
        "probs": out,
        "reward": flat[:B],
        "discount": flat[:B],
        "terminated": flat.view(bool)[:B],
        "support": flat[:N],
        "target_support": flat[:N],
    }[name]
    flat[:N] = np.arange(N)
    given = {"probs": P.copy(), "reward": F.copy(), "gamma": 0.9} | SUPPORT | {name: x}
    if name == "discount":
        del given["gamma"]
    with pytest.raises(ValueError, match="c51_project: out must not share memory with an input"):
        c51_project(**given, out=out, backend=backend)
