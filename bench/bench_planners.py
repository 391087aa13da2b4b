"""Optimal values of finite MDPs: fastrl's `solve` beside the planners of others.

    python bench/peers.py planners             # once: the peers' environment
    python bench/bench_planners.py [CASE...] [--rounds 9] [--threads 1 2] [--eps 1e-6]

Every run is a process of its own, planners take turns, and medians over rounds are reported; a run solves a
small case up to 25 times, each time from a new model, and counts its median. Those that take long take part
in the first round only. All are asked for values within eps in the sense of their own settings. What they
return is compared with a reference that has a certificate of its own: there is no ratio where ours or the
peer's values are off by more than eps. `floor` is the time that reading the process once takes, by as many
threads; `floors` is a solution's time in these.
"""

import os

CORES = sorted(os.sched_getaffinity(0))

import _harness  # noqa: E402  # pins this process, and its children unless told otherwise

# isort: split
import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from time import perf_counter  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from _mdps import CASES, absorbing, reference, sweep_bytes  # noqa: E402
from peers import python_of  # noqa: E402

from fastrl.tabular import MDP  # noqa: E402

HERE = Path(__file__).parent
OURS = ("fastrl auto", "fastrl value_iteration")
LIMITS = {  # outcomes up to which a planner is tried: beyond, building or solving takes minutes
    "quantecon mpi": 10**9,
    "quantecon pi": 150_000,
    "quantecon vi": 250_000,
    "mdpsolver mpi": 10**7,
    "mdpsolver vi": 10**7,
    "mdpsolver pi": 250_000,
    "mdpsolver mpi gs": 250_000,
    "mdptoolbox mpi": 150_000,
    "mdptoolbox vi": 25_000,
    "stormpy vi": 2_500_000,
    "scipy vi": 2_500_000,
}
DENSE = ("quantecon mpi", "quantecon pi", "quantecon vi", "mdpsolver mpi", "mdpsolver vi", "mdptoolbox mpi")
ONE_THREAD = ("quantecon", "mdptoolbox", "stormpy", "scipy", "mdpsolver mpi gs")
"""Libraries that use one thread for sparse processes whatever they may use."""
ONE = ", 1 thread"
Run = dict[str, Any]


def contestants(mdp: MDP, threads: int) -> list[str]:
    """Whom the case is put to; with more threads, those who use them, and the fastest other."""
    if mdp.is_dense:
        peers = [name for name in LIMITS if name in DENSE]
    else:
        peers = [name for name, limit in LIMITS.items() if mdp.probability.size <= limit]
    if threads > 1 and not mdp.is_dense:
        using = [name for name in peers if not name.startswith(ONE_THREAD)]
        alone = [name + ONE for name in using]
        peers = [*(name for name in peers if name == "quantecon mpi"), *using, *alone]
    return [*OURS, *peers]


def run(name: str, files: dict[str, Path], gamma: float, options: argparse.Namespace, threads: int) -> Run:
    """What the planner's script prints, and its values; or why there are none."""
    ours = name.startswith("fastrl")
    threads = 1 if name.endswith(ONE) else threads
    python = sys.executable if ours else python_of("planners")
    script = HERE / "peers" / ("fastrl_solve.py" if ours else "planners_solve.py")
    out = files["out"]
    out.unlink(missing_ok=True)
    file = files["ours" if ours else "peers"]
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    env = os.environ | {variable: str(threads) for variable in variables} | {"PYTHONPATH": str(HERE)}
    command = [
        python,
        script,
        name.removesuffix(ONE),
        file,
        repr(gamma),
        repr(options.eps),
        str(threads),
        out,
    ]
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=env,
            timeout=options.limit,
            preexec_fn=lambda: os.sched_setaffinity(0, CORES[-threads:]),
        )
    except subprocess.TimeoutExpired:
        return {"error": f"over {options.limit:g} s"}
    if result.returncode or not out.exists():
        return {"error": (result.stderr.strip().splitlines() or ["no values"])[-1]}
    line: Run = json.loads(result.stdout.strip().splitlines()[-1])
    return line | {"value": np.load(out)}


