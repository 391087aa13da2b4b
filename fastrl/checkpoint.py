"""Checkpoints: immutable folders that survive a kill at any moment, and tell what is wrong when damaged.

``<run>/checkpoints/ckpt-<step>/`` holds ``tensors.safetensors`` (the arrays of the state tree) and
``manifest.json`` (everything else, with the size and SHA-256 of each file and of itself). It is written
beside its place, synced and renamed; then the pointer file ``latest`` is swapped. No load path unpickles.
One process writes into a run at a time.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from fastrl import __version__
from fastrl.durable import damage, digest, serialised, sync, write_tensors, write_text
from fastrl.state import State, decode, encode

VERSION = 1
_FORMAT = "fastrl-checkpoint"
_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_NAME = re.compile(r"ckpt-(\d{12,})")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message names the file and the reason."""


class _DamagedError(CheckpointError):
    """This folder is missing, truncated or corrupt: another one of the run may stand in for it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What ``read`` returns."""

    algorithm: str
    """Name of the algorithm, as ``"PPO"``."""
    step: int
    """Environment steps taken."""
    state: dict[str, Any]
    """The state tree, equal to the one written."""
    manifest: dict[str, Any]
    """Format version, fastrl version, config, sizes and checksums; without the state."""
    path: Path
    """The folder it was read from."""


def write(
    run_dir: Path | str,
    step: int,
    state: State,
    *,
    algorithm: str,
    config: Mapping[str, Any] | None = None,
    keep: int = 3,
    best: bool = False,
) -> Path:
    """Folder of the new checkpoint of a run, complete on disk; ``latest`` (and ``best``) point to it.

    Keeps the newest ``keep`` and the best. Checkpoints of later steps are removed: they belong to a future
    that a run resumed from further back has left. A checkpoint of the same step is replaced.

    Args:
        run_dir: the run; made if missing.
        step: environment steps taken, >= 0; names the folder.
        state: see ``fastrl.state``.
        algorithm: its name, which ``read`` compares.
        config: the run's configuration, same types as the state but no arrays.
        keep: how many to keep, >= 1.
        best: also mark it best.

    Raises:
        TypeError, ValueError: the state, config, step or keep cannot be stored; nothing is written.
        CheckpointError: the folder cannot be written, the disk is full: earlier checkpoints are as they were.
    """
    if keep < 1:
        raise ValueError(f"checkpoint: keep must be >= 1, got {keep}")
    folder = Path(run_dir) / "checkpoints"
    target = folder / _name(step)
    with _reported(target):
        _publish(target, _contents(step, state, algorithm, config))
        _point(folder, "latest", target.name)
        if best:
            _point(folder, "best", target.name)
        _prune(folder, step, keep)
    return target


def save_folder(
    path: Path | str, state: State, *, algorithm: str, step: int = 0, config: Mapping[str, Any] | None = None
) -> Path:
    """Absolute path of one checkpoint folder at a place of the user's choice, for ``agent.save(path)``.

    An older checkpoint there is replaced: a kill leaves either, a failure leaves the older. A folder or file
    that is not a checkpoint, or holds anything besides one, is refused.

    Raises:
        TypeError, ValueError, CheckpointError: as ``write``, or something else is in the way.
    """
    target = Path(path).resolve()
    with _reported(target):
        _require_replaceable(target)
        _publish(target, _contents(step, state, algorithm, config))
    return target


def read(path: Path | str, *, algorithm: str | None = None) -> Checkpoint:
    """The checkpoint in a folder, or a run's latest, all checksums verified.

    When a run's latest is missing or damaged, the newest valid one is read and a RuntimeWarning says why.

    Args:
        path: a run folder or a checkpoint folder.
        algorithm: refuse a checkpoint of another one.

    Raises:
        CheckpointError: nothing there, damaged (naming the file), a newer format, another algorithm.
    """
    path = Path(path)
    with _reported(path, "read"):
        checkpoint = _read_run(path) if (path / "checkpoints").is_dir() else _read_folder(path)
    if algorithm is not None and checkpoint.algorithm != algorithm:
        raise CheckpointError(f"{checkpoint.path}: checkpoint is of {checkpoint.algorithm}, not {algorithm}")
    return checkpoint


def verify(path: Path | str) -> dict[str, Any]:
    """The manifest of a checkpoint folder, its state tree included, after comparing every size and checksum.

    Raises:
        CheckpointError: as ``read``.
    """
    with _reported(Path(path), "read"):
        return _verified(_existing(Path(path)))


def latest(run_dir: Path | str) -> Path | None:
    """Folder of a run's latest checkpoint by its pointer, else of its highest step; None if it has none."""
    folder = Path(run_dir) / "checkpoints"
    return _pointed(folder, "latest") or next(iter(_newest_first(folder)), None)


def best(run_dir: Path | str) -> Path | None:
    """Folder of the checkpoint marked best; None if none is."""
    return _pointed(Path(run_dir) / "checkpoints", "best")


def mark_best(run_dir: Path | str, step: int) -> None:
    """Point ``best`` to the checkpoint of ``step``, which is then never removed.

    Raises:
        CheckpointError: no such checkpoint, or the pointer cannot be written.
    """
    folder = Path(run_dir) / "checkpoints"
    with _reported(folder / "best"):
        _existing(folder / _name(step))
        _point(folder, "best", _name(step))


