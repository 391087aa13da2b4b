"""State trees come back equal from a checkpoint, types included; what cannot is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from fastrl.checkpoint import read, save_folder, write
from fastrl.state import DTYPES, decode, encode

arrays = st.sampled_from(DTYPES).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.binary(max_size=9)
    | arrays
)
keys = st.text(max_size=4) | st.sampled_from(["a", "a.b", "b", "$array", "$", "__metadata__", "\ud800"])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def assert_same(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        assert got.flags.writeable
    else:
        assert repr(got) == repr(expected)  # tells -0.0 from 0.0, and nan is nan


@settings(max_examples=80)
@given(st.dictionaries(keys, trees, max_size=5))
def test_any_state_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("state") / "agent"
    save_folder(path, state, algorithm="PPO", step=3)
    got = read(path)
    assert_same(got.state, state)
    assert (got.algorithm, got.step, got.path) == ("PPO", 3, path)


def test_tensors_are_named_by_their_path_and_readable_by_safetensors(tmp_path: Path) -> None:
    state = {"policy": {"layers.0.weight": np.ones((2, 3), np.float32)}, "envs": [{"x": np.zeros(1)}]}
    folder = write(tmp_path, 0, state, algorithm="PPO")
    assert set(load_file(folder / "tensors.safetensors")) == {"policy.layers.0.weight", "envs.0.x"}


def test_layouts_and_scalars_are_normalised(tmp_path: Path) -> None:
    grid = np.arange(12.0).reshape(3, 4)
    state = {
        "t": grid.T,
        "s": grid[::2, 1::2],
        "be": grid.astype(">f8"),
        "f": np.float32(0.1),
        "i": np.uint64(2**63),
    }
    got = read(write(tmp_path, 0, state, algorithm="PPO")).state
    np.testing.assert_array_equal(got["t"], grid.T)
    np.testing.assert_array_equal(got["s"], grid[::2, 1::2])
    assert_same(got["be"], grid)
    assert_same([got["f"], got["i"]], [float(np.float32(0.1)), 2**63])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": [0, object()]}}, r"state\.a\.b\.1 must be .*, got object"),
        ({"a": {1: 2}}, r"keys of state\.a must be str, got 1"),
        ({"a": np.array(["x"])}, r"state\.a must have a dtype of bool, .*, got <U1"),
        ({"a": np.array([None])}, r"state\.a must have a dtype .*, got object"),
        ({"a": np.zeros(2, np.complex128)}, r"state\.a must have a dtype .*, got complex128"),
        ([1], r"state must be a dict, got list"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_written(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        write(tmp_path / "run", 0, state, algorithm="PPO")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "tree", [{"a": {"$array": "lost"}}, {"a": {"$eval": "1"}}, {"a": {"$array": "x", "b": 1}}]
)
def test_marks_that_encode_never_writes_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lost|eval|array"):
        decode(tree, {})


def test_encode_names_tensors_uniquely() -> None:
    state = {"a.b": np.zeros(1), "a": {"b": np.ones(1)}, "__metadata__": np.ones(2)}
    tree, tensors = encode(state)
    assert set(tensors) == {"a.b", "a.b#2", "__metadata__#2"}
    assert_same(decode(tree, tensors), state)
