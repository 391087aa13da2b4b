"""Occupancies of many states: Krylov's method, and where it fails."""

from dataclasses import replace

import numpy as np
import pytest

from fastrl.tabular import occupancy, zoo


@pytest.mark.parametrize("gamma", [0.999, 1.0])
def test_occupancy_of_many_states(gamma):
    """Where a sum over steps is at 1 % after 1000 of them."""
    mdp = zoo.garnet(20_000, 1, 5, seed=3)
    ends = np.ones(mdp.probability.size)
    ends[mdp.next_state < 4] = 0
    mdp, policy = replace(mdp, discount=ends), np.zeros(20_000, np.int64)
    found = occupancy(mdp, policy, gamma, initial=5)
    assert found.iterations == 0
    assert found.error <= 1e-9 * found.state.sum()
    arrivals = np.zeros(20_000)
    np.add.at(arrivals, mdp.next_state, mdp.weight * np.repeat(found.pair, np.diff(mdp.offset)))
    np.testing.assert_allclose(found.state, (np.arange(20_000) == 5) + gamma * arrivals, atol=1e-10)
    loose = occupancy(mdp, policy, gamma, initial=5, eps=0.1)
    assert loose.converged
    assert 1e-6 < abs(loose.state - found.state).sum() <= loose.error


def test_occupancy_along_a_line():
    """Krylov's residuals do not fall until the end; a sum over steps is exact."""
    maze = zoo.maze(["S" + "." * 150] + ["." * 151] * 149 + ["." * 150 + "G"])
    policy = np.where(np.arange(maze.num_states) % 151 == 150, 1, 2)  # right, then down
    found = occupancy(maze, policy, 1.0)
    assert found.converged
    assert found.state.sum() == pytest.approx(301, abs=1e-9)
