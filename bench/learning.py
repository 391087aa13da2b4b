"""What PPO learns: each library's tuned settings on the same environments, budgets, seeds and evaluation.

    python bench/peers.py sb3                     # once: the peer's environment
    python bench/learning.py [--envs ...] [--libraries fastrl sb3] [--seeds 10]

A cell is one run of (library, algorithm, environment, seed), a process of its own on one thread. Finished
cells are appended to bench/results/learning.jsonl, and a later call runs only those that are missing; one
that failed or timed out is recorded as such and tried again with --retry. Then comes a summary of all cells
of that file: interquartile means over seeds with 95 % bootstrap intervals, and how much more fastrl earns.

Each agent is evaluated by the harness on Gymnasium's own environments with fixed seeds and the most probable
actions, normalisation frozen. Seeds start at 100: presets are tuned on smaller ones. `fastrl-torch` is fastrl
with engine="torch", which must learn as the native engine does: areas under training curves are compared.
LunarLander-v3 and MuJoCo's environments need `pip install .[bench]`.
"""

import _harness

# isort: split
import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import _learning
import numpy as np
from _cells import Cell, Cells, Key, key, run
from peers import python_of

from fastrl.statistics import bootstrap_interval, iqm

HERE = Path(__file__).parent
OURS = "fastrl"
OWN = Path(sys.executable)
COMMANDS: dict[str, tuple[Path, str, tuple[str, ...]]] = {
    OURS: (OWN, "fastrl", ()),
    "fastrl-torch": (OWN, "fastrl", ("torch",)),
    "sb3": (python_of("sb3"), "sb3", ()),
}
ALGORITHM = "ppo"
FIRST_SEED = 100
LEAST_SEEDS = 3  # of both, for a difference to be stated


def area(cell: Cell) -> float:
    """Mean of the training curve; before the first finished episode it has the value of the first point."""
    points = [x for x in cell["curve"] if x is not None]
    missing = len(cell["curve"]) - len(points)
    return float(np.mean([points[0]] * missing + points))


def interval(x: list[float]) -> dict[str, float]:
    low, high = bootstrap_interval(x)
    return {"iqm": float(iqm(x)), "low": low, "high": high}


def difference(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Of two interquartile means, each library's seeds drawn anew independently."""

    def statistic(x: np.ndarray, axis: Any = None) -> Any:
        return iqm(x[..., 0], axis=-1) - iqm(x[..., 1], axis=-1)

    pairs = np.stack([ours, theirs], axis=-1)
    low, high = bootstrap_interval(pairs, statistic)
    return {"iqm": float(statistic(pairs)), "low": low, "high": high}


def summary(cells: Iterable[Cell]) -> dict[str, Any]:
    """By environment and library; a difference is of the seeds that both have finished."""
    tasks = {}
    for env_id, task in _learning.TASKS.items():
        by_library: dict[str, dict[int, Cell]] = {}
        for cell in cells:
            if cell["env"] == env_id and cell.get("steps") == task.total_timesteps:
                by_library.setdefault(cell["library"], {})[cell["seed"]] = cell
        if by_library:
            rows = {name: row(name, by_library) for name in COMMANDS if name in by_library}
            tasks[env_id] = {
                "steps": task.total_timesteps,
                "episodes": task.episodes,
                "libraries": rows,
            }
    return tasks


def row(library: str, by_library: dict[str, dict[int, Cell]]) -> dict[str, Any]:
    runs = by_library[library]
    measures: dict[str, Callable[[Cell], float]] = {"return": lambda cell: cell["return"], "area": area}
    both = sorted(runs.keys() & by_library.get(OURS, {}).keys()) if library != OURS else []
    result: dict[str, Any] = {
        "versions": next(iter(runs.values()))["versions"],
        "commits": sorted({cell["commit"] for cell in runs.values()}),
        "returns": {str(seed): cell["return"] for seed, cell in sorted(runs.items())},
        "cpu_s": median(cell["cpu_s"] for cell in runs.values()),
    }
    for name, measure in measures.items():
        result[name] = interval([measure(cell) for cell in runs.values()])
        if len(both) >= LEAST_SEEDS:
            ours, theirs = ([measure(by_library[x][seed]) for seed in both] for x in (OURS, library))
            result[f"{name}_difference"] = difference(ours, theirs)
    return result


def show(tasks: dict[str, Any]) -> None:
    columns = {"seeds": 7, "return": 11, "95 %": 20, "fastrl - it": 13, "95 % ": 19}
    columns |= {"area - its": 12, " 95 %": 19, "CPU s": 9}

    def line(first: str, cells: Iterable[str]) -> str:
        widths = columns.values()
        return f"{first:42}" + "".join(f"{x:>{width}}" for x, width in zip(cells, widths, strict=True))

    def pair(x: dict[str, float] | None) -> list[str]:
        return [f"{x['iqm']:.1f}", f"[{x['low']:.1f}, {x['high']:.1f}]"] if x else ["", ""]

    for env_id, task in tasks.items():
        print("\n" + line(f"{env_id}, {task['steps']:,} steps", columns))
        for library, found in task["libraries"].items():
            gap = found.get("return_difference")
            cells = [str(len(found["returns"])), *pair(found["return"]), *pair(gap)]
            cells += [*pair(found.get("area_difference")), f"{found['cpu_s']:.1f}"]
            below = "  fastrl is significantly below" if gap and gap["high"] < 0 else ""
            print(line(library, cells) + below)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", nargs="+", default=list(_learning.TASKS), choices=_learning.TASKS)
    parser.add_argument("--libraries", nargs="+", default=[OURS, "sb3"], choices=COMMANDS)
    parser.add_argument("--seeds", type=int, help="default: 10, or 3 where a run of SB3 takes over a minute")
    parser.add_argument("--retry", action="store_true", help="run cells that failed again")
    parser.add_argument("--file", type=Path, default=HERE / "results" / "learning.jsonl")
    options = parser.parse_args()
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # CPU seconds are reported: any core will do
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    facts = _harness.context([])
    options.file.parent.mkdir(exist_ok=True)
    cells = Cells(options.file)
    for env_id in options.envs:
        task = _learning.TASKS[env_id]
        for seed in range(FIRST_SEED, FIRST_SEED + (options.seeds or task.seeds)):
            for library in options.libraries:
                name: Key = (library, ALGORITHM, env_id, seed)
                if cells.is_done(name, task.total_timesteps, options.retry):
                    continue
                python, script, extra = COMMANDS[library]
                path = HERE / "peers" / f"{script}_learning.py"
                result = run([python, path, env_id, str(seed), *extra], task.timeout)
                cell = cells.append(name, {"commit": facts["commit"], **result})
                print(*name, cell.get("return", cell.get("error")), file=sys.stderr)
    tasks = summary(cells.by_key.values())
    show(tasks)
    for cell in cells.by_key.values():
        if "error" in cell:
            print("failed:", *key(cell), cell["error"])
    file = options.file.with_name(f"learning-{facts['date'].replace(':', '')}.json")
    file.write_text(json.dumps({**facts, "tasks": tasks}, indent=1))
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
