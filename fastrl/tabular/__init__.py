"""Exact planning in finite Markov decision processes."""

from fastrl.tabular.evaluation import Evaluation, evaluate
from fastrl.tabular.mdp import MDP
from fastrl.tabular.planners import solve
from fastrl.tabular.solution import Iteration, Solution

__all__ = ["MDP", "Evaluation", "Iteration", "Solution", "evaluate", "solve"]
