"""Total reward without discount: bounds that hold, and sweeps that need no contraction."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import Bellman, bellman
from fastrl.tabular._check import row_sums
from fastrl.tabular._folded import fold, require_finite
from fastrl.tabular._process import Process, of_pairs, of_policy
from fastrl.tabular.bounds import Bounds, rounding
from fastrl.tabular.evaluation import ending_value

if TYPE_CHECKING:
    from fastrl.tabular._run import Run
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
MOST, STUCK = 50, 10
"""Policies at most on the way to the longest, and how many may bring nothing before rounding is to blame."""
MARGIN = 1.1
POLICY_SWEEPS, SOON = 20, 50
TOLERANCES = (1e-7, 1e-9, 1e-11, 1e-13)
"""How far from the best an action may be, relative to values, to count among those that may be optimal."""


class Total:
    """A process to plan in with γ = 1, as :func:`~fastrl.tabular._folded.fold` makes it.

    Every policy of it that need not end loses without bound, so that V* is the one solution of v = T v, and
    what is at least its own backup is at least V*.

    Raises:
        ValueError: values are not finite.

    Source: Bertsekas and Tsitsiklis 1991, An analysis of stochastic shortest path problems.
    """

    def __init__(self, mdp: "MDP") -> None:
        self.mdp = mdp
        self.folded = fold(mdp)
        require_finite(self.folded)
        self.process = self.folded.process
        self.of = bellman(self.process)
        self.ends = np.zeros(self.process.num_states, np.bool_)
        if self.process.terminal is not None:
            self.ends |= self.process.terminal
        leads = row_sums(self.process, self.process.weight) > 0
        self.over = np.bincount(self.process.state, leads, self.process.num_states) == 0
        self.steps: Floats | None = None

    def first_value(self, start: Floats | None) -> Floats:
        """Where to begin, one value a state of the folded process."""
        value = np.zeros(self.process.num_states)
        if start is not None:
            value[self.folded.state[::-1]] = start[::-1]
        return value

    def auto(self, run: "Run", value: Floats, tolerance: float, pessimistic: bool) -> float:
        """By component if that is done soon, else policy iteration."""
        most = max(1, min(run.left, SOON))
        _, done, converged = self.of.solve_components(value, 1.0, tolerance, most, pessimistic)
        if not converged and run.left > done:
            done += self.policy_iteration(run, value, tolerance, pessimistic)
        return done

    def value_iteration(self, run: "Run", value: Floats, tolerance: float, _pessimistic: bool) -> float:
        """Sweeps over all actions until none changes a value by more; how many."""
        return self._sweep(run, value, tolerance, 0)

    def modified_policy_iteration(
        self, run: "Run", value: Floats, tolerance: float, _pessimistic: bool
    ) -> float:
        """With sweeps of the greedy policy between."""
        return self._sweep(run, value, tolerance, POLICY_SWEEPS)

    def _sweep(self, run: "Run", value: Floats, tolerance: float, of_policies: int) -> float:
        next_value, choice = np.empty_like(value), np.full(len(value), -1, np.int32)
        sweeps, most = 0, max(1, run.left)
        while sweeps < most:
            sweeps += 1
            low, high, _ = self.of.backup(value, 1.0, next_value, choice, None, run.num_threads)
            value[:] = next_value
            if max(-low, high) <= tolerance:
                break
            if of_policies:
                greedy = bellman(of_policy(self.process, _taken(self.process, choice)))
                unused = np.full(len(value), -1, np.int32)
                for _ in range(of_policies):
                    greedy.backup(value, 1.0, next_value, unused, None, run.num_threads)
                    value[:] = next_value
        return float(sweeps)

    def policy_iteration(self, run: "Run", value: Floats, tolerance: float, _pessimistic: bool) -> float:
        """Howard's, from a policy that ends: the greedy one if it does."""
        choice = np.full(len(value), -1, np.int32)
        self.of.backup(value, 1.0, np.empty_like(value), choice, None, run.num_threads)
        if self._lasts(_taken(self.process, choice) > 0):
            choice = self._ending()
        return _howard(self.process, self.of, value, choice, tolerance, max(1, run.left), run.num_threads)

    def _lasts(self, pairs: NDArray[np.bool_]) -> bool:
        """Whether one can go on with these pairs for ever."""
        kept = (pairs & self.folded.lasting).astype(np.uint8)
        return bool(self.of.end_components(kept).max() >= 0)

    def _ending(self) -> NDArray[np.int32]:
        """Choices by which every state ends."""
        out = np.flatnonzero(~self.folded.lasting)
        out = out[~self.ends[self.process.state[out]]]
        ends = self.ends.copy()
        ends[self.process.state[out]] = True
        choice = self.of.toward(ends, np.ones(self.process.num_pairs, np.bool_))
        choice[self.process.state[out]] = out - self.process.pair_offset[self.process.state[out]]
        return choice

    def certify(self, value: Floats) -> Bounds:
        """Bounds on V* and greedy choices, by state of the original process.

        With h >= 1 + P h for all actions that may be optimal: if T_π v >= v - κ, then V_π >= v - κ h; and if
        T u < u everywhere, then V* <= u, for which u = v + κ h is tried. Infinite, where this does not hold
        (yet).

        Source: Bertsekas 2012, Dynamic Programming and Optimal Control, volume 2, propositions 3.2.1 and
        3.2.2.
        """
        of, states = self.of, self.process.num_states
        next_value, choice = np.empty(states), np.full(states, -1, np.int32)
        q = np.zeros(self.process.num_pairs)
        of.backup(value, 1.0, next_value, choice, q)
        change = np.where(self.ends, 0.0, next_value - value)
        slack = 4 * rounding(of, float(np.abs(value).max()))
        steps = self._longest(q, next_value)
        lower, upper = np.full(states, -np.inf), np.full(states, np.inf)
        if steps is not None:
            lower = value + (min(0.0, float(change.min())) - 2 * slack) * steps
            above = value + (2 * max(0.0, float(change.max())) + 2 * slack) * steps
            checked = np.empty(states)
            of.backup(above, 1.0, checked, np.full(states, -1, np.int32), None)
            if ((checked <= above - slack / 2) | self.ends).all():
                upper = above
        lower[self.over] = upper[self.over] = next_value[self.over]  # rewards, without rounding
        lower[self.ends] = upper[self.ends] = 0
        return lower[self.folded.state], upper[self.folded.state], self._unfolded(choice)

    def _longest(self, q: Floats, best: Floats) -> Floats | None:
        """[S]: h >= 1 + P h for every pair that may be optimal, or None where it seems that these need not
        end.
        """
        for tolerance in TOLERANCES:
            near = q >= (best - tolerance * (1 + np.abs(best)))[self.process.state]
            near &= ~self.ends[self.process.state]
            if self._lasts(near):
                continue
            process = of_pairs(self.process, near, np.ones(len(near)))
            of = bellman(process)
            if self.steps is None or not _exceeds(of, self.steps):
                steps = np.zeros(len(best)) if self.steps is None else self.steps / MARGIN
                none = np.zeros(len(best), np.int32)
                _howard(
                    process,
                    of,
                    steps,
                    np.where(self.ends, -1, none).astype(np.int32),
                    1e-3,
                    MOST,
                    1,
                    "krylov",
                )
                self.steps = steps * MARGIN
            return self.steps if _exceeds(of, self.steps) else None
        return None

    def _unfolded(self, choice: NDArray[np.int32]) -> NDArray[np.int32]:
        """[S]: choices in the original process: within a part, towards where the best pair leaves it."""
        folded, mdp = self.folded, self.mdp
        if folded.process is mdp:
            return choice
        acting = choice >= 0
        taken = np.full(len(choice), -1)
        taken[acting] = folded.pair[self.process.pair_offset[:-1][acting] + choice[acting]]
        leaving = np.zeros(mdp.num_states, np.bool_)
        leaving[mdp.state[taken[taken >= 0]]] = True
        found = bellman(mdp).toward(leaving, folded.inside.astype(np.bool_))
        stays = np.flatnonzero(~leaving & (found < 0))
        pairs = np.flatnonzero(folded.inside)
        first = pairs[np.minimum(np.searchsorted(mdp.state[pairs], stays), len(pairs) - 1)]
        goes = mdp.state[first] == stays
        found[stays[goes]] = (first - mdp.pair_offset[stays])[goes]
        chosen = taken[folded.state[leaving]]
        found[leaving] = chosen - mdp.pair_offset[:-1][leaving]
        return found


