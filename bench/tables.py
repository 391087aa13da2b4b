"""Fill the tables of README.md and RESULTS.md from the published results: they are never typed.

    python bench/tables.py            rewrite what stands between <!-- table: NAME --> and <!-- end -->
    python bench/tables.py --check    exit 1 if that would change anything

NAME is a file bench/published/NAME.json, a copy of one that a benchmark wrote to bench/results; bench_NAME.py
--publish makes it.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "bench" / "RESULTS.md")
PUBLISHED = ROOT / "bench" / "published"
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIXED_STEPS = {
    "steps_per_cpu_s": "steps per CPU second",
    "steps_per_s": "steps per second",
    "last20": "last 20 episodes",
    "greedy100": "greedy, 100 episodes",
}
UNTIL_SOLVED = {"wall_s": "seconds until solved", "cpu_s": "CPU seconds", "last20": "last 20 episodes"}


def markdown(rows: list[list[str]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def number(x: float | None) -> str:
    if x is None:
        return "never"
    return f"{float(f'{x:.3g}'):,.10g}"


def throughput(settings: dict[str, Any]) -> tuple[str, str]:
    """A table for each setting, and what the caption adds."""
    tables, versions = [], {}
    for part in settings.values():
        setting = part["setting"]
        until_solved = all("steps" not in row for row in part["libraries"].values())
        columns = UNTIL_SOLVED if until_solved else FIXED_STEPS
        envs, minibatch = (f"{setting[key]:,}" for key in ("num_envs", "minibatch_size"))
        title = f"{envs} environments, minibatches of {minibatch}, {part['rounds']} runs"
        rows = [[f"{title}{', cold start' if until_solved else ''}", *columns.values(), "fastrl is"]]
        for library, row in part["libraries"].items():
            if "error" not in row:
                ratio = f"{row['ratio']:.1f}x" if "ratio" in row else ""
                cells = [number(row[column]) for column in columns]
                rows.append([library, *cells, ratio if row["learns"] else "does not learn"])
                versions |= row["versions"]
        tables.append(markdown(rows))
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return "\n\n".join(tables), f"medians, ratios of CPU time; {packages}"


def family(file: dict[str, Any]) -> tuple[str, str]:
    """Table and what its caption adds: microseconds of ours, and how many times as long peers take."""
    peers = list(dict.fromkeys(peer for case in file["cases"] for peer in case["times"] if peer != "ours"))
    rows = [["", "ours, us", *peers]]
    for case in file["cases"]:
        times = case["times"]
        cells = [number(times["ours"]["median_us"])]
        for peer in peers:
            ratio = times.get(peer, {}).get("ratio")
            cells.append(f"{ratio:.1f}x" if ratio else "differs" if peer in times else "")
        rows.append([case["name"], *cells])
    packages = ", ".join(f"{name} {version}" for name, version in file["packages"].items())
    return markdown(rows), f"median of {file['rounds']} rounds, {packages}"


def ops(file: dict[str, Any]) -> tuple[str, str]:
    """Table and what its caption adds: ours, over a copy of as many bytes, and the two fastest peers."""
    rows = [["", "ours, us", "over a copy of its bytes", "fastest peer", "second"]]
    for case in file["cases"]:
        times = case["times"]
        own = times["ours"]["median_us"]
        peers = {name: x["ratio"] for name, x in times.items() if not name.startswith("ours") and x["ratio"]}
        fastest = [f"{name}: {peers[name]:.1f}x" for name in sorted(peers, key=peers.__getitem__)[:2]]
        rows.append([case["name"], number(own), f"{own / case['copy_us']:.2f}x", *[*fastest, "", ""][:2]])
    packages = ", ".join(f"{name} {version}" for name, version in file["packages"].items())
    return markdown(rows), f"median of {file['rounds']} rounds, {packages}"


def learning(tasks: dict[str, Any], baseline: str = "sb3") -> tuple[str, str]:
    """Table and what its caption adds: returns of ours and of the baseline by environment."""

    def mean_and_interval(x: dict[str, float]) -> str:
        return f"{x['iqm']:.1f} [{x['low']:.1f}, {x['high']:.1f}]"

    rows = [["", "steps", "seeds", "fastrl", baseline, "difference", "fastrl, CPU s", f"{baseline}, CPU s"]]
    versions: dict[str, str] = {}
    commits: set[str] = set()
    for env_id, task in tasks.items():
        ours, theirs = (task["libraries"].get(library) for library in ("fastrl", baseline))
        if not ours or not theirs or "return_difference" not in theirs:
            continue
        seeds = dict.fromkeys(str(len(x["returns"])) for x in (ours, theirs))
        cells = [env_id, f"{task['steps']:,}", ", ".join(seeds)]
        cells += [mean_and_interval(x) for x in (ours["return"], theirs["return"])]
        cells += [
            mean_and_interval(theirs["return_difference"]),
            *(number(x["cpu_s"]) for x in (ours, theirs)),
        ]
        rows.append(cells)
        versions |= ours["versions"] | theirs["versions"]
        commits |= set(ours["commits"])
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    runs = f"runs of commit {', '.join(sorted(commits))}"
    return markdown(rows), f"interquartile means over seeds, 95 % bootstrap intervals, {packages}, {runs}"


def simulators(cases: dict[str, Any]) -> tuple[str, str]:
    """A table for each case, and what the caption adds."""
    columns = {
        "steps_per_cpu_s": "steps per CPU second",
        "steps_per_s": "steps per second",
        "simulator_share": "simulator's share",
        "peak_mb": "peak memory, MB",
        "last20": "last 20 episodes",
    }
    tables, versions = [], {}
    for part in cases.values():
        title = f"{part['case']['title']}, {part['rounds']} runs"
        rows = [[title, *columns.values(), "times SB3, CPU", "times SB3, wall"]]
        for library, row in part["libraries"].items():
            cells = [number(row[column]) for column in columns]
            cells[2] = f"{100 * row['simulator_share']:.0f} %"
            rows.append([library, *cells, f"{row['ratio']:.1f}x", f"{row['wall_ratio']:.1f}x"])
            versions |= row["versions"]
        tables.append(markdown(rows))
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return "\n\n".join(tables), f"medians; {packages}"


def rates(file: dict[str, Any]) -> tuple[str, str]:
    """Table and what its caption adds: rates of ours and of peers, and ours over the first peer's."""
    names = file["contestants"]
    rows = [[file["unit"], *names, f"{names[0]} is"]]
    for case in file["cases"]:
        cells = [number(case["rates"][name]) for name in names]
        if "cpu_us" in case:
            cells = [
                f"{cell} ({number(case['cpu_us'][name])})" for cell, name in zip(cells, names, strict=True)
            ]
        rows.append([case["name"], *cells, f"{case['ratio']:.2f}x"])
    packages = ", ".join(f"{name} {version}" for name, version in file["packages"].items())
    return markdown(rows), f"median of {file['rounds']} interleaved rounds, {packages}"


