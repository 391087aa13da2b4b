"""Cases of bench_planners.py: their references are right, and planners without terminal states get the same."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fastrl.tabular import MDP, finite_horizon, zoo

BENCH = Path(__file__).parents[1] / "bench"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="bench/ is not part of the wheel")


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("_mdps", BENCH / "_mdps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def swept(mdp, gamma):
    return finite_horizon(mdp, int(np.log(1e-12) / np.log(gamma)), gamma).value[0]


def test_references_are_within_their_certificates(module, monkeypatch):
    for by_policies in (False, True):
        monkeypatch.setattr(module, "SPAN_SWEEPS", 1 if by_policies else 400)
        for mdp in (zoo.garnet(40, 3, 4), module.grid(12), module.dense(20, 3)):
            value, error = module.solve(mdp, 0.9)
            assert error < 1e-11
            np.testing.assert_allclose(value, swept(mdp, 0.9), atol=1e-9)


def test_a_grid_has_walls_pockets_and_one_goal(module):
    mdp = module.grid(30, walls=0.3)
    value = swept(mdp, 0.9)
    assert mdp.terminal[899]
    assert np.isclose(value, -10, atol=1e-6).any(), "closed in, or far away"
    assert 0.2 < mdp.terminal.mean() < 0.4
    slipping = mdp.row(0)[1]
    assert slipping.min() >= 0.125


def test_terminal_states_as_absorbing_ones(module):
    mdp = module.grid(12)
    arrays = module.absorbing(mdp)
    rows = (arrays["probability"], arrays["next_state"], arrays["offset"].astype(np.int32))
    same = MDP.from_pairs(
        rows, arrays["reward"], state=arrays["state"], action=arrays["action"], num_states=144
    )
    assert same.num_pairs == mdp.num_pairs + mdp.terminal.sum()
    np.testing.assert_array_equal(swept(same, 0.9), swept(mdp, 0.9))


def test_a_reference_is_computed_once(module, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    first = module.reference(zoo.forest(), 0.9)
    monkeypatch.setattr(module, "solve", None)
    again = module.reference(zoo.forest(), 0.9)
    np.testing.assert_array_equal(again[0], first[0])
    assert again[1] == first[1]
    with pytest.raises(TypeError):
        module.reference(zoo.forest(old=5.0), 0.9)
