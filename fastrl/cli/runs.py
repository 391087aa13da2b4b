"""Commands on runs that are there: ``fastrl eval``, ``fastrl plot``, ``fastrl video``, ``fastrl export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastrl import checkpoint
from fastrl.algorithms import algorithm
from fastrl.algorithms.base import Algorithm
from fastrl.checkpoint import CheckpointError
from fastrl.envs import reward_threshold
from fastrl.evaluate import Evaluation, evaluate

Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
RETURNS = ("rollout/ep_rew_mean", "eval/mean_reward")
"""Columns that a task's reward threshold can be compared with."""


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Play episodes with a trained agent and print their mean return."""

    run: Run
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
class Plot:
    """Draw learning curves: one for each algorithm, environment and configuration; for several seeds of it
    the interquartile mean and its 95 % bootstrap interval.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders; the folder of a run with several seeds counts as its seeds."""
    out: Path = Path("curves.png")
    """File to write: .png, .svg or .pdf."""
    x: Literal["steps", "time"] = "steps"
    """Environment steps, or wall-clock time."""
    y: Annotated[str, tyro.conf.arg(metavar="METRIC")] = RETURNS[0]
    """Column of progress.csv."""
    smooth: Annotated[int | None, tyro.conf.arg(metavar="ROWS")] = None
    """Rows of progress.csv that moving averages go over; default: a twentieth of a single run, else 1."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """Record episodes of a trained agent: MP4, or GIF where no encoder is installed (extra [video])."""

    run: Run
    """Run folder or checkpoint folder."""
    episodes: int = 3
    """Episodes to record, a file each."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder for the videos; default: videos in the run folder."""
    best: bool = False
    """Use the best checkpoint of the run instead of the latest."""
    seed: int = 1_000_000
    """Episode i is seeded with seed + i."""
    max_steps: int = 10_000
    """Where episodes are cut that go on."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a trained policy as an ONNX model, compared with the agent before it is left in place."""

    run: Run
    """Run folder or checkpoint folder."""
    onnx: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """File to write."""
    best: bool = False
    """Use the best checkpoint of the run instead of the latest."""


def evaluate_run(options: Eval) -> int:
    """Print the mean return of the evaluation."""
    agent = load(options.run, best=options.best)
    result = evaluate(agent, options.episodes, seed=options.seed, deterministic=not options.stochastic)
    print(f"{agent.name()} on {agent.env_id} after {agent.num_timesteps:,} steps: {describe(result)}")
    return 0


def plot(options: Plot) -> int:
    """Draw the figure; print its path and what each curve is made of."""
    from fastrl.plotting import learning_curve
    from fastrl.runs import find_runs, group_runs, settings_of

    runs = find_runs(options.runs)
    groups = group_runs(runs)
    settings = [settings_of(run) for run in runs]
    envs = {str(run["env"]) if run else "" for run in settings}
    tasks = {f"{run['algorithm']} on {run['env']}" if run else "" for run in settings}
    out = learning_curve(
        groups,
        options.out,
        x=options.x,
        y=options.y,
        smooth=options.smooth,
        title=tasks.pop() if len(tasks) == 1 else None,
        threshold=reward_threshold(envs.pop()) if len(envs) == 1 and options.y in RETURNS else None,
    )
    for label, group in groups.items():
        print(f"{label or 'curve'}: {len(group)} run{'s'[: len(group) > 1]}")
    if repeated := len(runs) - sum(map(len, groups.values())):
        print(f"left out, as later runs repeat their seeds: {repeated}")
    print(f"learning curves: {out}")
    return 0


def video(options: Video) -> int:
    """Record the videos; print their paths and returns."""
    from fastrl.video import has_encoder, record

    agent = load(options.run, best=options.best)
    out = options.out or options.run / "videos"
    if not has_encoder():
        print("no MP4 encoder is installed, so these are GIFs: pip install moviepy")
    files, returns = record(
        agent, out, episodes=options.episodes, seed=options.seed, max_steps=options.max_steps
    )
    for file, episode_return in zip(files, returns, strict=True):
        print(f"{file}: return {episode_return:g}")
    return 0


def export(options: Export) -> int:
    """Write the model; print how far it is from the agent."""
    from fastrl.export import export_onnx

    done = export_onnx(load(options.run, best=options.best), options.onnx)
    print(
        f"{done.path}: max difference {done.max_difference:.2g} on {done.observations:,} random observations"
    )
    return 0


def load(path: Path, *, best: bool = False) -> Algorithm:
    """The agent of a run folder or checkpoint folder, of the latest or the best checkpoint.

    Raises:
        CheckpointError: there is none that can be read.
    """
    if best:
        found = checkpoint.best(path)
        if found is None:
            raise CheckpointError(f"{path}: has no best checkpoint")
        path = found
    return algorithm(checkpoint.read(path).algorithm).load(path)


def describe(result: Evaluation) -> str:
    """Mean and spread of an evaluation, for people."""
    return f"mean return {result.mean:.1f} +- {result.std:.1f} over {len(result.episode_return)} episodes"
