"""What people have at hand, as finite MDPs and policies: taken as it is meant, or refused by name."""

import tracemalloc
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import scipy.sparse

from fastrl.kernels.tabular import backup, bellman, draw_outcomes
from fastrl.tabular import MDP, evaluate, solve, zoo

P = np.random.default_rng(5).dirichlet(np.ones(3), size=(3, 2))
R = np.random.default_rng(6).integers(-5, 5, size=(3, 2))
STATE, ACTION = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)


@pytest.fixture
def rng():
    """For each test the same, whichever ran before."""
    return np.random.default_rng(7)


def builders(p, r):
    """The same process [S, A, S] with rewards [S, A], by each class method that takes arrays."""
    p = np.asarray(p)
    s, a, n = np.indices(p.shape).reshape(3, -1)
    rows, reward = p.reshape(6, 3), np.asarray(r).ravel()
    keys = {"state": STATE, "action": ACTION}
    csr = scipy.sparse.csr_array(rows)
    yield MDP.from_dense(p, r)
    yield MDP.from_pairs(rows, reward, **keys)
    yield MDP.from_pairs(csr, reward, **keys)
    yield MDP.from_pairs((csr.data, csr.indices, csr.indptr), reward, num_states=3, **keys)
    yield MDP.from_matrices(p.transpose(1, 0, 2), r)
    yield MDP.from_matrices([scipy.sparse.csr_array(p[:, a]) for a in range(2)], r)
    yield MDP.from_outcomes(s, a, n, np.asarray(r)[s, a], p[s, a, n])


@pytest.mark.parametrize("dtype", [np.float32, np.int16, ">f8", bool])
def test_rewards_of_any_numbers(dtype):
    wanted = R.astype(dtype).astype(np.float64).ravel()
    for mdp in builders(P, R.astype(dtype)):
        np.testing.assert_array_equal(mdp.reward, wanted)
        assert mdp.reward.dtype == np.dtype(np.float64)


def test_float32_rows_are_made_to_sum_to_one(rng):
    single = rng.dirichlet(np.ones(3), size=(3, 2)).astype(np.float32)
    exact = single / single.astype(np.float64).sum(axis=-1, keepdims=True)
    kept = single.copy()
    for mdp in builders(single, R):
        total = np.array([mdp.row(pair)[1].sum() for pair in range(6)])
        np.testing.assert_allclose(total, 1, atol=4e-16)
        np.testing.assert_allclose(
            np.stack([mdp.row(pair)[1] for pair in range(6)]), exact.reshape(6, 3), rtol=1e-15
        )
    np.testing.assert_array_equal(single, kept)
    off = single.copy()
    off[1, 1, 0] += 1e-4
    with pytest.raises(ValueError, match=r"probabilities of state 1, action 1 must sum to 1, got 1\.000"):
        MDP.from_dense(off, R)
    with pytest.raises(ValueError, match="must sum to 1"):  # float64 has no such excuse
        MDP.from_dense(P * (1 + 1e-7), R)


def test_lists_and_integers():
    mdp = MDP.from_dense([[[0, 1]], [[1, 0]]], [1, 2])
    assert mdp.probability.dtype == np.float64
    again = MDP.from_matrices([[[0, 1], [1, 0]]], [[1], [2]])
    np.testing.assert_array_equal(solve(mdp, 0.5).value, solve(again, 0.5).value)
    pairs = MDP.from_pairs([[0, 1], [1, 0]], [1, 2], state=[0, 1], action=[0, 0], initial=[1, 0])
    np.testing.assert_array_equal(pairs.probability, mdp.probability)
    listed = MDP.from_outcomes([0, 1], [0, 0], [1, 0], [1, 2], [1, 1])
    np.testing.assert_array_equal(listed.reward, [1, 2])


@pytest.mark.parametrize("form", ["array", "objects", "sparse"])
def test_rewards_of_matrices_by_next_state(form, rng):
    cube, rewards = P.transpose(1, 0, 2), rng.normal(size=(2, 3, 3))
    made = {"array": lambda x: x, "sparse": lambda x: list(map(scipy.sparse.coo_matrix, x))}
    if form == "objects":
        boxes = np.empty(2, dtype=object)
        boxes[:] = list(map(scipy.sparse.csr_matrix, cube))
        mdp = MDP.from_matrices(boxes, rewards)
    else:
        mdp = MDP.from_matrices(made[form](cube), made[form](rewards))
    wanted = np.einsum("asn,asn->sa", cube, rewards).ravel()
    np.testing.assert_allclose(mdp.reward, wanted, atol=1e-15)


