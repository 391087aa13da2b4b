"""The files of a run: rows survive kills, columns may come later, resuming drops the abandoned future."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from fastrl.logging import LogError, RunLogger, create_run_dir, read_csv


def events(run: Path) -> list[Any]:
    """All events of a run's files, parsed and checked by tensorboardX's protobuf and checksum."""
    found = []
    for path in sorted(run.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = data[12 : 12 + length]
            assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
            assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked_crc32c(event),)
            found.append(Event.FromString(event))
            data = data[16 + length :]
    return found


def scalars(run: Path) -> list[tuple[int, str, float]]:
    return [(event.step, v.tag, v.simple_value) for event in events(run) for v in event.summary.value]


def test_rows_are_on_disk_when_log_returns(tmp_path: Path) -> None:
    log = RunLogger(tmp_path / "run")
    log.log(10, {"rollout/ep_rew_mean": 1.5, "time/fps": 100})
    log.log(20, {"rollout/ep_rew_mean": 2.5, "time/fps": 200})
    assert (tmp_path / "run/progress.csv").read_text() == (
        "step,rollout/ep_rew_mean,time/fps\n10,1.5,100\n20,2.5,200\n"
    )
    assert scalars(tmp_path / "run") == [
        (10, "rollout/ep_rew_mean", 1.5),
        (10, "time/fps", 100.0),
        (20, "rollout/ep_rew_mean", 2.5),
        (20, "time/fps", 200.0),
    ]
    first = events(tmp_path / "run")[0]
    assert first.file_version == "brain.Event:2"
    log.close()


@settings(max_examples=40)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b/c", 'q"uo,te', "é", "train/loss"]),
            st.floats() | st.integers(-(2**53), 2**53),
            max_size=5,
        ),
        max_size=6,
    )
)
def test_any_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]]) -> None:
    run = tmp_path_factory.mktemp("run")
    log = RunLogger(run)
    for step, row in enumerate(rows):
        log.log(step, row)
    log.close()
    table = read_csv(run)
    assert set(table) == {"step"}.union(*rows)
    np.testing.assert_array_equal(table["step"], np.arange(len(rows)))
    for name in set(table) - {"step"}:
        np.testing.assert_array_equal(table[name], [float(row.get(name, "nan")) for row in rows])
    with np.errstate(over="ignore"):
        expected = [(s, tag, np.float32(value)) for s, row in enumerate(rows) for tag, value in row.items()]
    assert [got[:2] for got in scalars(run)] == [one[:2] for one in expected]
    np.testing.assert_array_equal([got[2] for got in scalars(run)], [one[2] for one in expected])


def test_columns_may_appear_later(tmp_path: Path) -> None:
    log = RunLogger(tmp_path, tensorboard=False)
    log.log(1, {"a": 1.0})
    log.log(2, {"b": 2.0})
    log.log(3, {"b": 3.0, "a": 4.0})
    log.close()
    table = read_csv(tmp_path)
    assert table["step"].dtype == np.int64
    np.testing.assert_array_equal(table["a"], [1, np.nan, 4])
    np.testing.assert_array_equal(table["b"], [np.nan, 2, 3])
    assert [path.name for path in tmp_path.iterdir()] == ["progress.csv"]


def test_resuming_drops_rows_of_later_steps(tmp_path: Path) -> None:
    log = RunLogger(tmp_path)
    for step in (10, 20, 30):
        log.log(step, {"a": float(step)})
    log.close()
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("40,4")  # half a row, as a full disk leaves it
    np.testing.assert_array_equal(read_csv(tmp_path)["step"], [10, 20, 30])
    with pytest.raises(LogError, match=r"progress\.csv has rows already: resume the run or choose another"):
        RunLogger(tmp_path)
    log = RunLogger(tmp_path, resume_step=20)
    log.log(25, {"a": 0.5, "b": 1.0})
    log.close()
    table = read_csv(tmp_path)
    np.testing.assert_array_equal(table["step"], [10, 20, 25])
    np.testing.assert_array_equal(table["a"], [10, 20, 0.5])
    restarts = [event for event in events(tmp_path) if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in restarts] == [(21, 1)]


def test_long_names_and_large_steps_are_encoded(tmp_path: Path) -> None:
    log = RunLogger(tmp_path, csv=False)
    rows = [(step, "x" * step.bit_length() ** 2, 0.5) for step in (1, 127, 128, 255, 300, 2**40)]
    for step, name, value in rows:
        log.log(step, {name: value})
    log.close()
    assert scalars(tmp_path) == rows


def test_a_logger_without_a_folder_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = RunLogger(None)
    log.log(1, {"a": 1.0})
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("csv", "tensorboard"), [(True, False), (False, True), (False, False)])
def test_sinks_are_optional(tmp_path: Path, csv: bool, tensorboard: bool) -> None:
    log = RunLogger(tmp_path, csv=csv, tensorboard=tensorboard)
    log.log(1, {"a": 1.0})
    log.close()
    assert (tmp_path / "progress.csv").exists() == csv
    assert bool(events(tmp_path)) == tensorboard


def test_bad_metrics_are_named_and_nothing_written(tmp_path: Path) -> None:
    log = RunLogger(tmp_path)
    with pytest.raises(TypeError, match="metric 'b' must be a number, got None"):
        log.log(1, {"a": 1.0, "b": None})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="a metric must not be called 'step'"):
        log.log(1, {"step": 1.0})
    log.log(2, {"flag": True, "array": np.array(2.5)})  # type: ignore[dict-item]
    log.close()
    table = read_csv(tmp_path)
    assert {name: column.tolist() for name, column in table.items()} == {
        "step": [2],
        "flag": [1],
        "array": [2.5],
    }


def test_unwritable_and_damaged_files_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match=r"cannot write .*file/run: Not a directory"):
        RunLogger(tmp_path / "file/run")
    with pytest.raises(LogError, match=r"cannot write .*file/ppo-.*: Not a directory"):
        create_run_dir(tmp_path / "file", "PPO", "CartPole-v1", 1)
    with pytest.raises(LogError, match=r"cannot read .*progress\.csv: No such file or directory"):
        read_csv(tmp_path)
    for text in ("step,a\n1,2\n3\n", "step,a\n1,2\nx,2\n", "step,a\n1,2\n1,x\n"):
        (tmp_path / "progress.csv").write_text(text)
        with pytest.raises(LogError, match=r"progress\.csv is damaged"):
            read_csv(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    log = RunLogger(tmp_path, tensorboard=False)
    log.log(1, {"a": 1.0})
    log.close()
    log = RunLogger(tmp_path, tensorboard=False, resume_step=1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._sinks[0]._file.fileno())  # type: ignore[attr-defined]
    os.close(full)
    with pytest.raises(LogError, match="No space left on device"):
        log.log(2, {"a": 2.0})
    log.close()
    np.testing.assert_array_equal(read_csv(tmp_path)["step"], [1])


def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys
        from fastrl.logging import RunLogger
        log = RunLogger(sys.argv[1])
        for step in range(50):
            log.log(step, {"a": step / 3} | ({"late": 1.0} if step > 30 else {}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    np.testing.assert_array_equal(read_csv(tmp_path)["a"], np.arange(50) / 3)
    assert len(scalars(tmp_path)) == 50 + 19


def test_logging_imports_neither_torch_nor_tensorboardx() -> None:
    script = (
        "import sys, fastrl.logging; print({'torch', 'tensorboardX', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_run_folders_never_collide(tmp_path: Path) -> None:
    folders = [create_run_dir(tmp_path / "runs", "PPO", "ALE/Pong-v5", 1) for _ in range(4)]
    assert len(set(folders)) == 4
    for folder in folders:
        assert re.fullmatch(r"ppo-ALE-Pong-v5-seed1-\d{8}-\d{6}(-[234])?", folder.name)
        assert folder.is_dir()
