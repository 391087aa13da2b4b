"""The command line: ``fastrl train ppo CartPole-v1``, ``fastrl eval RUN``, ``fastrl resume RUN``, ``fastrl
list``.
"""

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro
from rich.console import Console
from rich.table import Table

from fastrl import __version__, checkpoint
from fastrl.algorithms import ALGORITHMS, algorithm
from fastrl.algorithms.base import Algorithm, AlgorithmConfig
from fastrl.checkpoint import CheckpointError
from fastrl.envs import COMPILED, reward_threshold
from fastrl.evaluate import Evaluation, evaluate
from fastrl.logging import LogError, create_run_dir
from fastrl.loop import Interrupted
from fastrl.seeds import learn_seeds

C = TypeVar("C", bound=AlgorithmConfig)
FINAL_EPISODES = 100
"""Episodes of the evaluation that closes a training run."""


@dataclass(frozen=True, kw_only=True)
class Train(Generic[C]):
    """Train an agent; logs, checkpoints and a learning curve go to a new run folder, whose path is
    printed.
    """

    env: tyro.conf.Positional[str]
    """Environment id, such as CartPole-v1; compiled where fastrl has it, else Gymnasium's."""
    fields: tyro.conf.OmitArgPrefixes[C]
    """Configuration of the algorithm."""
    config: Path | None = None
    """JSON or TOML file of configuration fields; flags override it."""
    seeds: str | None = None
    """Several seeds in one process, as 0..9 or 1,2,5; overrides --seed."""
    threads: int = 2
    """Threads that several seeds share."""
    runs: Path = Path("runs")
    """Folder that run folders are made in."""
    progress: bool = True
    """Whether to show the live display."""
    eval_interval: int | None = None
    """Steps between evaluations; default: a tenth of the run."""
    eval_episodes: int = 20
    """Episodes of an evaluation during training."""
    checkpoint_interval: int | None = None
    """Steps between checkpoints; default: a tenth of the run."""


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Play episodes with a trained agent and print their mean return."""

    run: tyro.conf.Positional[Path]
    """Run folder or checkpoint folder."""
    episodes: int = 100
    """Episodes to play."""
    seed: int = 1_000_000
    """Environment i is seeded with seed + i."""
    best: bool = False
    """Use the best checkpoint of the run instead of the latest."""
    stochastic: bool = False
    """Draw actions instead of taking the most probable ones."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with an interrupted run, bit for bit as if it had not been interrupted."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    total_timesteps: int | None = None
    """Train to this many steps in all instead of the run's own number."""
    progress: bool = True
    """Whether to show the live display."""