@pytest.mark.parametrize("discounted", [False, True])
def test_a_reward_of_minus_infinity_is_no_action(discounted):
    reward = np.array([[1.0, -np.inf], [-np.inf, 2], [3, 4]])
    factor = {"discount": np.full(P.shape, 0.5)} if discounted else {}
    cube = P.copy()
    cube[0, 1] = np.nan
    mdp = MDP.from_dense(cube, reward, **factor)
    np.testing.assert_array_equal(mdp.state, [0, 1, 2, 2])
    np.testing.assert_array_equal(mdp.action, [0, 1, 0, 1])
    np.testing.assert_array_equal(mdp.weight, P.reshape(6, 3)[[0, 3, 4, 5]] * (0.5 if discounted else 1))
    assert solve(mdp, 0.9).q_table[0, 1] == -np.inf
    with pytest.raises(ValueError, match="state 1 must have an action or be terminal"):
        MDP.from_dense(P, np.array([[1.0, 2], [-np.inf, -np.inf], [3, 4]]))
    with pytest.raises(ValueError, match="reward of state 0, action 0 must be finite, got -inf"):
        MDP.from_dense(P, np.array([-np.inf, 1, 2]))


def test_three_arrays_of_rewards_and_discounts(rng):
    csr = scipy.sparse.csr_array(P.reshape(6, 3))
    by_outcome, factor = rng.normal(size=18), rng.random(18)
    given = [(x, csr.indices.copy(), csr.indptr.copy()) for x in (csr.data, by_outcome, factor)]
    mdp = MDP.from_pairs(given[0], given[1], discount=given[2], num_states=3, state=STATE, action=ACTION)
    np.testing.assert_allclose(mdp.reward, (csr.data * by_outcome).reshape(6, 3).sum(axis=1))
    np.testing.assert_array_equal(mdp.discount, factor)
    other = (by_outcome, csr.indices[::-1].copy(), csr.indptr)
    with pytest.raises(ValueError, match="reward must have the indices and indptr of probability"):
        MDP.from_pairs(given[0], other, num_states=3, state=STATE, action=ACTION)


@pytest.mark.parametrize("kind", [scipy.sparse.coo_array, scipy.sparse.csr_array])
def test_a_reward_twice_is_not_summed(kind):
    place = (np.array([0, 0, 1]), np.array([1, 1, 0]))
    twice = scipy.sparse.coo_array((np.array([0.5, 0.5, 1]), place), shape=(2, 2))
    reward = scipy.sparse.coo_array((np.array([7.0, 7, 1]), place), shape=(2, 2))
    if kind is scipy.sparse.csr_array:
        place = (place[1], np.array([0, 2, 3]))
        reward = kind((reward.data, *place), shape=(2, 2))
    for make in (
        lambda: MDP.from_pairs(twice, reward, state=[0, 1], action=[0, 0]),
        lambda: MDP.from_matrices([twice], [reward]),
    ):
        with pytest.raises(ValueError, match="reward must have each entry once, got 1 again"):
            make()
    mdp = MDP.from_pairs(twice, np.ones(2), state=[0, 1], action=[0, 0])
    np.testing.assert_array_equal(mdp.probability, [1, 1])  # probabilities add up


def test_arrays_with_gaps():
    wide, mask = np.repeat(R.ravel(), 2).astype(float), np.zeros(6, bool)
    plain = MDP.from_pairs(P.reshape(6, 3), R.ravel(), state=STATE, action=ACTION)
    mdp = MDP.from_pairs(P.reshape(6, 3), wide[::2], state=STATE, action=ACTION, terminal=mask[::2])
    np.testing.assert_array_equal(solve(mdp, 0.9).value, solve(plain, 0.9).value)


@pytest.mark.parametrize(
    ("terminal", "states"), [([0, 0, 0, 1], 4), ([0, 1, 1], 5), ([1, 0], 2), ([0], 1), ([2, 2], 4)]
)
def test_masks_of_integers_are_refused(terminal, states):
    with pytest.raises(ValueError, match="terminal must be indices, each once, or a mask of dtype bool"):
        MDP.from_dense(np.eye(states)[:, None], np.zeros(states), terminal=np.array(terminal))


