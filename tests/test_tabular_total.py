"""Total reward without discount: every sign of what goes on for ever, against all policies one by one."""

import warnings
from itertools import product

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from _planners import METHODS
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.kernels.tabular import bellman
from fastrl.tabular import MDP, evaluate, solve, zoo
from fastrl.tabular.total import Total


def dense_rows(mdp):
    """[L, S]: probability times discount."""
    if mdp.is_dense:
        return mdp.weight
    rows = np.zeros((mdp.num_pairs, mdp.num_states))
    np.add.at(rows, (np.repeat(np.arange(mdp.num_pairs), np.diff(mdp.offset)), mdp.next_state), mdp.weight)
    return rows


def of_policy(weight, reward, ends):
    """Values [S] of a chain: -inf where it may lose for ever; None where totals are infinite or none."""
    states = len(reward)
    reach = np.linalg.matrix_power(np.eye(states) + (weight > 0), states) > 0
    leaks = ends | (weight.sum(axis=1) < 1 - 1e-9)
    stays = ~(reach & leaks).any(axis=1)
    value, lost = np.zeros(states), np.zeros(states, bool)
    recurrent = stays & np.array([(reach[reach[s], s]).all() for s in range(states)])
    for s in np.flatnonzero(recurrent):
        own = reach[s]
        if not reward[own].any():
            continue
        chain = weight[np.ix_(own, own)]
        balance = np.vstack([(np.eye(own.sum()) - chain).T, np.ones(own.sum())])
        share = np.linalg.lstsq(balance, np.append(np.zeros(own.sum()), 1), rcond=None)[0]
        if share @ reward[own] > -1e-9:
            return None
        lost |= own
    lost = (reach & lost).any(axis=1)
    transient = ~lost & ~ends & ~recurrent
    system = np.eye(transient.sum()) - weight[np.ix_(transient, transient)]
    value[transient] = np.linalg.solve(system, reward[transient])
    value[lost] = -np.inf
    return value


def best_of_all(mdp):
    """V* by enumeration, or None where it is not finite."""
    rows = np.vstack([dense_rows(mdp), np.zeros(mdp.num_states)])  # the last is a terminal state's
    reward, ends = np.append(mdp.reward, 0), np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        ends |= mdp.terminal
    best = np.full(mdp.num_states, -np.inf)
    choices = [
        [-1] if ends[s] else range(mdp.pair_offset[s], mdp.pair_offset[s + 1]) for s in range(mdp.num_states)
    ]
    for pairs in product(*choices):
        value = of_policy(rows[list(pairs)], reward[list(pairs)], ends)
        if value is None:
            return None
        best = np.maximum(best, value)
    return best if np.isfinite(best).all() else None


