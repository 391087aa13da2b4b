"""Exact planning in finite Markov decision processes."""

from fastrl.tabular.average_reward import (
    AverageReward,
    PolicyGain,
    average_reward,
    evaluate_average_reward,
)
from fastrl.tabular.evaluation import Evaluation, evaluate
from fastrl.tabular.finite_horizon import FiniteHorizon, finite_horizon
from fastrl.tabular.improvement import (
    PerformanceDifference,
    PolicyImprovement,
    performance_difference,
    policy_improvement,
)
from fastrl.tabular.mdp import MDP
from fastrl.tabular.occupancy import Occupancy, occupancy
from fastrl.tabular.planners import solve
from fastrl.tabular.solution import Iteration, Solution

__all__ = [
    "MDP",
    "AverageReward",
    "Evaluation",
    "FiniteHorizon",
    "Iteration",
    "Occupancy",
    "PerformanceDifference",
    "PolicyGain",
    "PolicyImprovement",
    "Solution",
    "average_reward",
    "evaluate",
    "evaluate_average_reward",
    "finite_horizon",
    "occupancy",
    "performance_difference",
    "policy_improvement",
    "solve",
]