def test_policies_as_networks_and_tables_give_them(rng):
    mdp = zoo.gridworld()
    logits = rng.normal(size=(16, 4)).astype(np.float32)
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True, dtype=np.float32)
    assert (soft.sum(axis=1, dtype=np.float64) != 1).any()
    exact = soft.astype(float) / soft.sum(axis=1, dtype=np.float64)[:, None]
    np.testing.assert_allclose(evaluate(mdp, soft, 0.9).value, evaluate(mdp, exact, 0.9).value, atol=1e-12)
    for unused in (np.nan, -1.0, 7.0):
        exact[0] = unused
        np.testing.assert_allclose(
            evaluate(mdp, soft, 0.9).value, evaluate(mdp, exact, 0.9).value, atol=1e-12
        )
    best = solve(mdp, 0.9).policy
    one_hot = np.eye(4, dtype=int)[best]
    for table in (one_hot, one_hot.astype(bool), one_hot.astype(np.float16)):
        np.testing.assert_array_equal(evaluate(mdp, table, 0.9).value, evaluate(mdp, best, 0.9).value)
    with pytest.raises(ValueError, match=r"must be >= 0 and sum to 1, got 2\.0 in state 1"):
        evaluate(mdp, 2 * one_hot, 0.9)
    with pytest.raises(ValueError, match=r"must be >= 0 and sum to 1, got 1\.000[01]"):
        evaluate(mdp, (soft * 1.0001).astype(np.float32), 0.9)


def borrowed():
    """A process and the sparse matrix whose arrays it reads."""
    of = zoo.garnet(50, 2, 3)
    arrays = (of.probability.copy(), of.next_state.copy(), of.offset.copy())
    matrix = scipy.sparse.csr_array(arrays, shape=(100, 50))
    return MDP.from_pairs(matrix, of.reward, state=of.state, action=of.action), matrix


@pytest.mark.parametrize("method", ["value_iteration", "modified_policy_iteration", "topological"])
def test_states_put_out_of_range_later_are_found(method):
    mdp, matrix = borrowed()
    solve(mdp, 0.9, method=method)
    matrix.indices[0] = 2**30
    with pytest.raises(ValueError, match=r"next_state must be in \[0, S\)"):
        solve(mdp, 0.9, method=method)
    mdp, matrix = borrowed()
    solve(mdp, 0.9)
    matrix.indptr[-1] = 2**30
    with pytest.raises(ValueError, match="offset must be as long in all as there are weights"):
        solve(mdp, 0.9)


def test_states_put_out_of_range_by_a_callback_are_found():
    mdp, matrix = borrowed()

    def change(_):
        matrix.indices[:] = 2**30

    with pytest.raises(ValueError, match=r"next_state must be in \[0, S\)"):
        solve(mdp, 0.99, method="value_iteration", callback=change)


def test_bounds_are_of_the_weights_as_they_are():
    mdp, matrix = borrowed()
    solve(mdp, 0.9)
    matrix.data *= 0.5
    found = solve(mdp, 0.9, method="value_iteration", eps=1e-9)
    np.testing.assert_allclose(
        found.value, solve(mdp, 0.9, method="policy_iteration", eps=1e-9).value, atol=3e-9
    )
    np.testing.assert_allclose(backup(mdp, found.value, 0.9)[0], found.value, atol=3e-9)


