"""Finite MDPs: every way to build one gives the same process, and what is none is refused by name."""

from dataclasses import fields, replace
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.envs import VectorEnv
from fastrl.tabular import MDP, zoo

ARRAYS = [field.name for field in fields(MDP) if field.name not in ("num_states", "grid")]


def dense_of(mdp: MDP) -> np.ndarray:
    """[L, S] probabilities."""
    rows = np.zeros((mdp.num_pairs, mdp.num_states))
    for pair in range(mdp.num_pairs):
        states, probability = mdp.row(pair)
        np.add.at(rows[pair], states, probability)
    return rows


@st.composite
def processes(draw):
    """Dense probabilities [S, A, S], some of them 0, and rewards of that shape."""
    states, actions = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (states, actions, states)
    mass = rng.exponential(size=shape) * (rng.random(shape) < draw(st.floats(0.2, 1)))
    mass[..., 0] += mass.sum(axis=-1) == 0
    return mass / mass.sum(axis=-1, keepdims=True), rng.normal(size=shape)


@given(processes())
@settings(max_examples=60)
def test_all_builders_agree(process):
    probability, reward = process
    states, actions, _ = probability.shape
    rows = probability.reshape(-1, states)
    mean = (probability * reward).sum(axis=-1).ravel()
    state, action = np.divmod(np.arange(states * actions), actions)
    s, a, n = np.nonzero(probability)
    shuffled = np.random.default_rng(0).permutation(len(s))
    s, a, n = s[shuffled], a[shuffled], n[shuffled]
    sparse = scipy.sparse.csr_array(rows)
    built = {
        "dense": MDP.from_dense(probability, reward),
        "pairs, sparse": MDP.from_pairs(
            sparse, scipy.sparse.csr_array(reward.reshape(rows.shape)), state=state, action=action
        ),
        "pairs, dense": MDP.from_pairs(rows, reward.reshape(rows.shape), state=state, action=action),
        "pairs, arrays": MDP.from_pairs(
            (sparse.data, sparse.indices, sparse.indptr), mean, state=state, action=action, num_states=states
        ),
        "matrices": MDP.from_matrices(
            [scipy.sparse.coo_array(probability[:, a]) for a in range(actions)],
            [reward[:, a] for a in range(actions)],
        ),
        "outcomes": MDP.from_outcomes(s, a, n, reward[s, a, n], probability[s, a, n], num_states=states),
        "functions": MDP.from_functions(
            states,
            lambda _: range(actions),
            lambda s, a: [(p, n, reward[s, a, n]) for n, p in enumerate(probability[s, a])],
        ),
    }
    for name, mdp in built.items():
        np.testing.assert_allclose(mdp.reward, mean, atol=1e-14, err_msg=name)
        np.testing.assert_array_equal(dense_of(mdp), rows, err_msg=name)
        np.testing.assert_array_equal(mdp.state, state, err_msg=name)
        np.testing.assert_array_equal(mdp.action, action, err_msg=name)
        assert (mdp.num_states, mdp.num_actions, mdp.is_dense) == (states, actions, name.endswith("dense"))
    variance = (probability * (reward - mean.reshape(states, actions, 1)) ** 2).sum(axis=-1).ravel()
    for name in ("dense", "pairs, sparse", "pairs, dense"):
        np.testing.assert_allclose(built[name].reward_variance, variance, atol=1e-14, err_msg=name)


def test_arrays_are_not_copied():
    mdp = zoo.garnet(50, 3, 4)
    matrix = scipy.sparse.csr_array((mdp.probability, mdp.next_state, mdp.offset), shape=(150, 50))
    again = MDP.from_pairs(matrix, mdp.reward, state=mdp.state, action=mdp.action)
    for mine, theirs in zip(
        (again.probability, again.next_state, again.offset, again.reward, again.weight),
        (matrix.data, matrix.indices, matrix.indptr, mdp.reward, matrix.data),
        strict=True,
    ):
        assert np.shares_memory(mine, theirs)
    cube = dense_of(mdp).reshape(50, 3, 50)
    assert np.shares_memory(MDP.from_dense(cube, np.zeros((50, 3))).probability, cube)


def test_matrix_out_of_order_is_put_in_order():
    matrix = scipy.sparse.csr_array(
        (np.array([0.25, 0.5, 0.25, 1.0]), np.array([1, 0, 1, 0]), np.array([0, 3, 4])), shape=(2, 2)
    )
    mdp = MDP.from_pairs(matrix, np.zeros(2), state=np.arange(2), action=np.zeros(2, int))
    np.testing.assert_array_equal(mdp.next_state, [0, 1, 0])
    np.testing.assert_array_equal(mdp.probability, [0.5, 0.5, 1.0])
    assert matrix.nnz == 4, "the caller's matrix was changed"


