"""Saves that write only what is new: exact, small, safe from a kill, and refused when damaged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.checkpoint import CheckpointError
from fastrl.durable import digest, serialised
from fastrl.integrations import cpprb
from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer, shards

FIELDS = {
    "obs": {"shape": (3, 2, 4), "dtype": np.uint8},
    "state": {"shape": 2},
    "rew": {},
    "done": {"dtype": np.bool_},
}


def make(kind: Any = PrioritizedReplayBuffer, size: int = 24, **options: Any) -> Any:
    return kind(
        size, FIELDS, num_envs=2, next_of=["obs", "state"], stack_compress="obs", **{"seed": 3, **options}
    )


class Writer:
    """Adds steps of random episodes."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.now = [self.begin() for _ in range(2)]

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        frame = self.random.integers(256, size=(2, 4), dtype=np.uint8)
        return np.stack([frame] * 3), self.random.normal(size=2).astype(np.float32)

    def step(self, *buffers: Any) -> None:
        after = []
        for obs, _ in self.now:
            first, state = self.begin()
            after.append((np.concatenate([obs[1:], first[:1]]), state))
        done, end = self.random.random(2) < 0.1, self.random.random() < 0.1
        row = {name: np.array([pair[i] for pair in self.now]) for i, name in enumerate(("obs", "state"))}
        row |= {
            f"next_{name}": np.array([pair[i] for pair in after]) for i, name in enumerate(("obs", "state"))
        }
        rew, priority = self.random.random(2), self.random.random(3)
        for buffer in buffers:
            buffer.add(**row, rew=rew, done=done)
            if end:
                buffer.on_episode_end()
            if isinstance(buffer, PrioritizedReplayBuffer):
                buffer.update_priorities(buffer.sample(3)["indexes"], priority)
        self.now = [self.begin() if stop or end else pair for stop, pair in zip(done, after, strict=True)]


def assert_same(x: Any, y: Any) -> None:
    """Now and later: rows, ends, priorities, draws."""
    assert_equal(x.state(), y.state())


