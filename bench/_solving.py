"""What the scripts of bench_planners.py share: one process, one planner, one case, a JSON line.

A script hands `main` a table of planners by name. A planner is a function of arrays, gamma, eps and threads
that builds its library's model and returns a function without arguments; that one solves it from scratch and
gives the values and the number of iterations, None where the library does not tell.
"""

import json
import os
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

REPEATS, REPEAT_SECONDS = 25, 1.0


def memory(name: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most since the last `forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def forget() -> None:
    """VmHWM begins again."""
    Path("/proc/self/clear_refs").write_text("5")


def tiny() -> dict[str, np.ndarray]:
    """Two states with two actions, as arrays of outcomes: for what happens in a first call only."""
    return {
        "state": np.array([0, 0, 1, 1]),
        "action": np.array([0, 1, 0, 1]),
        "reward": np.array([1.0, 2.0, 3.0, 4.0]),
        "probability": np.array([0.5, 0.5, 1.0, 1.0, 0.5, 0.5]),
        "next_state": np.array([0, 1, 0, 1, 0, 1], np.int32),
        "offset": np.array([0, 2, 3, 4, 6]),
    }


def main(planners, load, versions) -> None:
    """Run as `script PLANNER FILE GAMMA EPS THREADS OUT`, with bench on PYTHONPATH."""
    name, file, gamma, eps, threads, out = sys.argv[1:]
    make = planners[name]
    options = {"gamma": float(gamma), "eps": float(eps), "threads": int(threads)}
    warm_up = load(None)
    make(warm_up, **options)()
    arrays = load(file)
    forget()
    before = memory("VmRSS")
    seconds, builds, started = [], [], time.perf_counter()
    peak = None
    while not seconds or (len(seconds) < REPEATS and time.perf_counter() - started < REPEAT_SECONDS):
        start = time.perf_counter()
        solve = make(arrays, **options)  # afresh: some start from their last answer
        builds.append(time.perf_counter() - start)
        start = time.perf_counter()
        value, iterations = solve()
        seconds.append(time.perf_counter() - start)
        peak = memory("VmHWM") - before if peak is None else peak
    np.save(out, np.asarray(value, np.float64))
    result = {
        "versions": versions,
        "solve_s": median(seconds),
        "build_s": median(builds),
        "repeats": len(seconds),
        "iterations": iterations,
        "peak_mb": peak,
    }
    print(json.dumps(result), flush=True)
    os._exit(0)  # threads of some libraries outlive them
