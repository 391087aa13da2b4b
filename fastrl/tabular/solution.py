"""What planning gives: values with bounds, a policy, and how they were found."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import backup
from fastrl.tabular.bounds import error_of

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Iteration(NamedTuple):
    """What a planner tells its callback after each iteration, and keeps as its trace."""

    number: int
    """From 1."""
    seconds: float
    """Since planning began."""
    error: float
    """The values were within this of the optimal ones; infinite while nothing is proven."""
    switched: int
    """States whose greedy action changed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """Optimal values between certified bounds, and a policy that is greedy with respect to them."""

    mdp: "MDP"
    gamma: float
    """The discount."""
    value: Floats
    """[S]: the middle of the bounds; 0 in terminal states."""
    lower: Floats
    """[S]: V* is at least this, rounding errors included."""
    upper: Floats
    """[S]: V* is at most this."""
    choice: NDArray[np.int32]
    """[S]: which of its state's pairs the policy takes, -1 in terminal states."""
    method: str
    """How it was found."""
    iterations: int
    """Sweeps over all actions of all states."""
    trace: tuple[Iteration, ...]
    """One item an iteration."""
    converged: bool
    """Whether ``value`` is within the eps that was asked for."""

    @property
    def pair(self) -> Ints:
        """[S]: the pair that the policy takes, -1 in terminal states."""
        return np.where(self.choice >= 0, self.mdp.pair_offset[:-1] + self.choice, -1)

    @property
    def policy(self) -> Ints:
        """[S]: the action that the policy takes, -1 in terminal states."""
        pair = self.pair
        if not self.mdp.num_pairs:
            return pair
        return np.where(pair >= 0, self.mdp.action[np.maximum(pair, 0)], -1)

    @property
    def error(self) -> float:
        """``value`` is within this of V*."""
        return error_of(self.value, self.lower, self.upper)

    @cached_property
    def q(self) -> Floats:
        """[L]: q(s, a) = r(s, a) + γ · Σ weight · value, by one sweep; 0 in terminal states."""
        return backup(self.mdp, self.value, self.gamma)[2]

    @property
    def q_table(self) -> Floats:
        """[S, A]: q by state and action, -inf where a state lacks the action, 0 in terminal states."""
        table = np.full((self.mdp.num_states, self.mdp.num_actions), -np.inf)
        table[self.mdp.state, self.mdp.action] = self.q
        if self.mdp.terminal is not None:
            table[self.mdp.terminal] = 0
        return table

    def greedy(self, tolerance: float | None = None) -> NDArray[np.bool_]:
        """[L]: pairs within ``tolerance`` of their state's best; none of terminal states.

        Args:
            tolerance: in units of q; None: twice ``error``, so that no optimal action is missing.

        Raises:
            ValueError: it is negative.
        """
        if tolerance is None:
            tolerance = 2 * self.gamma * self.error + 1e-12 * float(np.abs(self.value).max(initial=0))
        if not tolerance >= 0:
            raise ValueError(f"greedy: tolerance must be >= 0, got {tolerance}")
        best = np.full(self.mdp.num_states, -np.inf)
        np.maximum.at(best, self.mdp.state, self.q)
        kept = self.q >= best[self.mdp.state] - tolerance
        if self.mdp.terminal is not None:
            kept &= ~self.mdp.terminal[self.mdp.state]
        return kept

    def save(self, path: str | Path) -> Path:
        """Write values, bounds, policy and q as arrays of an ``.npz`` file, without pickle, and missing
        folders; gives its path.
        """
        facts: dict[str, Any] = {"gamma": self.gamma, "method": self.method, "iterations": self.iterations}
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:  # a name would be given another ending
            np.savez_compressed(
                file,
                value=self.value,
                lower=self.lower,
                upper=self.upper,
                policy=self.policy,
                q=self.q,
                converged=self.converged,
                **facts,
            )
        return target
