"""Whether a buffer fits in memory, asked before it is made: the pages of one that does not are refused only
hours later, by a kill."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (  # of a container: cgroup v2, v1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available_memory() -> int | None:
    """Bytes that this process may still use, by the system and by its container's limit; None: not known."""
    found = [_system(), *(_left(limit, used) for limit, used in _LIMITS)]
    known = [count for count in found if count is not None]
    return min(known, default=None)


def require_memory(what: str, needed: int) -> None:
    """Raise unless ``needed`` bytes are available.

    Raises:
        MemoryError: they are not; the message says how many are.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{what} needs {needed:,} bytes ({needed / 1e9:.1f} GB), available are {available:,} "
            f"({available / 1e9:.1f} GB)"
        )


def _system() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _left(limit: Path, used: Path) -> int | None:
    try:
        return max(int(limit.read_text()) - int(used.read_text()), 0)
    except (OSError, ValueError):  # no such limit, or "max"
        return None