@st.composite
def processes(draw):
    """Few states, cycles without reward, terminal states and outcomes that end; whole rewards, so that cycles
    add up to 0 now and then.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    states = draw(st.integers(1, 5))
    signs = draw(st.sampled_from([(0, 1), (-1, 0), (-2, -1, 0, 1), (-3, -1), (0,)]))
    terminal = rng.random(states) < draw(st.sampled_from([0, 0.3]))
    count = rng.integers(1, 4, states) * ~terminal
    state = np.repeat(np.arange(states), count)
    rows = np.zeros((len(state), states))
    for pair in range(len(state)):
        targets = rng.integers(0, states, rng.integers(1, 3))
        rows[pair, targets] += rng.integers(1, 4, len(targets))
    rows /= np.maximum(rows.sum(axis=1, keepdims=True), 1e-300)
    reward = rng.choice(signs, len(state)).astype(float)
    discount = np.where(rng.random(rows.shape) < draw(st.sampled_from([0, 0.3])), 0.0, 1.0)
    options = {"state": state, "action": np.concatenate([np.arange(n) for n in [*count, 0]]).astype(int)}
    options["terminal"] = terminal
    if draw(st.booleans()):
        return MDP.from_pairs(rows, reward, discount=discount, **options)
    matrix = sp.csr_array(rows)
    wide = draw(st.sampled_from([np.int32, np.int64]))
    matrix.indptr, matrix.indices = matrix.indptr.astype(wide), matrix.indices.astype(wide)
    kept = sp.csr_array((discount[rows > 0], matrix.indices, matrix.indptr), rows.shape)
    return MDP.from_pairs(matrix, reward, discount=kept, **options)


@given(processes(), st.sampled_from(METHODS))
@settings(max_examples=150)
def test_best_of_all_policies(mdp, method):
    expected = best_of_all(mdp)
    if expected is None:
        with pytest.raises(ValueError, match="solve: gamma must be < 1: "):
            solve(mdp, 1.0, method=method)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = solve(mdp, 1.0, method=method, eps=1e-7)
    assert found.converged
    assert found.error <= 1e-7
    assert (found.lower <= expected + 1e-12).all()
    assert (expected <= found.upper + 1e-12).all()
    policy = np.where(found.choice >= 0, found.policy, 0)
    got = evaluate(mdp, policy, 1.0)
    assert got.converged
    np.testing.assert_allclose(got.value, expected, atol=1e-6)


def line(*outcomes, states, terminal=()):
    """Of (state, action, next state, reward), each sure."""
    s, a, n, r = (np.array(x) for x in zip(*outcomes, strict=True))
    ends = list(terminal)
    return MDP.from_outcomes(s, a, n, r.astype(float), np.ones(len(s)), num_states=states, terminal=ends)


ROUND = [(0, 0, 1, 0), (1, 0, 0, 0)]
FINITE = {
    "leaving a round of nothing for a reward": (
        line(*ROUND, (1, 1, 2, 3), states=3, terminal=[2]),
        [3, 3, 0],
    ),
    "staying in it as leaving costs": (line(*ROUND, (1, 1, 2, -3), states=3, terminal=[2]), [0, 0, 0]),
    "a cost now and nothing ever after": (line((0, 0, 1, -2), (1, 0, 1, 0), states=2), [-2, 0]),
    "costs until the dear end": (
        line((0, 0, 1, -1), (1, 0, 0, -1), (1, 1, 2, -9), states=3, terminal=[2]),
        [-10, -9, 0],
    ),
    "a reward that costs more to come back to": (
        line((0, 0, 1, 1), (1, 0, 0, -2), (1, 1, 2, 0), states=3, terminal=[2]),
        [1, 0, 0],
    ),
    "rewards out of a round, and not back": (
        line(*ROUND, (0, 1, 2, 5), (2, 0, 2, 0), (2, 1, 0, -6), states=3),
        [5, 5, 0],
    ),
    "nothing at all": (line(*ROUND, states=2), [0, 0]),
    "a state that none leads to": (line((0, 0, 1, 7), (1, 0, 1, 0), (2, 0, 1, -1), states=3), [7, 0, -1]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", FINITE)
def test_every_sign(case, method):
    mdp, expected = FINITE[case]
    found = solve(mdp, 1.0, method=method, eps=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.value, expected, atol=1e-9)


INFINITE = {
    "from state 0 no policy ends, and rewards go on for ever": line((0, 0, 1, -1), (1, 0, 0, 0), states=2),
    "from state 1 no policy ends": line((0, 0, 2, 0), (1, 0, 1, -1), (2, 0, 2, 0), states=3),
    "rewards around state 1 add up to infinity": line(
        (0, 0, 1, 0), (1, 0, 2, 2), (2, 0, 1, -1), (1, 1, 3, 0), states=4, terminal=[3]
    ),
    "rewards around state 0 go round and add up to 0": line(
        (0, 0, 1, 1), (1, 0, 0, -1), (1, 1, 2, 4), states=3, terminal=[2]
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("message", INFINITE)
def test_values_that_are_not_finite(message, method):
    with pytest.raises(ValueError, match=f"solve: gamma must be < 1: {message}"):
        solve(INFINITE[message], 1.0, method=method)


def test_nothing_more_is_worth_exactly_nothing():
    lake = MDP.from_gymnasium(gymnasium.make("FrozenLake8x8-v1"))
    found = solve(lake, 1.0)
    holes = np.flatnonzero(
        [cell in b"GH" for cell in gymnasium.make("FrozenLake8x8-v1").unwrapped.desc.ravel()]
    )
    for values in (found.value, found.lower, found.upper):
        assert (values[holes] == 0).all()


def test_staying_for_ever_is_a_policy():
    mdp = FINITE["rewards out of a round, and not back"][0]
    found = solve(mdp, 1.0)
    assert found.policy.tolist() == [1, 0, 0]
    again = evaluate(mdp, found.policy, 1.0)
    np.testing.assert_allclose(again.value, [5, 5, 0], atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_first_value_does_not_stick_where_one_goes_round(method):
    """v = T v holds of every greater value there, too."""
    mdp = FINITE["leaving a round of nothing for a reward"][0]
    found = solve(mdp, 1.0, method=method, value=np.array([50.0, 70.0, 0.0]))
    np.testing.assert_allclose(found.value, [3, 3, 0], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [3, 30])
def test_walks_that_take_long(method, size):
    """A symmetric walk between -1 and 1: in proportion to the distance from either."""
    found = solve(zoo.random_walk(2 * size - 1), 1.0, method=method)
    assert found.converged
    np.testing.assert_allclose(found.value[1:-1], np.arange(1, 2 * size) / size - 1, atol=1e-6)


def test_end_components_are_the_largest():
    mdp = line(
        *ROUND, (1, 1, 2, 0), (2, 0, 3, 0), (3, 0, 2, 0), (4, 0, 0, 0), (3, 1, 5, 0), states=6, terminal=[5]
    )
    kept = np.ones(mdp.num_pairs, np.uint8)
    assert bellman(mdp).end_components(kept).tolist() == [0, 0, 1, 1, -1, -1]
    assert kept.tolist() == [1, 1, 0, 1, 1, 0, 0]
    toward = bellman(mdp).toward(np.arange(6) == 2, np.ones(mdp.num_pairs, bool))
    assert toward.tolist() == [0, 1, -1, 0, 0, -1]


def test_long_chains_are_peeled_at_once():
    """A state that is left for good takes its predecessor with it, and so on: as many rounds as states."""
    n = 100_000
    inner = np.arange(1, n - 1)
    to = np.stack([inner - 1, inner + 1], axis=1).ravel()
    matrix = sp.csr_array((np.full(to.size, 0.5), to, np.arange(0, to.size + 1, 2)), (n - 2, n))
    mdp = MDP.from_pairs(matrix, np.zeros(n - 2), state=inner, action=0 * inner, terminal=[0, n - 1])
    kept = np.ones(n - 2, np.uint8)
    assert (bellman(mdp).end_components(kept) == -1).all()
    assert not kept.any()


def test_policies_of_many_states_are_evaluated_without_discount():
    maze = zoo.maze(["S" + "." * 49, *["." * 50] * 48, "." * 49 + "G"], step_reward=-1.0, goal_reward=-1.0)
    found = solve(maze, 1.0)
    assert found.value[0] == pytest.approx(-98, abs=1e-6)
    for method in ("auto", "krylov", "iterative", "direct"):
        again = evaluate(maze, np.maximum(found.policy, 0), 1.0, method=method)
        assert again.converged
        np.testing.assert_allclose(again.value, found.value, atol=1e-6)


def test_folded_states_share_their_value():
    mdp = line(*ROUND, (1, 1, 2, 3), states=3, terminal=[2])
    total = Total(mdp)
    assert total.process.num_states == 2
    assert total.folded.state.tolist() == [0, 0, 1]
    lower, upper, choice = total.certify(np.array([3.0, 0.0]))
    assert (lower <= [3, 3, 0]).all()
    assert (upper >= [3, 3, 0]).all()
    assert choice.tolist() == [0, 1, -1]


@pytest.mark.parametrize("method", METHODS)
def test_max_iter_returns_what_is_proven(method):
    lake = MDP.from_gymnasium(gymnasium.make("FrozenLake8x8-v1"))
    with pytest.warns(RuntimeWarning, match="not within eps"):
        short = solve(lake, 1.0, method=method, max_iter=1, eps=1e-14)
    assert not short.converged
    expected = solve(lake, 1.0, eps=1e-11).value
    assert (short.lower <= expected + 1e-11).all()
    assert (expected <= short.upper + 1e-11).all()


@pytest.mark.parametrize("method", ["direct", "krylov"])
def test_steps_beyond_all_numbers_prove_nothing(method):
    """2^1100 of them: at each state back to the first, or on, with even chances."""
    n = 1100
    states = np.arange(n)
    to = np.stack([np.zeros(n, int), states + 1], axis=1).ravel()
    mdp = MDP.from_outcomes(
        np.repeat(states, 2), np.zeros(2 * n, int), to, np.zeros(2 * n), np.full(2 * n, 0.5), terminal=[n]
    )
    with pytest.warns(RuntimeWarning, match="within inf, not within eps"):
        found = evaluate(mdp, np.zeros(n + 1, int), 1.0, method=method)
    assert not found.converged
    assert (found.lower == -np.inf).all()
    assert (found.upper == np.inf).all()
    assert np.isfinite(found.value).all()
