"""Checkpoints: exact round trips, damage found and named, nothing lost by a kill at any moment."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl import checkpoint
from fastrl.checkpoint import CheckpointError, best, latest, mark_best, read, save_folder, verify, write

STATE = {
    "params": np.arange(6, dtype=np.float32),
    "rng": {"state": 2**127 + 1, "key": b"\x00\xff"},
    "return": 1.5,
}


def flip(path: Path, offset: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def steps(run: Path) -> list[int]:
    return sorted(int(entry.name[5:]) for entry in (run / "checkpoints").glob("ckpt-*"))


def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    folder = write(tmp_path, 0, STATE, algorithm="PPO")
    (tmp_path / "plain").touch()
    for name in ("tensors.safetensors", "manifest.json"):
        assert (folder / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    folders = [write(tmp_path / run, 7, STATE, algorithm="PPO", config={"lr": 3e-4}) for run in "ab"]
    for name in ("tensors.safetensors", "manifest.json"):
        one, other = ((folder / name).read_bytes() for folder in folders)
        assert one == other


# Runs: latest, best, rotation


def test_run_reads_its_latest_and_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert best(tmp_path) is None
    for step in range(0, 700, 100):
        folder = write(tmp_path, step, {**STATE, "step": step}, algorithm="PPO", keep=2, best=step == 100)
        assert latest(tmp_path) == folder == tmp_path / f"checkpoints/ckpt-{step:012d}"
    assert steps(tmp_path) == [100, 500, 600]
    assert best(tmp_path) == tmp_path / "checkpoints/ckpt-000000000100"
    assert read(tmp_path).state["step"] == 600
    mark_best(tmp_path, 500)
    write(tmp_path, 700, STATE, algorithm="PPO", keep=1)
    assert steps(tmp_path) == [500, 700]
    with pytest.raises(CheckpointError, match="ckpt-000000000042 does not exist"):
        mark_best(tmp_path, 42)


def test_a_run_resumed_from_further_back_leaves_its_old_future(tmp_path: Path) -> None:
    for step in (0, 100, 200, 300):
        write(tmp_path, step, STATE, algorithm="PPO", keep=9, best=step == 200)
    write(tmp_path, 150, {"new": True}, algorithm="PPO", keep=9)
    assert steps(tmp_path) == [0, 100, 150, 200]
    assert read(tmp_path).step == 150


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    write(tmp_path, 5, {"x": 1}, algorithm="PPO")
    write(tmp_path, 5, {"x": 2}, algorithm="PPO", keep=1)
    assert read(tmp_path).state == {"x": 2}
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir()) == [
        "ckpt-000000000005",
        "latest",
    ]


def test_manifest_holds_config_and_verify_returns_it(tmp_path: Path) -> None:
    config = {"hidden": (64, 64), "target_kl": float("inf"), "env": "CartPole-v1"}
    folder = write(tmp_path, 1, STATE, algorithm="PPO", config=config)
    assert read(folder).manifest["config"] == config
    assert (
        verify(folder)["files"]["tensors.safetensors"]["bytes"]
        == (folder / "tensors.safetensors").stat().st_size
    )
    with pytest.raises(TypeError, match="config must not hold arrays or bytes, got mean"):
        write(tmp_path, 2, STATE, algorithm="PPO", config={"mean": np.zeros(2)})


@pytest.mark.parametrize(("step", "keep"), [(-1, 3), (1, 0)])
def test_bad_numbers_are_refused(tmp_path: Path, step: int, keep: int) -> None:
    with pytest.raises(ValueError, match=r"step must be >= 0, got -1|keep must be >= 1, got 0"):
        write(tmp_path, step, STATE, algorithm="PPO", keep=keep)


# Damage


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is not a checkpoint: it has no manifest"):
        read(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        read(tmp_path)


def test_other_algorithm_and_newer_format_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0, STATE, algorithm="DQN")
    assert read(tmp_path, algorithm="DQN").step == 0
    with pytest.raises(CheckpointError, match="checkpoint is of DQN, not PPO"):
        read(tmp_path, algorithm="PPO")
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    write(tmp_path, 1, STATE, algorithm="DQN")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"ckpt-0+1 has format version 2, .* reads up to 1: upgrade it"):
        read(tmp_path)  # and does not fall back to step 0: that would silently lose training


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (
            "tensors.safetensors",
            lambda path: flip(path, path.stat().st_size - 1),
            "is corrupt: its checksum differs",
        ),
        ("tensors.safetensors", lambda path: os.truncate(path, 20), r"is truncated: 20 of \d+ bytes"),
        ("tensors.safetensors", lambda path: path.unlink(), "is missing"),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace("1.5", "2.5")),
            "checksum differs",
        ),
        ("manifest.json", lambda path: os.truncate(path, 40), "is corrupt"),
        ("manifest.json", lambda path: path.write_text("[" * 100_000), "is corrupt"),
        ("manifest.json", lambda path: path.write_text("{}"), "is not the manifest of a fastrl checkpoint"),
        ("manifest.json", lambda path: path.unlink(), "has no manifest.json"),
    ],
)
def test_damage_is_named_and_the_run_falls_back(tmp_path: Path, file: str, damage: Any, message: str) -> None:
    write(tmp_path, 1, {**STATE, "which": "older"}, algorithm="PPO")
    folder = write(tmp_path, 2, STATE, algorithm="PPO")
    damage(folder / file)
    with pytest.raises(CheckpointError, match=message):
        read(folder)
    with pytest.warns(RuntimeWarning, match=f"read ckpt-000000000001 instead: .*{message}"):
        assert read(tmp_path).state["which"] == "older"
    damage(tmp_path / "checkpoints/ckpt-000000000001" / file)
    with pytest.raises(CheckpointError, match="has no valid checkpoint"):
        read(tmp_path)


@pytest.mark.parametrize("pointer", [None, b"", b"../../etc\n", b"ckpt-000000000009\n", b"\xff\xfe"])
def test_a_lost_pointer_is_reported_and_the_newest_read(tmp_path: Path, pointer: bytes | None) -> None:
    for step in (1, 2):
        write(tmp_path, step, STATE, algorithm="PPO")
    path = tmp_path / "checkpoints/latest"
    path.unlink() if pointer is None else path.write_bytes(pointer)
    with pytest.warns(RuntimeWarning, match="latest is missing or names no checkpoint"):
        assert read(tmp_path).step == 2
    assert latest(tmp_path) == tmp_path / "checkpoints/ckpt-000000000002"


@settings(max_examples=80)
@given(st.data())
def test_no_flipped_bit_or_lost_tail_passes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = save_folder(tmp_path_factory.mktemp("fuzz") / "agent", STATE, algorithm="PPO")
    path = folder / data.draw(st.sampled_from(["manifest.json", "tensors.safetensors"]))
    offset = data.draw(st.integers(0, path.stat().st_size - 1))
    if data.draw(st.booleans()):
        flip(path, offset, 1 << data.draw(st.integers(0, 7)))
    else:
        os.truncate(path, offset)
    try:
        got = read(folder)
    except CheckpointError:
        return
    assert repr(got.state) == repr(STATE)  # a blank of the manifest's layout became another blank


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "agent", STATE, algorithm="PPO")
    evil = b"cos\nsystem\n(S'touch " + bytes(tmp_path / "owned") + b"'\ntR."
    for file in ("manifest.json", "tensors.safetensors"):
        (folder / file).write_bytes(evil)
        with pytest.raises(CheckpointError):
            read(folder)
    assert not (tmp_path / "owned").exists()


# Failing writes


def test_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1, STATE, algorithm="PPO")
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*ckpt-0+2: No space left on device"):
        write(tmp_path, 2, STATE, algorithm="PPO")
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    assert read(tmp_path).step == 1


def test_a_file_that_cannot_grow_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 1, STATE, algorithm="PPO")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, hard)
    )  # safetensors' own write fails, as on a full disk
    try:
        with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*ckpt-0+2: .*File too large"):
            write(tmp_path, 2, {"large": np.ones(100_000)}, algorithm="PPO")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "ckpt-000000000001",
        "latest",
    ]
    assert read(tmp_path).step == 1


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        CheckpointError, match=r"cannot write checkpoint .*file/run/checkpoints/ckpt-.*: Not a directory"
    ):
        write(tmp_path / "file" / "run", 0, STATE, algorithm="PPO")


def test_save_folder_replaces_a_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "models" / "agent"
    save_folder(path, {"x": 1}, algorithm="PPO")
    assert save_folder(path, {"x": 2}, algorithm="PPO", step=9) == path
    assert (read(path).state, read(path).step) == ({"x": 2}, 9)
    assert [entry.name for entry in path.parent.iterdir()] == ["agent"]

    (path / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match=r"holds files besides a checkpoint \(notes.txt\)"):
        save_folder(path, {"x": 3}, algorithm="PPO")
    (path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="exists and is not a fastrl checkpoint"):
        save_folder(path, {"x": 3}, algorithm="PPO")
    with pytest.raises(CheckpointError, match="exists and is not a fastrl checkpoint"):
        save_folder(path / "notes.txt", {"x": 3}, algorithm="PPO")
    assert (path / "notes.txt").read_text() == "precious"

    (tmp_path / "empty").mkdir()
    assert read(save_folder(tmp_path / "empty", {"x": 4}, algorithm="PPO")).state == {"x": 4}


def test_a_failing_replacement_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_folder(tmp_path / "agent", {"x": 1}, algorithm="PPO")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".tmp-"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save_folder(path, {"x": 2}, algorithm="PPO")
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent"]
    assert read(path).state == {"x": 1}


def test_everything_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    renamed: dict[str, list[str]] = {}
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def recorded_sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def recorded(move: Any) -> Any:
        def wrapper(self: Path, target: Path) -> Path:
            renamed[Path(target).name], synced[:] = list(synced), []
            return move(self, target)  # type: ignore[no-any-return]

        return wrapper

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "rename", recorded(rename))
    monkeypatch.setattr(Path, "replace", recorded(replace))
    folder = write(tmp_path, 1, STATE, algorithm="PPO")
    temporary = f".tmp-{folder.name}-{os.getpid()}"
    assert renamed == {
        folder.name: ["tensors.safetensors", "manifest.json", temporary],
        "latest": ["checkpoints", ".latest.tmp"],
    }
    assert synced == ["checkpoints"]


def test_the_next_write_clears_what_kills_left(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step, STATE, algorithm="PPO")
    folder = tmp_path / "checkpoints"
    (folder / "ckpt-000000000001").rename(folder / ".old-ckpt-000000000001")  # killed between two renames
    shutil.copytree(folder / "ckpt-000000000002", folder / ".old-ckpt-000000000002")  # and after them
    (folder / ".tmp-ckpt-000000000003-99").mkdir()
    assert read(folder / "ckpt-000000000001").step == 1
    write(tmp_path, 3, STATE, algorithm="PPO")
    names = [f"ckpt-00000000000{step}" for step in (1, 2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "latest"]
