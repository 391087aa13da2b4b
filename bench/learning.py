"""What PPO learns: each library's tuned settings on the same environments, budgets, seeds and evaluation.

    python bench/peers.py sb3                     # once: the peer's environment
    python bench/learning.py [--envs ...] [--libraries fastrl sb3] [--seeds 10]

A cell is one run of (library, algorithm, environment, seed), a process of its own on one thread. Finished cells
are appended to bench/results/learning.jsonl, and a later call runs only those that are missing; one that failed
or timed out is recorded as such and tried again with --retry. Then comes a summary of all cells of that file:
interquartile means over seeds with 95 % bootstrap intervals, and what fastrl earns more than each other library.

Each agent is evaluated by the harness on Gymnasium's own environments with fixed seeds and the most probable
actions, normalisation frozen. Seeds start at 100: presets are tuned on smaller ones. `fastrl-torch` is fastrl
with engine="torch", which must learn as the native engine does. LunarLander-v3 and MuJoCo's environments need
`pip install .[bench]`.
"""

import _harness

# isort: split
import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import _learning
import numpy as np
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
Cell = dict[str, Any]
Key = tuple[str, str, str, int]


def key(cell: Cell) -> Key:
    return cell["library"], cell["algorithm"], cell["env"], cell["seed"]


def load(file: Path) -> dict[Key, Cell]:
    """The last line of each cell; one that was cut short by a crash is dropped from the file."""
    if not file.exists():
        return {}
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    cells = [json.loads(line) for line in whole.splitlines()]
    return {key(cell): cell for cell in cells}


def append(file: Path, cell: Cell) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(cell) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def run(library: str, env_id: str, seed: int) -> Cell:
    """What the library's script prints, or {"error": its last line} if it fails."""
    python, script, extra = COMMANDS[library]
    command = [python, HERE / "peers" / f"{script}_learning.py", env_id, str(seed), *extra]
    timeout = _learning.TASKS[env_id].timeout
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {timeout:g} s"}
    lines = (result.stderr if result.returncode else result.stdout).strip().splitlines()
    last = lines[-1] if lines else f"exit status {result.returncode}"
    return {"error": last} if result.returncode else json.loads(last)


def is_done(cell: Cell | None, retry: bool) -> bool:
    """Whether the cell need not run: it finished with the present budget, or failed and is left alone."""
    if cell is None:
        return False
    return not retry if "error" in cell else cell["steps"] == _learning.TASKS[cell["env"]].total_timesteps


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
    """By environment and library, from the seeds that every library shown there has finished."""
    finished = [cell for cell in cells if "error" not in cell]
    tasks = {}
    for env_id in _learning.TASKS:
        by_library: dict[str, dict[int, Cell]] = {}
        for cell in finished:
            if cell["env"] == env_id and is_done(cell, retry=False):
                by_library.setdefault(cell["library"], {})[cell["seed"]] = cell
        if by_library:
            tasks[env_id] = task_summary(env_id, by_library)
    return tasks


def task_summary(env_id: str, by_library: dict[str, dict[int, Cell]]) -> dict[str, Any]:
    libraries = {}
    for library in COMMANDS:
        if library not in by_library:
            continue
        runs = list(by_library[library].values())
        row: dict[str, Any] = {
            "versions": runs[0]["versions"],
            "commits": sorted({x["commit"] for x in runs}),
            "returns": {str(x["seed"]): x["return"] for x in runs},
            "return": interval([x["return"] for x in runs]),
            "area": interval([area(x) for x in runs]),
            "cpu_s": median(x["cpu_s"] for x in runs),
        }
        seeds = by_library[library].keys() & by_library.get(OURS, {}).keys()
        if library != OURS and seeds:
            measures: dict[str, Callable[[Cell], float]] = {"return": lambda x: x["return"], "area": area}
            for name, measure in measures.items():
                ours, theirs = ([measure(by_library[x][s]) for s in sorted(seeds)] for x in (OURS, library))
                row[f"{name}_difference"] = difference(ours, theirs)
        libraries[library] = row
    task = _learning.TASKS[env_id]
    return {"steps": task.total_timesteps, "episodes": task.episodes, "libraries": libraries}


def show(tasks: dict[str, Any]) -> None:
    columns = ["seeds", "return: IQM", "95 %", "fastrl minus it", "95 %", "area minus it", "95 %", "CPU s"]
    widths = [7, 13, 22, 17, 20, 15, 20, 9]

    def line(first: str, cells: Iterable[str]) -> str:
        return f"{first:13}" + "".join(f"{x:>{w}}" for x, w in zip(cells, widths, strict=True))

    def pair(x: dict[str, float] | None) -> list[str]:
        return [f"{x['iqm']:.1f}", f"[{x['low']:.1f}, {x['high']:.1f}]"] if x else ["", ""]

    for env_id, task in tasks.items():
        print("\n" + line(env_id[:12] if len(env_id) > 12 else env_id, columns), f" {task['steps']:,} steps")
        for library, row in task["libraries"].items():
            gap = row.get("return_difference")
            cells = [str(len(row["returns"])), *pair(row["return"]), *pair(gap)]
            cells += [*pair(row.get("area_difference")), f"{row['cpu_s']:.1f}"]
            below = "  fastrl is significantly below" if gap and gap["high"] < 0 else ""
            print(line(library, cells) + below)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", nargs="+", default=list(_learning.TASKS), choices=_learning.TASKS)
    parser.add_argument("--libraries", nargs="+", default=[OURS, "sb3"], choices=COMMANDS)
    parser.add_argument("--seeds", type=int, help="default: 10, fewer where a run takes minutes")
    parser.add_argument("--retry", action="store_true", help="run cells that failed again")
    parser.add_argument("--file", type=Path, default=HERE / "results" / "learning.jsonl")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    facts = _harness.context([])
    options.file.parent.mkdir(exist_ok=True)
    cells = load(options.file)
    for env_id in options.envs:
        for seed in range(FIRST_SEED, FIRST_SEED + (options.seeds or _learning.TASKS[env_id].seeds)):
            for library in options.libraries:
                name: Key = (library, ALGORITHM, env_id, seed)
                if is_done(cells.get(name), options.retry):
                    continue
                cell = dict(zip(("library", "algorithm", "env", "seed"), name, strict=True))
                cell |= {"commit": facts["commit"]} | run(library, env_id, seed)
                append(options.file, cell)
                cells[name] = cell
                print(*name, cell.get("return", cell.get("error")), file=sys.stderr)
    tasks = summary(cells.values())
    show(tasks)
    for cell in cells.values():
        if "error" in cell:
            print("failed:", *key(cell), cell["error"])
    file = options.file.with_name(f"learning-{facts['date'].replace(':', '')}.json")
    file.write_text(json.dumps({**facts, "tasks": tasks}, indent=1))
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
