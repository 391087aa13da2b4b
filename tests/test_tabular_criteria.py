"""Finite horizon, average reward, occupancy, improvement: against loops and enumeration on random processes."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastrl.tabular import (
    MDP,
    average_reward,
    evaluate_average_reward,
    finite_horizon,
    occupancy,
    performance_difference,
    policy_improvement,
    zoo,
)


@dataclass
class Process:
    """A process and what it was made from: W is probability times discount, [L, S]."""

    mdp: MDP
    weight: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    rng: np.random.Generator

    @property
    def acting(self):
        return np.flatnonzero(~self.terminal)

    def pairs(self, s):
        return range(self.mdp.pair_offset[s], self.mdp.pair_offset[s + 1])

    def policy(self):
        """Random probabilities [S, A], some of them 0; nonsense in terminal states."""
        table = np.full((self.mdp.num_states, self.mdp.num_actions), 7.0)
        for s in self.acting:
            mass = self.rng.exponential(size=len(self.pairs(s))) * (self.rng.random(len(self.pairs(s))) < 0.7)
            mass[0] += mass.sum() == 0
            table[s] = 0
            table[s, self.mdp.action[list(self.pairs(s))]] = mass / mass.sum()
        return table

    def chain(self, table):
        """W [S, S] and r [S] of a policy."""
        states = self.mdp.num_states
        weight, reward = np.zeros((states, states)), np.zeros(states)
        for s in self.acting:
            for pair in self.pairs(s):
                share = table[s, self.mdp.action[pair]]
                weight[s] += share * self.weight[pair]
                reward[s] += share * self.reward[pair]
        return weight, reward


@st.composite
def processes(draw, *, endless=False):
    """States with 1 to 3 actions in any order; terminal states with and without pairs; discounts."""
    states = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    terminal = rng.random(states) < (0 if endless else draw(st.sampled_from([0, 0.3, 0.6])))
    count = rng.integers(1, 4, size=states) * ~(terminal & (rng.random(states) < 0.5))
    state = np.repeat(np.arange(states), count)
    action = np.concatenate([[0], *(rng.permutation(4)[:n] for n in count)])[1:].astype(int)
    shape = (len(state), states)
    probability = rng.exponential(size=shape) * (rng.random(shape) < draw(st.floats(0.2, 1)))
    probability[np.arange(len(state)), rng.integers(states, size=len(state))] += 0.1
    probability /= probability.sum(axis=1, keepdims=True)
    reward = rng.normal(size=len(state))
    reward[terminal[state]] = np.nan  # they mean nothing
    discounted = not endless and draw(st.booleans())
    factor = np.where(rng.random(shape) < 0.6, 1.0, rng.choice([0.0, 0.5], size=shape))
    options = {"state": state, "action": action, "terminal": terminal}
    sparse = draw(st.booleans())
    matrix = scipy.sparse.csr_array(probability) if sparse else probability
    if discounted and sparse:
        rows, columns = np.nonzero(probability)
        options["discount"] = scipy.sparse.csr_array(
            (factor[rows, columns], matrix.indices, matrix.indptr), matrix.shape
        )
    elif discounted:
        options["discount"] = factor
    mdp = MDP.from_pairs(matrix, reward, **options)
    assert mdp.is_dense != sparse
    weight = probability * factor if discounted else probability
    return Process(mdp, weight, reward, terminal, rng)


def exact_value(process, table, gamma):
    weight, reward = process.chain(table)
    return np.linalg.solve(np.eye(len(reward)) - gamma * weight, reward)


@given(processes(), st.integers(0, 4), st.sampled_from([0.0, 0.7, 1.0]))
@settings(max_examples=80)
def test_finite_horizon_is_backward_induction(process, horizon, gamma):
    mdp = process.mdp
    final = np.where(process.terminal, 0.0, process.rng.normal(size=mdp.num_states))
    found = finite_horizon(mdp, horizon, gamma, final_value=final)
    assert found.value.shape == (horizon + 1, mdp.num_states)
    np.testing.assert_array_equal(found.value[horizon], final)
    for t in range(horizon):
        for s in range(mdp.num_states):
            if process.terminal[s]:
                assert (found.value[t, s], found.policy[t, s]) == (0, -1)
                continue
            q = {
                mdp.action[pair]: process.reward[pair] + gamma * process.weight[pair] @ found.value[t + 1]
                for pair in process.pairs(s)
            }
            assert found.value[t, s] == pytest.approx(max(q.values()), abs=1e-12)
            assert q[found.policy[t, s]] == pytest.approx(max(q.values()), abs=1e-12)


def test_finite_horizon_by_hand():
    """Two steps of the gambler: betting all is right at both, and the horizon binds."""
    found = finite_horizon(zoo.gamblers_problem(goal=4), 2)
    np.testing.assert_allclose(found.value[1, :4], [0, 0, 0.4, 0.4], atol=1e-15)
    np.testing.assert_allclose(found.value[0, :4], [0, 0.16, 0.4, 0.4 + 0.6 * 0.4], atol=1e-15)
    np.testing.assert_array_equal(found.policy[:, 2], [2, 2])
    np.testing.assert_array_equal(found.policy[:, [0, 4]], -1)
    assert found.policy[0, 1] == 1


def test_first_of_equal_actions():
    mdp = MDP.from_pairs(
        np.ones((3, 1)), np.array([0.0, 1, 1]), state=np.zeros(3, int), action=np.array([2, 1, 0])
    )
    assert finite_horizon(mdp, 1).policy[0, 0] == 1, "the first in the process's own order"


@given(processes(endless=True))
@settings(max_examples=60)
def test_gain_of_a_policy(process):
    table = process.policy()
    weight, reward = process.chain(table)
    power = np.linalg.matrix_power((weight + np.eye(len(reward))) / 2, 2**14)
    assume(np.ptp(power, axis=0).max() < 1e-9)  # one recurrent class, mixed
    found = evaluate_average_reward(process.mdp, table)
    np.testing.assert_allclose(found.stationary, power[0], atol=1e-9)
    np.testing.assert_allclose(found.gain + found.bias, reward + weight @ found.bias, atol=1e-9)
    assert found.gain == pytest.approx(power[0] @ reward, abs=1e-9)
    assert found.stationary @ found.bias == pytest.approx(0, abs=1e-9)


@given(processes(endless=True), st.sampled_from([0.3, 0.5, 1.0]))
@settings(max_examples=60)
def test_average_reward_is_the_best_of_all_policies(process, step):
    mdp = process.mdp
    gains = []
    for actions in product(*(mdp.action[list(process.pairs(s))] for s in range(mdp.num_states))):
        try:
            gains.append(evaluate_average_reward(mdp, np.array(actions)).gain)
        except ValueError:
            assume(False)
    found = average_reward(mdp, eps=1e-9, step=step)
    assume(found.converged or step < 1)  # without the transform, a periodic chain goes on and on
    assert found.converged
    assert found.unichain
    assert found.upper - found.lower <= 1e-9
    assert found.lower - 1e-12 <= max(gains) <= found.upper + 1e-12
    assert evaluate_average_reward(mdp, found.policy).gain >= found.lower - 1e-12
    assert found.relative_value[0] == 0
    best = evaluate_average_reward(mdp, found.policy).bias
    np.testing.assert_allclose(found.relative_value, best - best[0], atol=1e-4)


def test_periodic_chains_need_the_transform():
    cycle = MDP.from_dense(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([1.0, 3.0]))
    assert not average_reward(cycle, step=1.0, max_iter=500).converged
    found = average_reward(cycle)
    assert found.converged
    assert found.gain == pytest.approx(2, rel=1e-15)
    np.testing.assert_allclose(found.relative_value, [0, 1], atol=1e-8)
    exact = evaluate_average_reward(cycle, np.zeros(2, np.int64))
    np.testing.assert_allclose(exact.bias, [-0.5, 0.5], atol=1e-15)
    np.testing.assert_allclose(exact.stationary, 0.5)


def test_several_recurrent_classes_are_told():
    apart = MDP.from_dense(np.eye(3).reshape(3, 1, 3), np.array([1.0, 5.0, 2.0]))
    found = average_reward(apart, max_iter=100)
    assert (found.lower, found.upper) == pytest.approx((1, 5), rel=1e-14)
    assert found.lower <= 1
    assert found.upper >= 5
    assert (found.converged, found.unichain, found.iterations) == (False, False, 100)
    with pytest.raises(ValueError, match="policy must have one recurrent class"):
        evaluate_average_reward(apart, np.zeros(3, np.int64))


def test_communicating_but_not_unichain_still_converges():
    """To stay in either state is a class of its own; the better one can always be gone to."""
    stay_or_go = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    found = average_reward(MDP.from_dense(stay_or_go, np.array([[1.0, 0.0], [2.0, 0.0]])))
    assert found.converged
    assert found.gain == pytest.approx(2)
    np.testing.assert_array_equal(found.policy, [1, 0])


def test_average_reward_of_jacks_car_rental_and_garnets():
    """The discounted optimum times 1 - γ goes to the gain (Puterman 1994, corollary 8.2.5)."""
    for mdp in (zoo.jacks_car_rental(max_cars=4, max_moves=2), zoo.garnet(60, 3, 4)):
        found = average_reward(mdp)
        assert found.converged
        value = np.zeros(mdp.num_states)
        gamma = 1 - 1e-7
        table = np.eye(mdp.num_actions)[found.policy]
        share = table[mdp.state, mdp.action]
        dense = np.zeros((mdp.num_pairs, mdp.num_states))
        for pair in range(mdp.num_pairs):
            states, probability = mdp.row(pair)
            dense[pair, states] = probability
        used = share == 1
        value = np.linalg.solve(np.eye(mdp.num_states) - gamma * dense[used], mdp.reward[used])
        np.testing.assert_allclose((1 - gamma) * value, found.gain, rtol=1e-4, atol=1e-4)


@given(processes(), st.sampled_from([0.0, 0.8, 0.99]))
@settings(max_examples=80)
def test_occupancy_balances_and_prices_the_policy(process, gamma):
    mdp, table = process.mdp, process.policy()
    start = process.rng.dirichlet(np.ones(mdp.num_states))
    weight, _ = process.chain(table)
    expected, mass = np.zeros(mdp.num_states), start
    for _ in range(4000):
        expected, mass = expected + mass, gamma * mass @ weight
    direct = occupancy(mdp, table, gamma, initial=start, method="direct")
    summed, krylov = (occupancy(mdp, table, gamma, initial=start, method=m) for m in ("iterative", "krylov"))
    for found in (summed, krylov):
        assert found.converged
        assert found.error <= 1e-10
        assert abs(direct.state - found.state).sum() <= found.error + 1e-11
    for found in (direct, summed, krylov):
        np.testing.assert_allclose(found.state, expected, atol=1e-9)
        assert found.pair @ np.nan_to_num(mdp.reward) == pytest.approx(
            start @ exact_value(process, table, gamma), abs=1e-8
        )
        np.testing.assert_allclose(
            np.bincount(mdp.state, found.pair, mdp.num_states), np.where(process.terminal, 0, found.state)
        )
    rounding = 1e-13 * direct.state.sum()
    assert (direct.state - summed.state).sum() <= summed.error + rounding
    early = occupancy(mdp, table, gamma, initial=start, method="iterative", eps=0.5)
    assert -rounding <= (direct.state - early.state).sum() <= early.error + rounding
    if not process.terminal.any() and mdp.discount is None:
        assert (1 - gamma) * direct.state.sum() == pytest.approx(1)


def test_episodes_may_end_by_outcomes_alone():
    ends = np.array([False, True])
    mdp = MDP.from_outcomes(
        [0, 0], [0, 0], [0, 0], np.ones(2), np.array([0.75, 0.25]), terminated=ends, initial=0
    )
    for method in ("direct", "krylov", "iterative"):
        np.testing.assert_allclose(occupancy(mdp, np.zeros(1, int), 1.0, method=method).state, [4])
    with pytest.raises(ValueError, match="got outcomes with a discount below 1"):
        average_reward(mdp)


@given(processes(), st.sampled_from([0.0, 0.9]))
@settings(max_examples=80)
def test_performance_difference_lemma(process, gamma):
    mdp, old, new = process.mdp, process.policy(), process.policy()
    start = process.rng.dirichlet(np.ones(mdp.num_states))
    found = performance_difference(mdp, old, new, gamma, initial=start)
    expected = start @ (exact_value(process, new, gamma) - exact_value(process, old, gamma))
    assert found.difference == pytest.approx(expected, abs=1e-10)
    assert found.expected_advantage == pytest.approx(expected, abs=1e-10)
    means = np.bincount(mdp.state, found.advantage * old[mdp.state, mdp.action], mdp.num_states)
    np.testing.assert_allclose(means, 0, atol=1e-10)


@given(processes(), st.sampled_from([0.0, 0.9]))
@settings(max_examples=80)
def test_policy_improvement_theorem(process, gamma):
    mdp, old = process.mdp, process.policy()
    value = exact_value(process, old, gamma)
    better = old.copy()
    for s in process.acting:
        pairs = list(process.pairs(s))
        q = np.nan_to_num(process.reward[pairs]) + gamma * process.weight[pairs] @ value
        better[s] = 0
        better[s, mdp.action[pairs[int(q.argmax())]]] = 1
    found = policy_improvement(mdp, old, better, gamma)
    np.testing.assert_allclose(found.value, value, atol=1e-10)
    assert (found.one_step >= found.value - 1e-10).all()
    assert (found.new_value >= found.one_step - 1e-10).all()
    assert found.holds()
    worse = policy_improvement(mdp, better, old, gamma)
    assert worse.holds()
    assert not replace(found, new_value=found.one_step - 1).holds()


def test_improvement_at_gamma_one():
    mdp, table = zoo.gridworld(), np.full((16, 4), 0.25)
    greedy = finite_horizon(mdp, 10).policy[0]
    found = policy_improvement(mdp, table, greedy, 1.0)
    np.testing.assert_allclose(found.value[1:4], [-14, -20, -22])
    np.testing.assert_allclose(found.new_value[1:4], [-1, -2, -3])
    lemma = performance_difference(mdp, table, greedy, 1.0, initial=3)
    assert lemma.difference == pytest.approx(19)
    assert lemma.expected_advantage == pytest.approx(19)
    with pytest.raises(ValueError, match="gamma must be < 1: the policy never ends"):
        policy_improvement(mdp, table, np.zeros(16, np.int64), 1.0)


GRID, TABLE = zoo.gridworld(), np.full((16, 4), 0.25)
BAD = {
    "horizon must be an integer >= 0, got int -1": lambda: finite_horizon(GRID, -1),
    r"gamma must be in \[0, 1\], got nan": lambda: finite_horizon(GRID, 1, np.nan),
    "final_value must be 0 in terminal states, got 1.0 in state 0": lambda: finite_horizon(
        GRID, 1, final_value=np.ones(16)
    ),
    "final_value must be finite, got nan in state 1": lambda: finite_horizon(
        GRID, 1, final_value=np.where(np.arange(16) == 1, np.nan, 0.0)
    ),
    "average_reward: mdp must go on for ever, got terminal state 0": lambda: average_reward(GRID),
    r"average_reward: step must be in \(0, 1\], got 0": lambda: average_reward(zoo.forest(), step=0),
    "average_reward: num_threads must be >= 1, got 0": lambda: average_reward(zoo.forest(), num_threads=0),
    "finite_horizon: num_threads must be >= 1, got 0": lambda: finite_horizon(GRID, 1, num_threads=0),
    "average_reward: eps must be > 0, got 0": lambda: average_reward(zoo.forest(), eps=0),
    r"policy must be integers \[S\] = \[16\], or floats .*, got complex128": lambda: occupancy(
        GRID, TABLE.astype(complex), 0.9, initial=1
    ),
    r"\[S, A\] = \[16, 4\], got float64 \[4, 16\]": lambda: occupancy(
        GRID, TABLE.T.copy(), 0.9, initial=1
    ),
    r"policy must be integers \[S\] = \[16\], .*, got int64 \[3\]": lambda: occupancy(
        GRID, np.zeros(3, np.int64), 0.9, initial=1
    ),
    "policy must take an action of state 1's, got 4": lambda: occupancy(
        GRID, np.full(16, 4), 0.9, initial=1
    ),
    "policy must be >= 0 and sum to 1, got 2.0 in state 1": lambda: occupancy(
        GRID, 2 * TABLE, 0.9, initial=1
    ),
    "occupancy: policy must be >= 0 and sum to 1, got .* in state 1": lambda: occupancy(
        GRID, np.tile([0.5, 0.5, -0.5, 0.5], (16, 1)), 0.9, initial=1
    ),
    "occupancy: initial must be given": lambda: occupancy(GRID, TABLE, 0.9),
    "occupancy: method must be one of auto, direct, krylov, iterative, got 'lu'": lambda: occupancy(
        GRID, TABLE, 0.9, initial=1, method="lu"
    ),
    "mdp must have at most 2000 states, got 2002": lambda: occupancy(
        zoo.random_walk(2000), np.zeros(2002, np.int64), 0.9, method="direct"
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_raises_one_clear_error(message):
    with pytest.raises((TypeError, ValueError), match=message):
        BAD[message]()