@dataclass(frozen=True, kw_only=True)
class List:
    """Show algorithms and compiled environments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(argv)
    except Interrupted as stop:
        print(f"fastrl: {stop}", file=sys.stderr)
        return 128 + stop.signum
    except (ValueError, TypeError, CheckpointError, LogError, FloatingPointError, OSError) as error:
        print(f"fastrl: error: {error}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{__doc__}\n\nEach command has --help; so has each algorithm: fastrl train ppo --help.")
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    command, args = argv[0], argv[1:]
    if command == "train":
        return _train(args)
    if command not in COMMANDS:
        raise ValueError(f"command must be one of train, {', '.join(COMMANDS)}, got {command!r}")
    options, run = COMMANDS[command]
    return run(tyro.cli(options, args=args, prog=f"fastrl {command}"))


def _train(args: list[str]) -> int:
    if not args or args[0].startswith("-"):
        print(f"usage: fastrl train ALGORITHM ENV [FLAGS]\n\nalgorithms: {', '.join(ALGORITHMS)}")
        return 0 if args else 2
    kind = algorithm(args[0])
    options: Train[Any] = tyro.cli(
        Train[kind.Config],  # type: ignore[name-defined]
        args=args[1:],
        prog=f"fastrl train {args[0]}",
        default=Train(env=tyro.MISSING, fields=_config_from_file(kind, args)),
    )
    seeds = [options.fields.seed] if options.seeds is None else parse_seeds(options.seeds)
    agents = [kind(options.env, replace(options.fields, seed=seed)) for seed in seeds]
    folder = create_run_dir(options.runs, args[0], agents[0].env_id, options.seeds or seeds[0])
    folders = [folder] if len(seeds) == 1 else [folder / f"seed{seed}" for seed in seeds]
    print(f"run folder: {folder}")
    for agent, place in zip(agents, folders, strict=True):
        _write_config(agent, place)
    arguments: dict[str, Any] = {
        "eval_interval": options.eval_interval,
        "eval_episodes": options.eval_episodes,
        "checkpoint_interval": options.checkpoint_interval,
    }
    with _resumable(folder):
        if len(agents) == 1:
            agents[0].learn(progress=options.progress, log_dir=folder, **arguments)
        else:
            learn_seeds(agents, folders, threads=options.threads, progress=options.progress, **arguments)
    _close(agents, folders, folder)
    return 0


def _eval(options: Eval) -> int:
    path = options.run
    if options.best:
        found = checkpoint.best(path)
        if found is None:
            raise CheckpointError(f"{path}: has no best checkpoint")
        path = found
    agent = _load(path)
    result = evaluate(agent, options.episodes, seed=options.seed, deterministic=not options.stochastic)
    print(f"{agent.name()} on {agent.env_id} after {agent.num_timesteps:,} steps: {_describe(result)}")
    return 0


def _resume(options: Resume) -> int:
    agent = _load(options.run)
    if options.total_timesteps is not None:
        agent.total_timesteps = options.total_timesteps
    if agent.num_timesteps >= agent.total_timesteps:
        print(f"{options.run}: has its {agent.num_timesteps:,} steps; --total-timesteps N trains further")
        return 0
    if not agent.source.exact_resume:
        print(f"{agent.env_id} is not compiled: its episodes restart, so the run is not repeated bit for bit")
    with _resumable(options.run):
        agent.learn(progress=options.progress, log_dir=options.run)
    _close([agent], [options.run], options.run)
    return 0


def _list(_: List) -> int:
    table = Table("algorithm", "configuration", title="fastrl train ALGORITHM ENV")
    for name in ALGORITHMS:
        kind = algorithm(name)
        table.add_row(name, ", ".join(field.name for field in fields(kind.Config)))
    console = Console()
    console.print(table)
    console.print(f"compiled environments: {', '.join(COMPILED)}; any other id is Gymnasium's")
    return 0


COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "eval": (Eval, _eval),
    "resume": (Resume, _resume),
    "list": (List, _list),
}


def _load(path: Path) -> Algorithm:
    return algorithm(checkpoint.read(path).algorithm).load(path)


def _describe(result: Evaluation) -> str:
    return f"mean return {result.mean:.1f} +- {result.std:.1f} over {len(result.episode_return)} episodes"


def _write_config(agent: Algorithm, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    resolved = {
        "algorithm": agent.name(),
        "env": agent.env_id,
        "version": __version__,
        **asdict(agent.config),
    }
    (folder / "config.json").write_text(json.dumps(resolved, indent=2) + "\n")


def _config_from_file(kind: type[Algorithm], args: list[str]) -> AlgorithmConfig:
    """The configuration with the fields of ``--config FILE``, if that is among the arguments."""
    path = None
    for position, word in enumerate(args):
        if word == "--config" and position + 1 < len(args):
            path = Path(args[position + 1])
        elif word.startswith("--config="):
            path = Path(word.removeprefix("--config="))
    if path is None:
        return kind.Config()
    try:
        given = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: is neither JSON nor TOML: {error}") from None
    return kind.Config.from_mapping(
        {name: value for name, value in given.items() if name not in ("algorithm", "env", "version")}
    )


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    try:
        yield
    except Interrupted:
        print(f"\ncheckpoint: {checkpoint.latest(folder) or folder}\nresume with: fastrl resume {folder}")
        raise


def _close(agents: Sequence[Algorithm], folders: Sequence[Path], folder: Path) -> None:
    from fastrl.plotting import learning_curve

    for agent, place in zip(agents, folders, strict=True):
        print(f"{place.name}: {_describe(evaluate(agent, FINAL_EPISODES))}, deterministic")
    title = f"{agents[0].name()} on {agents[0].env_id}"
    curve = learning_curve(
        folders,
        folder / "learning_curve.png",
        title=title,
        threshold=reward_threshold(agents[0].env_id),
    )
    print(f"learning curve: {curve}\ncheckpoint: {checkpoint.latest(folders[0])}")


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``"0..9"`` (both ends included) or ``"1,2,5"``.

    Raises:
        ValueError: neither form, or a seed twice.
    """
    if match := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        seeds = list(range(int(match[1]), int(match[2]) + 1))
    elif re.fullmatch(r"\d+(,\d+)*", text):
        seeds = [int(seed) for seed in text.split(",")]
    else:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be as 0..9 or 1,2,5, each once, got {text!r}")
    return seeds
