"""A replay buffer on disk in shards: each save writes only what is new since the last one.

A folder holds immutable shards, each with some rows in the order in which they were added and the frames that
they brought; one file of what changes everywhere, ends of episodes and priorities; and ``manifest.json`` with
the size and SHA-256 of each file and of itself, which is swapped last. A kill at any moment leaves the save
before. Shards that no stored row needs are removed. No load path unpickles.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from fastrl import __version__
from fastrl.checkpoint import CheckpointError
from fastrl.durable import damage, digest, serialised, sync, write_tensors, write_text
from fastrl.replay.contents import Outline, begun

if TYPE_CHECKING:
    from fastrl.replay.buffer import ReplayBuffer

VERSION = 1
SHARD_BYTES = 1 << 27
"""Of one shard, at most by one row: so much may be read at a time, and so much is kept for one row."""
_FORMAT = "fastrl-replay"
_MANIFEST = "manifest.json"
_MALFORMED = "malformed in spite of its right checksums"
_NAME = re.compile(r"(?:\.tmp-)?(?:shard|state)-(\d{8,})\.safetensors|\.tmp-manifest\.json|\.tmp\w{6}")
"""Files that a save writes, those included that a kill leaves: the last are safetensors' own."""


def save(buffer: "ReplayBuffer", folder: Path | str) -> Path:
    """Absolute path of a folder that now holds the buffer as it is.

    Only what is new is written if the folder's last save is of this buffer, or what it was loaded from; else
    everything.

    Raises:
        CheckpointError: the folder holds other files, or cannot be written: an earlier save is as it was.
        RuntimeError: another thread added rows; an earlier save is as it was.
    """
    folder = Path(folder).resolve()
    with _reported(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
        _require_ours(folder)
        before = _continued(buffer, folder)
        outline = buffer._core.outline()
        manifest = _write(buffer, folder, outline, before)
        write_text(folder / f".tmp-{_MANIFEST}", serialised({**manifest, "sha256": digest(manifest)}))
        (folder / f".tmp-{_MANIFEST}").replace(folder / _MANIFEST)
        sync(folder)
        buffer._saved = (str(folder), digest(manifest))
        for path in folder.iterdir():
            if path.name not in manifest["files"] and path.name != _MANIFEST:
                path.unlink()
    return folder


def load(buffer: "ReplayBuffer", folder: Path | str) -> None:
    """Makes the buffer the one that was saved: rows, frames, ends of episodes, priorities, draws.

    All checksums are verified first.

    Raises:
        CheckpointError: nothing there, or damaged (naming the file), or of another kind of buffer; the buffer
            is unchanged. A file that changes while it is read leaves it empty.
        ValueError: another configuration; the buffer is unchanged.
    """
    folder = Path(folder).resolve()
    with _reported(folder, "read"):
        manifest = _read_manifest(folder)
        kind = type(buffer).__name__
        if manifest["kind"] != kind:
            raise CheckpointError(f"{folder}: saved was a {manifest['kind']}, not a {kind}")
        config = json.loads(json.dumps(buffer._config()))
        if manifest["config"] != config:
            raise ValueError(f"load_shards: config must be {config}, got {manifest['config']}")
        _require_sound(folder, manifest, buffer.get_buffer_size())
        for name, fingerprint in manifest["files"].items():
            problem = damage(folder / name, fingerprint)
            if problem is not None:
                raise CheckpointError(problem)
        outline = _outline(manifest, load_file(folder / manifest["state"]))
        try:
            buffer._core.check_load(outline)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}: {_MALFORMED}: {error}") from error
        with begun(buffer, outline):
            for shard in manifest["shards"]:
                _load_shard(buffer, folder / shard["file"], shard, outline)
        buffer._saved = (str(folder), digest(manifest))


# Writing


def _continued(buffer: "ReplayBuffer", folder: Path) -> dict[str, Any] | None:
    """The manifest of a save that this one continues."""
    try:
        manifest = _read_manifest(folder)
    except CheckpointError:
        return None
    if buffer._saved != (str(folder), digest(manifest)):
        return None
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        if not path.is_file() or path.stat().st_size != manifest["files"][shard["file"]]["bytes"]:
            return None
    return manifest


