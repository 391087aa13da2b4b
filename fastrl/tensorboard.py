"""TensorBoard event files of scalars.

tensorboardX and torch's own writer import torch when it is installed (190 MB and a second before the first
step), and their writer threads lose the last rows on a kill. A scalar event is a dozen bytes of protobuf.
"""

import errno
import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

_FLOAT32_MAX = 3.4028234663852886e38


class EventWriter:
    """Writes one event a row into ``events.out.tfevents...``; a kill loses no row that ``write`` took."""

    def __init__(self, folder: Path, *, resume_step: int | None = None) -> None:
        """Start a new file in ``folder``; TensorBoard hides what older files have after ``resume_step``."""
        name = f"events.out.tfevents.{time.time_ns() // 1000:016d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("xb", buffering=0)
        append(self._file, _record(_timed() + _bytes(3, b"brain.Event:2")))
        if resume_step is not None:
            start = _bytes(7, _varint(1, 1))  # session_log { status: START } purges from its step on
            append(self._file, _record(_timed() + _varint(2, resume_step + 1) + start))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the scalars of one step (float32, as TensorBoard keeps them)."""
        values = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", _float32(value)))
            for tag, value in metrics.items()
        )
        append(self._file, _record(_timed() + _varint(2, step) + _bytes(5, values)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def append(file: FileIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file, or raise OSError: a buffer would be lost in a kill."""
    if file.write(data) < len(data):  # the disk is full, and only the next write would say so
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _float32(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > _FLOAT32_MAX else value  # struct raises beyond


def _timed() -> bytes:
    return b"\x09" + struct.pack("<d", time.time())


def _varint(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _base128(value)


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _base128(len(content)) + content


def _base128(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _masked_crc(length) + event + _masked_crc(event)


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c_entry(index: int) -> int:
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    return index


_CRC32C = [_crc32c_entry(index) for index in range(256)]
