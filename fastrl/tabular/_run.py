"""What all planners share: the checks of their arguments, the clock, the trace and the end."""

import warnings
from collections.abc import Callable
from math import inf, isnan
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_array, require_positive, require_unit
from fastrl.kernels.tabular import Bellman, bellman
from fastrl.tabular.bounds import error_of, is_total, margins, middle
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
        self.mdp, self.gamma, self.eps = mdp, float(gamma), float(eps)
        self.max_iter = int(min(max_iter, 2**53))  # infinity among them
        self.num_threads, self.callback = num_threads, callback
        self.of: Bellman = bellman(mdp, num_threads)
        self.total = is_total("solve", self.of, self.gamma)
        self.iterations = 0.0
        self.least_error, self.stale = inf, 0
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
            ValueError: the error is NaN, as it is once values are too large.
        """
        if isnan(error):
            raise self.overflow()
        if error < self.least_error:
            self.least_error, self.stale = error, 0
        else:
            self.stale += 1
        self.trace.append(Iteration(len(self.trace) + 1, perf_counter() - self.start, error, switched))
        answer = self.callback is not None and self.callback(self.trace[-1])
        stopped = isinstance(answer, (bool, np.bool_)) and bool(answer)
        if self.callback is not None:
            bellman(self.mdp)  # raises if it has put states out of range
        if error > self.eps and (stopped or self.left == 0):
            raise Stopped

    def is_rounding(self, error: float, value_size: float) -> bool:
        """Whether it may be rounding alone that is left; of total rewards that is not known."""
        return not self.total and error <= 4 * margins(self.of, 0.0, 0.0, self.gamma, value_size).error

    def overflow(self) -> ValueError:
        """What to raise where values are not finite."""
        reward = max(abs(x) for x in self.of.reward_range)
        return ValueError(
            f"solve: values must stay below {np.finfo(np.float64).max:.2g} on the way, "
            f"got more from rewards up to {reward:g}, gamma = {self.gamma:.15g} and the values to begin with"
        )

    def solution(self, lower: Floats, upper: Floats, choice: NDArray[np.int32], method: str) -> Solution:
        """The answer; warns if it is not within eps."""
        if self.mdp.terminal is not None:
            lower[self.mdp.terminal] = upper[self.mdp.terminal] = 0
        value = middle(lower, upper)
        error = error_of(value, lower, upper)
        converged = error <= self.eps
        if not converged:
            rounded = self.is_rounding(error, float(np.abs(value).max()))
            warnings.warn(
                f"solve: stopped after {len(self.trace)} iterations, values are proven within "
                f"{error:.3g}, not within eps = {self.eps:g}: "
                f"raise {'eps, rounding leaves little to gain' if rounded else 'max_iter or eps'}",
                RuntimeWarning,
                stacklevel=4,
            )
        return Solution(
            mdp=self.mdp,
            gamma=self.gamma,
            value=value,
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
