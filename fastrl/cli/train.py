"""``fastrl train`` and ``fastrl resume``."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from fastrl import checkpoint
from fastrl.algorithms import ALGORITHMS, algorithm
from fastrl.algorithms.base import Algorithm, AlgorithmConfig
from fastrl.cli.runs import Run, describe, load
from fastrl.envs import reward_threshold
from fastrl.evaluate import evaluate
from fastrl.logging import create_run_dir
from fastrl.loop import Interrupted, require_counts
from fastrl.presets import Preset, preset
from fastrl.seeds import learn_seeds

C = TypeVar("C", bound=AlgorithmConfig)
Steps = Annotated[int | None, tyro.conf.arg(metavar="STEPS")]
Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
FINAL_EPISODES = 100
"""Episodes of the evaluation that closes a training run."""
INTERVALS = ("eval_interval", "eval_episodes", "checkpoint_interval")
"""Flags that ``Algorithm.learn`` takes, and a run's checkpoints keep."""


@dataclass(frozen=True, kw_only=True)
class Train(Generic[C]):
    """Train an agent; logs, checkpoints and a learning curve go to a new run folder, whose path is
    printed.
    """

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """Environment id, such as CartPole-v1; compiled where fastrl has it, else Gymnasium's."""
    fields: C
    """Configuration of the algorithm."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON or TOML file of configuration fields; flags override it, and it replaces the preset."""
    preset: bool = True
    """Whether to start from the tuned settings for ENV, where there are such (fastrl list); flags override
    them.
    """
    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS")] = None
    """Several seeds in one process, as 0..9 or 1,2,5; overrides --seed."""
    threads: int = 2
    """Threads that several seeds share."""
    runs: Folder = Path("runs")
    """Folder that run folders are made in."""
    progress: bool = True
    """Whether to show the live display."""
    eval_interval: Steps = None
    """Environment steps between evaluations; default: a tenth of the run."""
    eval_episodes: int = 20
    """Episodes of an evaluation during training."""
    checkpoint_interval: Steps = None
    """Environment steps between checkpoints; default: a tenth of the run."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with an interrupted run, bit for bit as if it had not been interrupted."""

    run: Run
    """Run folder."""
    total_timesteps: Steps = None
    """Train to this many environment steps in all instead of the run's own number."""
    eval_interval: Steps = None
    """Environment steps between evaluations; default: as the run had it."""
    eval_episodes: int | None = None
    """Episodes of an evaluation during training; default: as the run had it."""
    checkpoint_interval: Steps = None
    """Environment steps between checkpoints; default: as the run had it."""
    progress: bool = True
    """Whether to show the live display."""


def train(args: list[str]) -> int:
    """Train with what the words after ``fastrl train`` say."""
    if not args or args[0].startswith("-"):
        print(f"usage: fastrl train ALGORITHM ENV [FLAGS]\n\nalgorithms: {', '.join(ALGORITHMS)}")
        return 0 if args else 2
    kind = algorithm(args[0])
    options, tuned = _parse(kind, args[0], args[1:])
    require_counts(options.eval_interval, options.eval_episodes, options.checkpoint_interval, options.threads)
    seeds = [options.fields.seed] if options.seeds is None else parse_seeds(options.seeds)
    agents = [kind(options.env, replace(options.fields, seed=seed)) for seed in seeds]
    folder = create_run_dir(options.runs, args[0], agents[0].env_id, options.seeds or seeds[0])
    folders = [folder] if len(seeds) == 1 else [folder / f"seed{seed}" for seed in seeds]
    if tuned is not None:
        print(f"preset: {tuned}")
    print(f"run folder: {folder}\nnetwork: {agents[0].network}")
    arguments: dict[str, Any] = {name: getattr(options, name) for name in INTERVALS}
    with _resumable(folders):
        if len(agents) == 1:
            agents[0].learn(progress=options.progress, log_dir=folder, **arguments)
        else:
            learn_seeds(agents, folders, threads=options.threads, progress=options.progress, **arguments)
    _close(agents, folders, folder)
    return 0


