"""The table that tabular environments step through: rows of any width, and what it refuses."""

from typing import Any

import numpy as np
import pytest

from fastrl import _core


def test_wide_table() -> None:
    """More outcomes than any Gymnasium environment has go through the table's general row."""
    states, width = 7, 5
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(width), states * 2)
    table = _core.TransitionTable(
        2,
        np.arange(states * 2 + 1) * width,
        random.integers(states, size=states * 2 * width),
        np.arange(states * 2.0 * width),
        probability.ravel(),
        np.zeros(states * 2 * width, bool),
        np.full(states, 1 / states),
    )
    core = _core.VecEnv("Tabular", False, 3, 1000, "NextStep", [], table)
    core.seed([4, 5, 6])
    core.reset(None, (0.0, 0.0))
    generators = [np.random.default_rng(seed) for seed in (4, 5, 6)]
    start = np.cumsum(np.full(states, 1 / states))
    state = [int(np.argmax(start > g.random())) for g in generators]
    for action in random.integers(2, size=(200, 3)):
        np.testing.assert_array_equal(core.discrete[0], state)
        core.step(action)
        rows = [s * 2 + a for s, a in zip(state, action, strict=True)]
        drawn = [
            int(np.argmax(np.cumsum(probability[r]) > g.random()))
            for r, g in zip(rows, generators, strict=True)
        ]
        np.testing.assert_array_equal(core.reward, [r * width + k for r, k in zip(rows, drawn, strict=True)])
        state = core.discrete[0].copy()


GOOD: dict[str, Any] = {
    "num_actions": 1,
    "offset": np.array([0, 1, 3]),
    "next_state": np.array([1, 0, 1]),
    "reward": np.zeros(3),
    "probability": np.array([1.0, 0.5, 0.5]),
    "terminated": np.zeros(3, bool),
    "initial": np.array([1.0, 0.0]),
}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_actions": 0}, "there must be actions and states"),
        ({"initial": np.zeros(0)}, "there must be actions and states"),
        ({"offset": np.array([0, 3])}, "offset must be"),
        ({"offset": np.array([0, 1, 2])}, "offset must be"),
        ({"offset": np.array([0, 4, 3])}, "each state and action must have an outcome"),
        ({"offset": np.array([0, 0, 3])}, "each state and action must have an outcome"),
        ({"next_state": np.array([1, 2, 0])}, "next states must be states"),
        ({"next_state": np.array([1, -1, 0])}, "next states must be states"),
        ({"reward": np.zeros(2)}, "the same number"),
        ({"probability": np.array([1.0, -0.5, 1.5])}, "probabilities must be >= 0"),
        ({"probability": np.array([1.0, np.nan, 0.5])}, "probabilities must be >= 0"),
        ({"initial": np.array([np.nan, 1.0])}, "initial probabilities must be >= 0"),
        ({"action_mask": np.zeros(3, np.int8)}, "action_mask must be"),
    ],
)
def test_refuses(change: dict[str, Any], match: str) -> None:
    _core.TransitionTable(**GOOD)
    with pytest.raises(ValueError, match=match):
        _core.TransitionTable(**{**GOOD, **change})


def test_belongs_to_tabular_environments() -> None:
    table = _core.TransitionTable(**GOOD)
    for kernel, given in (("CartPole", table), ("Tabular", None), ("Taxi", table)):
        with pytest.raises(ValueError, match="table must be given to tabular environments and fit them"):
            _core.VecEnv(kernel, False, 1, 10, "NextStep", [], given)


def test_outlives_its_name() -> None:
    """The environment keeps the table alive."""
    core = _core.VecEnv("Tabular", False, 2, 10, "NextStep", [], _core.TransitionTable(**GOOD))
    core.seed([0, 1])
    core.reset(None, (0.0, 0.0))
    for _ in range(100):
        _core.TransitionTable(**GOOD)
        core.step(np.zeros(2, np.int64))
        assert set(core.discrete[0]) <= {0, 1}