def _write(
    buffer: "ReplayBuffer", folder: Path, outline: Outline, before: dict[str, Any] | None
) -> dict[str, Any]:
    (added, seed, counter, max_priority), flags, leaves, stores = outline
    oldest = added - len(flags)
    extents = [store[0] for store in stores]
    shards = [] if before is None else list(before["shards"])
    while shards and not _needed(shards[0], oldest, extents):
        shards.pop(0)
    number = 1 + max(
        (int(match[1] or 0) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))), default=0
    )
    files = {shard["file"]: before["files"][shard["file"]] for shard in shards} if before else {}
    begin = max(oldest, before["added"]) if before else oldest
    ends = [
        np.maximum(extent[:, 0], np.array(shards[-1]["ends"][i])) if shards else extent[:, 0]
        for i, extent in enumerate(extents)
    ]
    for first, last, frames in _pieces(buffer, outline, begin, ends):
        name = f"shard-{number:08d}.safetensors"
        tensors = _tensors(buffer, added, first, last, frames)
        files[name] = _write_file(folder, name, tensors)
        ends_now = [[int(end) for _, end in ranges] for ranges in frames]
        shards.append({"file": name, "rows": [first, last], "ends": ends_now})
        number += 1
    state = {"flags": flags} | ({} if leaves is None else {"leaves": leaves})
    for i, (extent, references, tails) in enumerate(stores):
        state |= {f"extents.{i}": extent, f"references.{i}": references, f"tails.{i}": tails}
    name = f"state-{number:08d}.safetensors"
    files[name] = _write_file(folder, name, state)
    return {
        "format": _FORMAT,
        "version": VERSION,
        "fastrl": __version__,
        "kind": type(buffer).__name__,
        "config": json.loads(json.dumps(buffer._config())),
        "added": added,
        "seed": seed,
        "counter": counter,
        "max_priority": max_priority,
        "state": name,
        "shards": shards,
        "files": files,
    }


def _needed(shard: dict[str, Any], oldest: int, extents: list[NDArray[np.int64]]) -> bool:
    later = any(
        end > first
        for ends, extent in zip(shard["ends"], extents, strict=True)
        for end, first in zip(ends, extent[:, 0], strict=True)
    )
    return bool(shard["rows"][1] > oldest or later)