def resume(options: Resume) -> int:
    """Train what is left of the run."""
    given = {name: getattr(options, name) for name in INTERVALS}
    require_counts(**given)
    agent = load(options.run)
    if options.total_timesteps is not None:
        agent.total_timesteps = options.total_timesteps
    if agent.num_timesteps >= agent.total_timesteps:
        print(f"{options.run}: has its {agent.num_timesteps:,} steps; --total-timesteps N trains further")
        return 0
    if not agent.source.exact_resume:
        print(f"{agent.env_id} is not compiled: new episodes begin, so the run is not repeated bit for bit")
    flags = {name: value for name, value in given.items() if value is not None}
    arguments: dict[str, Any] = {**agent.intervals, **flags}
    with _resumable([options.run]):
        agent.learn(progress=options.progress, log_dir=options.run, **arguments)
    _close([agent], [options.run], options.run)
    return 0


def _parse(kind: type[Algorithm], name: str, words: list[str]) -> tuple[Train[Any], Preset | None]:
    """The options, and the preset that they start from."""
    # the algorithm's name becomes the title of its fields in --help, not a part of their flags
    config = Annotated[kind.Config, tyro.conf.arg(name=kind.name())]  # type: ignore[name-defined]
    given = _config_from_file(kind, words)
    wanted = given is None and not {"--no-preset", "--no_preset"} & set(words)  # tyro takes both
    tuned = preset(name, words[0]) if wanted and words else None
    while True:
        fields = given or kind.Config.from_mapping(tuned.fields if tuned else {})
        options: Train[Any] = tyro.cli(
            Train[tyro.conf.OmitArgPrefixes[config]],
            args=words,
            prog=f"fastrl train {name}",
            description=f"{inspect.getdoc(Train)} Defaults are those of preset {tuned}." if tuned else None,
            default=Train(env=tyro.MISSING, fields=fields),
        )
        fitting = preset(name, options.env) if wanted else None
        if fitting == tuned:
            return options, tuned
        tuned = fitting  # ENV was not the first word: read them again


def _config_from_file(kind: type[Algorithm], args: list[str]) -> AlgorithmConfig | None:
    """The configuration with the fields of ``--config FILE``, if that is among the arguments."""
    path = None
    for position, word in enumerate(args):
        if word == "--config" and position + 1 < len(args):
            path = Path(args[position + 1])
        elif word.startswith("--config="):
            path = Path(word.removeprefix("--config="))
    if path is None:
        return None
    try:
        given = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: is neither JSON nor TOML: {error}") from None
    if not isinstance(given, dict):
        raise ValueError(f"{path}: must hold fields by name, got {type(given).__name__}")
    return kind.Config.from_mapping(
        {name: value for name, value in given.items() if name not in ("algorithm", "env", "version")}
    )


@contextmanager
def _resumable(folders: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except Interrupted:
        for folder in folders:
            if saved := checkpoint.latest(folder):  # a seed that had not begun has none
                print(f"\ncheckpoint: {saved}\nresume with: fastrl resume {folder}")
        raise


def _close(agents: Sequence[Algorithm], folders: Sequence[Path], folder: Path) -> None:
    from fastrl.plotting import learning_curve

    for agent, place in zip(agents, folders, strict=True):
        print(f"{place.name}: {describe(evaluate(agent, FINAL_EPISODES))}, deterministic")
    if all(agent.episodes for agent in agents):
        title = f"{agents[0].name()} on {agents[0].env_id}"
        curve = learning_curve(
            folders,
            folder / "learning_curve.png",
            title=title,
            threshold=reward_threshold(agents[0].env_id),
        )
        print(f"learning curve: {curve}")
    else:
        print("learning curve: none, as no training episode ended")
    print(f"checkpoint: {checkpoint.latest(folders[0])}")


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
