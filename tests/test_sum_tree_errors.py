"""What SumTree refuses: one clear error each, and nothing is changed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from _memory import no_asan
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastrl.kernels import SumTree

INDEX, P = np.arange(4), np.ones(4)


def filled() -> SumTree:
    tree = SumTree(10, alpha=0.5, seed=1)
    tree.update(np.arange(9), np.arange(9.0))
    return tree


def unchanged(
    call: Callable[[SumTree], Any], error: type[Exception], message: str, tree: SumTree | None = None
) -> None:
    tree = tree or filled()
    before = tree.state()
    with pytest.raises(error, match=message):
        call(tree)
    after = tree.state()
    assert before.pop("leaf").tobytes() == after.pop("leaf").tobytes()
    assert before == after
    assert tree.total == pytest.approx(math.fsum(tree.leaves))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"capacity": 0}, ValueError, r"SumTree: capacity must be in \[1, 2\^63\), got 0"),
        ({"capacity": -1}, ValueError, "capacity must be in .*, got -1"),
        ({"capacity": 2.5}, TypeError, "SumTree: capacity must be an integer, got float 2.5"),
        ({"capacity": 2**70}, ValueError, "capacity must be in"),
        ({"alpha": -0.1}, ValueError, "SumTree: alpha must be finite and >= 0, got -0.1"),
        ({"alpha": math.nan}, ValueError, "alpha must be finite and >= 0, got nan"),
        ({"alpha": math.inf}, ValueError, "alpha must be finite and >= 0, got inf"),
        ({"eps": -1e-9}, ValueError, "eps must be finite and >= 0"),
        ({"alpha": "1"}, TypeError, "SumTree: alpha must be a number, got str '1'"),
        ({"eps": np.ones(2)}, TypeError, r"SumTree: eps must be a number, got float64 \[2\]"),
        ({"seed": -1}, ValueError, r"seed must be in \[0, 2\^64\), got -1"),
        ({"seed": 2**64}, ValueError, "seed must be in"),
        ({"seed": 1.0}, TypeError, "seed must be an integer, got float 1.0"),
    ],
)
def test_construction(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SumTree(**({"capacity": 3} | options))


@no_asan
@pytest.mark.parametrize("capacity", [2**62, 2**56])
def test_more_items_than_memory(capacity: int) -> None:
    with pytest.raises(MemoryError):
        SumTree(capacity)


UPDATES = [
    (INDEX, -P, ValueError, r"SumTree.update: priority must be finite and >= 0, got -1.0"),
    (INDEX, np.array([1, 2, 3, -1e-30]), ValueError, "priority must be finite and >= 0, got -1e-30"),
    (INDEX, P * math.nan, ValueError, "priority must be finite and >= 0, got nan"),
    (INDEX, P * math.inf, ValueError, "priority must be finite and >= 0, got inf"),
    (INDEX, np.float32([1, 1, 1, math.nan]), ValueError, "got nan"),
    (INDEX, P[:3], ValueError, r"priority must be \[B\] = \[4\] as index is, got float64 \[3\]"),
    (
        INDEX,
        P[None],
        ValueError,
        r"priority must be float32 or float64 \[B\], or a number, got float64 \[1, 4\]",
    ),
    (INDEX, INDEX, TypeError, r"priority must be float32 or float64 \[B\], or a number, got int64 \[4\]"),
    (INDEX, P.astype(">f8"), TypeError, "priority must be float32 or float64"),
    (INDEX, P.astype(np.float16), TypeError, r"got float16 \[4\]"),
    (INDEX, P.tolist(), TypeError, "got list"),
    (INDEX, True, TypeError, "priority must be"),
    (INDEX, None, TypeError, "priority must be .*, got NoneType None"),
    (INDEX, "1", TypeError, "priority must be"),
    (INDEX, -1.0, ValueError, "priority must be finite and >= 0, got -1.0"),
    (INDEX + 7, P, ValueError, r"SumTree.update: index must be in \[0, 10\), got 10"),
    (INDEX - 1, P, ValueError, r"index must be in \[0, 10\), got -1"),
    (np.array([0, 1, 2, 2**62]), P, ValueError, "index must be in"),
    (10, 1.0, ValueError, r"index must be in \[0, 10\), got 10"),
    (-1, 1.0, ValueError, "index must be in .*, got -1"),
    (True, 1.0, TypeError, "index must be int64"),
    (INDEX.astype(np.int32), P, TypeError, r"index must be int64 \[B\] or an integer, got int32 \[4\]"),
    (INDEX.astype(np.uint64), P, TypeError, "got uint64"),
    (INDEX.astype(">i8"), P, TypeError, r"index must be int64 \[B\] or an integer, got >i8 \[4\]"),
    (INDEX.astype(float), P, TypeError, "got float64"),
    (INDEX.reshape(2, 2), P, ValueError, r"got int64 \[2, 2\]"),
    (INDEX > 1, P, TypeError, "got bool"),
    (slice(0, 4), P, TypeError, "got slice"),
    (torch.arange(4, dtype=torch.int32), P, TypeError, "got int32"),
    (
        torch.zeros(4, dtype=torch.int64, device="meta"),
        P,
        TypeError,
        "index must be on the CPU, got a tensor on meta",
    ),
    (INDEX, torch.zeros(4, device="meta"), TypeError, "priority must be on the CPU"),
    (INDEX, torch.zeros(4, dtype=torch.bfloat16), TypeError, "got bfloat16"),
]


@pytest.mark.parametrize(("index", "priority", "error", "message"), UPDATES)
def test_update(index: Any, priority: Any, error: type[Exception], message: str) -> None:
    unchanged(lambda tree: tree.update(index, priority), error, message)


def test_a_leaf_that_is_too_large() -> None:
    unchanged(
        lambda tree: tree.update(INDEX, np.full(4, 1e308)),
        ValueError,
        r"\(priority \+ eps\) \*\* alpha must be at most 2\^960, got priority 1e\+308 with alpha = 1",
        SumTree(10),
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": -1}, ValueError, r"SumTree.sample: batch_size must be in \[0, 2\^33\), got -1"),
        ({"batch_size": 2**33}, ValueError, "batch_size must be in"),
        ({"batch_size": 2**70}, ValueError, "batch_size must be in"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got float 2.0"),
        ({"beta": -0.5}, ValueError, "beta must be finite and >= 0, got -0.5"),
        ({"beta": math.nan}, ValueError, "beta must be finite and >= 0, got nan"),
        ({"beta": "1"}, TypeError, "beta must be a number, got str '1'"),
        ({"normalize": "max"}, ValueError, "normalize must be one of batch, buffer, None, got 'max'"),
        ({"normalize": 1}, ValueError, "normalize must be one of"),
        ({"out": 3}, TypeError, r"out must be a tuple \(index, weight\), got int 3"),
        ({"out": ()}, TypeError, r"out must be a tuple \(index, weight\), got tuple"),
        ({"out": np.zeros(4)}, TypeError, r"out must be a tuple \(index, weight\), got float64 \[4\]"),
        (
            {"out": (np.zeros(4), np.zeros(4, np.float32))},
            TypeError,
            r"out's index must be int64 \[B\], got float64",
        ),
        (
            {"out": (np.zeros(4, int), np.zeros(4))},
            TypeError,
            r"out's weight must be float32 \[B\], got float64",
        ),
        ({"out": (np.zeros(3, int), np.zeros(4, np.float32))}, ValueError, r"out's index must be .* = \[4\]"),
        (
            {"out": (np.zeros(8, int)[::2], np.zeros(4, np.float32))},
            ValueError,
            "out's index must be contiguous",
        ),
        ({"out": (np.zeros(4, ">i8"), np.zeros(4, np.float32))}, TypeError, "out's index must be int64"),
    ],
)
def test_sample(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    unchanged(lambda tree: tree.sample(**({"batch_size": 4} | arguments)), error, message)


def test_sample_into_unsuitable_memory() -> None:
    memory = np.zeros(8, np.int64)
    unchanged(
        lambda tree: tree.sample(4, out=(memory[:4], memory.view(np.float32)[4:8])),
        ValueError,
        "out must be two arrays that share no memory",
    )
    read_only = np.zeros(4, np.float32)
    read_only.setflags(write=False)
    unchanged(
        lambda tree: tree.sample(4, out=(memory[:4], read_only)),
        ValueError,
        "out's weight must be .*writeable",
    )
    assert not memory.any()


@pytest.mark.parametrize(
    "call", [lambda x: x.sample(1), lambda x: x.prefix_index(0.0), lambda x: x.prefix_index(np.zeros(2))]
)
def test_no_item_to_draw(call: Callable[[SumTree], Any]) -> None:
    empty = SumTree(10)
    unchanged(call, ValueError, "an item must have a priority over 0", empty)
    empty.update(INDEX, P * 0)
    unchanged(call, ValueError, "an item must have a priority over 0", empty)


@pytest.mark.parametrize(
    ("mass", "error", "message"),
    [
        (
            -1e-9,
            ValueError,
            r"SumTree.prefix_index: mass must be in \[0, total\] = \[0, 16.3\d+\], got -1e-09",
        ),
        (100.0, ValueError, "mass must be in .*, got 100"),
        (math.nan, ValueError, "mass must be in .*, got nan"),
        (np.array([0.0, math.inf]), ValueError, "got inf"),
        (np.zeros(2, np.float32), TypeError, r"mass must be float64 \[B\] or a number, got float32 \[2\]"),
        (np.zeros((2, 2)), ValueError, r"got float64 \[2, 2\]"),
        ([0.0], TypeError, "got list"),
    ],
)
def test_prefix_index(mass: Any, error: type[Exception], message: str) -> None:
    unchanged(lambda tree: tree.prefix_index(mass), error, message)


@pytest.mark.parametrize("name", ["sum", "min"])
@pytest.mark.parametrize(
    ("span", "error", "message"),
    [
        ((-1, 3), ValueError, r"start must be in \[0, 4\), got -1"),
        ((4, 3), ValueError, r"start must be in \[0, 4\), got 4"),
        ((0, 11), ValueError, r"stop must be in \[0, 11\), got 11"),
        ((0.0, 3), TypeError, "start must be an integer"),
    ],
)
def test_runs(name: str, span: tuple[Any, Any], error: type[Exception], message: str) -> None:
    unchanged(lambda tree: getattr(tree, name)(*span), error, f"SumTree.{name}: {message}")


@pytest.mark.parametrize("index", [10, -1, np.array([3, 10])])
def test_reading_out_of_range(index: Any) -> None:
    unchanged(lambda tree: tree[index], IndexError, r"SumTree: index must be in \[0, 10\)")


def with_leaf(i: int, x: float) -> NDArray[np.float64]:
    leaf = np.ones(10)
    leaf[i] = x
    return leaf


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"leaf": np.ones(9)}, ValueError, r"SumTree.load_state: leaf must be float64 \[capacity\] = \[10\]"),
        ({"leaf": np.ones(10, np.float32)}, TypeError, "leaf must be float64"),
        ({"leaf": with_leaf(9, -1)}, ValueError, r"leaf must be in \[0, 2\^960\], got -1.0"),
        ({"leaf": with_leaf(0, math.nan)}, ValueError, "leaf must be in .*, got nan"),
        ({"leaf": with_leaf(0, 1e300)}, ValueError, "leaf must be in"),
        ({"max_priority": -1.0}, ValueError, "max_priority must be finite and >= 0"),
        ({"max_priority": math.nan}, ValueError, "max_priority must be finite"),
        ({"max_priority": "1"}, TypeError, "max_priority must be a number"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"draws": 0.5}, TypeError, "draws must be an integer"),
    ],
)
def test_corrupt_state(change: dict[str, Any], error: type[Exception], message: str) -> None:
    unchanged(lambda tree: tree.load_state(tree.state() | change), error, message)


def test_state_without_a_key() -> None:
    unchanged(
        lambda tree: tree.load_state({"leaf": np.ones(10)}),
        ValueError,
        "state must have draws, max_priority, seed",
    )


anything = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=2),
    st.lists(st.floats(), max_size=3),
    st.builds(
        lambda dtype, shape, step, value: (
            np.full(shape, 0).astype(dtype)[..., ::step] + np.dtype(dtype).type(value)
        ),
        st.sampled_from(["int64", "int32", "uint64", ">i8", "float32", "float64", ">f8", "float16", "bool"]),
        st.sampled_from([(), (1,), (4,), (0,), (2, 2), (4, 0)]).filter(lambda shape: shape != ()),
        st.sampled_from([1, 2, -1]),
        st.sampled_from([0, 1]),
    ),
)


def refusal(call: Callable[[], Any]) -> str | None:
    """What the error says, if it is one of those that bad arguments raise."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return str(error)
    return None