def _howard(
    process: "Process | MDP",
    of: Bellman,
    value: Floats,
    choice: NDArray[np.int32],
    tolerance: float,
    most: int,
    num_threads: int,
    method: str = "auto",
) -> float:
    """Policy iteration in place from choices that end, until no backup gains more; how many sweeps."""
    next_value, gains = np.empty_like(value), [np.inf] * STUCK
    for _ in range(most):
        chain = of_policy(process, _taken(process, choice))
        value[:] = ending_value(chain, bellman(chain), tolerance / 2, value, method, most_sweeps=1000)
        del chain  # before the next is made
        if not np.isfinite(value).all():
            return float(most)
        high, switched = of.backup(value, 1.0, next_value, choice, None, num_threads)[1:]
        gains.append(high)
        if high <= tolerance or switched == 0 or not min(gains[-STUCK:]) < min(gains[:-STUCK]):
            break
    return float(len(gains) - STUCK)


def _taken(process: "Process | MDP", choice: NDArray[np.int32]) -> Floats:
    """[L]: 1 for the pairs chosen."""
    taken, acting = np.zeros(process.num_pairs), choice >= 0
    taken[process.pair_offset[:-1][acting] + choice[acting]] = 1
    return taken


def _exceeds(of: Bellman, steps: Floats) -> bool:
    """Whether h >= 1 + P h, the rewards being 1."""
    unused = np.empty_like(steps), np.full(len(steps), -1, np.int32)
    return bool(of.backup(steps, 1.0, *unused, None)[1] <= 0 and np.isfinite(steps).all())