def _pieces(
    buffer: "ReplayBuffer", outline: Outline, begin: int, ends: list[NDArray[np.int64]]
) -> Iterator[tuple[int, int, list[list[tuple[int, int]]]]]:
    """First and last row of each shard, and of each field of frames its range in each environment."""
    (added, *_), flags, _, stores = outline
    oldest, streams = added - len(flags), buffer.num_envs
    row_bytes = max(1, buffer._row_bytes)
    count = max(1, SHARD_BYTES // row_bytes // streams) * streams
    done = begin
    while True:
        last = min(done + count, added)
        frames = []
        for i, (extent, references, _) in enumerate(stores):
            upto = extent[:, 1]
            if last < added:  # as far as its last rows refer
                newest = references[last - streams - oldest : last - oldest].max(axis=1) >> 8
                upto = np.maximum(newest + 1, ends[i])
            frames.append(list(zip(ends[i].tolist(), upto.tolist(), strict=True)))
            ends[i] = upto
        if done < last or any(first < end for ranges in frames for first, end in ranges):
            yield done, last, frames
        done = last
        if done == added:
            return


def _tensors(
    buffer: "ReplayBuffer", added: int, first: int, last: int, frames: list[list[tuple[int, int]]]
) -> dict[str, NDArray[Any]]:
    rows = buffer._core.rows(added, first, last)
    tensors = {f"rows.{name}": _bytes(values) for name, values in rows.items()}
    for i, ranges in enumerate(frames):
        parts = [buffer._core.frames(added, i, env, *extent) for env, extent in enumerate(ranges)]
        tensors[f"frames.{i}"] = np.concatenate(parts)
        tensors[f"extents.{i}"] = np.array(ranges, np.int64)
    return tensors


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return values.reshape(len(values), -1).view(np.uint8)


def _write_file(folder: Path, name: str, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    temporary = folder / f".tmp-{name}"
    fingerprint = write_tensors(temporary, tensors)
    temporary.replace(folder / name)
    return fingerprint


def _require_ours(folder: Path) -> None:
    other = [
        path.name for path in folder.iterdir() if not _NAME.fullmatch(path.name) and path.name != _MANIFEST
    ]
    if not other and (folder / _MANIFEST).exists():
        try:
            _parsed(folder / _MANIFEST)
        except _OtherError:
            other = [_MANIFEST]
        except CheckpointError:
            pass  # damaged: it is replaced
    if other:
        raise CheckpointError(f"{folder} holds files besides a saved buffer ({', '.join(sorted(other))})")


# Reading


class _OtherError(CheckpointError):
    """A manifest, but not one of these."""


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    manifest = _parsed(path)
    written = manifest.pop("sha256", None)
    if written != digest(manifest):
        raise CheckpointError(f"{path} is corrupt: its checksum differs")
    return manifest


def _parsed(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path.parent} holds no saved buffer: it has no {_MANIFEST}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is corrupt: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise _OtherError(f"{path} is not the manifest of a saved buffer")
    version = manifest.get("version")
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{path.parent} has format {version}, fastrl {__version__} reads up to {VERSION}: upgrade it"
        )
    return manifest


def _require_sound(folder: Path, manifest: dict[str, Any], capacity: int) -> None:
    """Raise CheckpointError unless all numbers are of their types and the shards have all rows, in order."""
    largest, added = manifest["max_priority"], manifest["added"]
    sound = type(largest) in (int, float) and 0 <= largest < math.inf
    for name, end in (("added", 2**63), ("seed", 2**64), ("counter", 2**64)):
        sound = sound and type(manifest[name]) is int and 0 <= manifest[name] < end
    files = manifest["files"]
    sound = sound and isinstance(files, dict) and manifest["state"] in files
    at = max(0, added - capacity) if sound else 0
    for shard in manifest["shards"] if sound else ():
        first, last = shard["rows"]
        sound = sound and type(first) is type(last) is int and 0 <= first <= last and shard["file"] in files
        if sound and at < last:
            sound, at = first <= at, last
    if not sound or at != added:
        raise CheckpointError(f"{folder}: {_MALFORMED}: its rows or numbers are not whole")


def _outline(manifest: dict[str, Any], state: dict[str, NDArray[Any]]) -> Outline:
    place = tuple(manifest[name] for name in ("added", "seed", "counter", "max_priority"))
    count = sum(name.startswith("extents.") for name in state)
    stores = [
        tuple(state[f"{name}.{i}"] for name in ("extents", "references", "tails")) for i in range(count)
    ]
    return place, state["flags"], state.get("leaves"), stores


def _load_shard(buffer: "ReplayBuffer", path: Path, shard: dict[str, Any], outline: Outline) -> None:
    (added, *_), flags, _, stores = outline
    first, last = shard["rows"]
    begin = max(first, added - len(flags))
    with safe_open(path, framework="numpy") as file:
        if begin < last:
            rows = {}
            for field in buffer.fields:
                if f"rows.{field.name}" in file.keys():  # noqa: SIM118  it is no dict
                    raw = file.get_tensor(f"rows.{field.name}")[begin - first :]
                    rows[field.name] = raw.view(field.dtype).reshape(len(raw), *field.shape)
            buffer._core.load_rows(begin, rows)
        for i, (extent, _, _) in enumerate(stores):
            frames, at = file.get_tensor(f"frames.{i}"), 0
            for env, (start, end) in enumerate(file.get_tensor(f"extents.{i}").tolist()):
                skipped = max(0, min(int(extent[env, 0]), end) - start)
                if start + skipped < end:
                    buffer._core.load_frames(i, env, start + skipped, frames[at + skipped : at + end - start])
                at += end - start


@contextmanager
def _reported(folder: Path, action: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"cannot {action} {folder}: {reason}") from error
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder}: {_MALFORMED}: {error}") from error