def read_seconds(size: int, threads: int) -> float:
    """Seconds that up to so many threads take to read ``size`` bytes that they have read before."""
    import numba

    total = numba.njit(nogil=True, fastmath=True)(lambda x: x.sum())
    array = np.ones(max(1, size // 8))
    best = float("inf")
    os.sched_setaffinity(0, CORES[-threads:])
    for count in range(1, threads + 1):  # waking another takes longer than reading little
        parts = np.array_split(array, count)
        with ThreadPoolExecutor(count) as pool:
            for _ in range(30):
                start = perf_counter()
                list(pool.map(total, parts)) if count > 1 else total(array)
                best = min(best, perf_counter() - start)
    os.sched_setaffinity(0, CORES[-1:])
    return best


def measure(name: str, threads: int, options: argparse.Namespace, folder: Path) -> Run:
    """All planners on one case."""
    case = CASES[name]
    mdp = case.make()
    value, bound = reference(mdp, case.gamma)
    if bound > options.eps / 10:
        raise SystemExit(f"{name}: the reference is known to {bound:.2g} only")
    files = {"ours": folder / "ours.npz", "peers": folder / "peers.npz", "out": folder / "out.npy"}
    mdp.save(files["ours"])
    np.savez(files["peers"], **absorbing(mdp))
    size, floor = sweep_bytes(mdp), read_seconds(sweep_bytes(mdp), threads)
    rows: dict[str, Run] = {}
    waiting = [x for x in contestants(mdp, threads) if options.only in x or x == OURS[0]]
    for turn in range(options.rounds):
        for planner in list(waiting):
            start = perf_counter()
            result = run(planner, files, case.gamma, options, threads)
            print(f"{name}, {threads} threads, round {turn + 1}, {planner}", file=sys.stderr)
            _add(rows.setdefault(planner, {"runs": []}), result, value)
            if "error" in result or perf_counter() - start > options.slow:
                waiting.remove(planner)
    for row in rows.values():
        _summarise(row, floor)
    _compare(rows, options.eps)
    facts = {"case": name, "threads": threads, "gamma": case.gamma, "states": mdp.num_states}
    facts |= {
        "outcomes": int(mdp.probability.size),
        "bytes": size,
        "floor_s": floor,
        "reference_error": bound,
    }
    return facts | {"planners": rows}


def _add(row: Run, result: Run, value: Any) -> None:
    found = result.pop("value", None)
    if found is not None:
        difference = found - value
        result["error_of_values"] = float(np.abs(difference).max())
        result["error_but_for_a_constant"] = float(np.ptp(difference) / 2)
    row["runs"].append(result)


def _summarise(row: Run, floor: float) -> None:
    done = [x for x in row["runs"] if "error" not in x]
    if not done:
        row["error"] = row["runs"][0]["error"]
        return
    row["versions"] = done[0]["versions"]
    for column in ("solve_s", "build_s", "peak_mb"):
        row[column] = median(x[column] for x in done)
    row["min_s"] = min(x["solve_s"] for x in done)
    row["iterations"] = done[0]["iterations"]
    for column in ("error_of_values", "error_but_for_a_constant"):
        row[column] = max(x[column] for x in done)
    row["floors"] = row["solve_s"] / floor


def _compare(rows: dict[str, Run], eps: float) -> None:
    """Ratios of medians, where both values are right."""
    for row in rows.values():
        row["right"] = "error" not in row and row["error_of_values"] <= eps
    ours = rows[OURS[0]]
    for row in rows.values():
        row["ratio"] = row["solve_s"] / ours["solve_s"] if row["right"] and ours["right"] else None


def show(entry: Run, eps: float) -> None:
    print(
        f"\n{entry['case']}, gamma {entry['gamma']}, threads: {entry['threads']}; "
        f"{entry['states']:,} states, {entry['outcomes']:,} outcomes; a sweep reads "
        f"{entry['bytes'] / 1e6:.3g} MB, floor {entry['floor_s'] * 1e3:.3g} ms; "
        f"reference within {entry['reference_error']:.1g}"
    )
    heads = ["median s", "min s", "build s", "iterations", "floors", "error", "but const", "peak MB"]
    heads.append("times ours")
    print(f"  {'':24}" + "".join(f"{head:>12}" for head in heads))
    for name, row in entry["planners"].items():
        if "error" in row:
            print(f"  {name:24}  {row['error'][:100]}")
            continue
        iterations = "-" if row["iterations"] is None else str(row["iterations"])
        ratio = "misses eps" if not row["right"] else "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        cells = [f"{row[x]:.3g}" for x in ("solve_s", "min_s", "build_s")] + [iterations]
        cells += [f"{row[x]:.2g}" for x in ("floors", "error_of_values", "error_but_for_a_constant")]
        cells += [f"{row['peak_mb']:.3g}", ratio]
        print(f"  {name:24}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="; ".join(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--eps", type=float, default=1e-6)
    parser.add_argument("--only", default="", help="peers whose name contains this")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of one run")
    parser.add_argument(
        "--slow", type=float, default=15.0, help="seconds after which a planner runs once only"
    )
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; the cases are {'; '.join(CASES)}")
    if max(options.threads) > len(CORES):
        parser.error(f"--threads must be at most {len(CORES)}, the cores this process may use")
    facts = _harness.context(["numpy", "scipy", "numba"]) | {"threads": max(options.threads)}
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    results: list[Run] = []
    file = HERE / "results" / f"planners-{facts['date'].replace(':', '')}.json"
    file.parent.mkdir(exist_ok=True)
    for name in options.cases or CASES:
        for threads in options.threads:
            with tempfile.TemporaryDirectory() as folder:
                results.append(measure(name, threads, options, Path(folder)))
            show(results[-1], options.eps)
            file.write_text(json.dumps({**facts, "eps": options.eps, "planners": results}, indent=1))
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
