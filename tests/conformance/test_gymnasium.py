"""The compiled environments as parts of Gymnasium: registration, wrappers, checker, spec, rendering."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from fastrl.envs import VectorEnv
from fastrl.kernels.envs import TABLE, make


def cartpole(num_envs: int = 4, **kwargs: Any) -> VectorEnv:
    return VectorEnv("CartPole-v1", num_envs, **kwargs)


@pytest.mark.filterwarnings("ignore:.*infinity")  # velocities are unbounded, as in Gymnasium's
def test_checker() -> None:
    check_env(gymnasium.make("fastrl/CartPole-v1").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_vectorization_modes(mode: str) -> None:
    ours = gymnasium.make_vec("fastrl/CartPole-v1", num_envs=3, vectorization_mode=mode)
    theirs = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    np.testing.assert_array_equal(ours.reset(seed=4)[0], theirs.reset(seed=4)[0])
    for action in np.random.default_rng(0).integers(0, 2, (60, 3)):
        for a, b in zip(ours.step(action), theirs.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
    ours.close()


def test_made_again_from_its_spec() -> None:
    env = gymnasium.make_vec("fastrl/CartPole-v1", num_envs=3, autoreset_mode=AutoresetMode.SAME_STEP)
    again = gymnasium.make_vec(env.spec)
    assert (again.num_envs, again.metadata) == (3, env.metadata)


def test_metadata_is_per_instance() -> None:
    envs = [cartpole(autoreset_mode=mode) for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)]
    assert [env.metadata["autoreset_mode"] for env in envs] == [
        AutoresetMode.SAME_STEP,
        AutoresetMode.NEXT_STEP,
    ]
    assert "autoreset_mode" not in VectorEnv.metadata


def test_options_are_left_alone() -> None:
    """Gymnasium's Sync pops the mask, whereupon RecordEpisodeStatistics forgets every env's counters."""
    env = RecordEpisodeStatistics(cartpole(3))
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.array([0, 1, 0]))
    env.reset(options={"reset_mask": np.array([True, False, False])})
    np.testing.assert_array_equal(env.episode_lengths, [0, 5, 5])
    options = {"reset_mask": np.array([True, False, False]), "low": -0.01}
    env.unwrapped.reset(options=options)
    assert list(options) == ["reset_mask", "low"]


def test_bounds_hold_for_one_reset() -> None:
    """Autoreset draws from the environment's own bounds, where CartPoleVectorEnv keeps the last ones."""
    env = cartpole(64, max_episode_steps=1)
    wide = env.reset(seed=0, options={"low": -0.2, "high": 0.2})[0]
    env.step(np.zeros(64, np.int64))
    narrow = env.step(np.zeros(64, np.int64))[0]
    assert abs(wide).max() > 0.15
    assert abs(narrow).max() <= 0.05


def test_uncopied() -> None:
    env, twin = cartpole(copy=False), cartpole()
    obs = env.reset(seed=0)[0]
    twin.reset(seed=0)
    actions = np.array([0, 1, 1, 0])
    first, expected = env.step(actions), twin.step(actions)
    assert first[0] is obs
    for a, b in zip(first[:4], expected[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert env.step(actions)[1] is first[1]


def test_infos_are_fresh() -> None:
    env = cartpole()
    env.reset(seed=0)
    env.step(np.zeros(4, np.int64))[4]["mine"] = 1
    assert env.step(np.zeros(4, np.int64))[4] == {}


def test_render(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    ours = gymnasium.make_vec("fastrl/CartPole-v1", num_envs=2, render_mode="rgb_array")
    theirs = gymnasium.make_vec("CartPole-v1", 2, "sync", render_mode="rgb_array")
    alone = gymnasium.make("fastrl/CartPole-v1", render_mode="rgb_array")
    ours.reset(seed=0), theirs.reset(seed=0), alone.reset(seed=0)
    for _ in range(3):
        ours.step(np.array([1, 0])), theirs.step(np.array([1, 0])), alone.step(1)
    frames, expected = ours.render(), theirs.render()
    assert type(frames) is tuple
    np.testing.assert_array_equal(frames, expected)
    np.testing.assert_array_equal(alone.render(), expected[0])
    for env in (ours, theirs, alone):
        env.close()


def test_render_without_mode() -> None:
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert cartpole().render() is None


def test_rows_of_the_table() -> None:
    for env_id, row in TABLE.items():
        core = make(env_id, 2, row.max_episode_steps, "NextStep", {})
        assert core.obs_size == len(row.obs_high)
