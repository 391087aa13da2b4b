"""Exact planning in finite Markov decision processes."""

from fastrl.tabular.mdp import MDP

__all__ = ["MDP"]
