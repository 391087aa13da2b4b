"""``fastrl solve``: optimal values and policy of a finite MDP."""

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import tyro

if TYPE_CHECKING:
    from fastrl.tabular import MDP, Solution

Model = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
WIDEST = 60
"""Columns of a grid that a terminal shows."""


@dataclass(frozen=True, kw_only=True)
class Solve:
    """Plan in a finite MDP and print certified bounds on its values; on grids, draw them and the policy."""

    model: Model
    """Id of an environment with a finite model, as FrozenLake-v1; a file that MDP.save wrote, as model.npz;
    or a process of fastrl.tabular.zoo, as gridworld."""
    gamma: float = 0.99
    """Discount in [0, 1]; 1 where the best totals are finite."""
    method: str = "auto"
    """auto, or a planner by name: see fastrl.tabular.solve."""
    eps: float = 1e-6
    """How far values may be from the optimal ones."""
    max_iter: int | None = None
    """Sweeps at most; default: the planner's own."""
    num_threads: int = 1
    """Threads at most."""
    options: str = "{}"
    """Arguments of the environment or process, as JSON: '{"is_slippery": false}'."""
    out: Path | None = None
    """Picture of a grid's values and policy: .png, .svg or .pdf; default: <model>.png."""
    save: Path | None = None
    """File for the values, bounds, policy and Q-table, as .npz."""


def solve(options: Solve) -> int:
    """Print bounds, policy and time; the exit status is 1 if the values are not within eps."""
    from fastrl.tabular import pictures
    from fastrl.tabular import solve as plan

    mdp = model_of(options.model, _arguments(options.options))
    if options.out is not None and mdp.grid is None:
        raise ValueError(f"solve: out must be left out, the states of {options.model} are no grid")
    if options.out is not None:
        pictures.require_format(options.out)
    for name in ("out", "save"):
        _require_place(name, getattr(options, name))
    limit: dict[str, Any] = {} if options.max_iter is None else {"max_iter": options.max_iter}
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the report says whether it converged
        solution = plan(
            mdp,
            options.gamma,
            method=options.method,
            eps=options.eps,
            num_threads=options.num_threads,
            **limit,
        )
    seconds = perf_counter() - start
    print(f"{options.model}: {mdp.num_states} states, {mdp.num_pairs} pairs of state and action")
    _report(mdp, solution, seconds)
    if not np.isfinite(solution.value).all():
        return 1
    if options.save is not None:
        print(f"values and policy: {solution.save(options.save)}")
    if mdp.grid is not None:
        if mdp.grid[1] <= WIDEST:
            print("\n".join(pictures.arrows(mdp, solution.policy)))
        out = options.out or Path(f"{Path(options.model).stem}.png")
        title = f"{Path(options.model).stem}, γ = {options.gamma:g}"  # noqa: RUF001  # the field's letter
        print(f"picture: {pictures.draw(mdp, solution.value, solution.policy, out, title=title)}")
    return 0 if solution.converged else 1


def _report(mdp: "MDP", solution: "Solution", seconds: float) -> None:
    width = float((solution.upper - solution.lower).max())
    state = "converged" if solution.converged else "did NOT converge"
    print(f"{solution.method}: {state} in {solution.iterations} iterations, {seconds * 1e3:.3g} ms")
    if not np.isfinite(solution.value).all():
        print("nothing is proven of some values: go on for longer, or take a gamma below 1")
        return
    least, most = solution.value.min(), solution.value.max()
    print(f"values in [{least:.10g}, {most:.10g}], bounds at most {width:.3g} apart")
    if mdp.initial is not None:
        low, middle, high = (float(mdp.initial @ x) for x in (solution.lower, solution.value, solution.upper))
        print(f"value at the start: {middle:.10g}, in [{low:.10g}, {high:.10g}]")


def _require_place(name: str, path: Path | None) -> None:
    """Raise unless a file can be written there: better before planning than after."""
    if path is None:
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"solve: {name} must be a file that can be written, got {path}")


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError(f"solve: options must be a JSON object, got {text}")
    return arguments


def model_of(name: str, options: dict[str, Any]) -> "MDP":
    """The process that a command names.

    Raises:
        ValueError: there is none of this name, or a file is given options.
    """
    from fastrl.tabular import MDP, zoo

    if name.endswith(".npz"):
        if options:
            raise ValueError(f"solve: options must be left out, {name} is a file")
        return MDP.load(name)
    public = {f.__name__: f for f in vars(zoo).values() if getattr(f, "__module__", "") == zoo.__name__}
    if name in public and not name.startswith("_"):
        return cast("Callable[..., MDP]", public[name])(**options)
    try:
        return MDP.from_gymnasium(_environment(name, options))
    except NotImplementedError as error:
        raise ValueError(f"solve: model must have finitely many states: {error}") from error


def _environment(env_id: str, options: dict[str, Any]) -> Any:
    import gymnasium

    from fastrl.envs import COMPILED, VectorEnv

    env_id = env_id.removeprefix("fastrl/")  # the same model, and Gymnasium's knows its grid
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the error says so as well
            env = gymnasium.make(env_id, **options)
    except gymnasium.error.Error as error:
        raise ValueError(f"solve: model must be an environment, a file or a process: {error}") from error
    except Exception as error:  # whatever an environment's constructor makes of them
        raise ValueError(
            f"solve: options must be such that {env_id} takes, got {options}: {error!r}"
        ) from error
    if hasattr(env.unwrapped, "P") or env_id not in COMPILED:
        return env
    return VectorEnv(env_id, **options)
