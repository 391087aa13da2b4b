"""Files that survive a kill: written whole and synced, their checksums in a manifest that has its own."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save_file


def write_text(path: Path, text: str) -> None:
    """Writes an ASCII file and syncs it."""
    with path.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Writes a safetensors file and syncs it; returns its fingerprint."""
    save_file(dict(tensors), path)
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes it private
    sync(path)
    return fingerprint(path)


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def damage(path: Path, written: Mapping[str, Any]) -> str | None:
    """What is wrong with a file whose fingerprint was ``written``; None: nothing."""
    if not path.is_file():
        return f"{path} is missing"
    size = path.stat().st_size
    if size < written["bytes"]:
        return f"{path} is truncated: {size} of {written['bytes']} bytes"
    if fingerprint(path) != written:
        return f"{path} is corrupt: its checksum differs"
    return None


def serialised(manifest: Mapping[str, Any]) -> str:
    """JSON, an entry a line."""
    entries = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in manifest.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest."""
    return hashlib.sha256(serialised(manifest).encode("ascii")).hexdigest()
