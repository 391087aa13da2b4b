"""Whether a buffer fits in memory, asked before it is made: the pages of one that does not are refused only
hours later, by a kill."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (  # of a container, cgroup v2 and v1: most and used, and how the cache is called that makes room
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)


def available_memory() -> int | None:
    """Bytes that this process may still use, by the system and by its container's limit; None: not known."""
    found = [_system(), *(_left(*paths) for paths in _LIMITS)]
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


def _left(limit: Path, used: Path, cache: str) -> int | None:
    try:
        taken = int(used.read_text()) - _counted(used.with_name("memory.stat"), cache)
        return max(int(limit.read_text()) - taken, 0)
    except (OSError, ValueError):  # no such limit, or "max"
        return None


def _counted(stat: Path, name: str) -> int:
    """A count of a cgroup's memory.stat, 0 if it has none."""
    try:
        counts = dict(line.split() for line in stat.read_text().splitlines())
        return int(counts.get(name, 0))
    except (OSError, ValueError):
        return 0
