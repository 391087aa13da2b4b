"""What README says to users of other planners: its code runs, and finds what theirs does."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from fastrl.tabular import MDP, solve

README = Path(__file__).parents[1] / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="README.md is not part of the wheel")

Q = np.array([[[0.5, 0.5], [0, 1]], [[0, 1], [0.25, 0.75]]])
R = np.array([[5.0, 10], [-1, -np.inf]])
WORTH = np.array([1.0, -10])  # of R at 0.9: action 1, and the only one
STORM = """@type: MDP
@parameters

@reward_models
r
@nr_states
2
@nr_choices
3
@model
state 0 init
\taction 0 [5]
\t\t0 : 0.5
\t\t1 : 0.5
\taction 1 [10]
\t\t1 : 1
state 1
\taction 0 [-1]
\t\t1 : 1
"""


def blocks():
    section = README.read_text().split("### From QuantEcon, MDPToolbox or Storm")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def storm_model():
    """The model above, as stormpy gives it."""
    rows = [[(0, 0.5), (1, 0.5)], [(1, 1.0)], [(1, 1.0)]]
    entries = [[SimpleNamespace(column=n, value=p) for n, p in row] for row in rows]
    matrix = SimpleNamespace(nr_rows=3, get_row_group_start=[0, 2].__getitem__, get_row=entries.__getitem__)
    rewards = {"r": SimpleNamespace(state_action_rewards=[5.0, 10.0, -1.0])}
    return SimpleNamespace(nr_states=2, transition_matrix=matrix, reward_models=rewards)


def pairs(matrix):
    return {"R": R[-np.inf < R], "Q": matrix, "s_indices": [0, 0, 1], "a_indices": [0, 1, 0], "beta": 0.9}


ROWS = Q.reshape(4, 2)[:3]
FOREST = {
    "P": np.array([[[0.1, 0.9, 0], [0.1, 0, 0.9], [0.1, 0, 0.9]], [[1, 0, 0]] * 3]),
    "R": np.array([[0, 0], [0, 1], [4, 2]]),
}
FOREST_WORTH = [26.244, 29.484, 33.484]
CASES = [
    (0, "quantecon", {"R": R, "Q": Q, "beta": 0.9}, WORTH),
    (1, "quantecon", pairs(ROWS), WORTH),
    (1, "quantecon", pairs(scipy.sparse.csr_matrix(ROWS)), WORTH),
    (2, "mdptoolbox", FOREST, FOREST_WORTH),
    (2, "mdptoolbox", FOREST | {"P": [scipy.sparse.csr_matrix(p) for p in FOREST["P"]]}, FOREST_WORTH),
    (3, "stormpy", {}, WORTH),
]


@pytest.mark.parametrize(("number", "peer", "given", "worth"), CASES)
def test_code_for_users_of_other_planners(number, peer, given, worth, tmp_path):
    assert len(blocks()) == 8
    before, after = blocks()[2 * number : 2 * number + 2]
    names = {"MDP": MDP, "solve": solve, "np": np, **given}
    if peer == "stormpy":
        names |= {"file": str(tmp_path / "model.drn"), "model": storm_model()}
        (tmp_path / "model.drn").write_text(STORM)
    if importlib.util.find_spec(peer):
        exec(before, names)
        np.testing.assert_allclose(names["before"], worth, atol=1e-5)
    else:
        compile(before, "README.md", "exec")
    exec(after, names)
    np.testing.assert_allclose(names["found"].value, worth, atol=1e-6)


def test_costs_are_negated():
    found = solve(MDP.from_dense(Q, np.array([[5, 10], [1, 2]])), 0.9, eps=1e-9)
    least = solve(MDP.from_dense(Q, -np.array([[5, 10], [1, 2]])), 0.9, eps=1e-9)
    assert (-least.value < found.value).all()
    np.testing.assert_allclose(-least.value[1], 10, atol=1e-8)
    assert (-least.upper <= -least.value).all()
