"""``fastrl list`` and ``fastrl doctor``: what this installation and this machine offer."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastrl.algorithms import ALGORITHMS, algorithm
from fastrl.envs import COMPILED
from fastrl.presets import presets


@dataclass(frozen=True, kw_only=True)
class List:
    """Show algorithms, their presets, and compiled environments."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Show versions, processor, devices, which backend runs each op and why not the others, what is missing
    and what would be faster. The exit status is 1 if something is broken.
    """

    runs: Path = Path("runs")
    """Folder that run folders are made in."""
    json: bool = False
    """Print JSON instead of text."""


def list_all(_: List) -> int:
    """Print the algorithms with their configuration fields and presets, and the compiled environments."""
    table = Table("algorithm", "configuration", "presets", title="fastrl train ALGORITHM ENV")
    for name in ALGORITHMS:
        known = ", ".join(field.name for field in fields(algorithm(name).Config))
        table.add_row(name, known, "\n".join(map(str, presets(name).values())))
    console = Console()
    console.print(table)
    console.print(f"compiled environments: {', '.join(COMPILED)}; any other id is Gymnasium's")
    return 0


def doctor(options: Doctor) -> int:
    """Print the report."""
    from fastrl.doctor import describe, diagnose

    report = diagnose(options.runs)
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        table = Table.grid("", "", padding=(0, 2))
        for name, text in describe(report):
            table.add_row(escape(name), escape(text))
        Console(highlight=False).print(table)
    return 1 if report.problems else 0
