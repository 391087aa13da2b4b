"""Visits of policies whose numbers are known, and of many states."""

from dataclasses import replace

import numpy as np
import pytest

from fastrl.tabular import occupancy, zoo


def test_occupancy_of_a_walk():
    """Expected visits of a symmetric walk on 0..4 from the middle, and where it ends."""
    found = occupancy(zoo.random_walk(3), np.zeros(5, np.int64), 1.0)
    np.testing.assert_allclose(found.state, [0.5, 1, 2, 1, 0.5], atol=1e-14)
    assert found.state @ np.array([0, 1, 1, 1, 0]) == pytest.approx(4)
    summed = occupancy(zoo.random_walk(3), np.zeros(5, np.int64), 1.0, method="iterative")
    np.testing.assert_allclose(summed.state, found.state, atol=1e-10)
    short = occupancy(zoo.random_walk(19), np.zeros(21, np.int64), 1.0, method="iterative", max_iter=20)
    assert not short.converged
    assert short.error == np.inf


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


def test_occupancy_without_an_end():
    up = np.zeros(16, np.int64)  # state 1 bumps into the wall for ever; from 8, state 0 is reached
    assert occupancy(zoo.gridworld(), up, 1.0, initial=8).state.sum() == 3
    with pytest.raises(ValueError, match=r"policy must end .* got one that never ends from state 1"):
        occupancy(zoo.gridworld(), up, 1.0, initial=9)