def test_arrays_that_no_one_can_write_into_are_checked_once():
    mdp = zoo.garnet(50, 2, 3)
    assert bellman(mdp) is bellman(mdp)
    lent, _ = borrowed()
    assert bellman(lent) is not bellman(lent)
    for process in (mdp, lent, zoo.jacks_car_rental(max_cars=2), MDP.from_dense(P, R)):
        for name in ("probability", "reward", "weight", "pair_offset", "action"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(process, name)[0] = 0
    cube = P.copy()
    cube.flags.writeable = False
    reward = R.astype(float)
    reward.flags.writeable = False
    closed = MDP.from_dense(cube, reward)
    assert bellman(closed) is bellman(closed)


def test_processes_of_any_class():
    mdp = zoo.forest()
    names = ("num_states", "pair_offset", "offset", "next_state", "weight", "reward", "terminal")
    process = SimpleNamespace(**{name: getattr(mdp, name) for name in names})
    for mine, theirs in zip(backup(process, np.ones(3), 0.9), backup(mdp, np.ones(3), 0.9), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("layout", [np.int32, np.int64, None])
def test_draws_invert_the_running_sum(layout, rng):
    table = rng.dirichlet(np.full(7, 0.3), size=40) * (rng.random((40, 7)) < 0.7)
    table[:, 3] += 0.1
    csr = scipy.sparse.csr_array(table)
    pair, uniform = rng.integers(40, size=500), rng.random(500)
    uniform[:2] = 0, np.nextafter(1, 0)
    offset = None if layout is None else csr.indptr.astype(layout)
    drawn = draw_outcomes(offset, table if layout is None else csr.data, pair, uniform)
    next_state = drawn % 7 if layout is None else csr.indices[drawn]
    up_to = np.cumsum(table, axis=1)
    wanted = (up_to[pair] <= (uniform * up_to[pair, -1])[:, None]).sum(axis=1)
    np.testing.assert_array_equal(
        next_state, np.minimum(wanted, [np.flatnonzero(r)[-1] for r in table[pair]])
    )
    assert len(draw_outcomes(None, table, pair[:0], uniform[:0])) == 0


@pytest.mark.parametrize("offset", [None, np.array([0, 1, 3], np.int32), np.array([0, 2, 2], np.int64)])
def test_draws_stay_inside(offset):
    probability = np.array([[1.0, 0], [0, 0]]) if offset is None else np.array([0.5, 0.5])
    for pair in (-1, 1, 2, 2**40):
        with pytest.raises(
            ValueError, match="draw_outcomes: pair must be indices of pairs that have an outcome"
        ):
            draw_outcomes(offset, probability, np.array([pair]), np.array([0.5]))


def test_draws_keep_what_is_unlikely():
    """One running sum over all draws would have rounded 1e-12 away."""
    row = np.array([[1 - 1e-12, 1e-12]])
    uniform = np.full(100_000, 1 - 5e-13)
    assert (draw_outcomes(None, row, np.zeros(100_000, np.int64), uniform) == 1).all()


def test_samples_take_little_memory(rng):
    states = 300
    mdp = MDP.from_dense(rng.dirichlet(np.ones(states), size=(states, 2)), np.zeros(states))
    state, action = rng.integers(states, size=20_000), rng.integers(2, size=20_000)
    tracemalloc.start()
    next_state, _, _ = mdp.sample(state, action, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(next_state) == 20_000
    assert peak < 20_000 * 200  # bytes a draw, of S outcomes each


def test_pairs_are_sorted_once_to_sample(monkeypatch, rng):
    order = [1, 0, 3, 2]
    mdp = MDP.from_pairs(np.eye(4), np.arange(4.0), state=[0, 0, 1, 1], action=order, terminal=[2, 3])
    assert mdp.sample([0, 0, 1, 1], [0, 1, 2, 3], rng)[1].tolist() == [1, 0, 3, 2]
    monkeypatch.setattr(np, "lexsort", None)
    assert mdp.sample([0, 0, 1, 1], [0, 1, 2, 3], rng)[1].tolist() == [1, 0, 3, 2]


def test_environments_with_a_shape_or_compiled_by_us():
    table = MDP.from_gymnasium(gymnasium.make("FrozenLake-v1")).to_transitions()
    for shape in (16, None, (), "ab", (4, 4, 1), (2, 8)):
        env = SimpleNamespace(P=table, shape=shape)
        assert MDP.from_gymnasium(env).grid == ((2, 8) if shape == (2, 8) else None)
    drawn = MDP.from_gymnasium(gymnasium.make("Blackjack-v1", sab=True))
    again = MDP.from_gymnasium(gymnasium.make_vec("fastrl/Blackjack-v1", num_envs=1, sab=True))
    np.testing.assert_array_equal(drawn.reward, again.reward)
    other = MDP.from_gymnasium(gymnasium.make("Blackjack-v1", natural=True, sab=False))
    assert not np.array_equal(other.reward, again.reward)
    with pytest.raises(TypeError, match="env must be P, or have P or mdp"):
        MDP.from_gymnasium(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(
    "bad",
    [
        {"max_cars": -1},
        {"max_moves": -1},
        {"requests": (3.0,)},
        {"requests": (-1.0, 2.0)},
        {"returns": (np.nan, 2.0)},
        {"returns": (3.0, 1e4)},
        {"rental": np.inf},
        {"move_cost": np.nan},
    ],
)
def test_car_rentals_that_are_none(bad):
    with pytest.raises(ValueError, match="jacks_car_rental: "):
        zoo.jacks_car_rental(**bad)


def test_iterations_without_a_limit():
    assert solve(zoo.forest(), 0.9, max_iter=np.inf).converged
    with pytest.raises(ValueError, match="max_iter must be >= 1, got nan"):
        solve(zoo.forest(), 0.9, max_iter=np.nan)
