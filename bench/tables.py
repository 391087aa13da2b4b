"""Fill the tables of README.md from the published results: they are never typed.

    python bench/tables.py            rewrite what stands between <!-- table: NAME [PART] --> and <!-- end -->
    python bench/tables.py --check    exit 1 if that would change anything

NAME is a file bench/published/NAME.json, a copy of one that a benchmark wrote to bench/results. PART is a
setting of throughput.py; the files of bench_<family>.py have none.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PUBLISHED = ROOT / "bench" / "published"
TABLE = re.compile(r"(<!-- table: (\S+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
FIXED_STEPS = {
    "steps_per_cpu_s": "steps per CPU second",
    "steps_per_s": "steps per second",
    "last20": "mean return, last 20 episodes",
    "greedy100": "greedy policy, 100 episodes",
}
UNTIL_SOLVED = {"wall_s": "seconds", "cpu_s": "CPU seconds", "last20": "mean return, last 20 episodes"}


def markdown(rows: list[list[str]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def number(x: float | None) -> str:
    if x is None:
        return "never"
    return f"{float(f'{x:.3g}'):,.10g}"


def throughput(part: dict[str, Any]) -> tuple[str, str]:
    """Table and what its caption adds."""
    libraries = {name: row for name, row in part["libraries"].items() if "error" not in row}
    columns = FIXED_STEPS if any("steps" in row for row in libraries.values()) else UNTIL_SOLVED
    rows = [["", *columns.values(), "fastrl is"]]
    versions = set()
    for name, row in libraries.items():
        ratio = f"{row['ratio']:.1f}x" if "ratio" in row else "does not learn"
        rows.append([name, *(number(row[column]) for column in columns), "" if name == "fastrl" else ratio])
        versions |= set(row["versions"].items())
    packages = ", ".join(" ".join(pair) for pair in sorted(versions))
    return markdown(rows), f"median of {part['rounds']} runs, {packages}"


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


def render(name: str, part: str | None) -> str:
    file = json.loads((PUBLISHED / f"{name}.json").read_text())
    table, details = throughput(file["settings"][part]) if part else family(file)
    place = f"{file['cpu']}, {file['threads']} thread, Python {file['python']}"
    return f"{table}\n\n{place}, {details}; {file['date'][:10]}, commit {file['commit']}.\n"


def fill(text: str) -> str:
    return TABLE.sub(lambda found: found[1] + render(found[2], found[3]) + found[4], text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md is stale")
    options = parser.parse_args()
    text = README.read_text()
    fresh = fill(text)
    if not options.check:
        README.write_text(fresh)
    elif fresh != text:
        print("README.md is not what bench/published gives: python bench/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
