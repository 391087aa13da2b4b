"""Saved replay buffers: exact to the next draw, and refused when they are not whole."""

import copy
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrl.checkpoint import CheckpointError, read, save_folder
from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer, SequenceReplayBuffer

FIELDS = {
    "obs": {"shape": (2,), "dtype": np.uint8},
    "rew": {},
    "done": {"dtype": bool},
    "truncated": {"dtype": bool},
}
N_STEP = {"size": 3, "rew": "rew", "next": "obs"}


def make(**options):
    return PrioritizedReplayBuffer(12, FIELDS, num_envs=2, Nstep=N_STEP, new_priority="stored", **options)


def go_on(buffer, count, seed):
    """Use a buffer; what it returned."""
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(count):
        flags = rng.random((2, 2)) < 0.2
        obs = rng.integers(0, 255, (2, 2), np.uint8)
        buffer.add(obs=obs, rew=rng.random(2), done=flags[0], truncated=flags[1])
        if rng.random() < 0.1:
            buffer.on_episode_end(1)
        batch = buffer.sample(5)
        buffer.update_priorities(batch["indexes"], rng.random(5))
        seen.append(batch)
    return seen


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, list) and a and isinstance(a[0], dict):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, strict=True)
    else:
        assert a == b


@given(before=st.integers(0, 20), seed=st.integers(0, 5))
def test_a_buffer_goes_on_exactly_from_its_state(before, seed):
    first, second = make(seed=seed), make()
    go_on(first, before, seed)
    state = first.state()
    expected = go_on(first, 10, seed + 1)
    go_on(second, 5, 9)
    second.load_state(state)
    assert_same(second.state(), state)
    assert_same(go_on(second, 10, seed + 1), expected)


def test_a_saved_buffer_goes_on_exactly(tmp_path):
    first = make(seed=1)
    go_on(first, 10, 1)
    path = first.save(tmp_path / "replay")
    expected = go_on(first, 10, 2)
    second = make().load(path)
    assert_same(go_on(second, 10, 2), expected)
    second.save(path)  # replaces it
    third = make().load(path)
    assert_same(third.state(), second.state())


def test_a_uniform_buffer_is_saved_as_well(tmp_path):
    first = ReplayBuffer(5, {"x": {}}, seed=1)
    first.add(x=np.arange(7))
    second = ReplayBuffer(5, {"x": {}}).load(first.save(tmp_path / "replay"))
    assert_same(second.sample(9), first.sample(9))
    assert second.add(x=0) == 2


def test_a_damaged_file_changes_nothing(tmp_path):
    source = make(seed=1)
    go_on(source, 10, 1)
    whole = source.save(tmp_path / "whole")
    buffer = make(seed=2)
    go_on(buffer, 3, 2)
    before = buffer.state()
    for name in ("manifest.json", "tensors.safetensors"):
        contents = (whole / name).read_bytes()
        for place in np.linspace(0, len(contents) - 1, 25).astype(int):
            path = tmp_path / "damaged"
            shutil.copytree(whole, path, dirs_exist_ok=True)
            changed = bytearray(contents)
            changed[place] ^= 4
            for damaged in (bytes(changed), contents[: place // 2]):
                (path / name).write_bytes(damaged)
                with pytest.raises(CheckpointError, match="damaged"):  # the file is named
                    buffer.load(path)
                assert_same(buffer.state(), before)
    with pytest.raises(CheckpointError, match="nowhere"):
        buffer.load(tmp_path / "nowhere")
    assert_same(buffer.state(), before)


def test_another_buffer_is_refused(tmp_path):
    uniform = ReplayBuffer(12, FIELDS, num_envs=2, Nstep=N_STEP)
    with pytest.raises(CheckpointError, match="is of ReplayBuffer, not PrioritizedReplayBuffer"):
        make().load(uniform.save(tmp_path / "uniform"))
    path = make().save(tmp_path / "prioritized")
    for options in ({"alpha": 0.5}, {"eps": 0}, {"stratified": False}, {"normalize": "buffer"}):
        with pytest.raises(ValueError, match="config must be"):
            make(**options).load(path)
    with pytest.raises(ValueError, match="config must be"):
        PrioritizedReplayBuffer(14, FIELDS, num_envs=2, Nstep=N_STEP).load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"added": -2},
        {"added": 3},
        {"added": 100},
        {"seed": -1},
        {"counter": 2**64},
        {"max_priority": np.nan},
        {"max_priority": -1.0},
        {"max_priority": None},
        {"max_priority": "a"},
        {"added": 2**70},
        {"added": 3.5},
        {"added": "a"},
        {"seed": "a"},
        {"flags": None},
        {"fields": None},
        {"fields": 3},
        {"flags": np.zeros(9, np.uint8)},
        {"flags": np.full(10, 4, np.uint8)},
        {"flags": np.zeros(10)},
        {"leaves": None},
        {"leaves": np.ones(9)},
        {"leaves": np.full(10, np.nan)},
        {"leaves": np.full(10, -1.0)},
        {"leaves": np.full(10, 1e300)},
        {"leaves": np.ones(10, np.float32)},
        {"fields": {}},
        {"fields": {"obs": np.zeros((9, 2), np.uint8)}},
        {"extra": 1},
        {"config": np.zeros(3)},
        {"config": make()._config() | {"size": np.zeros(3)}},
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change):
    buffer = make(seed=1)
    go_on(buffer, 5, 1)
    state = buffer.state()
    with pytest.raises((TypeError, ValueError), match="load_state: "):
        buffer.load_state(state | change)
    fields = state["fields"]
    with pytest.raises(ValueError, match="load_state: "):
        buffer.load_state(state | {"fields": fields | {"rew": fields["rew"][:-1]}})
    assert_same(buffer.state(), state)