@settings(deadline=None, derandomize=True, max_examples=300)
@given(anything, anything)
def test_property_an_update_is_right_or_refused(index: Any, priority: Any) -> None:
    tree = filled()
    expected = tree.leaves
    said = refusal(lambda: tree.update(index, priority))
    if said is None:
        expected[index] = np.sqrt(priority)
    else:
        assert said.startswith("SumTree.update: ")
    np.testing.assert_allclose(tree.leaves, expected, rtol=1e-14)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(anything, anything)
def test_property_a_draw_is_right_or_refused(batch_size: Any, beta: Any) -> None:
    tree = filled()
    if isinstance(batch_size, int) and 100 < batch_size < 2**33:
        batch_size = 100
    said = refusal(lambda: tree.sample(batch_size, beta=beta))
    if said is None:
        index, weight = tree.sample(batch_size, beta=beta)
        assert len(index) == len(weight) == batch_size
        assert ((index > 0) & (index < 9)).all()
    else:
        assert said.startswith("SumTree.sample: ")
        assert tree.state()["draws"] == 0


def test_a_state_out_of_line_is_loaded() -> None:
    tree = SumTree(4, seed=1)
    leaf = np.zeros(33, np.uint8)[1:].view(np.float64)
    leaf[:] = [1, 2, 3, 4]
    assert not leaf.flags.aligned
    tree.load_state(tree.state() | {"leaf": leaf})
    assert tree.total == 10