def test_rewards_of_one_next_state_keep_mean_and_variance():
    mdp = MDP.from_outcomes(
        [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1], np.array([4.0, 0, 1, 7]), np.array([0.25, 0.25, 0.5, 1])
    )
    np.testing.assert_array_equal(mdp.outcome_reward, [1, 2, 7])
    np.testing.assert_array_equal(mdp.reward, [1.5, 7])
    np.testing.assert_array_equal(mdp.reward_variance, [0.25 * 6.25 + 0.25 * 2.25 + 0.5 * 0.25, 0])


@pytest.mark.parametrize(
    ("chance", "far", "mean"),
    [(0, -1e20, 1.1), (0, -1e12, 1.1), (0, np.inf, 1.1), (0, -np.inf, 1.1), (1e-21, -1e20, 1.0)],
)
def test_a_reward_counts_by_its_probability(chance, far, mean):
    chances, rewards = np.array([chance, 1.0]), np.array([far, 1.1])
    sparse = scipy.sparse.csr_array((chances, [0, 1], [0, 2]), (1, 2))
    each = scipy.sparse.csr_array((rewards, [0, 1], [0, 2]), (1, 2))
    where = {"state": np.zeros(1, int), "action": np.zeros(1, int), "terminal": [1]}
    both = np.array([[chances], [[0.0, 1.0]]])
    for mdp in (
        MDP.from_outcomes([0, 0], [0, 0], [0, 1], rewards, chances, terminal=[1], num_states=2),
        MDP.from_pairs(sparse, each, **where),
        MDP.from_pairs(chances[None], rewards[None], **where),
        MDP.from_dense(both, np.array([[rewards], [[0.0, 0.0]]]), terminal=[1]),
    ):
        assert mdp.reward[0] == pytest.approx(mean, rel=1e-15)
        assert mdp.reward_variance is None or mdp.reward_variance[0] == pytest.approx(
            chance * far**2 if chance else 0
        )
    merged = MDP.from_outcomes([0, 0], [0, 0], [1, 1], rewards, chances, terminal=[1])
    assert merged.reward[0] == pytest.approx(mean, rel=1e-15)


def test_equal_rewards_have_their_mean_exactly():
    chances = np.tile([0.7, 0.1, 0.2], (3, 1, 1))  # in floats they sum to less than 1
    dense = MDP.from_dense(chances, np.full((3, 1, 3), 0.7))
    np.testing.assert_array_equal(dense.reward, 0.7)
    np.testing.assert_array_equal(dense.reward_variance, 0)


def test_states_may_have_different_actions():
    mdp = zoo.gamblers_problem(goal=8)
    np.testing.assert_array_equal(np.diff(mdp.pair_offset), [0, 1, 2, 3, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(mdp.action[mdp.state == 5], [1, 2, 3])
    lacking = MDP.from_matrices([np.eye(2), np.array([[0.0, 0], [1, 0]])], np.array([1.0, 2]))
    np.testing.assert_array_equal(lacking.state, [0, 1, 1])
    np.testing.assert_array_equal(lacking.action, [0, 0, 1])
    np.testing.assert_array_equal(lacking.reward, [1, 2, 2])


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1"])
def test_gymnasium_and_compiled_environments(env_id):
    theirs = MDP.from_gymnasium(gymnasium.make(env_id))
    ours = MDP.from_gymnasium(VectorEnv(env_id))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name), err_msg=name)
    again = MDP.from_gymnasium(theirs.to_transitions(), initial=theirs.initial)
    for name in ("probability", "next_state", "offset", "discount", "initial"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(again, name), err_msg=name)
    np.testing.assert_allclose(theirs.reward, again.reward, atol=1e-15)


def test_termination_is_a_discount_of_zero():
    mdp = MDP.from_outcomes(
        [0, 0], [0, 0], [0, 0], np.ones(2), np.array([0.25, 0.75]), terminated=np.array([1, 0], bool)
    )
    np.testing.assert_array_equal(mdp.discount, [0.75])
    np.testing.assert_array_equal(mdp.weight, [0.75])
    with pytest.raises(ValueError, match="discounts must be 0 or 1"):
        mdp.to_transitions()


