"""Printed and exact figures of the textbooks' processes and Gymnasium's, to their digits."""

import gymnasium
import numpy as np
import pytest

from fastrl.envs import VectorEnv
from fastrl.tabular import MDP, evaluate, finite_horizon, occupancy, solve, zoo

EPS = 1e-10


def plan(mdp, gamma):
    """Optimal values and a policy, after a look at the bounds."""
    found = solve(mdp, gamma, eps=EPS)
    assert found.converged
    assert (found.lower <= found.value).all()
    assert (found.value <= found.upper).all()
    assert (found.upper - found.lower).max() <= 2 * EPS
    return found.value, found.policy


def value_of(mdp, policy, gamma):
    found = evaluate(mdp, policy, gamma, eps=EPS)
    assert found.converged
    return found.value


def uniform(mdp):
    """The policy that takes all actions of a state alike."""
    table = np.zeros((mdp.num_states, mdp.num_actions))
    table[mdp.state, mdp.action] = 1 / np.maximum(np.diff(mdp.pair_offset), 1)[mdp.state]
    return table


def folded(mdp):
    """A process whose one action follows the uniform policy."""
    rows = np.zeros((mdp.num_states, mdp.num_states))
    reward = np.zeros(mdp.num_states)
    for pair, s in enumerate(mdp.state):
        states, probability = mdp.row(pair)
        count = mdp.pair_offset[s + 1] - mdp.pair_offset[s]
        rows[s, states] += probability / count
        reward[s] += mdp.reward[pair] / count
    kept = np.flatnonzero(reward != 0)
    return MDP.from_pairs(
        rows[kept], reward[kept], state=kept, action=np.zeros(len(kept), int), terminal=mdp.terminal
    )


def test_gridworld_under_the_random_policy():
    """Sutton and Barto (2018), figure 4.1: sweeps from 0 are values of so many steps."""
    mdp = zoo.gridworld()
    exact = np.array([0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0])
    np.testing.assert_allclose(value_of(mdp, uniform(mdp), 1.0), exact, rtol=1e-12)
    sweeps = finite_horizon(folded(mdp), 10).value[::-1]
    assert np.unique(sweeps[1]).tolist() == [-1, 0]
    assert np.unique(sweeps[2]).tolist() == [-2, -1.75, 0]
    np.testing.assert_array_equal(sweeps[3, 1:4], [-2.4375, -2.9375, -3])
    np.testing.assert_array_equal(sweeps[3, 5:7], [-2.875, -3])
    np.testing.assert_allclose(sweeps[10, 1:4], [-6.138, -8.3524, -8.9673], atol=5e-5)
    np.testing.assert_allclose(sweeps[10, 5:7], [-7.7374, -8.4278], atol=5e-5)


def test_gridworld_with_jumps():
    """Sutton and Barto (2018), figures 3.2 and 3.5: gamma 0.9."""
    mdp = zoo.gridworld_with_jumps()
    random = value_of(mdp, uniform(mdp), 0.9)
    np.testing.assert_allclose(random[:5], [3.3090, 8.7893, 4.4276, 5.3224, 1.4922], atol=5e-5)
    np.testing.assert_allclose(random[20:], [-1.8577, -1.3452, -1.2293, -1.4229, -1.9752], atol=5e-5)
    best, _ = plan(mdp, 0.9)
    np.testing.assert_allclose(best[:5], [21.9775, 24.4194, 21.9775, 19.4194, 17.4775], atol=5e-5)
    np.testing.assert_allclose(best[20:], [14.4194, 16.0216, 14.4194, 12.9775, 11.6797], atol=5e-5)


METHODS = ("value_iteration", "modified_policy_iteration", "policy_iteration", "gauss_seidel", "topological")


@pytest.mark.parametrize("method", METHODS)
def test_gridworld_with_jumps_by_every_method(method):
    """One closed component with long cycles: no method may go round in them."""
    found = solve(zoo.gridworld_with_jumps(), 0.9, method=method, eps=1e-8)
    assert found.converged
    np.testing.assert_allclose(found.value[:2], [21.977485284, 24.419428094], atol=2e-8)


def test_gamblers_problem():
    """Sutton and Barto (2018), example 4.3."""
    value, policy = plan(zoo.gamblers_problem(), 1.0)
    np.testing.assert_allclose(value[[25, 50, 75]], [0.16, 0.4, 0.64], atol=EPS)
    figures = [0.0021, 0.0577, 0.2465, 0.4865, 0.7697, 0.9643]
    np.testing.assert_allclose(value[[1, 12, 37, 62, 87, 99]], figures, atol=5e-5)
    assert policy[50] == 50


@pytest.fixture(scope="module")
def car_rental():
    return zoo.jacks_car_rental()


def test_car_rental(car_rental):
    """Sutton and Barto (2018), example 4.2, with whole Poisson distributions: cutting them at 11 gives 406.010
    and 617.819 in the corners, and a constant number of returns 416.457 and 626.554.
    """
    value, policy = plan(car_rental, 0.9)
    corners = value.reshape(21, 21)[[0, 10, 20], [0, 10, 20]]
    np.testing.assert_allclose(corners, [421.4140634, 574.948324, 636.9896068], atol=1e-6)
    moves = policy - 5
    assert (moves.min(), moves.max()) == (-4, 5)


