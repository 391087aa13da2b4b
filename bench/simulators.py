"""PPO where others make the environment: Breakout by ALE, HalfCheetah by MuJoCo, CartPole through torch.

    python bench/peers.py sb3                      # once: the peer's environment
    python bench/simulators.py [CASE...] [--rounds 5]

Every run is a process of its own, libraries take turns, round r uses seed r, and medians are reported. All
libraries get as many cores and torch threads as the case says. Ratios are of process CPU time, and of wall
time, which counts with more than one thread. The scores are of the training episodes and only show that all
libraries are at the same point: none of these runs is long enough to learn Atari.
"""

import os

CORES = sorted(os.sched_getaffinity(0))

import _harness  # noqa: E402  # pins this process, and its children unless told otherwise

# isort: split
import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

from _simulators import CASES  # noqa: E402
from peers import python_of  # noqa: E402

HERE = Path(__file__).parent
COLUMNS = ("steps_per_cpu_s", "steps_per_s", "simulator_share", "warm_up_s", "peak_mb", "last20")
Run = dict[str, Any]


def run(name: str, variant: str, seed: int) -> Run:
    """What the library's script prints."""
    library = variant.split()[0]
    python = sys.executable if library == "fastrl" else python_of(library)
    threads = CASES[name].threads
    if threads > len(CORES):
        raise SystemExit(f"{name}: needs {threads} cores, this process may use {len(CORES)}")
    result = subprocess.run(
        [python, HERE / "peers" / f"{library}_simulators.py", name, variant, str(seed)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE)},
        preexec_fn=lambda: os.sched_setaffinity(0, CORES[-threads:]),
    )
    if result.returncode:
        raise SystemExit(f"{name}, {variant}: {result.stderr.strip()}")
    line: Run = json.loads(result.stdout.strip().splitlines()[-1])
    return line


def measure(name: str, rounds: int) -> dict[str, Run]:
    """Medians by variant, with ratios to SB3."""
    variants = CASES[name].variants
    runs: dict[str, list[Run]] = {variant: [] for variant in variants}
    for seed in range(rounds):
        for variant in variants:
            runs[variant].append(run(name, variant, seed))
            print(f"{name} round {seed + 1}/{rounds} {variant}", file=sys.stderr)
    rows: dict[str, Run] = {}
    for variant, results in runs.items():
        known = {column: [x[column] for x in results if x[column] is not None] for column in COLUMNS}
        row = {column: median(values) if values else None for column, values in known.items()}
        rows[variant] = {"versions": results[0]["versions"], **row, "runs": results}
    for row in rows.values():
        for column, ratio in (("steps_per_cpu_s", "ratio"), ("steps_per_s", "wall_ratio")):
            row[ratio] = row[column] / rows["sb3"][column]
    print(
        f"\n{CASES[name].title}\n{'':16}"
        + "".join(f"{c:>17}" for c in (*COLUMNS, "x sb3, CPU", "x sb3, wall"))
    )
    for variant, row in rows.items():
        cells = ["-" if row[c] is None else f"{row[c]:,.4g}" for c in COLUMNS]
        cells += [f"{row['ratio']:.2f}", f"{row['wall_ratio']:.2f}"]
        print(f"{variant:16}" + "".join(f"{cell:>17}" for cell in cells))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; the cases are {', '.join(CASES)}")
    facts = _harness.context([])
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    file = folder / f"simulators-{facts['date'].replace(':', '')}.json"
    cases = {}
    for name in options.cases or CASES:
        rows = measure(name, options.rounds)
        cases[name] = {"case": asdict(CASES[name]), "rounds": options.rounds, "libraries": rows}
        file.write_text(json.dumps({**facts, "simulators": cases}, indent=1))
    print(f"written to {file.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