@pytest.mark.parametrize("dense", [False, True])
def test_samples_follow_the_process(dense):
    rng = np.random.default_rng(3)
    mdp = zoo.garnet(6, 2, 3, seed=1)
    if dense:
        mdp = MDP.from_pairs(dense_of(mdp), mdp.reward, state=mdp.state, action=mdp.action)
    state, action = np.repeat(mdp.state, 20_000), np.repeat(mdp.action, 20_000)
    next_state, reward, ended = mdp.sample(state, action, rng)
    np.testing.assert_array_equal(reward, np.repeat(mdp.reward, 20_000))
    assert not ended.any()
    counts = np.stack([np.bincount(x, minlength=6) for x in next_state.reshape(12, -1)]) / 20_000
    expected = dense_of(mdp)
    assert (counts[expected == 0] == 0).all()
    assert (abs(counts - expected) < 5 * np.sqrt(expected * (1 - expected) / 20_000) + 1e-12).all()


def test_samples_end_and_have_their_rewards():
    mdp = MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"))
    state = np.full(4000, 14)
    next_state, reward, ended = mdp.sample(state, np.full(4000, 2), np.random.default_rng(0))
    np.testing.assert_array_equal(reward, next_state == 15)
    np.testing.assert_array_equal(ended, next_state == 15)
    next_state, reward, ended = zoo.gamblers_problem(1.0).sample([99, 50], [1, 20], np.random.default_rng(0))
    assert (next_state.tolist(), reward.tolist(), ended.tolist()) == ([100, 70], [1, 0], [True, False])
    assert [len(x) for x in mdp.sample([], [], np.random.default_rng(0))] == [0, 0, 0]


@pytest.mark.parametrize(
    ("state", "action", "message"),
    [
        ([0], [1], r"action of state 0 must be one of \[0\], got 1"),
        ([9], [0], r"state must be in \[0, 4\), got 9 to 9"),
        ([3], [0], "state must be one that episodes go on from, got 3"),
        ([1, 2], [1], r"action must be integers \[N\] = \[2\]"),
        ([1.5], [1], r"state must be integers \[N\], got list"),
    ],
)
def test_samples_refuse(state, action, message):
    mdp = MDP.from_functions(4, lambda s: range(s + 1), lambda s, a: [(1.0, a, 0.0)], terminal=[3])
    with pytest.raises((TypeError, ValueError), match=message):
        mdp.sample(state, action, np.random.default_rng(0))


def one(**change):
    """A process of two states and one action, changed."""
    columns = {
        "state": np.array([0, 0, 1]),
        "action": np.zeros(3, np.int64),
        "next_state": np.array([0, 1, 1]),
        "reward": np.zeros(3),
        "probability": np.array([0.25, 0.75, 1.0]),
    }
    return MDP.from_outcomes(**{**columns, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": np.array([0.25, 0.5, 1])}, "probabilities of state 0, action 0 must sum to 1, got 0.75"),
        ({"probability": np.array([1.25, -0.25, 1])}, "probabilities of state 0, action 0 must be >= 0, got -0.25"),
        ({"probability": np.array([0.25, 0.75, np.nan])}, "probabilities of state 1, action 0 must be >= 0, got nan"),
        ({"reward": np.array([0, 0, np.inf])}, "reward of state 1, action 0 must be finite, got inf"),
        ({"next_state": np.array([0, 1, 7]), "num_states": 2}, r"next states of state 1, action 0 must be in \[0, 2\), got 7"),
        ({"next_state": np.array([0, 1, -1])}, r"next states of state 1, action 0 must be in \[0, 2\), got -1"),
        ({"state": np.array([0, 0, 5]), "num_states": 2}, r"state must be in \[0, 2\), got 0 to 5"),
        ({"state": np.array([0, 0, 2])}, "state 1 must have an action or be terminal"),
        ({"action": np.array([0, 0, -1])}, "action must be >= 0, got -1"),
        ({"reward": np.zeros(2)}, r"reward must be \[3\] as state is, got float64 \[2\]"),
        ({"state": np.zeros(3)}, r"state must be integers \[K\], got float64 \[3\]"),
        ({"discount": np.array([1, 1, 1.5])}, r"discounts of state 1, action 0 must be in \[0, 1\], got 1.5"),
        ({"terminal": [2]}, r"terminal must be in \[0, 2\), got \[2\]"),
        ({"terminal": [0.5]}, r"terminal must be bool \[2\] or indices of states"),
        ({"initial": np.array([0.5, 0.6])}, "initial must be >= 0 and sum to 1, got a sum of 1.1"),
        ({"initial": 2}, r"initial must be in \[0, 2\), got 2"),
        ({k: np.zeros(0, int) for k in ("state", "action", "next_state")} | {"reward": np.zeros(0), "probability": np.zeros(0)}, "at least one state, got none"),
    ],
)  # fmt: skip
def test_bad_outcomes(change, message):
    with pytest.raises((TypeError, ValueError), match=f"MDP: .*{message}"):
        one(**change)


