"""Whatever is given in place of an array, ``MDP`` and policies say what they want instead."""

import numpy as np
import pytest
import scipy.sparse

from fastrl.tabular import MDP, evaluate, zoo

CUBE, TABLE = np.full((2, 2, 2), 0.5), np.zeros((2, 2))
KEYS = {"state": np.array([0, 0, 1, 1]), "action": np.array([0, 1, 0, 1])}
COLUMNS = {**KEYS, "next_state": KEYS["action"], "reward": np.zeros(4), "probability": np.ones(4)}
PAIRS = {"probability": CUBE.reshape(4, 2), "reward": np.zeros(4), **KEYS}
SPARSE = {**PAIRS, "probability": scipy.sparse.csr_array(PAIRS["probability"])}
BUILDERS = {
    "dense": (MDP.from_dense, {"probability": CUBE, "reward": TABLE, "discount": CUBE}),
    "pairs": (MDP.from_pairs, PAIRS | {"discount": PAIRS["probability"]}),
    "sparse": (MDP.from_pairs, SPARSE | {"discount": SPARSE["probability"]}),
    "matrices": (MDP.from_matrices, {"probabilities": list(CUBE), "reward": TABLE}),
    "outcomes": (
        MDP.from_outcomes,
        COLUMNS | {"discount": np.ones(4), "terminated": np.zeros(4), "num_states": 2},
    ),
}
CASES = [(kind, name) for kind, (_, given) in BUILDERS.items() for name in [*given, "terminal", "initial"]]
JUNK = [
    2.5, "x", [[1, 2], [3]], {}, object(), iter([1]), len, np.nan, np.array("a"), np.zeros((3, 3)),
    np.array([1 + 1j]), np.array([None, 1]), np.array(["2020"], "M8[Y]"), [np.nan] * 2, [[[1, 2], [3]]] * 2,
    scipy.sparse.eye_array(3).tocsr(), scipy.sparse.eye_array(2, dtype=complex).tocsr(), [np.zeros((0, 0))] * 2,
]  # fmt: skip


@pytest.mark.parametrize("junk", range(len(JUNK)))
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_is_no_array(kind, name, junk):
    make, given = BUILDERS[kind]
    with pytest.raises((TypeError, ValueError), match=r"^MDP: "):
        make(**given | {name: JUNK[junk]})


@pytest.mark.parametrize("junk", range(len(JUNK)))
def test_what_is_no_policy(junk):
    with pytest.raises((TypeError, ValueError), match=r"^evaluate: "):
        evaluate(zoo.gridworld(), JUNK[junk], 0.9)


def test_the_builders_take_what_they_should():
    for kind, (make, given) in BUILDERS.items():
        if kind != "outcomes":
            assert make(**given).num_states == 2
    assert MDP.from_outcomes(**COLUMNS).num_states == 2
