"""Planners: all agree on random processes, and their bounds contain the reference every time."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from _exact import assert_between, distance, optimal_value, policy_value
from _planners import METHODS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastrl import _core
from fastrl.kernels.tabular import PolicyIterator, backup, bellman, reference
from fastrl.tabular import MDP, evaluate, solve


def random_mdp(seed, states=12, dense=False, wide=False, terminals=True, discounts=False, scale=1.0):
    """Ragged actions and rows, self-loops, closed parts, unreachable and terminal states."""
    rng = np.random.default_rng(seed)
    terminal = rng.random(states) < (0.2 if terminals else 0)
    counts = rng.integers(1, 5, states)
    state = np.repeat(np.arange(states), counts)
    action = np.concatenate([np.sort(rng.choice(6, n, replace=False)) for n in counts])
    pairs = len(state)
    reach = rng.integers(1, states + 1)  # parts of the state space that do not mix
    rows = np.zeros((pairs, states))
    for pair in range(pairs):
        kind = rng.integers(4)
        targets = rng.integers(0, states, rng.integers(1, 5))
        if kind == 0:
            targets = np.minimum(state[pair] // reach * reach + targets % reach, states - 1)
        if kind == 1:
            targets = np.array([state[pair]])
        rows[pair, targets] += rng.random(len(targets)) + 0.05
    rows /= rows.sum(axis=1, keepdims=True)
    reward = scale * rng.normal(size=pairs) * (rng.random(pairs) < 0.7)
    matrix = rows if dense else sp.csr_array(rows)
    if wide and not dense:
        matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    discount = None
    if discounts:
        factor = rng.choice([0.0, 0.5, 1.0], rows.shape)
        discount = (
            factor if dense else sp.csr_array((factor[rows > 0], matrix.indices, matrix.indptr), rows.shape)
        )
    return MDP.from_pairs(matrix, reward, state=state, action=action, terminal=terminal, discount=discount)


def assert_right(solution, mdp, gamma, eps):
    exact = optimal_value(mdp, gamma)
    assert_between(solution.lower, exact, solution.upper)
    assert solution.converged
    assert distance(solution.value, exact) <= solution.error <= eps
    alive = np.ones(mdp.num_states, bool) if mdp.terminal is None else ~mdp.terminal
    assert (solution.policy[~alive] == -1).all()
    assert (solution.policy[alive] >= 0).all()
    got = evaluate(mdp, np.where(alive, solution.policy, 0), gamma, eps=eps).upper
    lost = 2 * eps * (1 + gamma / (1 - gamma))
    assert all(x >= v - lost for x, v in zip(got, exact[0], strict=True))


@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 12, 40]),
    st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.9999]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(METHODS),
)
@settings(max_examples=60)
def test_planners_agree_with_the_reference(seed, states, gamma, dense, terminals, discounts, method):
    mdp = random_mdp(seed, states, dense, seed % 2 == 0, terminals, discounts)
    eps = 1e-6
    if gamma == 0.9999 and method not in ("auto", "topological", "policy_iteration"):
        method = "auto"  # parts that do not mix take these too long
    solution = solve(mdp, gamma, method=method, eps=eps)
    assert_right(solution, mdp, gamma, eps)
    assert all(x.seconds <= y.seconds for x, y in pairwise(solution.trace))


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=50)
def test_backup_is_the_reference(seed, dense, discounts):
    mdp = random_mdp(seed, 15, dense, seed % 2 == 0, True, discounts)
    value = np.random.default_rng(seed).normal(size=15)
    for ours, expected in zip(backup(mdp, value, 0.9), reference.backup(mdp, value, 0.9), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dense", [False, True])
def test_every_instruction_set_gives_the_same_bits(dense):
    before = _core.isa()
    mdp = random_mdp(3, 150, dense, terminals=False)
    answers = []
    for name in ("baseline", "avx2", "avx512"):
        if _core.isa_supported(name):
            _core.set_isa(name)
            answers += [solve(mdp, 0.99, method=m).value for m in METHODS[:3]]
    _core.set_isa(before)
    for k in range(3):
        for other in answers[k::3]:
            np.testing.assert_array_equal(answers[k], other)


def test_threads_give_the_same_bits():
    mdp = garnet(20_000)
    one, two = (solve(mdp, 0.99, num_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.value, two.value)
    assert one.method == "auto: modified policy iteration"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_state_that_mixes_slowly_does_not_hold_up_the_others(threads):
    states = 20_000
    mdp = garnet(states, 1, slow=[7])
    iterator = PolicyIterator(bellman(mdp), 0.99, None, threads)
    low, high, _ = iterator.improve()
    sweeps, reduced = iterator.evaluate(1e-2, 1000)
    assert sweeps < 30  # 100 where all wait for the one that shrinks by 0.96
    assert reduced <= 1e-2
    after_low, after_high, _ = iterator.improve()
    assert after_high - after_low <= 2e-2 * (high - low)


def garnet(states, actions=4, branches=5, terminal=None, slow=()):
    rng = np.random.default_rng(0)
    pairs = states * actions
    offset = np.arange(pairs + 1) * branches
    to = np.sort(rng.integers(0, states, (pairs, branches)), axis=1)
    matrix = sp.csr_array(
        (rng.dirichlet(np.ones(branches), pairs).ravel(), to.ravel(), offset), (pairs, states)
    )
    matrix.sum_duplicates()
    for s in slow:  # mostly leads to itself
        row = slice(matrix.indptr[s], matrix.indptr[s + 1])
        matrix.data[row] *= 0.03
        matrix.indices[row.start], matrix.data[row.start] = (
            s,
            1 - matrix.data[row].sum() + matrix.data[row.start],
        )
    state = np.repeat(np.arange(states), actions)
    action = np.tile(np.arange(actions), states)
    return MDP.from_pairs(matrix, rng.random(pairs), state=state, action=action, terminal=terminal)


@pytest.mark.parametrize("terminal", [None, [7], range(50)])
def test_all_methods_agree_where_states_mix(terminal):
    mdp = garnet(2000, terminal=terminal)
    answers = [solve(mdp, 0.99, method=m) for m in METHODS]
    for answer in answers:
        assert answer.converged
        assert (answer.lower <= answers[0].upper).all()
        assert (answers[0].lower <= answer.upper).all()
        assert np.abs(answer.value - answers[0].value).max() <= 2e-6


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_terminal_states(method):
    mdp = MDP.from_functions(2, lambda s: [], lambda s, a: [], terminal=np.ones(2, bool))
    solution = solve(mdp, 0.9, method=method)
    assert solution.converged
    assert solution.value.tolist() == [0, 0]
    assert solution.policy.tolist() == [-1, -1]


def test_huge_and_tiny_rewards():
    for scale in (1e-30, 1e30):
        mdp = random_mdp(5, 30, scale=scale)
        assert_right(solve(mdp, 0.9, eps=1e-6 * scale), mdp, 0.9, 1e-6 * scale)


def test_warm_starts():
    mdp = garnet(2000)
    cold = solve(mdp, 0.99)
    warm = solve(mdp, 0.99, value=cold.value)
    assert warm.iterations == 1
    by_policy = solve(mdp, 0.99, policy=cold.policy)
    assert by_policy.iterations <= 2
    np.testing.assert_allclose(by_policy.value, cold.value, atol=2e-6)


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=50)
def test_prioritized_sweeping_leaves_no_bellman_error(seed, dense, discounts):
    mdp = random_mdp(seed, 30, dense, seed % 2 == 0, True, discounts)
    value = np.zeros(30)
    sweeps, converged = bellman(mdp).prioritized_sweeping(value, 0.95, 1e-3, 1000)
    assert converged
    error = np.abs(reference.backup(mdp, value, 0.95)[0] - value).max()
    assert error <= 1e-3
    again, _ = bellman(mdp).prioritized_sweeping(value, 0.95, 1e-3, 1000)
    assert again == 1 <= sweeps  # to look for errors takes a backup a state


def test_prioritized_sweeping_backs_up_what_a_change_reaches():
    n = 2000
    state = np.arange(n)
    steps = sp.csr_array((np.ones(n), np.maximum(state - 1, 0), np.arange(n + 1)), (n, n))
    first, second = (
        MDP.from_pairs(steps, reward, state=state, action=0 * state, terminal=[0])
        for reward in (-np.ones(n), np.where(state == n - 10, -2.0, -1.0))
    )
    known = solve(first, 0.999).value
    moved = solve(second, 0.999, method="prioritized_sweeping", value=known)
    assert moved.iterations <= 3  # ten states, and two looks at all of them
    assert_right(moved, second, 0.999, 1e-6)


def test_prioritized_sweeping_says_that_a_total_is_not_finite():
    endless = MDP.from_functions(2, lambda s: [0], lambda s, a: [(1.0, s, 1.0)])
    with pytest.raises(ValueError, match=r"solve: .*state 0"):
        solve(endless, 1.0, method="prioritized_sweeping")


def test_max_iter_returns_what_is_proven():
    mdp = garnet(500)
    expected = solve(mdp, 0.99).value
    for method in METHODS:
        with pytest.warns(RuntimeWarning, match="not within eps"):
            short = solve(mdp, 0.99, method=method, max_iter=1, eps=1e-9)
        assert not short.converged
        assert (short.lower <= expected + 1e-6).all()
        assert (expected <= short.upper + 1e-6).all()


def test_a_callback_sees_each_iteration_and_can_stop():
    mdp = garnet(500)
    seen = []
    solution = solve(mdp, 0.99, callback=seen.append)
    assert tuple(seen) == solution.trace
    assert [x.number for x in seen] == list(range(1, len(seen) + 1))
    with pytest.warns(RuntimeWarning):
        assert len(solve(mdp, 0.99, callback=lambda x: x.number == 2).trace) == 2


def test_undiscounted_total_reward():
    walk = MDP.from_functions(
        7,
        lambda s: [] if s in (0, 6) else [0, 1],
        lambda s, a: [(0.8, s + 2 * a - 1, -1.0), (0.2, s, -1.0)],
        terminal=[0, 6],
    )
    for method in ("auto", "topological", "gauss_seidel", "prioritized_sweeping"):
        solution = solve(walk, 1.0, method=method)
        expected = np.array([0, 1, 2, 3, 2, 1, 0]) / -0.8
        assert solution.converged
        assert (solution.lower <= expected).all()
        assert (expected <= solution.upper).all()
    with pytest.raises(ValueError, match="from state 0 no policy ends"):
        solve(MDP.from_functions(2, lambda s: [0], lambda s, a: [(1.0, 1 - s, -1.0)]), 1.0)
    rest = MDP.from_functions(2, lambda s: [0], lambda s, a: [(1.0, 1, float(s == 0))])
    np.testing.assert_allclose(solve(rest, 1.0).value, [1, 0], atol=1e-12)


def test_bad_input():
    mdp = random_mdp(1)
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"solve: gamma must be in \[0, 1\]"):
            solve(mdp, wrong)
    for wrong in (0, -1, np.nan):
        with pytest.raises(ValueError, match="solve: eps must be > 0"):
            solve(mdp, 0.9, eps=wrong)
    with pytest.raises(ValueError, match="solve: max_iter must be >= 1"):
        solve(mdp, 0.9, max_iter=0)
    with pytest.raises(ValueError, match="solve: num_threads must be >= 1"):
        solve(mdp, 0.9, num_threads=0)
    with pytest.raises(ValueError, match="solve: method must be one of"):
        solve(mdp, 0.9, method="simplex")
    with pytest.raises(ValueError, match=r"solve: value must be float64 \[S\]"):
        solve(mdp, 0.9, value=np.zeros(3))
    with pytest.raises(ValueError, match="solve: value must be finite"):
        solve(mdp, 0.9, value=np.full(12, np.nan))
    with pytest.raises(TypeError, match="solve: policy must be integers"):
        solve(mdp, 0.9, policy=np.zeros(3))
    with pytest.raises(ValueError, match="solve: policy must take an action of state"):
        solve(mdp, 0.9, policy=np.full(12, 99))


def test_solutions_save_q_and_greedy(tmp_path):
    mdp = random_mdp(2)
    solution = solve(mdp, 0.9)
    table = solution.q_table
    alive = ~mdp.terminal
    np.testing.assert_allclose(table.max(axis=1)[alive], solution.value[alive], atol=1e-6)
    greedy = solution.greedy()
    assert (np.bincount(mdp.state[greedy], minlength=12)[alive] >= 1).all()
    assert greedy[solution.pair[alive]].all()
    solution.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["value"], solution.value)
        np.testing.assert_array_equal(file["policy"], solution.policy)


@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.9, 0.999]),
    st.sampled_from(["direct", "krylov", "iterative"]),
)
@example(977, 0.9, "iterative")  # whose terminal states are worth 0
@example(278571, 0.999, "krylov")  # whose residual drifts from the recurrence's
@settings(max_examples=60)
def test_evaluation_agrees_with_the_reference(seed, gamma, method):
    mdp = random_mdp(seed, 20, seed % 3 == 0, discounts=seed % 2 == 0)
    raw = np.random.default_rng(seed).random(mdp.num_pairs)
    policy = raw / np.bincount(mdp.state, raw)[mdp.state]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate(mdp, policy, gamma, method=method, eps=1e-7)
    exact = policy_value(mdp, policy, gamma)
    assert found.converged
    assert_between(found.lower, exact, found.upper)
    assert distance(found.value, exact) <= 1e-7


def test_evaluation_without_discount():
    mdp = MDP.from_functions(
        3, lambda s: [] if s == 2 else [0, 1], lambda s, a: [(1.0, s + a, -1.0)], terminal=[2]
    )
    found = evaluate(mdp, np.array([1, 1, 0]), 1.0)
    np.testing.assert_allclose(found.value, [-2, -1, 0], atol=1e-10)
    with pytest.raises(ValueError, match="the policy never ends"):
        evaluate(mdp, np.array([0, 1, 0]), 1.0)
