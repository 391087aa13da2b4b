"""PPO on CartPole-v1 through each library's public training call, on one core and one thread.

    python bench/peers.py                         # once: the peers' environments
    python bench/throughput.py [--settings A B C] [--rounds 9] [--seeds 5] [--quick]

A: 8 environments, minibatches of 256. B: 1024 environments, minibatches of 32768. Both train for a fixed
number of steps, warmed, and count environment steps a second; the learning result of the same run stands
beside. C: a cold process, imports and compilation included, until the mean of the last 20 finished training
episodes reaches 475.

Every run is a process of its own, libraries take turns, round r uses seed r, and medians are reported.
Ratios are of process CPU time, which a busy machine disturbs least. A library whose median run does not learn
(greedy return of 475 over 100 episodes) gets none. The scripts in bench/peers say where a library departs
from the common setting. A round of A takes a minute, of B eight.
"""

import _harness

# isort: split
import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import _protocol
from peers import python_of

HERE = Path(__file__).parent
OURS = "fastrl"
PEERS = ("rejax", "rlox", "sb3", "sbx", "tianshou", "skrl", "cleanrl_style")
LIBRARIES = {OURS: Path(sys.executable)} | {name: python_of(name) for name in PEERS}
Run = dict[str, Any]


def run(library: str, setting: str, seed: int) -> Run:
    """What the library's script prints, or {"error": its last line} if it fails."""
    script = HERE / "peers" / f"{library}_ppo.py"
    command = [LIBRARIES[library], script, setting, str(seed), str(time.monotonic())]
    result = subprocess.run(command, capture_output=True, text=True)
    lines = (result.stderr if result.returncode else result.stdout).strip().splitlines()
    last = lines[-1] if lines else f"exit status {result.returncode}"
    return {"error": last} if result.returncode else json.loads(last)


def summary(setting: str, runs: list[Run]) -> Run:
    """Medians over the runs of one library."""
    for result in runs:
        if "error" in result:
            return {"error": result["error"]}
    row: Run = {name: middle([x[name] for x in runs]) for name in runs[0] if name != "versions"}
    if setting == "C":
        row["learns"] = row["wall_s"] is not None
    else:
        row["steps_per_cpu_s"] = median(x["steps"] / x["cpu_s"] for x in runs)
        row["steps_per_s"] = median(x["steps"] / x["wall_s"] for x in runs)
        row["learns"] = row["greedy100"] >= _protocol.SOLVED
    return {"versions": runs[0]["versions"], **row, "runs": runs}


def middle(values: list[float | None]) -> float | None:
    """The median, where None stands for a time or return that was never reached."""
    value = median(math.inf if x is None else x for x in values)
    return value if math.isfinite(value) else None


def add_ratios(setting: str, rows: dict[str, Run]) -> None:
    """How many times ours is faster, by CPU time, for those that learn as ours does."""
    ours = rows.get(OURS, {})
    for row in rows.values():
        if not (ours.get("learns") and row.get("learns")):
            continue
        if setting == "C":
            row["ratio"] = row["cpu_s"] / ours["cpu_s"]
        else:
            row["ratio"] = ours["steps_per_cpu_s"] / row["steps_per_cpu_s"]


def show(setting: str, rows: dict[str, Run]) -> None:
    columns = ["wall_s", "cpu_s"] if setting == "C" else ["steps_per_cpu_s", "steps_per_s", "warm_up_s"]
    columns += ["last20"] if setting == "C" else ["last20", "greedy100"]
    print(f"\n{setting:14}" + "".join(f"{name:>17}" for name in [*columns, "fastrl is"]))
    for library, row in rows.items():
        if "error" in row:
            print(f"{library:14} failed: {row['error']}")
            continue
        ratio = f"{row['ratio']:.1f}x" if "ratio" in row else "" if row["learns"] else "does not learn"
        cells = ("-" if row[name] is None else f"{row[name]:,.6g}" for name in columns)
        print(f"{library:14}" + "".join(f"{cell:>17}" for cell in cells) + f"{ratio:>17}")


def measure(setting: str, libraries: list[str], rounds: int) -> dict[str, Run]:
    runs: dict[str, list[Run]] = {library: [] for library in libraries}
    for seed in range(rounds):
        for library in libraries:
            runs[library].append(run(library, setting, seed))
            print(f"{setting} round {seed + 1}/{rounds} {library}", file=sys.stderr)
    rows = {library: summary(setting, results) for library, results in runs.items()}
    add_ratios(setting, rows)
    show(setting, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", default=list(_protocol.SETTINGS), choices=_protocol.SETTINGS)
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--rounds", type=int, default=9, help="of A and B")
    parser.add_argument("--seeds", type=int, default=5, help="of C")
    parser.add_argument("--quick", action="store_true", help="one round, one seed: to see that all runs")
    options = parser.parse_args()
    # _harness has pinned this process to one core and one thread, which the children inherit
    os.environ |= {"RAYON_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    facts = _harness.context([])
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    libraries = []
    for name in options.libraries:
        if LIBRARIES[name].exists():
            libraries.append(name)
        else:
            print(f"{name}: absent; python bench/peers.py {name}")
    settings = {}
    for name in options.settings:
        rounds = 1 if options.quick else options.seeds if name == "C" else options.rounds
        rows = measure(name, libraries, rounds)
        settings[name] = {"setting": asdict(_protocol.SETTINGS[name]), "rounds": rounds, "libraries": rows}
    for row in next(iter(settings.values()))["libraries"].values():
        print(", ".join(f"{package} {version}" for package, version in row.get("versions", {}).items()))
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    file = folder / f"throughput-{facts['date'].replace(':', '')}.json"
    file.write_text(json.dumps({**facts, "settings": settings}, indent=1))
    print(f"written to {file.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
