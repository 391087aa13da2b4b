"""Average reward a step of processes that go on for ever."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_positive
from fastrl.kernels.tabular import bellman
from fastrl.tabular._chain import DIRECT_STATES, Chain, Policy, chain_of
from fastrl.tabular._check import row_sums
from fastrl.tabular._process import of_policy, probabilities
from fastrl.tabular.bounds import UNIT, Blur, rounding
from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
STALE = 10
"""Sweeps without progress, where it is rounding that is left, until it is given up."""


@dataclass(frozen=True, kw_only=True)
class AverageReward:
    """What :func:`average_reward` found."""

    gain: float
    """The middle of the bounds."""
    lower: float
    """The policy's gain, from any state, is at least this."""
    upper: float
    """No policy's gain, from any state, is more."""
    relative_value: Floats
    """[S]: h, of which g + h = max_a r + P h up to ``upper - lower``; 0 in state 0."""
    policy: NDArray[np.int64]
    """[S]: greedy for h."""
    unichain: bool
    """Whether the policy's chain has one recurrent class."""
    iterations: int
    """Sweeps done."""
    converged: bool
    """Whether ``upper - lower <= eps``. If not, the optimal gain may depend on where one begins, or
    ``eps`` is less than rounding leaves."""


@dataclass(frozen=True, kw_only=True)
class PolicyGain:
    """What :func:`evaluate_average_reward` found."""

    gain: float
    """Average reward a step, in the long run."""
    bias: Floats
    """[S]: expected total of reward - gain when beginning here; its mean under ``stationary`` is 0."""
    stationary: Floats
    """[S]: the share of time spent in each state, in the long run."""