def environments(file: dict[str, Any]) -> tuple[str, str]:
    """Table and what its caption adds: rates of ours, and of the peer that is fastest with so many envs."""

    def short(rate: float) -> str:
        scale, unit = (1e6, " M") if rate >= 1e6 else (1e3, " k")
        return number(rate / scale) + unit

    def best_peer(rows: dict[str, Any], differs: dict[str, str]) -> str:
        peers = {name: row["rate"] for name, row in rows.items() if not name.startswith(("exact", "fast"))}
        name = max(peers, key=lambda name: peers[name])
        other = name.split(",")[0].split(" ")[0].lower() in differs
        verdict = "differs" if other else f"{rows['exact']['rate'] / peers[name]:.1f}x"
        return f"{name}: {short(peers[name])} ({verdict})"

    found = file["environments"]
    sizes = tuple(n for n in ("1", "64", "1024", "8192") if all(n in part["rows"] for part in found.values()))
    heads = [cell for n in sizes for cell in (f"N = {int(n):,}: exact / fast", "best peer (exact is)")]
    table = [["env-steps/s", *heads]]
    for env_id, part in found.items():
        cells = []
        for n in sizes:
            rows = part["rows"][n]
            cells.append(" / ".join(short(rows[mode]["rate"]) for mode in ("exact", "fast") if mode in rows))
            cells.append(best_peer(rows, part["differs"]))
        table.append([env_id, *cells])
    packages = ", ".join(f"{name} {version}" for name, version in file["packages"].items())
    memory = ", ".join(
        f"{number(row['resident_mb'])} MB {name}" for name, row in file["million_envs"].items()
    )
    details = f"median of {file['rounds']} interleaved rounds, {packages}; a million CartPoles: {memory}"
    if busy := file["busy_core"]:
        least = min(row["2 threads"] / row["1 thread"] for row in busy.values())
        details += f"; two threads beside a busy core: at least {least:.2f} times one"
    return markdown(table), details


