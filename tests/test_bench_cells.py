"""The record of a long benchmark: finished cells are kept, failures are recorded and can be retried."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="bench/ is not part of the wheel")
NAME = ("fastrl", "ppo", "CartPole-v1", 100)


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("_cells", BENCH / "_cells.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_finished_cell_is_kept_and_skipped(module, tmp_path):
    cells = module.Cells(tmp_path / "cells.jsonl")
    assert not cells.is_done(NAME, 1000, retry=False)
    cells.append(NAME, {"steps": 1000, "return": 500.0})
    again = module.Cells(tmp_path / "cells.jsonl")
    assert again.by_key[NAME]["return"] == 500.0
    assert again.is_done(NAME, 1000, retry=True)
    assert not again.is_done(NAME, 2000, retry=False)  # of another budget
    assert not again.is_done(("sb3", *NAME[1:]), 1000, retry=False)


def test_a_failed_cell_is_left_alone_or_retried(module, tmp_path):
    cells = module.Cells(tmp_path / "cells.jsonl")
    cells.append(NAME, {"error": "killed"})
    assert cells.is_done(NAME, 1000, retry=False)
    assert not cells.is_done(NAME, 1000, retry=True)
    cells.append(NAME, {"steps": 1000, "return": 1.0})
    again = module.Cells(tmp_path / "cells.jsonl")  # the last line counts
    assert again.is_done(NAME, 1000, retry=True)
    assert "error" not in again.by_key[NAME]


def test_a_line_cut_short_is_dropped(module, tmp_path):
    file = tmp_path / "cells.jsonl"
    module.Cells(file).append(NAME, {"steps": 1000, "return": 1.0})
    whole = file.read_text()
    file.write_text(whole + whole[: len(whole) // 2])
    cells = module.Cells(file)
    assert file.read_text() == whole
    cells.append((*NAME[:3], 101), {"steps": 1000, "return": 2.0})
    assert {key[3] for key in module.Cells(file).by_key} == {100, 101}


@pytest.mark.parametrize(
    ("code", "timeout", "result"),
    [
        ("print('noise'); print('{\"return\": 1.5}')", 60, {"return": 1.5}),
        ("raise RuntimeError('no such env')", 60, {"error": "RuntimeError: no such env"}),
        ("import os; os.kill(os.getpid(), 9)", 60, {"error": "exit status -9"}),
        ("print('done')", 60, {"error": "the last line is not a result: done"}),
        ("import time; time.sleep(60)", 0.2, {"error": "not finished after 0.2 s"}),
    ],
)
def test_what_a_process_leaves(module, code, timeout, result):
    assert module.run([sys.executable, "-c", code], timeout) == result