def assert_equal(x: Any, y: Any) -> None:
    if isinstance(x, dict):
        assert x.keys() == y.keys()
        for name in x:
            assert_equal(x[name], y[name])
    elif isinstance(x, np.ndarray):
        np.testing.assert_array_equal(x, y)
    else:
        assert x == y


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(0, 25), min_size=1, max_size=6),
    piece=st.sampled_from([1, 300, 1 << 27]),
    kind=st.sampled_from([ReplayBuffer, PrioritizedReplayBuffer]),
)
def test_each_save_loads_exactly(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[int], piece: int, kind: Any
) -> None:
    folder = tmp_path_factory.mktemp("saves") / "replay"
    buffer, writer = make(kind), Writer(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", piece)
        for count in steps:
            for _ in range(count):
                writer.step(buffer)
            assert buffer.save_shards(folder) == folder
            other = make(kind, seed=9).load_shards(folder)
            assert_same(other, buffer)
            if seed % 3 == 0:
                buffer = other  # the chain goes on from what was loaded
    for _ in range(30):
        writer.step(buffer, other)
    assert_same(other, buffer)


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_save_writes_only_what_is_new(tmp_path: Path) -> None:
    buffer, writer = make(size=2000), Writer(0)
    for _ in range(900):
        writer.step(buffer)
    buffer.save_shards(tmp_path)
    first = written(tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for _ in range(20):
        writer.step(buffer)
    buffer.save_shards(tmp_path)
    second = written(tmp_path)
    old, new = [
        [name for name in names if name.startswith("shard")] for names in (first, set(second) - set(first))
    ]
    assert len(old) == len(new) == 1
    assert second[new[0]] < first[old[0]] / 20
    assert (tmp_path / old[0]).stat().st_mtime_ns == stamps[old[0]]
    buffer.save_shards(tmp_path)
    assert {name for name in written(tmp_path) if name.startswith("shard")} == {*old, *new}
    rows = 1840 * (4 * 5 + 1) + 1840 * (8 + 8 * 1.3)  # state, rew, done; frames and ends of episodes
    assert first[old[0]] < rows * 1.3, "a frame was written more than once"


def test_shards_that_no_row_needs_are_removed(tmp_path: Path) -> None:
    buffer, writer = make(size=40), Writer(0)
    for _ in range(30):
        for _ in range(5):
            writer.step(buffer)
        buffer.save_shards(tmp_path)
        assert sum(name.startswith("shard") for name in written(tmp_path)) <= 6
        assert len(written(tmp_path)) <= 8
    assert_same(make(size=40).load_shards(tmp_path), buffer)


def test_another_buffer_s_save_is_replaced_whole(tmp_path: Path) -> None:
    first, second, writer = make(), make(), Writer(0)
    for _ in range(9):
        writer.step(first)
    first.save_shards(tmp_path)
    second.load_shards(tmp_path)
    writer.step(second)
    second.save_shards(tmp_path)
    for _ in range(3):
        writer.step(first)
    first.save_shards(tmp_path)  # not what the folder now holds
    assert_same(make().load_shards(tmp_path), first)
    first.clear()
    writer.step(first)
    first.save_shards(tmp_path)
    assert_same(make().load_shards(tmp_path), first)
    first.save_shards(tmp_path / ".." / "elsewhere")
    assert_same(make().load_shards(tmp_path / ".." / "elsewhere"), first)
    next(path for path in tmp_path.iterdir() if path.name.startswith("shard")).unlink()
    first.save_shards(tmp_path)  # writes what is missing
    assert_same(make().load_shards(tmp_path), first)


def test_a_damaged_file_is_named_and_changes_nothing(tmp_path: Path) -> None:
    source, writer = make(), Writer(0)
    for _ in range(3):
        for _ in range(4):
            writer.step(source)
        source.save_shards(tmp_path / "whole")
    buffer = make()
    writer.step(buffer)
    before = buffer.state()
    for path in (tmp_path / "whole").iterdir():
        contents = path.read_bytes()
        changed = bytearray(contents)
        changed[len(changed) // 2] ^= 4
        for damaged in (bytes(changed), contents[: len(contents) // 2], None):
            shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
            shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
            target = tmp_path / "damaged" / path.name
            target.unlink() if damaged is None else target.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=path.name):
                buffer.load_shards(tmp_path / "damaged")
            assert_equal(buffer.state(), before)


@pytest.mark.parametrize("how", ["load_state", "load", "clear"])
def test_a_buffer_that_became_another_is_saved_whole(tmp_path: Path, how: str) -> None:
    kind = cpprb.ReplayBuffer if how == "clear" else ReplayBuffer
    buffer, other = (kind(8, {"x": {}}, seed=1) for _ in range(2))
    buffer.add(x=np.arange(4))
    buffer.save_shards(tmp_path / "shards")
    other.add(x=100 + np.arange(5))
    if how == "load_state":
        buffer.load_state(other.state())
    elif how == "load":
        buffer.load(other.save(tmp_path / "whole"))
    else:
        buffer.clear()
        buffer.add(x=100 + np.arange(5))
    buffer.save_shards(tmp_path / "shards")
    loaded = kind(8, {"x": {}}, seed=1).load_shards(tmp_path / "shards")
    assert_equal(loaded.get_all_transitions(), other.get_all_transitions())


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest["shards"].pop(1),
        lambda manifest: manifest["shards"].pop(),
        lambda manifest: manifest["shards"].reverse(),
        lambda manifest: manifest["shards"][0].update(rows=[-4, 2]),
        lambda manifest: manifest["shards"][0].update(rows=["a", 2]),
        lambda manifest: manifest["shards"][0].update(rows=3),
        lambda manifest: manifest["shards"][0].update(file="other"),
        lambda manifest: manifest.update(shards=None),
        lambda manifest: manifest.update(added="x"),
        lambda manifest: manifest.update(added=2**70),
        lambda manifest: manifest.update(added=9),
        lambda manifest: manifest.update(seed=-1),
        lambda manifest: manifest.update(counter=1.5),
        lambda manifest: manifest.update(max_priority=None),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.pop("state"),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, monkeypatch: Any, edit: Any) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8)
    buffer = ReplayBuffer(8, {"x": {}}, seed=1)
    buffer.add(x=np.arange(8) + 1)
    buffer.save_shards(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["sha256"]
    edit(manifest)
    (tmp_path / "manifest.json").write_text(serialised({**manifest, "sha256": digest(manifest)}))
    other = ReplayBuffer(8, {"x": {}}, seed=1)
    other.add(x=[7, 7])
    before = other.state()
    with pytest.raises(CheckpointError, match="malformed in spite of its right checksums"):
        other.load_shards(tmp_path)
    assert_equal(other.state(), before)


def test_what_does_not_belong_is_refused(tmp_path: Path) -> None:
    buffer = make()
    with pytest.raises(CheckpointError, match="holds no saved buffer"):
        buffer.load_shards(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"files besides a saved buffer \(notes.txt\)"):
        buffer.save_shards(tmp_path)
    (tmp_path / "notes.txt").rename(tmp_path / "manifest.json")
    (tmp_path / ".tmpr0mkMP").write_text("")  # of safetensors, which a kill interrupted
    buffer.save_shards(tmp_path)
    assert ".tmpr0mkMP" not in written(tmp_path)
    buffer.save(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="files besides"):
        buffer.save_shards(tmp_path / "checkpoint")
    buffer.save_shards(tmp_path / "shards")
    with pytest.raises(CheckpointError, match="a PrioritizedReplayBuffer, not a ReplayBuffer"):
        make(ReplayBuffer).load_shards(tmp_path / "shards")
    for options in ({"alpha": 0.1}, {"size": 26}):
        with pytest.raises(ValueError, match="config must be"):
            make(**options).load_shards(tmp_path / "shards")


def test_a_state_that_lies_is_refused(tmp_path: Path) -> None:
    """Right checksums do not make references to frames right."""
    buffer, writer = make(), Writer(0)
    for _ in range(30):
        writer.step(buffer)
    place, flags, leaves, stores = buffer._core.outline()
    extents, references, tails = stores[0]

    def changed(array: np.ndarray, index: Any, value: int) -> np.ndarray:
        array = array.copy()
        array[index] = value
        return array

    for wrong in [
        (place, flags[:-1], leaves, stores),
        (place, flags + np.uint8(4), leaves, stores),
        (place, flags, -leaves, stores),
        (place, flags, None, stores),
        ((-2, *place[1:]), flags, leaves, stores),
        ((*place[:3], np.nan), flags, leaves, stores),
        (place, flags, leaves, stores[:1]),
        (place, flags, leaves, [(extents, changed(references, (0, 0), 0), tails), stores[1]]),
        (place, flags, leaves, [(extents, changed(references, (5, 1), -1), tails), stores[1]]),
        (place, flags, leaves, [(extents, changed(references, (3, 0), references[20, 0]), tails), stores[1]]),
        (place, flags, leaves, [(extents, references, changed(tails, 0, 1 << 40)), stores[1]]),
        (place, flags, leaves, [(changed(extents, (0, 1), 3), references, tails), stores[1]]),
    ]:
        with pytest.raises((TypeError, ValueError), match=r"load_shards: "):
            buffer._core.check_load(wrong)
    buffer._core.check_load((place, flags, leaves, stores))
    buffer._core.begin_load()
    with pytest.raises(ValueError, match="load_shards: frames must be all that the rows refer to"):
        buffer._core.end_load((place, flags, leaves, stores))
    assert len(buffer) == 0


KILLS = """
import os, signal, sys, time
sys.path.append(sys.argv[2])  # last: fastrl is the one under test
import numpy as np
from tests.test_replay_shards import Writer, make

folder, buffer, writer = sys.argv[1], make(size=200), Writer(0)
writer.step(buffer)
buffer.save_shards(folder)
random, seen = np.random.default_rng(0), [2]
while len(seen) < 12 or (len(set(seen)) < 4 and len(seen) < 60):
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                for _ in range(3):
                    writer.step(buffer)
                buffer.save_shards(folder)
        finally:
            os._exit(1)
    time.sleep(random.uniform(0.002, 0.04 * len(seen)))
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    buffer, writer, model = make(size=200).load_shards(folder), Writer(0), make(size=200)
    seen.append(buffer.state()["added"])
    for _ in range(seen[-1] // 2):
        writer.step(model)
    rows = buffer.get_all_transitions()
    for name, x in model.get_all_transitions().items():
        np.testing.assert_array_equal(x, rows[name])
assert seen == sorted(seen), seen
assert len(set(seen)) >= 4, seen
"""


def test_a_kill_leaves_a_save_that_loads(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", KILLS, str(tmp_path / "replay"), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    manifest = json.loads((tmp_path / "replay" / "manifest.json").read_text())
    assert manifest["format"] == "fastrl-replay"
