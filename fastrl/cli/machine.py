"""``fastrl list``: what this installation offers."""

from dataclasses import dataclass, fields

from rich.console import Console
from rich.table import Table

from fastrl.algorithms import ALGORITHMS, algorithm
from fastrl.envs import COMPILED


@dataclass(frozen=True, kw_only=True)
class List:
    """Show algorithms and compiled environments."""


def list_all(_: List) -> int:
    """Print the algorithms with their configuration fields, and the compiled environments."""
    table = Table("algorithm", "configuration", title="fastrl train ALGORITHM ENV")
    for name in ALGORITHMS:
        kind = algorithm(name)
        table.add_row(name, ", ".join(field.name for field in fields(kind.Config)))
    console = Console()
    console.print(table)
    console.print(f"compiled environments: {', '.join(COMPILED)}; any other id is Gymnasium's")
    return 0