def test_a_priority_that_makes_no_leaf_is_not_loaded():
    buffer = PrioritizedReplayBuffer(4, {"x": {}}, alpha=1)
    with pytest.raises(ValueError, match=r"load_state: max_priority must be .*, got 1e\+308"):
        buffer.load_state(buffer.state() | {"max_priority": 1e308})


def test_a_uniform_buffer_has_no_leaves():
    buffer = ReplayBuffer(4, {"x": {}})
    with pytest.raises(ValueError, match="load_state: leaves must be None without priorities, got int 3"):
        buffer.load_state(buffer.state() | {"leaves": 3})


IMAGES = {"obs": {"shape": (4, 8, 8), "dtype": np.uint8}, "rew": {}, "done": {}}


def of_frames(kind, **options):
    if kind is SequenceReplayBuffer:
        options["length"] = 3
    return kind(20, IMAGES, next_of="obs", stack_compress="obs", **options)


def add_frames(buffer, rows):
    frames = np.random.default_rng(0).integers(256, size=(64, 8, 8), dtype=np.uint8)
    for i in rows:
        buffer.add(obs=frames[i : i + 4], next_obs=frames[i + 1 : i + 5], rew=i, done=i % 7 == 0)


KINDS = pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer, SequenceReplayBuffer])


@KINDS
def test_frames_are_saved_once(kind, tmp_path):
    first, second, old = of_frames(kind, seed=1), of_frames(kind, seed=2), of_frames(kind, seed=3)
    for buffer, count in ((first, 33), (second, 5), (old, 7)):
        add_frames(buffer, range(count))
    second.save_shards(tmp_path / "shards")
    path = first.save(tmp_path / "replay")
    assert (path / "tensors.safetensors").stat().st_size < 20 * 64 * 4
    second.load(path)
    old.load(save_folder(tmp_path / "old", first.state(), algorithm=kind.__name__))  # with whole stacks
    expected = first.state()
    for buffer in (second, old):
        assert_same(buffer.state(), expected)
    for buffer in (first, second, old):
        add_frames(buffer, range(33, 50))
    expected = first.sample(5)
    for buffer in (second, old):
        assert_same(buffer.sample(5), expected)
    second.save_shards(tmp_path / "shards")  # all of it: what was saved there is of other rows
    assert_same(of_frames(kind).load_shards(tmp_path / "shards").state(), second.state())


@KINDS
def test_frames_that_were_saved_are_those_of_this_buffer(kind, tmp_path):
    first, second = of_frames(kind, seed=1), of_frames(kind, num_envs=2)
    add_frames(first, range(9))
    path = first.save(tmp_path / "replay")
    with pytest.raises(ValueError, match="load: config must be"):
        second.load(path)
    before = first.state()
    outline, rows, frames = read(path).state["contents"]
    place, flags, leaves, stores = outline
    some = frames[0][0]
    wrong_rows = (
        None,
        {"done": rows["done"]},
        {**rows, "other": rows["rew"]},
        *({**rows, "rew": x} for x in (None, rows["rew"][1:], rows["rew"].astype(float))),
    )
    wrong_frames = (None, [], [[]], [[some[1:]]], [[some, some]], [[some.astype(float)]])
    wrong_outlines = (
        None,
        (place, flags[1:], leaves, stores),
        (place, None, leaves, stores),
        (place, flags, leaves, []),
        *(
            ((*place[:i], x, *place[i + 1 :]), flags, leaves, stores)
            for i in range(4)
            for x in (None, "a", -1)
        ),
    )
    for contents in (
        None,
        (outline, rows),
        *((outline, x, frames) for x in wrong_rows),
        *((outline, rows, x) for x in wrong_frames),
        *((x, rows, frames) for x in wrong_outlines),
    ):
        save_folder(path, {"config": before["config"], "contents": contents}, algorithm=kind.__name__)
        with pytest.raises((TypeError, ValueError), match=r"^load"):
            first.load(path)
        assert_same(first.state(), before)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda buffer: pickle.loads(pickle.dumps(buffer))])
@KINDS
def test_a_copy_goes_on_exactly(kind, clone):
    first = of_frames(kind, seed=1)
    assert len(clone(first)) == 0
    add_frames(first, range(30))
    second = clone(first)
    assert len(pickle.dumps(second)) < 20 * 64 * 4
    assert_same(second.state(), first.state())
    for buffer in (first, second):
        add_frames(buffer, [30])
    assert_same(second.sample(5), first.sample(5))
