"""``fastrl solve``: what it prints and writes, and one clear error for each mistake."""

import json
import re

import numpy as np
import pytest

from fastrl.cli import main
from fastrl.tabular import MDP, zoo


@pytest.fixture
def solve(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        status = main(["solve", *flags])
        return status, capsys.readouterr()

    return run


def start(out):
    """Value at the start, and its bounds, as printed."""
    number = r"(-?[\d.]+(?:e-?\d+)?)"
    found = re.search(rf"value at the start: {number}, in \[{number}, {number}\]", out)
    return [float(x) for x in found.groups()]


def test_frozen_lake_prints_bounds_and_draws(solve, tmp_path):
    status, printed = solve("FrozenLake-v1")
    assert status == 0
    assert "FrozenLake-v1: 16 states, 64 pairs" in printed.out
    assert "converged in" in printed.out
    value, low, high = start(printed.out)
    assert low - 1e-9 <= 0.5420259320 <= high + 1e-9
    assert abs(value - 0.5420259320) <= 1e-6
    assert high - low <= 2e-6
    rows = [line for line in printed.out.splitlines() if set(line) <= set("↑↓→←↗↖↘↙·■ ") and line]
    assert [len(row.split()) for row in rows] == [4] * 4
    assert [row.split()[0] for row in rows] == ["←", "←", "↑", "■"]
    assert "picture: FrozenLake-v1.png" in printed.out
    assert (tmp_path / "FrozenLake-v1.png").read_bytes().startswith(b"\x89PNG")


def test_options_of_the_environment(solve, tmp_path):
    out = tmp_path / "pictures" / "lake.svg"
    status, printed = solve("FrozenLake-v1", "--options", '{"is_slippery": false}', "--out", str(out))
    assert status == 0
    assert start(printed.out)[0] == pytest.approx(0.99**5, abs=1e-6)
    assert "<svg" in out.read_text()


def test_a_process_of_the_zoo(solve, tmp_path):
    flags = ("--options", '{"moves": 8}', "--gamma", "1", "--num-threads", "2")
    status, printed = solve("windy_gridworld", *flags)
    assert status == 0
    assert start(printed.out)[0] == pytest.approx(-7, abs=1e-6)
    assert (tmp_path / "windy_gridworld.png").exists()


def test_a_file(solve, tmp_path):
    zoo.forest().save(tmp_path / "forest.npz")
    status, printed = solve("forest.npz", "--gamma", "0.9", "--save", "solved.npz", "--eps", "1e-9")
    assert status == 0
    assert "picture" not in printed.out
    assert "values and policy: solved.npz" in printed.out
    with np.load(tmp_path / "solved.npz", allow_pickle=False) as saved:
        np.testing.assert_allclose(saved["value"], [26.244, 29.484, 33.484], atol=1e-9)
        np.testing.assert_array_equal(saved["policy"], [0, 0, 0])
        assert (saved["lower"] <= saved["upper"]).all()
        assert (saved["upper"] - saved["lower"]).max() <= 2e-9


def test_not_converged_is_status_one(solve):
    status, printed = solve("FrozenLake8x8-v1", "--method", "value_iteration", "--max-iter", "1")
    assert status == 1
    assert "did NOT converge in 1 iterations" in printed.out


@pytest.mark.parametrize(
    ("model", "figure"),
    [("FrozenLake-v1", 14 / 17), ("FrozenLake8x8-v1", 1.0), ("CliffWalking-v1", -13), ("Taxi-v4", 7.93)],
)
def test_without_discount(solve, model, figure):
    status, printed = solve(model, "--gamma", "1", "--eps", "1e-9", "--save", "solved")
    assert status == 0
    value, low, high = start(printed.out)
    assert value == pytest.approx(figure, abs=1e-8)
    assert low <= value <= high
    with np.load("solved") as saved:
        assert saved["gamma"] == 1


def test_compiled_environments_have_the_same_picture(solve, tmp_path):
    assert solve("fastrl/FrozenLake-v1")[0] == 0
    assert (tmp_path / "FrozenLake-v1.png").exists()


def test_a_file_of_text(solve, tmp_path):
    (tmp_path / "model.npz").write_text("P = 1")
    status, printed = solve("model.npz")
    assert status == 2
    assert "model.npz must be a file that MDP.save wrote: it is no archive of arrays" in printed.err


def test_values_without_bounds_are_not_drawn(solve, tmp_path):
    status, printed = solve("windy_gridworld", "--gamma", "1", "--max-iter", "1")
    assert status == 1
    assert "did NOT converge" in printed.out
    assert "nothing is proven of some values" in printed.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["NoSuch-v1"], "solve: model must be an environment, a file or a process"),
        (["CartPole-v1"], "solve: model must have finitely many states"),
        (["/nowhere.npz"], "/nowhere.npz"),
        (["_grid"], "solve: model must be an environment, a file or a process"),
        (["gridworld", "--options", "{moves"], "solve: options must be a JSON object"),
        (["gridworld", "--options", "[1]"], "solve: options must be a JSON object"),
        (["gridworld", "--options", '{"size": 3}'], "size"),
        (["gridworld", "--gamma", "1.5"], "gamma must be in [0, 1], got 1.5"),
        (["gridworld", "--eps", "0"], "eps must be > 0"),
        (["gridworld", "--method", "magic"], "method must be one of"),
        (["gridworld", "--out", "x.txt"], "out must end in .png, .svg or .pdf, got x.txt"),
        (["forest", "--out", "x.png"], "solve: out must be left out, the states of forest are no grid"),
        (["gridworld_with_jumps", "--gamma", "1"], "rewards around state 0 add up to infinity"),
        (["gridworld", "--gamma", "nan"], "gamma must be in [0, 1], got nan"),
        (["Taxi-v3"], "Please use `Taxi-v4` instead"),
        (
            ["FrozenLake-v1", "--options", '{"map_name": "9x9"}'],
            "solve: options must be such that FrozenLake-v1 takes",
        ),
    ],
)
def test_one_clear_error(solve, flags, message, tmp_path):
    status, printed = solve(*flags)
    assert status == 2
    assert printed.err.startswith("fastrl: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_saved_where_it_says(solve, tmp_path):
    status, printed = solve("forest", "--save", "new/solved")
    assert status == 0
    assert "values and policy: new/solved" in printed.out
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["solved"]


@pytest.mark.parametrize("place", ["folder", "file/solved.npz"])
def test_no_planning_for_a_file_that_cannot_be(solve, tmp_path, place, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("fastrl.tabular.solve", None)
    status, printed = solve("forest", "--save", place)
    assert status == 2
    assert f"solve: save must be a file that can be written, got {place}" in printed.err


def test_cars_are_numbers(solve):
    options = '{"max_cars": 4, "max_moves": 2}'
    status, printed = solve("jacks_car_rental", "--gamma", "0.9", "--options", options)
    assert status == 0
    rows = [line.split() for line in printed.out.splitlines() if set(line) <= set("+-012 ") and line]
    assert [len(row) for row in rows] == [5] * 5


def test_options_of_a_file_are_refused(solve, tmp_path):
    zoo.forest().save(tmp_path / "forest.npz")
    status, printed = solve("forest.npz", "--options", json.dumps({"states": 4}))
    assert status == 2
    assert "solve: options must be left out, forest.npz is a file" in printed.err


def test_damaged_file(solve, tmp_path):
    zoo.forest().save(tmp_path / "forest.npz")
    data = (tmp_path / "forest.npz").read_bytes()
    (tmp_path / "forest.npz").write_bytes(data[: len(data) // 2])
    status, printed = solve("forest.npz")
    assert status == 2
    assert "forest.npz must be a file that MDP.save wrote" in printed.err
    with pytest.raises(ValueError, match="must be a file that"):
        MDP.load(tmp_path / "forest.npz")