def test_car_rental_is_stable_after_five_improvements(car_rental):
    """The last of the five confirms the policy. From no moves at all, as in figure 4.2."""
    none = np.full(441, 5)
    found = solve(car_rental, 0.9, method="policy_iteration", policy=none, eps=1e-8)
    assert found.iterations == 5
    np.testing.assert_array_equal(found.policy, plan(car_rental, 0.9)[1])
    assert [step.switched > 0 for step in found.trace[1:]] == [True] * 3 + [False]


@pytest.mark.parametrize(("moves", "steps"), [(4, 15), (8, 7), (9, 7)])
def test_windy_gridworld(moves, steps):
    """Sutton and Barto (2018), example 6.5 and exercise 6.9."""
    mdp = zoo.windy_gridworld(moves=moves)
    assert mdp.initial @ plan(mdp, 1.0)[0] == pytest.approx(-steps, abs=EPS)


def test_dyna_maze():
    """Sutton and Barto (2018), example 8.1: the shortest way, and how long a random walk takes."""
    mdp = zoo.maze(step_reward=-1.0, goal_reward=-1.0)
    assert mdp.initial @ plan(mdp, 1.0)[0] == pytest.approx(-14, abs=EPS)
    visits = occupancy(mdp, uniform(mdp), 1.0).pair
    assert visits.sum() == pytest.approx(868.7254, abs=5e-5)
    assert mdp.initial @ plan(zoo.maze(), 0.95)[0] == pytest.approx(0.95**13, rel=1e-12)


FROZEN_LAKE = [
    ("4x4", 0.9, 0.0688909049),
    ("4x4", 0.99, 0.5420259320),
    ("4x4", 0.999, 0.7855332567),
    ("4x4", 1.0, 14 / 17),
    ("8x8", 0.9, 0.0064111143),
    ("8x8", 0.99, 0.4146403618),
    ("8x8", 0.999, 0.8926354949),
    ("8x8", 1.0, 1.0),
]


@pytest.mark.parametrize(("layout", "gamma", "figure"), FROZEN_LAKE)
def test_frozen_lake(layout, gamma, figure):
    env = gymnasium.make("FrozenLake-v1", map_name=layout)
    mdp = MDP.from_gymnasium(env)
    assert plan(mdp, gamma)[0][0] == pytest.approx(figure, abs=1e-9)
    if gamma == 1:
        assert finite_horizon(mdp, 5000).value[0, 0] == pytest.approx(figure, abs=1e-9)


@pytest.mark.parametrize("gamma", [0.9, 0.99, 0.999, 1.0])
def test_frozen_lake_without_ice(gamma):
    mdp = MDP.from_gymnasium(VectorEnv("FrozenLake-v1", is_slippery=False))
    assert mdp.initial @ plan(mdp, gamma)[0] == pytest.approx(gamma**5, rel=1e-12)


TAXI = [(0.9, -1.2633230990), (0.99, 6.3274643149), (0.999, 7.7598981158), (1.0, 7.93)]


@pytest.mark.parametrize(("gamma", "figure"), TAXI)
def test_taxi(gamma, figure):
    mdp = MDP.from_gymnasium(VectorEnv("Taxi-v4"))
    value, _ = plan(mdp, gamma)
    assert mdp.initial @ value == pytest.approx(figure, abs=1e-9)
    assert value.max() == pytest.approx(20)
    steps = finite_horizon(mdp, 18, gamma).value
    np.testing.assert_allclose(steps[0], value, atol=1e-11)
    assert np.abs(steps[1] - value).max() > 1, "18 sweeps are needed"


CLIFF = [(0.9, -7.4581341717), (0.99, -12.2478977), (0.999, -12.9222852863), (1.0, -13)]


@pytest.mark.parametrize(("gamma", "figure"), CLIFF)
def test_cliff_walking(gamma, figure):
    mdp = MDP.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    assert mdp.initial @ plan(mdp, gamma)[0] == pytest.approx(figure, abs=1e-7)


def test_forest():
    """MDPToolbox's example. Its documentation prints what its Gauss-Seidel iteration stopped early at: the
    span of the last change is small long before the values are right, and no constant is added back.
    """
    mdp = zoo.forest()
    value, policy = plan(mdp, 0.9)
    np.testing.assert_allclose(value, [26.244, 29.484, 33.484], rtol=1e-12)
    np.testing.assert_array_equal(policy, [0, 0, 0])
    early, change = np.zeros(3), np.inf
    stopping = False
    while not stopping:  # one more sweep than the rule asks for, by which it reads off the policy
        stopping = change < 0.01 * (1 - 0.9) / 0.9
        before = early.copy()
        for s in range(3):
            pairs = range(mdp.pair_offset[s], mdp.pair_offset[s + 1])
            outcomes = [mdp.row(pair) for pair in pairs]
            early[s] = max(
                mdp.reward[pair] + 0.9 * p @ early[n] for pair, (n, p) in zip(pairs, outcomes, strict=True)
            )
        change = np.ptp(early - before)
    printed = [25.5833879767579, 28.830654635546928, 32.83065463554693]
    np.testing.assert_allclose(early, printed, rtol=1e-12)


def test_putermans_two_states():
    """Puterman (1994), section 3.1, with a discount of 0.95."""
    mdp = MDP.from_outcomes(
        [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 1, 1], np.array([5.0, 5, 10, -1]), np.array([0.5, 0.5, 1, 1])
    )
    value, policy = plan(mdp, 0.95)
    np.testing.assert_allclose(value, [-8.57142857, -20], atol=5e-9)
    np.testing.assert_array_equal(policy, [0, 0])
