"""Cells of a long benchmark: each a process of its own, recorded as a line of JSON as soon as it ends."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
Key = tuple[str, str, str, int]
NAMES = ("library", "algorithm", "env", "seed")


def key(cell: Cell) -> Key:
    library, algorithm, env, seed = (cell[name] for name in NAMES)
    return library, algorithm, env, seed


class Cells:
    """The cells of a file, by (library, algorithm, env, seed); of several lines of a cell the last counts.

    A last line that was cut short when the benchmark was killed is dropped from the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        self.by_key: dict[Key, Cell] = {key(cell): cell for cell in lines}

    def is_done(self, name: Key, steps: int, retry: bool) -> bool:
        """Whether the cell need not run: it finished with this budget, or failed and is not tried again."""
        cell = self.by_key.get(name)
        if cell is None:
            return False
        return not retry if "error" in cell else bool(cell["steps"] == steps)

    def append(self, name: Key, result: Cell) -> Cell:
        cell = dict(zip(NAMES, name, strict=True)) | result
        with self.file.open("a") as stream:
            stream.write(json.dumps(cell) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.by_key[name] = cell
        return cell


def run(command: Sequence[str | Path], timeout: float) -> Cell:
    """The JSON of a process's last line, or {"error": what went wrong} if it fails or takes too long."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {timeout:g} s"}
    lines = (result.stderr if result.returncode else result.stdout).strip().splitlines()
    last = lines[-1] if lines else f"exit status {result.returncode}"
    if result.returncode:
        return {"error": last}
    try:
        return dict(json.loads(last))
    except ValueError:
        return {"error": f"the last line is not a result: {last}"}
