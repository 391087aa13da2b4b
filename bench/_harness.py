"""What every benchmark shares: one pinned thread, interleaved rounds, answers compared before times.

Import it before NumPy. A script hands :func:`main` its cases and is run as ``python bench/bench_x.py``.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from timeit import Timer
from typing import Any

if "numpy" in sys.modules:
    raise ImportError("import bench/_harness.py before numpy: it sets how many threads numpy starts")
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np  # noqa: E402
import tables  # noqa: E402

HERE = Path(__file__).parent
ROUND_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question put to ours and to peers, and how to tell that they gave the same answer."""

    name: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Any]]
    agree: Callable[[Any, Any], bool]
    """Whether ours and a peer's result are the same answer."""
    bytes: int = 0
    """Read and written by ours at least, for the time that copying as much takes."""


@dataclass
class Timing:
    """Seconds a call."""

    first: float
    rounds: list[float] = field(default_factory=list)
    agrees: bool = True


def measure(case: Case, rounds: int) -> dict[str, Timing]:
    """Times of ours and the peers, a round of each in turn; peers whose answer differs are marked."""
    functions = {"ours": case.ours} | case.peers
    timings, numbers = {}, {}
    expected = None
    for name, function in functions.items():
        start = time.perf_counter()
        answer = function()
        timings[name] = Timing(first=time.perf_counter() - start)
        if name == "ours":
            expected = answer
        timings[name].agrees = bool(case.agree(expected, answer))
        numbers[name] = _calls_a_round(function)
    gc.disable()
    for _ in range(rounds):
        for name, function in functions.items():
            timings[name].rounds.append(_round(function, numbers[name]))
    gc.enable()
    return timings


def _round(function: Callable[[], Any], number: int) -> float:
    """Seconds a call. A round from which another process took over 5 % of the processor is taken again."""
    tries = []
    for _ in range(5):
        busy = time.process_time()
        wall = Timer(function).timeit(number)
        tries.append(wall / number)
        if time.process_time() - busy > 0.95 * wall:
            break
    return min(tries)


def _calls_a_round(function: Callable[[], Any]) -> int:
    number = 1
    while (seconds := Timer(function).timeit(number)) < ROUND_SECONDS / 4:
        number *= 4
    return max(1, round(number * ROUND_SECONDS / seconds))


def copy_seconds(size: int) -> float:
    """Seconds that a copy takes which reads and writes ``size`` bytes in all, the best of many.

    Half is read and half is written, from one array into one that is there: no page is new to either.
    """
    source = np.ones(max(1, size // 2), np.uint8)
    target = np.empty_like(source)
    timer = Timer(lambda: np.copyto(target, source))
    number = max(1, round(1e-3 / max(timer.timeit(3) / 3, 1e-7)))
    return min(timer.repeat(21, number)) / number


def context(packages: Iterable[str]) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("describe", "--always", "--dirty"),
        "cpu": _cpu(),
        "threads": 1,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
    }


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def main(family: str, cases: Callable[[], Iterable[Case]], packages: Iterable[str]) -> None:
    """Measure, print a table a case, and write ``bench/results/<family>-<time>.json``."""
    parser = argparse.ArgumentParser(description=f"Benchmark of the {family} family.")
    parser.add_argument("--rounds", type=int, default=15, help="at least 9")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--publish", action="store_true", help="also to bench/published, and fill the tables")
    options = parser.parse_args()
    if options.rounds < 9:
        parser.error(f"--rounds must be at least 9, got {options.rounds}")
    facts = context(["numpy", *packages])
    if options.publish and (options.only or facts["commit"].endswith("-dirty")):
        parser.error("--publish wants all cases, of a commit without changes")
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    results = []
    for case in cases():
        if options.only not in case.name:
            continue
        timings = measure(case, options.rounds)
        limit = copy_seconds(case.bytes) if case.bytes else None
        results.append(_entry(case, timings, limit))
        _show(results[-1])
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    file = folder / f"{family}-{facts['date'].replace(':', '')}.json"
    text = json.dumps({**facts, "rounds": options.rounds, "cases": results}, indent=1) + "\n"
    file.write_text(text)
    print(f"\nwritten to {file}")
    if options.publish:
        (HERE / "published" / f"{family}.json").write_text(text)
        tables.rewrite()


def _entry(case: Case, timings: dict[str, Timing], limit: float | None) -> dict[str, Any]:
    ours = median(timings["ours"].rounds)
    rows = {
        name: {
            "median_us": median(x.rounds) * 1e6,
            "min_us": min(x.rounds) * 1e6,
            "first_ms": x.first * 1e3,
            "agrees": x.agrees,
            "ratio": median(x.rounds) / ours if x.agrees else None,
        }
        for name, x in timings.items()
    }
    return {"name": case.name, "bytes": case.bytes, "copy_us": limit and limit * 1e6, "times": rows}


def _show(entry: dict[str, Any]) -> None:
    print(f"\n{entry['name']}")
    if entry["bytes"]:
        ratio = entry["times"]["ours"]["median_us"] / entry["copy_us"]
        moved = f"{entry['bytes'] / 1e6:.3g} MB"
        print(f"  moves {moved}, as does a copy in {entry['copy_us']:.3g} us: ours is {ratio:.2f} times that")
    print(f"  {'':28}{'median us':>12}{'min us':>12}{'times ours':>12}{'first call ms':>15}")
    for name, row in entry["times"].items():
        ratio = f"{row['ratio']:.2f}" if row["agrees"] else "differs"
        print(f"  {name:28}{row['median_us']:12.2f}{row['min_us']:12.2f}{ratio:>12}{row['first_ms']:15.2f}")
