"""The files of a run: its folder, ``progress.csv`` and TensorBoard events. A kill loses no logged row."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from csv import reader
from csv import writer as csv_writer
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrl.tensorboard import EventWriter, append

PROGRESS = "progress.csv"


class LogError(RuntimeError):
    """A run's folder or files cannot be made, written or read; the message names the path and the reason."""


def create_run_dir(root: Path | str, algorithm: str, env_id: str, seed: int | str) -> Path:
    """A new folder ``<root>/ppo-CartPole-v1-seed1-20261122-150405``; a taken name gets ``-2``, ``-3``, ...

    Raises:
        LogError: the folder cannot be made.
    """
    env_name = re.sub(r"[^\w.]+", "-", env_id)
    name = f"{algorithm.lower()}-{env_name}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    copies = 1
    with reported(Path(root) / name):
        while True:
            path = Path(root) / (name if copies == 1 else f"{name}-{copies}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                copies += 1
            else:
                return path


class RunLogger:
    """Appends rows of metrics to ``progress.csv`` and to TensorBoard; with ``run_dir=None`` to nothing."""

    def __init__(
        self,
        run_dir: Path | str | None,
        *,
        tensorboard: bool = True,
        csv: bool = True,
        resume_step: int | None = None,
    ) -> None:
        """Start or continue the log of a run.

        Args:
            run_dir: the run; made if missing.
            tensorboard: write event files.
            csv: write ``progress.csv``.
            resume_step: continue after this step: rows of later steps are dropped. Without it, a run that has
                rows already is refused.

        Raises:
            LogError: the folder cannot be written, or has rows and ``resume_step`` is None.
        """
        self._sinks: list[_Sink] = []
        if run_dir is None:
            return
        self._run_dir = Path(run_dir)
        with reported(self._run_dir):
            self._run_dir.mkdir(parents=True, exist_ok=True)
            if csv:
                self._sinks.append(_Progress(self._run_dir / PROGRESS, resume_step))
            if tensorboard:
                self._sinks.append(EventWriter(self._run_dir, resume_step=resume_step))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row; a metric not seen before becomes a new column, a missing one an empty cell.

        Raises:
            TypeError: a metric is not a number; nothing is written.
            ValueError: a metric is called ``step``.
            LogError: the row cannot be written.
        """
        if not self._sinks:
            return
        row: dict[str, float] = {}
        for name, value in metrics.items():
            if name == "step":
                raise ValueError("log: a metric must not be called 'step'")
            try:
                row[name] = value if type(value) is int else float(value)
            except (TypeError, ValueError):
                raise TypeError(f"log: metric {name!r} must be a number, got {value!r}") from None
        with reported(self._run_dir):
            for sink in self._sinks:
                sink.write(step, row)

    def close(self) -> None:
        """Close the files."""
        for sink in self._sinks:
            sink.close()
        self._sinks = []


def read_csv(run_dir: Path | str) -> dict[str, NDArray[Any]]:
    """Columns of a run's ``progress.csv``: ``step`` int64 [rows], the others float64 [rows], NaN where empty.

    Raises:
        LogError: there is none, or it is not such a file.
    """
    path = Path(run_dir) / PROGRESS
    with reported(path, "read"):
        columns, rows = _load(path)
    try:
        cells = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(-1, len(columns))
    except ValueError as error:
        raise LogError(f"{path} is damaged: {error}") from error
    table: dict[str, NDArray[Any]] = dict(zip(columns, cells.T.copy(), strict=True))
    return table | {"step": np.array([int(row[0]) for row in rows], dtype=np.int64)}


class _Sink(Protocol):
    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class _Progress:
    """``progress.csv``: ``step``, then the metrics in the order in which they first appeared."""

    def __init__(self, path: Path, resume_step: int | None) -> None:
        self._path = path
        self._columns = ["step"]
        rows: list[list[str]] = []
        if path.exists():
            self._columns, rows = _load(path)
        if rows and resume_step is None:
            raise LogError(f"{path} has rows already: resume the run or choose another folder")
        self._replace([row for row in rows if resume_step is None or int(row[0]) <= resume_step])

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        new = [name for name in metrics if name not in self._columns]
        if new:
            rows = _load(self._path)[1]
            self._columns += new
            self.close()
            self._replace([row + [""] * len(new) for row in rows])
        cells = (repr(metrics[name]) if name in metrics else "" for name in self._columns[1:])
        append(self._file, _line([str(step), *cells]).encode())

    def close(self) -> None:
        self._file.close()

    def _replace(self, rows: list[list[str]]) -> None:
        temporary = self._path.with_name(f".{PROGRESS}.tmp")
        temporary.write_text("".join(map(_line, [self._columns, *rows])), encoding="utf-8", newline="")
        temporary.replace(self._path)
        self._file = self._path.open("ab", buffering=0)


def _line(cells: list[str]) -> str:
    text = StringIO()
    csv_writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _load(path: Path) -> tuple[list[str], list[list[str]]]:
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a full disk can leave half a row at the end
    columns, *rows = reader(StringIO(whole, newline="")) if whole else [["step"]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns) or not row[0].isdecimal():
            raise LogError(f"{path} is damaged in row {number}: {','.join(row)[:60]!r}")
    return columns, rows


@contextmanager
def reported(path: Path, action: str = "write") -> Iterator[None]:
    """Turns an OSError into a LogError that says what could not be done to ``path``."""
    try:
        yield
    except OSError as error:
        raise LogError(f"cannot {action} {path}: {error.strerror}") from error