def planners(file: dict[str, Any]) -> tuple[str, str]:
    """Table and what its caption adds: ours, and the fastest peers whose values are within eps."""

    def fastest(rows: dict[str, Any], wanted: str = "") -> str:
        right = {k: x for k, x in rows.items() if x["ratio"] and wanted in k and not k.startswith("fastrl")}
        if not right:
            return "none"
        name = min(right, key=lambda name: right[name]["ratio"])
        return f"{name}: {right[name]['ratio']:.1f}x, {number(right[name]['peak_mb'])} MB"

    heads = [
        "threads",
        "fastrl, ms",
        "off by",
        "MB above the MDP's",
        "fastest peer that is right",
        "fastest value iteration",
    ]
    table = [["", *heads]]
    versions: dict[str, str] = {}
    for case in file["planners"]:
        rows = case["planners"]
        ours = rows["fastrl auto"]
        cells = [str(case["threads"]), number(ours["solve_s"] * 1e3), f"{ours['error_of_values']:.1g}"]
        cells += [number(ours["peak_mb"]), fastest(rows), fastest(rows, " vi")]
        table.append([f"{case['case'].split(',')[0]}, gamma {case['gamma']}", *cells])
        for row in rows.values():
            versions |= row.get("versions", {})
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return markdown(table), f"values within {file['eps']:g}, peers asked for the same; medians; {packages}"


def render(name: str) -> str:
    file = json.loads((PUBLISHED / f"{name}.json").read_text())
    if "environments" in file:
        tables, details = environments(file)
    elif "simulators" in file:
        tables, details = simulators(file["simulators"])
    elif "planners" in file:
        tables, details = planners(file)
    elif "tasks" in file:
        tables, details = learning(file["tasks"])
    elif "settings" in file:
        tables, details = throughput(file["settings"])
    else:
        shown = rates if "contestants" in file else ops if name == "returns" else family
        tables, details = shown(file)
    threads = f"{file['threads']} thread{'s' if file['threads'] > 1 else ''}"
    place = f"{file['cpu']}, {threads}, Python {file['python']}"
    return f"{tables}\n\n{place}, {details}; {file['date'][:10]}, commit {file['commit']}.\n"


def fill(text: str) -> str:
    return TABLE.sub(lambda found: found[1] + render(found[2]) + found[3], text)


def rewrite(check: bool = False) -> int:
    """Fill the pages; or, to check, only say how many would change."""
    stale = 0
    for page in PAGES:
        text = page.read_text()
        fresh = fill(text)
        if not check:
            page.write_text(fresh)
        elif fresh != text:
            print(f"{page.relative_to(ROOT)} is not what bench/published gives: python bench/tables.py")
            stale += 1
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    options = parser.parse_args()
    return min(rewrite(options.check), 1)


if __name__ == "__main__":
    sys.exit(main())