@pytest.mark.parametrize("unread", [0.0, -1.0, np.nan])
def test_rows_of_terminal_states_mean_nothing(unread):
    bad = {"reward": np.array([0, 0, np.nan]), "discount": np.array([1, 1, 2 + unread])}
    mdp = one(probability=np.array([0.25, 0.75, unread]), terminal=[1], **bad)
    assert mdp.terminal.tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": np.array([-0.5, 1.5, 1])}, "probabilities of state 0, action 0 must be >= 0, got -0.5"),
        ({"discount": np.array([1, 3, 1])}, r"discounts of state 0, action 0 must be in \[0, 1\], got 3"),
        ({"discount": np.array([-1, 1, 1])}, r"discounts of state 0, action 0 must be in \[0, 1\], got -1"),
    ],
)  # fmt: skip
def test_outcomes_of_one_next_state_do_not_make_up_for_each_other(change, message):
    with pytest.raises(ValueError, match=f"MDP: {message}"):
        one(next_state=np.array([1, 1, 1]), **change)


def test_outcomes_as_people_write_them():
    third = Fraction(1, 3)
    mdp = MDP.from_functions(2, lambda s: (s,), lambda s, a: ([third, b, third] for b in (0, 1, 1)))
    np.testing.assert_allclose(mdp.probability, [1 / 3, 2 / 3] * 2)
    np.testing.assert_array_equal(mdp.reward, [1 / 3] * 2)


HALF = np.full((2, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MDP.from_dense(HALF.astype(complex), np.zeros(2)), r"probability must be float64 \[S, A, S\], got complex128"),
        (lambda: MDP.from_dense([[[1.0], [0.5, 0.5]]], np.zeros(1)), r"probability must be float64 \[S, A, S\], got list"),
        (lambda: MDP.from_dense(HALF[0], np.zeros(2)), r"probability must be float64 \[S, A, S\], got float64 \[2, 2\]"),
        (lambda: MDP.from_dense(HALF, np.zeros(3)), r"reward must be float64 \[2\], \[2, 2\] or \[2, 2, 2\], got float64 \[3\]"),
        (lambda: MDP.from_dense(HALF, np.zeros(2), discount=HALF[0]), r"discount must be float64 \[2, 2, 2\]"),
        (lambda: MDP.from_pairs("P", np.zeros(2), state=[0], action=[0]), "probability must be a sparse or float64 matrix"),
        (lambda: MDP.from_pairs(np.eye(2), np.zeros(2), state=[1, 0], action=[0, 0]), r"state must be in \[0, 2\) and not decrease"),
        (lambda: MDP.from_pairs(np.eye(2), np.zeros(2), state=[0, 0], action=[1, 1], terminal=[1]), "each action once, got state 0, action 1 twice"),
        (lambda: MDP.from_pairs(np.eye(2), np.zeros(3), state=[0, 1], action=[0, 0]), r"reward must be float64 \[2\], got float64 \[3\]"),
        (lambda: MDP.from_pairs((np.ones(1), np.zeros(1, int), np.array([0, 2])), np.zeros(1), state=[0], action=[0], num_states=1), "indptr must not decrease, from 0 to 1"),
        (lambda: MDP.from_pairs((np.ones(1), np.zeros(1, int), np.array([0, 1])), np.zeros(1), state=[0], action=[0]), "num_states must be >= 1"),
        (lambda: MDP.from_matrices([], np.zeros(2)), "a matrix for each action, got none"),
        (lambda: MDP.from_matrices([np.eye(2), np.eye(3)], np.zeros(2)), r"matrices \[2, 2\], got \[3, 3\] of action 1"),
        (lambda: MDP.from_matrices([np.eye(2)], [np.eye(2), np.eye(2)]), "reward must hold 1 matrices, got 2"),
        (lambda: MDP.from_gymnasium(3), "env must be P, or have P or mdp"),
        (lambda: MDP.from_gymnasium({0: [(1.0, 0, 0.0)]}), "P must map actions of state 0 to outcomes, got list"),
        (lambda: MDP.from_gymnasium({0: {0: [(1.0, 0)]}}), r"outcomes of state 0, action 0 must be \(probability, .*, got \(1.0, 0\)"),
        (lambda: MDP.from_gymnasium({0: {0: [(1.0, 0, "x")]}}), r"reward must be float64 \[K\], got <U1 \[1\]"),
        (lambda: MDP.from_gymnasium({0: {0: [(1.0, 0, {})]}}), r"reward must be float64 \[K\], got object \[1\]"),
        (lambda: MDP.from_gymnasium({0: {0: [(0.5, 0, [0.0]), (0.5, 0, 0.0)]}}), r"reward must be \[2\] as state is"),
        (lambda: MDP.from_gymnasium({0: {0: [(1.0, 0, 0.0, "no")]}}), r"terminated must be bool \[K\], got <U2 \[1\]"),
        (lambda: MDP.from_gymnasium({}), "at least one state, got none"),
        (lambda: MDP.from_functions(1, lambda s: None, lambda s, a: []), "actions of state 0 must be a list, got NoneType"),
        (lambda: MDP.from_functions(1, lambda s: [0], lambda s, a: [1.0]), r"outcomes of state 0, action 0 must be \(probability, .*, got 1.0"),
        (lambda: MDP.from_functions(1, lambda s: [0], lambda s, a: None), "outcomes of state 0, action 0 must be a list, got NoneType"),
        (lambda: MDP.from_functions(1.0, lambda s: [0], lambda s, a: []), "num_states must be an integer, got float 1.0"),
        (lambda: MDP.from_functions(0, lambda s: [0], lambda s, a: []), "at least one state, got none"),
        (lambda: MDP.from_outcomes(0, 0, 0, 0.0, 1.0), r"state must be integers \[K\], got int 0"),
        (lambda: MDP.from_dense(HALF, np.zeros(2), initial=True), r"initial must be float64 \[2\] or a state, got bool"),
        (lambda: MDP.from_matrices([scipy.sparse.eye_array(2, dtype=complex).tocsr()], np.zeros(2)), "probabilities must be float64, got complex128"),
    ],
)  # fmt: skip
def test_bad_arguments(make, message):
    with pytest.raises((TypeError, ValueError), match=f"MDP: .*{message}"):
        make()


