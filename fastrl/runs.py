"""Run folders: which of them hold runs, and which runs are seeds of the same experiment."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastrl import __version__
from fastrl.logging import PROGRESS, reported

_CONFIG = "config.json"
_BARE = ("algorithm", "env", "run")


def find_runs(folders: Iterable[Path | str]) -> list[Path]:
    """The runs in folders, each once; a folder is a run, or holds those of several seeds (seed0, seed1, ...).

    Raises:
        ValueError: a folder is neither.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        runs = [folder] if (folder / PROGRESS).is_file() else _seeds(folder)
        if not runs:
            raise ValueError(f"{folder} is no run: it has no {PROGRESS}, nor seed0, seed1, ... that have one")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def group_runs(runs: Iterable[Path | str]) -> dict[str, list[Path]]:
    """Runs that differ in nothing but the seed, under a label: what sets them apart from the other groups.

    A run's ``config.json`` says what it is; one without it is a group of its own. Of runs that repeat a seed
    only the last counts: they are no independent samples.

    Raises:
        ValueError: a ``config.json`` is damaged.
    """
    kinds: dict[str, dict[str, Any]] = {}
    members: dict[str, dict[Any, Path]] = {}
    for run in map(Path, runs):
        settings = settings_of(run) or {"run": run}
        seed = settings.pop("seed", None)
        kind = {name: value for name, value in settings.items() if name != "version" and value is not None}
        key = json.dumps(kind, sort_keys=True, default=str)
        kinds[key] = kind
        members.setdefault(key, {})[seed] = run
    first = next(iter(kinds.values()), {})
    names = dict.fromkeys(name for kind in kinds.values() for name in kind)
    apart = {name for name in names if any(kind.get(name) != first.get(name) for kind in kinds.values())}
    return {_label(kind, apart): list(members[key].values()) for key, kind in kinds.items()}


def write_settings(run: Path, algorithm: str, env_id: str, config: Mapping[str, Any]) -> None:
    """Write a run's ``config.json``: what :func:`settings_of` reads, and ``fastrl train --config`` takes.

    Raises:
        LogError: it cannot be written.
    """
    settings = {"algorithm": algorithm, "env": env_id, "version": __version__, **config}
    path = run / _CONFIG
    with reported(path):
        temporary = path.with_name(f".{_CONFIG}.tmp")
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
        temporary.replace(path)


def settings_of(run: Path) -> dict[str, Any]:
    """What a run's ``config.json`` says: algorithm, env, version and configuration; empty if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = run / _CONFIG
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _label(kind: dict[str, Any], apart: set[str]) -> str:
    return " ".join(
        str(value) if name in _BARE else f"{name}={value}" for name, value in kind.items() if name in apart
    )


def _seeds(folder: Path) -> list[Path]:
    numbers = [int(path.name[4:]) for path in folder.glob("seed*") if re.fullmatch(r"seed\d+", path.name)]
    return [run for n in sorted(numbers) if ((run := folder / f"seed{n}") / PROGRESS).is_file()]
