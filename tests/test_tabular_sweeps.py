"""Sweeps of modified policy iteration are the reference's in every shape of model."""

import numpy as np
import pytest

from fastrl import _core
from fastrl.kernels.tabular import PolicyIterator, bellman, reference
from fastrl.tabular import MDP, solve


def of_widths(widths, states, actions=2, seed=0, terminal=None):
    """Pairs in turn have so many outcomes each."""
    rng = np.random.default_rng(seed)
    pairs = states * actions
    counts = np.resize(widths, pairs)
    offset = np.concatenate([[0], np.cumsum(counts)])
    to = np.concatenate([np.sort(rng.choice(states, n, replace=False)) for n in counts])
    weight = np.concatenate([rng.dirichlet(np.ones(n)) for n in counts])
    return MDP.from_pairs(
        (weight, to, offset),
        rng.normal(size=pairs),
        num_states=states,
        state=np.repeat(np.arange(states), actions),
        action=np.tile(np.arange(actions), states),
        terminal=terminal,
    )


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize(
    ("widths", "states", "actions"),
    [
        ([3], 16, 2),
        ([3, 1, 4], 33, 3),  # a block that the states do not fill
        ([1] * 40 + [60], 90, 1),  # rows too different to lie side by side
        ([2], 40, 300),  # more actions than are compared together
        ([700], 750, 4),  # more outcomes than are multiplied together
    ],
)
@pytest.mark.parametrize("terminal", [None, [0, 15]])
def test_policy_iteration_in_every_shape(widths, states, actions, terminal, isa):
    if not _core.isa_supported(isa):
        pytest.skip(f"this processor has no {isa}")
    mdp = of_widths(widths, states, actions, terminal=terminal)
    before = _core.isa()
    _core.set_isa(isa)
    solution = solve(mdp, 0.95, method="modified_policy_iteration")
    _core.set_isa(before)
    expected = reference.policy_iteration(mdp, 0.95)
    assert (solution.lower <= expected + 1e-11).all()
    assert (expected <= solution.upper + 1e-11).all()
    value, choice, _ = reference.backup(mdp, np.zeros(states), 0.95)
    iterator = PolicyIterator(bellman(mdp), 0.95, None, 1)
    for _ in range(3):
        low, high, _ = iterator.improve()
        change = (iterator.next_value - iterator.value)[choice >= 0]
        assert (low, high) == (change.min(), change.max())
        np.testing.assert_allclose(iterator.next_value, value, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(iterator.choice, choice)
        iterator.evaluate(0.1, 5)
        value, choice, _ = reference.backup(mdp, iterator.value, 0.95)


def test_a_model_is_inspected_in_parts_alike():
    mdp = of_widths([3, 1, 4], 20_000, 4, terminal=[7, 19_999])
    one, two = (inspected(mdp, n) for n in (1, 2))
    assert (one.mass, one.longest, one.reward_range) == (two.mass, two.longest, two.reward_range)
    next_state = mdp.next_state.copy()
    next_state[-1] = 20_000
    for threads in (1, 2):
        with pytest.raises(ValueError, match=r"next_state must be in \[0, S\)"):
            inspected(mdp, threads, next_state)


def inspected(mdp, threads, next_state=None):
    to = mdp.next_state if next_state is None else next_state
    return _core.Bellman(mdp.pair_offset, mdp.offset, to, mdp.weight, mdp.reward, mdp.terminal, threads)


@pytest.mark.parametrize("actions", [3, 300, 600])
def test_actions_that_are_not_looked_at_are_not_the_best(actions):
    for seed in range(40):
        mdp = of_widths([1, 2], 6, actions, seed=seed)
        iterator = PolicyIterator(bellman(mdp), 0.9, None, 1)
        for _ in range(5):
            iterator.improve()
            value, choice, _ = reference.backup(mdp, iterator.value, 0.9)
            np.testing.assert_array_equal(iterator.choice, choice)
            np.testing.assert_allclose(iterator.next_value, value, rtol=0, atol=1e-12)
            iterator.evaluate(0.3, 3)
