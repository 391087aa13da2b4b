"""What all planners share: the checks of their arguments, the clock, the trace and the end."""

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_array, require_positive, require_unit
from fastrl.kernels.tabular import Bellman, bellman
from fastrl.tabular.solution import Iteration, Solution

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
Callback = Callable[[Iteration], Any]


class Stopped(Exception):
    """The iterations are used up, or the callback wants no more."""


class Run:
    """One call of a planner."""

    def __init__(
        self,
        mdp: "MDP",
        gamma: float,
        eps: float,
        max_iter: int,
        num_threads: int,
        callback: Callback | None,
    ) -> None:
        require_unit("solve", "gamma", gamma)
        require_positive("solve", "eps", eps)
        if not max_iter >= 1:
            raise ValueError(f"solve: max_iter must be >= 1, got {max_iter}")
        if not num_threads >= 1:
            raise ValueError(f"solve: num_threads must be >= 1, got {num_threads}")
        self.mdp, self.gamma, self.eps, self.max_iter = mdp, float(gamma), float(eps), max_iter
        self.num_threads, self.callback = num_threads, callback
        self.of: Bellman = bellman(mdp, num_threads)
        self.iterations = 0.0
        self.best: tuple[Floats, Floats, NDArray[np.int32]] | None = None
        self.trace: list[Iteration] = []
        self.start = perf_counter()

    @property
    def left(self) -> int:
        """Iterations that may still be done."""
        return max(0, int(self.max_iter - self.iterations))

    def note(self, error: float, switched: int) -> None:
        """Keep an iteration's facts.

        Raises:
            Stopped: there shall be no further one.
        """
        self.trace.append(Iteration(len(self.trace) + 1, perf_counter() - self.start, error, switched))
        stopped = self.callback is not None and self.callback(self.trace[-1]) is True
        if error > self.eps and (stopped or self.left == 0):
            raise Stopped

    def solution(self, lower: Floats, upper: Floats, choice: NDArray[np.int32], method: str) -> Solution:
        """The answer; warns if it is not within eps."""
        if self.mdp.terminal is not None:
            lower[self.mdp.terminal] = upper[self.mdp.terminal] = 0
        with np.errstate(invalid="ignore"):
            middle = np.where(np.isinf(upper), lower, np.where(np.isinf(lower), upper, (lower + upper) / 2))
        return self.between(lower, middle, upper, float((upper - lower).max()), choice, method)

    def between(
        self,
        lower: Floats,
        middle: Floats,
        upper: Floats,
        widest: float,
        choice: NDArray[np.int32],
        method: str,
    ) -> Solution:
        """The answer, where the middle of the bounds and their widest gap are known."""
        converged = widest <= 2 * self.eps
        if not converged:
            warnings.warn(
                f"solve: stopped after {len(self.trace)} iterations, values are proven within "
                f"{widest / 2:.3g}, not within eps = {self.eps:g}: raise max_iter or eps",
                RuntimeWarning,
                stacklevel=5,
            )
        return Solution(
            mdp=self.mdp,
            gamma=self.gamma,
            value=middle,
            lower=lower,
            upper=upper,
            choice=choice,
            method=method,
            iterations=int(np.ceil(self.iterations)),
            trace=tuple(self.trace),
            converged=converged,
        )


def first_value(mdp: "MDP", value: Any) -> Floats | None:
    """The warm start, terminal states' values 0.

    Raises:
        TypeError, ValueError: not float64 [S], or not finite.
    """
    if value is None:
        return None
    require_array("solve", "value", value, np.float64, (mdp.num_states,), "[S]")
    if not np.isfinite(value).all():
        raise ValueError(f"solve: value must be finite, got {value[~np.isfinite(value)][0]}")
    return np.ascontiguousarray(value if mdp.terminal is None else np.where(mdp.terminal, 0.0, value))
