"""Two theorems on pairs of policies, as numbers that can be compared."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_unit
from fastrl.tabular._chain import (
    DIRECT_STATES,
    Policy,
    acting,
    chain_of,
    pair_probability,
    q_values,
    require_proper,
)
from fastrl.tabular._moments import sums
from fastrl.tabular.mdp import MDP
from fastrl.tabular.occupancy import occupancy, start_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PerformanceDifference:
    """Both sides of the performance-difference lemma; they agree but for rounding."""

    difference: float
    """J(π') - J(π), from the values of both."""
    expected_advantage: float
    """Σ x'(s, a) A(s, a): advantages of π, at the visits of π'."""
    advantage: Floats
    """[L]: A(s, a) = q_π(s, a) - v_π(s); 0 in terminal states."""


@dataclass(frozen=True, kw_only=True)
class PolicyImprovement:
    """Both sides of the policy improvement theorem."""

    value: Floats
    """[S]: v_π."""
    one_step: Floats
    """[S]: q_π(s, π'(s)), of one step by π' and π from then on."""
    new_value: Floats
    """[S]: v_π'."""

    def holds(self, tolerance: float = 1e-9) -> bool:
        """Whether, if ``one_step >= value`` in all states, ``new_value >= one_step`` in all."""
        premise = bool((self.one_step >= self.value - tolerance).all())
        return not premise or bool((self.new_value >= self.one_step - tolerance).all())


def performance_difference(
    mdp: MDP, policy: Policy, new_policy: Policy, gamma: float, *, initial: Any = None
) -> PerformanceDifference:
    """Both sides of J(π') - J(π) = Σ_{s, a} x_π'(s, a) A_π(s, a) (Kakade and Langford 2002, lemma 6.1).

    J is the expected return from the initial distribution, x' the discounted visits of
    :func:`~fastrl.tabular.occupancy.occupancy`, whose 1 - γ the lemma writes outside.

    Args:
        mdp: at most 2000 states.
        policy: π, int64 [S] actions or float64 [S, A] probabilities.
        new_policy: π', alike.
        gamma: in [0, 1]; with 1, both policies must end from every state.
        initial: float64 [S], or the one state that episodes begin in. None: the process's own.

    Raises:
        TypeError, ValueError: an argument that is none of these.
    """
    op = "performance_difference"
    start = start_of(op, mdp, initial)
    value, new_value = (_value(op, mdp, x, gamma) for x in (policy, new_policy))
    advantage = np.where(acting(mdp)[mdp.state], q_values(mdp, value, gamma) - value[mdp.state], 0.0)
    visits = occupancy(mdp, new_policy, gamma, initial=start).pair
    return PerformanceDifference(
        difference=float(start @ new_value - start @ value),
        expected_advantage=float(visits @ advantage),
        advantage=advantage,
    )


def policy_improvement(mdp: MDP, policy: Policy, new_policy: Policy, gamma: float) -> PolicyImprovement:
    """Both sides of: if q_π(s, π'(s)) >= v_π(s) for all s, then v_π'(s) >= v_π(s) for all s (Sutton and Barto
    2018, section 4.2); also v_π'(s) >= q_π(s, π'(s)), which its proof shows.

    Args and Raises: as :func:`performance_difference`.
    """
    op = "policy_improvement"
    value, new_value = (_value(op, mdp, x, gamma) for x in (policy, new_policy))
    q = np.where(acting(mdp)[mdp.state], q_values(mdp, value, gamma), 0.0)
    one_step = sums(mdp.state, pair_probability(op, mdp, new_policy) * q, mdp.num_states)
    return PolicyImprovement(value=value, one_step=one_step, new_value=new_value)


def _value(op: str, mdp: MDP, policy: Policy, gamma: float) -> Floats:
    """[S]: the policy's values, by a dense solve."""
    require_unit(op, "gamma", gamma)
    if mdp.num_states > DIRECT_STATES:
        raise ValueError(f"{op}: mdp must have at most {DIRECT_STATES} states, got {mdp.num_states}")
    chain = chain_of(mdp, pair_probability(op, mdp, policy))
    if gamma == 1:
        require_proper(op, chain, acting(mdp), np.ones(mdp.num_states, np.bool_))
    system = np.eye(mdp.num_states) - gamma * chain.dense()
    value: Floats = np.asarray(np.linalg.solve(system, chain.reward), np.float64)
    return value
