"""The command line.

fastrl train ALGORITHM ENV   train an agent; fastrl train ppo --help lists its configuration
fastrl resume RUN            go on with an interrupted run
fastrl eval RUN              play episodes with a trained agent
fastrl plot RUN...           learning curves of runs and seeds in one figure
fastrl video RUN             videos of a trained agent
fastrl export RUN            the policy as an ONNX model
fastrl solve MODEL           optimal values and policy of a finite MDP, with certified bounds
fastrl list                  algorithms, presets and compiled environments
fastrl doctor                what this machine offers, what is missing or broken
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from fastrl import __version__
from fastrl.checkpoint import CheckpointError
from fastrl.cli import machine, runs, solve, train
from fastrl.cli.train import parse_seeds as parse_seeds
from fastrl.envs import EnvironmentFailure
from fastrl.export import ExportError
from fastrl.extras import MissingExtraError
from fastrl.logging import LogError
from fastrl.loop import Interrupted

COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "resume": (train.Resume, train.resume),
    "eval": (runs.Eval, runs.evaluate_run),
    "plot": (runs.Plot, runs.plot),
    "video": (runs.Video, runs.video),
    "export": (runs.Export, runs.export),
    "solve": (solve.Solve, solve.solve),
    "list": (machine.List, machine.list_all),
    "doctor": (machine.Doctor, machine.doctor),
}
ERRORS = (
    ValueError, TypeError, CheckpointError, LogError, FloatingPointError, OSError, MissingExtraError,
    ExportError, EnvironmentFailure,
)  # fmt: skip
"""What a user can cause, told in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(argv)
    except Interrupted as stop:
        print(f"fastrl: {stop}", file=sys.stderr)
        return 128 + stop.signum
    except ERRORS as error:
        print(f"fastrl: error: {error}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{(__doc__ or '').strip()}\n\nEach command has --help.")
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    command, args = argv[0], argv[1:]
    if command == "train":
        return train.train(args)
    if command not in COMMANDS:
        raise ValueError(f"command must be one of train, {', '.join(COMMANDS)}, got {command!r}")
    options, run = COMMANDS[command]
    return run(tyro.cli(options, args=args, prog=f"fastrl {command}"))