def _name(step: int) -> str:
    if step < 0:
        raise ValueError(f"checkpoint: step must be >= 0, got {step}")
    return f"ckpt-{step:012d}"


# Writing


def _contents(
    step: int, state: State, algorithm: str, config: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    tree, tensors = encode(state)
    options, arrays = encode(config or {})
    if arrays:
        raise TypeError(f"checkpoint: config must not hold arrays or bytes, got {', '.join(arrays)}")
    manifest = {
        "format": _FORMAT,
        "version": VERSION,
        "fastrl": __version__,
        "algorithm": algorithm,
        "step": step,
        "config": options,
        "state": tree,
    }
    return manifest, tensors


def _publish(target: Path, contents: tuple[dict[str, Any], dict[str, Any]]) -> None:
    manifest, tensors = contents
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    replaced = _replaced(target)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        manifest["files"] = {_TENSORS: write_tensors(temporary / _TENSORS, tensors)}
        write_text(temporary / _MANIFEST, serialised({**manifest, "sha256": digest(manifest)}))
        sync(temporary)
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            target.rename(replaced)
        temporary.rename(target)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _require_replaceable(target: Path) -> None:
    if not target.exists():
        return
    files = {entry.name for entry in target.iterdir()} if target.is_dir() else {""}
    try:
        ours = {_MANIFEST, *_parsed(target)["files"]} if files else set()
    except CheckpointError:
        raise CheckpointError(
            f"{target} exists and is not a fastrl checkpoint: remove it or save elsewhere"
        ) from None
    if files - ours:
        raise CheckpointError(
            f"{target} holds files besides a checkpoint ({', '.join(sorted(files - ours))})"
        )


def _prune(folder: Path, step: int, keep: int) -> None:
    for replaced in folder.glob(".old-*"):
        target = folder / replaced.name.removeprefix(".old-")
        shutil.rmtree(replaced) if target.exists() else replaced.rename(target)
    for stray in folder.glob(".tmp-*"):
        shutil.rmtree(stray)
    marked = _pointed(folder, "best")
    past = [path for path in _newest_first(folder) if _step(path) <= step]
    for path in _newest_first(folder):
        if path not in past[:keep] and path != marked:
            # renamed first: a kill in the middle must not leave half a checkpoint under a good name
            shutil.rmtree(path.rename(path.with_name(f".tmp-{path.name}")))


def _point(folder: Path, pointer: str, name: str) -> None:
    temporary = folder / f".{pointer}.tmp"
    write_text(temporary, name + "\n")
    temporary.replace(folder / pointer)
    sync(folder)


# Reading


def _read_run(run_dir: Path) -> Checkpoint:
    folder = run_dir / "checkpoints"
    newest = _newest_first(folder)
    if not newest:
        raise CheckpointError(f"{run_dir} has no checkpoint yet")
    pointed = _pointed(folder, "latest")
    problems = [] if pointed else [f"{folder / 'latest'} is missing or names no checkpoint"]
    for path in dict.fromkeys([pointed, *newest] if pointed else newest):
        try:
            checkpoint = _read_folder(path)
        except _DamagedError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"read {path.name} instead: {'; '.join(problems)}", RuntimeWarning, stacklevel=3)
        return checkpoint
    raise CheckpointError(f"{run_dir} has no valid checkpoint: {'; '.join(problems)}")


def _read_folder(path: Path) -> Checkpoint:
    folder = _existing(path)
    try:
        manifest = _verified(folder)
        manifest["config"] = decode(manifest["config"], {})
        state = decode(manifest.pop("state"), load_file(folder / _TENSORS))
        return Checkpoint(manifest["algorithm"], manifest["step"], state, manifest, path)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{folder}: malformed in spite of its right checksums: {error}") from error


def _verified(folder: Path) -> dict[str, Any]:
    manifest = _parsed(folder)
    written = manifest.pop("sha256", None)
    if written != digest(manifest):
        raise _DamagedError(f"{folder / _MANIFEST} is corrupt: its checksum differs")
    for name, fingerprint in manifest["files"].items():
        problem = damage(folder / name, fingerprint)
        if problem is not None:
            raise _DamagedError(problem)
    return manifest


def _parsed(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError):
        raise _DamagedError(f"{folder} is not a checkpoint: it has no {_MANIFEST}") from None
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"{path} is corrupt: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise _DamagedError(f"{path} is not the manifest of a fastrl checkpoint")
    version = manifest.get("version")
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, fastrl {__version__} reads up to {VERSION}: upgrade it"
        )
    return manifest


def _replaced(target: Path) -> Path:
    return target.with_name(f".old-{target.name}")


def _existing(target: Path) -> Path:
    if target.exists():
        return target
    if _replaced(target).exists():  # a save was killed between its two renames
        return _replaced(target)
    raise _DamagedError(f"{target} does not exist")


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    names = {entry.name.removeprefix(".old-") for entry in folder.iterdir()}
    return sorted((folder / name for name in names if _NAME.fullmatch(name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("ckpt-"))


def _pointed(folder: Path, pointer: str) -> Path | None:
    try:
        name = (folder / pointer).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    target = folder / name
    return target if _NAME.fullmatch(name) and (target.exists() or _replaced(target).exists()) else None


@contextmanager
def _reported(path: Path, action: str = "write") -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"cannot {action} checkpoint {path}: {reason}") from error
