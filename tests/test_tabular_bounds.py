"""Certified bounds against rational arithmetic, gamma and weights near 1, and where float64 ends."""

import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from _exact import assert_between, distance, optimal_value, policy_value
from _planners import METHODS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastrl.kernels.tabular import bellman
from fastrl.tabular import MDP, average_reward, evaluate, solve, zoo

ONE = np.ones((1, 1, 1))


@st.composite
def near_one(draw):
    """A small process whose rows sum to 1 but for 1e-8, with weights near 1, and a gamma near 1."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    states = draw(st.integers(1, 5))
    counts = rng.integers(1, 4, states)
    state, action = np.repeat(np.arange(states), counts), np.concatenate([np.arange(n) for n in counts])
    rows = np.zeros((len(state), states))
    for row in rows:
        to = rng.choice(states, rng.integers(1, states + 1), replace=False)
        row[to] = rng.random(len(to)) + 0.01
    rows /= rows.sum(axis=1, keepdims=True)
    gamma = draw(st.sampled_from([0.0, 0.9, 0.99, 0.9999, 1 - 1e-6, 1 - 1e-9]))
    if draw(st.booleans()):
        rows *= 1 + rng.uniform(-9e-9, 9e-9, (len(rows), 1))
    reward = rng.normal(size=len(state)) * 10.0 ** draw(st.sampled_from([0, 3, 12, 39, 200, -12, -42, -300]))
    if draw(st.booleans()):
        reward = np.abs(reward)
    matrix = sp.csr_array(rows)
    factor = rng.choice([1.0, 1.0, 1 - 1e-9, 1 - 9e-8, 1 - 1e-6, 0.5], matrix.nnz)
    if draw(st.booleans()):
        factor[:] = 1 - 1e-9
    discount = sp.csr_array((factor, matrix.indices, matrix.indptr), matrix.shape)
    terminal = rng.random(states) < 0.3 if draw(st.booleans()) else None
    dense = draw(st.booleans())
    mdp = MDP.from_pairs(
        matrix.toarray() if dense else matrix,
        reward,
        state=state,
        action=action,
        discount=draw(st.sampled_from([None, discount.toarray() if dense else discount])),
        terminal=terminal,
    )
    assume(gamma * bellman(mdp).mass[1] < 1 - 1e-10)
    return mdp, gamma, float(np.abs(reward).max()) * 10.0 ** draw(st.integers(-9, 1)), rng


@given(near_one(), st.sampled_from(METHODS))
@settings(max_examples=300)
def test_bounds_of_planners_hold_to_the_last_bit(case, method):
    mdp, gamma, eps, _ = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what does not get as far as eps
        found = solve(mdp, gamma, method=method, eps=eps, max_iter=2000)
    exact = optimal_value(mdp, gamma)
    assert_between(found.lower, exact, found.upper)
    assert distance(found.value, exact) <= found.error
    assert found.converged == (found.error <= eps)


@given(near_one(), st.sampled_from(["auto", "direct", "krylov", "iterative"]), st.booleans())
@settings(max_examples=300)
def test_bounds_of_evaluations_hold_to_the_last_bit(case, method, mixes):
    mdp, gamma, eps, rng = case
    policy = rng.random(mdp.num_pairs) if mixes else np.isin(np.arange(mdp.num_pairs), mdp.pair_offset)
    policy = policy / np.bincount(mdp.state, policy)[mdp.state]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate(mdp, policy, gamma, method=method, eps=eps)
    exact = policy_value(mdp, policy, gamma)
    assert_between(found.lower, exact, found.upper)
    if found.converged:
        assert distance(found.value, exact) <= eps


@pytest.mark.parametrize(
    ("reward", "gamma", "method", "eps"),
    [
        (873.7860921681016, 0.9999, "auto", 0.0087),
        (-527.121429508156, 1 - 1e-9, "policy_iteration", 5.2712e-4),
        (-1.1e12, 1 - 1e-7, "value_iteration", 1.0),
    ],
)
def test_weights_just_below_one(reward, gamma, method, eps):
    mdp = MDP.from_dense(ONE, np.array([[reward]]), discount=np.full((1, 1, 1), 1 - 1e-9))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = solve(mdp, gamma, method=method, eps=eps)
    assert_between(found.lower, optimal_value(mdp, gamma), found.upper)


@pytest.mark.parametrize("method", METHODS)
def test_an_action_is_not_passed_over_because_its_row_weighs_more(method):
    rows = np.array([[[1 + 9e-9], [1.0]]])
    mdp = MDP.from_dense(rows, np.array([[1, 1 + 1.04e-3]]), discount=np.array([[[1.0], [1 - 9.9e-8]]]))
    found = solve(mdp, 0.9999, method=method, eps=1e-3)
    assert found.policy.tolist() == [0]
    assert_between(found.lower, optimal_value(mdp, 0.9999), found.upper)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("gauss_seidel", "prioritized_sweeping")])
def test_values_are_shifted_by_what_rows_keep(method):
    """Weights lack nine times what gamma lacks of 1: a shift by gamma alone would be ten times too long."""
    rows, reward = mixing(actions=1)
    mdp = MDP.from_dense(rows, reward, discount=np.full(rows.shape, 1 - 9e-8))
    found = solve(mdp, 1 - 1e-8, method=method, eps=0.1, max_iter=2000)
    assert found.converged
    assert_between(found.lower, optimal_value(mdp, 1 - 1e-8), found.upper)


def mixing(states=5, actions=2):
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(states), size=(states, actions)), rng.normal(size=(states, actions))


@pytest.mark.parametrize("method", METHODS)
def test_overflow_is_told(method):
    rows, reward = mixing()
    for mdp in (MDP.from_dense(ONE, np.array([[1e306]])), MDP.from_dense(rows, np.abs(reward) * 1e306)):
        with pytest.raises(
            ValueError, match=r"values must stay below 1.8e\+308 .*, got more .*gamma = 0.999"
        ):
            solve(mdp, 0.999, method=method, max_iter=1000, eps=1e300)
    mdp = MDP.from_dense(rows, reward)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = solve(mdp, 0.9, method=method, value=np.array([1e308, -1e308, 0, 0, 0]), max_iter=100)
    except ValueError as error:
        assert "values must stay below" in str(error)  # noqa: PT017 - or it is right, which some methods are
    else:
        assert_between(found.lower, optimal_value(mdp, 0.9), found.upper)


@pytest.mark.parametrize("method", METHODS)
def test_changes_whose_reciprocal_overflows(method):
    rows, reward = mixing()
    mdp = MDP.from_dense(rows, reward * 1e-303)
    found = solve(mdp, 0.9, method=method, eps=1e-312)
    assert_between(found.lower, optimal_value(mdp, 0.9), found.upper)


def test_overflow_of_an_evaluation_is_told():
    mdp, policy = MDP.from_dense(ONE, np.array([[1e306]])), np.zeros(1, np.int64)
    for method in ("direct", "krylov", "iterative"):
        with pytest.raises(ValueError, match=r"evaluate: values must stay below 1.8e\+308"):
            evaluate(mdp, policy, 0.999, method=method)
    with pytest.raises(ValueError, match=r"values must stay below 1.8e\+308"):
        solve(mdp, 0.999, policy=policy)


@pytest.mark.parametrize("method", METHODS)
def test_less_than_rounding_is_not_waited_for(method):
    mdp = zoo.garnet(1000, 4, 5)
    with pytest.warns(RuntimeWarning, match="raise eps, rounding leaves little to gain"):
        found = solve(mdp, 0.99, method=method, eps=1e-16)
    assert found.iterations < 5000
    assert found.error < 1e-10


def test_an_evaluation_that_is_not_within_eps_warns():
    mdp = zoo.garnet(1000, 4, 5)
    for method in ("direct", "krylov", "iterative"):
        with pytest.warns(
            RuntimeWarning, match=r"evaluate: values are proven within .*, not within eps = 1e-16"
        ):
            found = evaluate(mdp, np.zeros(1000, np.int64), 0.99, method=method, eps=1e-16)
        assert not found.converged


def test_gamma_below_one_with_rows_above_it():
    rows = np.array([[[0.5, 0.5 + 5e-9]], [[0.5, 0.5]]])
    mdp, gamma = MDP.from_dense(rows, np.array([[1.0], [0.0]])), 1 - 1e-9
    rule = "gamma must be 1, or below 1 - 1e-12 when multiplied by any row's sum of weights, got 0.999999999 and .*1.000000005"
    with pytest.raises(ValueError, match=f"solve: {rule}"):
        solve(mdp, gamma)
    with pytest.raises(ValueError, match=f"evaluate: {rule}"):
        evaluate(mdp, np.zeros(2, np.int64), gamma)


@pytest.mark.parametrize("stop", [True, np.bool_(True), np.array(5) > 3])
def test_any_true_of_a_callback_stops(stop):
    mdp = zoo.garnet(500, 4, 5)
    with pytest.warns(RuntimeWarning, match="stopped after 2 iterations"):
        found = solve(mdp, 0.99, callback=lambda x: stop if x.number == 2 else np.bool_(False))
    assert len(found.trace) == 2


def test_krylov_where_it_has_no_next_step():
    rows = np.zeros((3, 1, 3))
    rows[:, 0, 0] = 1
    mdp = MDP.from_dense(rows, np.array([[2.0], [1], [1]]))  # the residual is orthogonal to its image
    found = evaluate(mdp, np.zeros(3, np.int64), 0.75, method="krylov")
    assert found.converged
    np.testing.assert_allclose(found.value, [8, 7, 7])


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.floats(-1, 1), st.sampled_from([1.0, 1e9, 1e-200, 1e300]))
@settings(max_examples=100)
def test_bounds_of_gains_hold_to_the_last_bit(go, come, other, scale):
    rows, reward = np.array([[[1 - go, go]], [[come, 1 - come]]]), np.array([[1.0], [other]]) * scale
    found = average_reward(MDP.from_dense(rows, reward), eps=1e-17 * scale, max_iter=2000)
    away, back = (
        Fraction(row[k]) / sum(map(Fraction, row)) for row, k in zip(rows[:, 0], (1, 0), strict=True)
    )
    gain = (back * Fraction(reward[0, 0]) + away * Fraction(reward[1, 0])) / (away + back)
    assert Fraction(found.lower) <= gain <= Fraction(found.upper)
    assert found.upper - found.lower <= 1e-12 * scale


def test_a_gain_that_rounding_hides_is_not_waited_for():
    mdp = zoo.garnet(60, 3, 4)
    found = average_reward(replace(mdp, reward=mdp.reward * 1e9))
    assert found.iterations < 1000
    assert not found.converged
    assert found.upper - found.lower < 1e-4
    with pytest.raises(ValueError, match=r"average_reward: relative values must stay below 1.8e\+308"):
        average_reward(MDP.from_dense(np.eye(2).reshape(2, 1, 2), np.array([1e308, -1e308])), step=1.0)
