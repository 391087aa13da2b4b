"""Two theorems on pairs of policies, as numbers that can be compared."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import backup
from fastrl.tabular._chain import Policy
from fastrl.tabular._moments import sums
from fastrl.tabular._process import probabilities
from fastrl.tabular.evaluation import evaluate
from fastrl.tabular.mdp import MDP
from fastrl.tabular.occupancy import occupancy, start_of

Floats = NDArray[np.float64]
EPS = 1e-10
"""How far off values may be, which both sides inherit."""


@dataclass(frozen=True, kw_only=True)
class PerformanceDifference:
    """Both sides of the performance-difference lemma; they agree but for the errors of values, 1e-10."""

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
        mdp: S states, L pairs.
        policy: π, integers [S], actions; or probabilities, float64 [S, A] or [L].
        new_policy: π', alike.
        gamma: in [0, 1]; with 1, both policies must end from every state.
        initial: float64 [S], or the one state that episodes begin in. None: the process's own.

    Raises:
        TypeError, ValueError: an argument that is none of these.
    """
    start = start_of("performance_difference", mdp, initial)
    value, new_value = (evaluate(mdp, x, gamma, eps=EPS).value for x in (policy, new_policy))
    advantage = backup(mdp, value, gamma)[2] - value[mdp.state]
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
    value, new_value = (evaluate(mdp, x, gamma, eps=EPS).value for x in (policy, new_policy))
    taken = probabilities("policy_improvement", mdp, new_policy)
    one_step = sums(mdp.state, taken * backup(mdp, value, gamma)[2], mdp.num_states)
    return PolicyImprovement(value=value, one_step=one_step, new_value=new_value)
