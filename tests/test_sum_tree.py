"""SumTree against its definition: draws, weights, sums, and what it refuses."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fastrl.kernels import SumTree
from fastrl.kernels.replay import reference

Array = NDArray[Any]
# One line, whole and partial lines, one leaf more than a level holds, no power of two.
CAPACITIES = [1, 2, 7, 8, 9, 63, 64, 65, 513, 1000, 4096, 4097]


def priorities(capacity: int, seed: int = 0, decades: float = 12, zeros: float = 0.2) -> Array:
    rng = np.random.default_rng(seed)
    p = 10.0 ** (-decades * rng.random(capacity))
    p[rng.random(capacity) < zeros] = 0
    p[rng.integers(capacity)] = 1
    return p


def tree_of(p: Array, seed: int = 0, **options: Any) -> SumTree:
    tree = SumTree(len(p), seed=seed, **options)
    tree.update(np.arange(len(p)), p)
    return tree


def same(tree: SumTree, leaf: Array) -> None:
    """Nodes are what a tree built anew from these leaves has."""
    np.testing.assert_array_equal(tree.leaves, leaf)
    assert tree.total == reference.total(leaf)
    stored = leaf[leaf > 0]
    assert tree.min() == (stored.min() if len(stored) else math.inf)
    assert tree.count == len(stored)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_draws_are_the_definition_to_the_bit(isa: str, capacity: int) -> None:
    p = priorities(capacity)
    tree = tree_of(p, seed=2**63 + 5)
    for call, (size, stratified) in enumerate([(1, True), (7, False), (64, True), (65, False), (300, True)]):
        index, _ = tree.sample(size, stratified=stratified)
        np.testing.assert_array_equal(index, reference.sample(p, 2**63 + 5, call, size, stratified))
        assert (p[index] > 0).all()


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("size", [1, 5, 8, 33, 700])
def test_updates_leave_a_tree_built_anew(isa: str, capacity: int, size: int) -> None:
    rng = np.random.default_rng(size)
    leaf = priorities(capacity)
    tree = tree_of(leaf)
    for _ in range(20):
        index = rng.integers(0, capacity, size)
        new = np.where(rng.random(size) < 0.3, 0, 10.0 ** rng.uniform(-12, 3, size))
        tree.update(index, new)
        for i, x in zip(index, new, strict=True):  # of repeated indices, the last counts
            leaf[i] = x
        same(tree, leaf)


@pytest.mark.parametrize("normalize", ["batch", "buffer", None])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0, 3.0])
def test_weights(isa: str, normalize: Any, beta: float) -> None:
    p = priorities(1000)
    for size in (1, 3, 16, 500):
        index, weight = tree_of(p).sample(size, beta=beta, normalize=normalize)
        assert weight.dtype == np.float32
        expected = reference.importance_weights(p, index, beta, normalize)
        np.testing.assert_allclose(weight, expected, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("alpha", "eps"), [(1, 0), (1, 1e-3), (0.6, 0), (0.6, 1e-6), (0, 0), (0, 1e-6), (2.5, 0)]
)
def test_alpha_and_eps(isa: str, dtype: Any, alpha: float, eps: float) -> None:
    p = priorities(1003, decades=24).astype(dtype)
    tree = tree_of(p, alpha=alpha, eps=eps)
    np.testing.assert_allclose(
        tree.leaves, reference.leaves(p, eps, alpha), rtol=1e-13 if alpha > 1 else 2e-14
    )
    if alpha == 1:
        np.testing.assert_array_equal(tree.leaves, p.astype(float) + eps)
    if eps == 0:
        np.testing.assert_array_equal(tree.leaves == 0, p == 0)
    assert tree.max_priority == 1


def test_same_bits_on_every_instruction_set() -> None:
    from fastrl import _core

    before, results = _core.isa(), []
    rng = np.random.default_rng(0)
    index, p = rng.integers(0, 10_007, 3000), rng.random(3000) ** 20
    try:
        for name in ("baseline", "avx2", "avx512"):
            if _core.isa_supported(name):
                _core.set_isa(name)
                tree = SumTree(10_007, alpha=0.7, eps=1e-9, seed=1)
                tree.update(index, p)
                draws = [x.tobytes() for size in (3, 1000) for x in tree.sample(size, beta=0.7)]
                results.append((*draws, tree.leaves.tobytes(), tree.total, tree.min()))
    finally:
        _core.set_isa(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("priority", [5e-324, 1e-310, 1e-200, 1e280])
def test_extreme_priorities(isa: str, priority: float) -> None:
    p = np.zeros(700)
    p[[3, 650]] = priority
    tree = tree_of(p)
    assert tree.total == 2 * priority
    index, weight = tree.sample(100)
    assert set(index) == {3, 650}
    np.testing.assert_array_equal(weight, 1)
    np.testing.assert_allclose(tree_of(p, alpha=0.5).leaves[3], math.sqrt(priority), rtol=2e-13)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_prefix_index(isa: str, capacity: int) -> None:
    p = priorities(capacity)
    tree = tree_of(p)
    stored = np.flatnonzero(p)
    assert tree.prefix_index(0.0) == stored[0]
    assert tree.prefix_index(tree.total) == stored[-1]
    mass = np.random.default_rng(0).random(500) * tree.total
    np.testing.assert_array_equal(tree.prefix_index(mass), reference.find(p, mass))
    ends = np.cumsum(p)
    slack = 1e-14 * tree.total
    found = tree.prefix_index(mass)
    assert (ends[found] - p[found] <= mass + slack).all()
    assert (mass <= ends[found] + slack).all()
    exact = tree_of(np.arange(capacity, dtype=float))  # integers: no rounding
    if capacity > 1:
        sums = np.cumsum(np.arange(capacity, dtype=float))
        np.testing.assert_array_equal(exact.prefix_index(sums[:-1]), np.arange(1, capacity))


def test_rounding_carries_no_mass_past_its_node(isa: str) -> None:
    """1 + 3u - 1.5u rounds to 1 + 2u, all that the second line holds."""
    u = 2.0**-52
    p = np.zeros(24)
    p[[0, 8, 16]] = 1.5 * u, 1 + 2 * u, 1
    assert (1 + 3 * u) - 1.5 * u == p[8]
    assert tree_of(p).prefix_index(1 + 3 * u) == reference.find(p, np.array([1 + 3 * u]))[0] == 8


@pytest.mark.parametrize("capacity", [1, 8, 65, 1000])
def test_sums_and_minima_of_runs(capacity: int) -> None:
    p = priorities(capacity)
    tree = tree_of(p)
    rng = np.random.default_rng(1)
    for start, stop in [
        (0, 0),
        (0, capacity),
        (capacity, capacity),
        *np.sort(rng.integers(0, capacity + 1, (50, 2))),
    ]:
        run = p[start:stop]
        np.testing.assert_allclose(tree.sum(start, stop), math.fsum(run), rtol=1e-14)
        assert tree.min(start, stop) == min(run[run > 0], default=math.inf)
    assert tree.sum() == pytest.approx(tree.total, rel=1e-15)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize(("items", "draws"), [(1000, 200_000), (1 << 20, 10_000_000)])
def test_draws_follow_priorities_over_twelve_decades(stratified: bool, items: int, draws: int) -> None:
    """Chi-square with bins merged to an expectation of at least 20. Strata spread less than independent draws do, so
    that theirs is tested against being too large only.
    """
    p = priorities(items, zeros=0.1)
    counts = np.zeros(items)
    tree = tree_of(p, seed=3)
    for _ in range(10):
        counts += np.bincount(tree.sample(draws // 10, stratified=stratified)[0], minlength=items)
    assert counts[p == 0].sum() == 0
    expected = draws * p / p.sum()
    order = np.argsort(expected)
    bins = (np.cumsum(expected[order]) // 20).astype(int)
    big, seen = np.bincount(bins, expected[order]), np.bincount(bins, counts[order])
    keep = big >= 20
    rest = ~keep
    big, seen = np.append(big[keep], big[rest].sum()), np.append(seen[keep], seen[rest].sum())
    chi2, freedom = ((seen - big) ** 2 / big).sum(), len(big) - 1
    assert freedom > 10
    assert stats.chi2.sf(chi2, freedom) > 1e-4
    if not stratified:
        assert stats.chi2.cdf(chi2, freedom) > 1e-4


def test_strata_hold_one_draw_each() -> None:
    p = np.ones(1000)
    index, _ = tree_of(p).sample(100, stratified=True)
    np.testing.assert_array_equal(index // 10, np.arange(100))
    index, _ = tree_of(p).sample(100, stratified=False)
    assert len(set(index // 10)) < 80
    first, second = (np.diff(tree_of(p, seed=seed).sample(4000, stratified=False)[0]) for seed in (0, 1))
    assert abs(np.corrcoef(first[:-1:2], second[:-1:2])[0, 1]) < 0.1


def test_seeds() -> None:
    p = priorities(500)
    draws = [
        [tree.sample(50)[0].tolist() for _ in range(3)]
        for tree in (tree_of(p, 7), tree_of(p, 7), tree_of(p, 8))
    ]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0][0] != draws[0][1]
    one, other = SumTree(500), SumTree(500)
    for tree in (one, other):
        tree.update(np.arange(500), p)
    assert one.sample(50)[0].tolist() != other.sample(50)[0].tolist()


def test_a_million_and_three_items(isa: str) -> None:
    tree = SumTree(1_000_003, seed=0)
    tree.update(np.arange(1_000_003), np.ones(1_000_003, np.float32))
    assert tree.total == 1_000_003
    index, _ = tree.sample(1_000_003)
    np.testing.assert_array_equal(index, np.arange(1_000_003))  # a stratum is an item
    assert tree.prefix_index(1_000_002.5) == 1_000_002
    tree.update(np.array([1_000_002]), np.array([0.0]))
    assert tree.prefix_index(tree.total) == 1_000_001


def test_total_does_not_drift_in_1e8_updates() -> None:
    capacity, batch = 1 << 20, 4096
    rng = np.random.default_rng(0)
    tree = SumTree(capacity)
    index, new = rng.integers(0, capacity, (256, batch)), 10.0 ** (12 * rng.random((255, batch)) - 6)
    for i in range(100_000_000 // batch + 1):
        tree.update(index[i % 256], new[i % 255])
    exact = math.fsum(tree.leaves)
    assert abs(tree.total - exact) <= 1e-12 * exact
    same(tree, tree.leaves)


def test_one_number_at_a_time() -> None:
    tree = SumTree(10)
    tree[3] = 0.5
    tree[np.int64(4)] = np.float32(0.25)
    tree.update(np.array([5, 6]), 2)
    assert tree[3] == 0.5
    assert isinstance(tree[3], float)
    assert list(tree) == tree.leaves.tolist()
    np.testing.assert_array_equal(tree[np.array([3, 4, 5, 6, 7])], [0.5, 0.25, 2, 2, 0])
    assert isinstance(tree.prefix_index(0.6), int)
    assert len(tree) == 10
    assert "total=4.75" in repr(tree)


def test_tensors() -> None:
    p = torch.rand(100, dtype=torch.float64, requires_grad=True)
    tree = SumTree(100, seed=0)
    tree.update(torch.arange(100), p)
    assert torch.equal(tree[torch.arange(100)], p.detach())
    index, weight = torch.empty(30, dtype=torch.int64), torch.empty(30)
    got = tree.sample(30, out=(index, weight))
    assert got[0] is index
    assert got[1] is weight
    again = SumTree(100, seed=0)
    again.update(np.arange(100), p.detach().numpy())
    expected = again.sample(30)
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_array_equal(weight, expected[1])
    mass = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.equal(tree.prefix_index(mass), torch.from_numpy(again.prefix_index(mass.numpy())))


def test_arrays_of_any_strides() -> None:
    p, index = priorities(300)[::3], np.arange(200)[::-2]
    tree = SumTree(200)
    tree.update(index, p)
    np.testing.assert_array_equal(tree.leaves[index], p)
    np.testing.assert_array_equal(tree[index[::5]], p[::5])
    read_only = np.arange(3), np.ones(3)
    for x in read_only:
        x.setflags(write=False)
    tree.update(*read_only)
    memory = np.zeros(801, np.uint8)[1:]
    memory.view(np.float64)[:] = 3
    tree.update(np.arange(100), memory.view(np.float64))  # not aligned
    np.testing.assert_array_equal(tree.leaves[:100], 3)
    mass = np.array([0.0, 9.0, 5.0, 9.0])[::2]
    np.testing.assert_array_equal(tree.prefix_index(mass), [0, 1])
    shared = np.zeros(4)  # zeros of both dtypes in one memory
    tree.update(shared.view(np.int64), shared)
    assert tree[0] == 0


def test_nothing_to_do() -> None:
    tree = SumTree(5)
    tree.update(np.empty(0, np.int64), np.empty(0))
    assert tree.total == tree.max_priority == 0
    assert tree.min() == math.inf
    index, weight = tree.sample(0)
    assert len(index) == len(weight) == 0
    assert len(tree.prefix_index(np.empty(0))) == 0


def test_state() -> None:
    tree = tree_of(priorities(300), seed=4, alpha=0.5)
    tree.sample(10)
    state = copy.deepcopy(tree.state())
    expected = [tree.sample(20) for _ in range(2)]
    other = SumTree(300, alpha=0.5)
    other.load_state(state)
    for index, weight in expected:
        got = other.sample(20)
        np.testing.assert_array_equal(got[0], index)
        np.testing.assert_array_equal(got[1], weight)
    assert other.max_priority == tree.max_priority
    same(other, tree.leaves)
    for twin in (copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert (twin.alpha, twin.eps, twin.max_priority) == (tree.alpha, tree.eps, tree.max_priority)
        same(twin, tree.leaves)
        np.testing.assert_array_equal(twin.sample(9)[0], other.sample(9)[0])
        other.load_state(tree.state())


@settings(deadline=None, derandomize=True)
@given(
    st.integers(1, 200), st.lists(st.tuples(st.integers(0, 199), st.floats(0, 1e12)), max_size=60), st.data()
)
def test_property_any_history_of_updates(capacity: int, history: list[tuple[int, float]], data: Any) -> None:
    leaf = np.zeros(capacity)
    tree = SumTree(capacity, seed=data.draw(st.integers(0, 2**64 - 1)))
    size = data.draw(st.integers(1, 9))
    for begin in range(0, len(history), size):
        chunk = history[begin : begin + size]
        index = np.array([i % capacity for i, _ in chunk])
        tree.update(index, np.array([x for _, x in chunk]))
        for i, (_, x) in zip(index, chunk, strict=True):
            leaf[i] = x
    same(tree, leaf)
    if tree.total > 0:
        stratified = data.draw(st.booleans())
        index, weight = tree.sample(40, stratified=stratified)
        assert (leaf[index] > 0).all()
        assert weight.max() == 1
        mass = data.draw(st.floats(0, 1)) * tree.total
        assert tree.prefix_index(mass) == reference.find(leaf, np.array([mass]))[0]
