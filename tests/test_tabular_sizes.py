"""Processes of more states than have an action are refused before anything of S states is made."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from fastrl.tabular import MDP


def huge(states, **more):
    """An outcome, in a process of that many states."""
    return MDP.from_outcomes([0], [0], [0], [0.0], [1.0], num_states=states, **more)


THREE = (np.ones(1), np.zeros(1, int), np.array([0, 1]))
KEYS = {"state": [0], "action": [0]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MDP.from_outcomes([0], [0], [10**13], [0.0], [1.0]), r"fewer than 2\^31 states, got 10000000000001"),
        (lambda: MDP.from_outcomes([0], [0], [2**32], [0.0], [1.0], num_states=1), r"next states of state 0, action 0 must be in \[0, 1\), got 4294967296"),
        (lambda: MDP.from_outcomes([0], [0], [2 * 10**9], [0.0], [1.0]), "state 1 must have an action or be terminal, got none"),
        (lambda: MDP.from_outcomes([2], [0], [0], [0.0], [1.0], num_states=2 * 10**9), "state 0 must have an action or be terminal, got none"),
        (lambda: huge(2 * 10**9, terminal=[2, 1]), "state 3 must have an action or be terminal, got none"),
        (lambda: huge(2 * 10**9, terminal=5), "state 1 must have an action or be terminal, got none"),
        (lambda: huge(2 * 10**9, terminal=[0.5]), "terminal must be bool .* or indices of states, got list"),
        (lambda: huge(2 * 10**9, terminal=[2 * 10**9]), r"terminal must be in \[0, 2000000000\)"),
        (lambda: huge(-1), "at least one state, got -1"),
        (lambda: huge(True), "num_states must be an integer, got bool True"),
        (lambda: huge(1.0), "num_states must be an integer, got float 1.0"),
        (lambda: MDP.from_pairs(THREE, [0.0], num_states=2 * 10**9, **KEYS), "state 1 must have an action or be terminal, got none"),
        (lambda: MDP.from_pairs(THREE, [0.0], num_states=2**31, **KEYS), r"fewer than 2\^31 states, got 2147483648"),
        (lambda: MDP.from_pairs(THREE, [0.0], num_states="1", **KEYS), "num_states must be an integer, got str '1'"),
        (lambda: MDP.from_pairs(scipy.sparse.coo_array(([1.0], ([0], [0])), shape=(1, 2 * 10**9)), [0.0], **KEYS), "state 1 must have an action or be terminal, got none"),
        (lambda: MDP.from_matrices([scipy.sparse.coo_array(([1.0], ([0], [0])), shape=(2 * 10**9,) * 2)] * 2, [0.0]), "state 1 must have an action or be terminal, got none"),
        (lambda: MDP.from_matrices([scipy.sparse.coo_array(([1.0], ([0], [0])), shape=(2**31,) * 2)], [0.0]), r"fewer than 2\^31 states"),
    ],
)  # fmt: skip
def test_sizes_beyond_memory(make, message):
    tracemalloc.start()
    try:
        with pytest.raises((TypeError, ValueError), match=f"^MDP: .*{message}"):
            make()
        assert tracemalloc.get_traced_memory()[1] < 10**6  # not even an array that would have fitted
    finally:
        tracemalloc.stop()


def test_as_many_states_as_can_be():
    mdp = huge(4, terminal=[3, 1, 2])
    assert mdp.num_states == 4
    assert huge(np.int32(2), terminal=1).terminal.tolist() == [False, True]
