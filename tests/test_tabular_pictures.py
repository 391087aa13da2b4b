"""Pictures of values and policies on grids."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from fastrl.tabular import MDP, solve, zoo
from fastrl.tabular.pictures import arrows, directions, draw, names


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


def test_cars_moved_are_numbers(tmp_path):
    mdp = zoo.jacks_car_rental()
    found = solve(mdp, 0.9)
    text = [row.split() for row in arrows(mdp, found.policy)]
    first = [row[0].removeprefix("+") for row in text]  # of the book's figure 4.2, from the top
    assert "".join(first) == "00000" + "1233" + "44" + "5" * 10
    assert text[0][-1] == "-4"
    assert len({len(row) for row in arrows(mdp, found.policy)}) == 1
    svg = draw(mdp, found.value, found.policy, tmp_path / "cars.svg").read_text()
    assert "<!-- +5 -->" in svg
    assert 'Quiver_1">\n    <g' not in svg


def test_actions_that_would_be_the_same_arrow_are_numbers():
    far = MDP.from_functions(
        9, lambda s: range(3), lambda s, a: [(1.0, min(max(s + (-1, 1, 2)[a], 0), 8), 0.0)], terminal=[8]
    )
    far = replace(far, grid=(1, 9))
    assert arrows(far, np.array([0, 1, 2, 2, 1, 0, 0, 1, -1])) == ["0 1 2 2 1 0 0 1 ■"]
    assert arrows(replace(far, action_names=("w", "e", "ee")), np.full(9, 2)) == [
        " ".join(["ee"] * 8 + [" ■"])
    ]
    assert names(zoo.gridworld(), np.zeros(16, np.int64)) is None
    assert arrows(zoo.maze(["S..G"]), np.full(4, 2)) == ["→ → → ■"]


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
        (lambda: arrows(replace(zoo.gridworld(), grid=(3, 5)), np.zeros(16, np.int64)), r"mdp must have a grid of 16 cells, got \(3, 5\)"),
        (lambda: arrows(zoo.gridworld(), np.full(16, 4)), "policy must take an action of state 1's, got 4"),
        (lambda: draw(zoo.gridworld(), np.zeros(16), np.full(16, -1), "x.png"), "policy must take an action of state 1's, got -1"),
        (lambda: arrows(replace(zoo.gridworld(), action_names=("up",)), np.zeros(16, np.int64)), "mdp must have 4 action_names, got 1"),
        (lambda: draw(zoo.gridworld(), np.zeros(3), np.zeros(16, np.int64), "x.png"), r"value must be float64 \[S\] = \[16\]"),
        (lambda: draw(zoo.gridworld(), np.zeros(16), np.zeros(16, np.int64), "x.gif"), "out must end in .png, .svg or .pdf, got x.gif"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