def average_reward(
    mdp: MDP, *, eps: float = 1e-8, max_iter: int = 100_000, step: float = 0.5, num_threads: int = 1
) -> AverageReward:
    """The largest average reward a step, by relative value iteration (Puterman 1994, section 8.5.5)::

        d = max_a r(s, a) + Σ_s' p(s' | s, a) h(s') - h(s)
        h <- h + step · d, less its value in state 0
        min_s d <= gain of the greedy policy <= optimal gain <= max_s d

    A ``step`` below 1 is the aperiodicity transform (section 8.5.4): it makes every chain aperiodic and
    changes neither gains nor policies. The bounds hold for every process, of whatever chains; they are
    sure to meet, but for rounding, which they include, where every policy has one recurrent class, or where
    each state can be reached from each.

    Args:
        mdp: no terminal states, no discounts. Rows are read as if they summed to 1 exactly.
        eps: how far apart the bounds may be, > 0.
        max_iter: sweeps at most, >= 1.
        step: in (0, 1].
        num_threads: threads at most, >= 1.

    Raises:
        ValueError: an argument that is none of these.
    """
    require_positive("average_reward", "eps", eps)
    require_positive("average_reward", "max_iter", max_iter)
    if not 0 < step <= 1:
        raise ValueError(f"average_reward: step must be in (0, 1], got {step}")
    if num_threads < 1:
        raise ValueError(f"average_reward: num_threads must be >= 1, got {num_threads}")
    mdp = _continuing("average_reward", mdp)
    h, best = np.zeros(mdp.num_states), np.empty(mdp.num_states)
    choice = np.full(mdp.num_states, -1, np.int32)
    sweeps = bellman(mdp)
    iterations, narrowest, stale = 0, np.inf, 0
    blur = Blur(sweeps.longest + 1)  # rows were divided by their sums
    for iterations in range(1, max_iter + 1):
        sweeps.backup(h, 1.0, best, choice, None, num_threads)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = best - h
        low, high = float(difference.min()), float(difference.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("average_reward: relative values must stay below 1.8e+308 on the way, got more")
        slack = rounding(sweeps, float(np.abs(h).max()), blur) + 4 * UNIT * max(abs(low), abs(high))
        lower, upper = low - slack, high + slack
        stale = 0 if upper - lower < narrowest else stale + 1
        narrowest = min(narrowest, upper - lower)
        rounded = stale >= STALE and upper - lower <= 8 * slack
        if upper - lower <= eps or rounded or iterations == max_iter:
            break
        with np.errstate(over="ignore", invalid="ignore"):
            h = h + step * difference
            h -= h[0]
    policy = mdp.action[mdp.pair_offset[:-1] + choice]
    chain = chain_of(of_policy(mdp, probabilities("average_reward", mdp, policy)))
    return AverageReward(
        gain=lower / 2 + upper / 2,
        lower=lower,
        upper=upper,
        relative_value=h,
        policy=policy,
        unichain=_is_unichain(chain),
        iterations=iterations,
        converged=upper - lower <= eps,
    )


def evaluate_average_reward(mdp: MDP, policy: Policy) -> PolicyGain:
    """Gain, bias and stationary distribution of a policy, by dense solves (Puterman 1994, section 8.2)::

        g + h = r + P h,  d · h = 0,  where  d = Pᵀ d,  Σ d = 1

    Args:
        mdp: at most 2000 states, none terminal, no discounts. Rows are read as if they summed to 1 exactly.
        policy: integers [S], actions; or probabilities, float64 [S, A] or [L].

    Raises:
        TypeError, ValueError: an argument that is none of these; a policy with several recurrent classes,
            whose gain depends on where one begins.
    """
    op = "evaluate_average_reward"
    mdp = _continuing(op, mdp)
    if mdp.num_states > DIRECT_STATES:
        raise ValueError(f"{op}: mdp must have at most {DIRECT_STATES} states, got {mdp.num_states}")
    chain = chain_of(of_policy(mdp, probabilities(op, mdp, policy)))
    if not _is_unichain(chain):
        raise ValueError(f"{op}: policy must have one recurrent class, got one with several")
    # With one recurrent class I - P has rank S - 1; I - P + 1 dᵀ is regular, and makes d · h = 0.
    laplacian = np.eye(mdp.num_states) - chain.dense()
    balance = laplacian.T.copy()
    balance[0] = 1.0  # the balance of one state follows from the others': the sum takes its place
    stationary = np.linalg.solve(balance, np.eye(1, mdp.num_states)[0])
    stationary = np.maximum(stationary, 0.0)  # rounding of transient states
    stationary /= stationary.sum()
    gain = float(stationary @ chain.reward)
    bias: Floats = np.asarray(np.linalg.solve(laplacian + stationary, chain.reward - gain), np.float64)
    return PolicyGain(gain=gain, bias=bias, stationary=stationary)


def _continuing(op: str, mdp: MDP) -> MDP:
    """The process with rows that sum to 1 as exactly as floats can.

    Raises:
        ValueError: an episode may end.
    """
    if mdp.terminal is not None and mdp.terminal.any():
        raise ValueError(f"{op}: mdp must go on for ever, got terminal state {int(mdp.terminal.argmax())}")
    if mdp.discount is not None and (mdp.discount[mdp.probability > 0] != 1).any():
        raise ValueError(f"{op}: mdp must go on for ever, got outcomes with a discount below 1")
    totals = row_sums(mdp, mdp.probability)
    if (totals == 1).all():
        return mdp
    if mdp.offset is None:
        return replace(mdp, probability=mdp.probability / totals[:, None])
    return replace(mdp, probability=mdp.probability / np.repeat(totals, np.diff(mdp.offset)))


def _is_unichain(chain: Chain) -> bool:
    """Whether some state is reached from all states.

    The root of the last of searches that together find all states, against the edges, is such a one if
    there is any.
    """
    found = root = np.zeros(chain.num_states, np.bool_)
    while not found.all():
        root = np.arange(chain.num_states) == found.argmin()
        found = chain.reached(root, reverse=True, known=found)
    return bool(chain.reached(root, reverse=True).all())
