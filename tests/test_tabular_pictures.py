"""Pictures of values and policies on grids."""

import gymnasium
import numpy as np
import pytest

from fastrl.tabular import MDP, zoo
from fastrl.tabular.pictures import arrows, directions, draw


def test_actions_of_slippery_ice_have_one_direction():
    mdp = MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"))
    assert mdp.grid == (4, 4)
    for action, arrow in enumerate("←↓→↑"):
        text = "".join(arrows(mdp, np.full(16, action))).replace(" ", "")
        assert text == "".join("■" if cell in "HG" else arrow for cell in "SFFFFHFHFFFHHFFG")


def test_wind_does_not_turn_arrows_and_none_stays():
    mdp = zoo.windy_gridworld(moves=9)
    for action, arrow in enumerate("↑↓→←↗↖↘↙·"):
        rows = arrows(mdp, np.full(70, action))
        assert set("".join(rows)) == {arrow, "■", " "}
        assert rows[3].split()[7] == "■"


def test_walls_and_goals_have_no_arrows():
    moves = directions(zoo.maze(), np.zeros(54, np.int64))
    assert np.isnan(moves).all(axis=1).nonzero()[0].tolist() == [7, 8, 11, 16, 20, 25, 29, 41]
    np.testing.assert_array_equal(moves[0], [-1, 0])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("mdp", [zoo.gridworld(), zoo.maze(["S" + "." * 40, "." * 40 + "G"])])
def test_figures(tmp_path, suffix, mdp):
    out = draw(mdp, np.arange(mdp.num_states, dtype=float), np.zeros(mdp.num_states, np.int64),
               tmp_path / "new" / f"picture.{suffix}", title="values")  # fmt: skip
    heads = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert out.read_bytes().startswith(heads[suffix])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arrows(zoo.forest(), np.zeros(3, np.int64)), "mdp must have a grid, got None"),
        (lambda: arrows(zoo.gridworld(), np.zeros(3, np.int64)), r"policy must be int64 \[S\] = \[16\], got int64 \[3\]"),
        (lambda: draw(zoo.gridworld(), np.zeros(3), np.zeros(16, np.int64), "x.png"), r"value must be float64 \[S\] = \[16\]"),
        (lambda: draw(zoo.gridworld(), np.zeros(16), np.zeros(16, np.int64), "x.gif"), "out must end in .png, .svg or .pdf, got x.gif"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