@pytest.mark.parametrize("mdp", [zoo.jacks_car_rental(max_cars=3), zoo.maze(), zoo.forest()])
def test_files_keep_everything(mdp, tmp_path):
    again = MDP.load(mdp.save(tmp_path / "model.npz"))
    for field in fields(MDP):
        mine, theirs = getattr(mdp, field.name), getattr(again, field.name)
        assert np.array_equal(mine, theirs), field.name
        assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None), field.name


def test_files_that_are_none(tmp_path):
    path = zoo.garnet(100, 2, 3).save(tmp_path / "model.npz")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    other = tmp_path / "other.npz"
    np.savez(other, probability=np.ones(1))
    lacking = tmp_path / "lacking.npz"
    np.savez(lacking, format=np.array("fastrl-mdp-1"), num_states=1)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, format=np.array("fastrl-mdp-1"), num_states=np.array({"a": 1}, dtype=object))
    cases = {"cut.npz": whole[:100], "empty.npz": b"", "text.npz": b"P = 1", "flipped.npz": bytes(damaged)}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name in [*cases, other.name, lacking.name, pickled.name]:
        with pytest.raises(ValueError, match=f"MDP load: .*{name}"):
            MDP.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        MDP.load(tmp_path / "none.npz")
    changed = replace(zoo.forest(), probability=np.full(9, 0.3))
    changed.save(path)
    with pytest.raises(ValueError, match="must sum to 1"):
        MDP.load(path)


def test_zoo_refuses():
    for make, message in [
        (lambda: zoo.maze(("S.", "#")), "maze: layout must be rows of equal length"),
        (lambda: zoo.maze(("S.",)), "maze: layout must have one S and at least one G"),
        (lambda: zoo.windy_gridworld(moves=5), "moves must be 4, 8 or 9, got 5"),
        (lambda: zoo.random_walk(0), "states must be >= 1, got 0"),
        (lambda: zoo.gamblers_problem(1.5), r"heads must be in \[0, 1\], got 1.5"),
        (lambda: zoo.forest(1), "states must be >= 2, got 1"),
        (lambda: zoo.garnet(3, 1, 4), "branching <= states, got 3, 1, 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(("states", "branching"), [(5, 5), (5, 4), (200, 3), (1, 1)])
def test_garnets_branch_as_they_should(states, branching):
    mdp = zoo.garnet(states, 2, branching, seed=4)
    assert all(len(set(mdp.row(pair)[0].tolist())) == branching for pair in range(mdp.num_pairs))
    assert not np.array_equal(mdp.reward, zoo.garnet(states, 2, branching, seed=5).reward)
    np.testing.assert_array_equal(mdp.probability, zoo.garnet(states, 2, branching, seed=4).probability)
