"""Exact planning in finite Markov decision processes."""

from fastrl.tabular.average_reward import (
    AverageReward,
    PolicyGain,
    average_reward,
    evaluate_average_reward,
)
from fastrl.tabular.finite_horizon import FiniteHorizon, finite_horizon
from fastrl.tabular.improvement import (
    PerformanceDifference,
    PolicyImprovement,
    performance_difference,
    policy_improvement,
)
from fastrl.tabular.mdp import MDP
from fastrl.tabular.occupancy import Occupancy, occupancy

__all__ = [
    "MDP",
    "AverageReward",
    "FiniteHorizon",
    "Occupancy",
    "PerformanceDifference",
    "PolicyGain",
    "PolicyImprovement",
    "average_reward",
    "evaluate_average_reward",
    "finite_horizon",
    "occupancy",
    "performance_difference",
    "policy_improvement",
]
