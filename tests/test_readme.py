"""The tables of README.md and RESULTS.md are the published measurements, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "bench").is_dir(), reason="bench/ is not part of the wheel")
def test_tables_are_generated():
    check = [sys.executable, "bench/tables.py", "--check"]
    result = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
