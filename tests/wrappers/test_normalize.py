"""Normalised observations and rewards by the definition, over everything that was seen, in every mode."""

import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from fastrl.envs import VectorEnv
from fastrl.envs.wrappers import NormalizeObservation, NormalizeReward
from fastrl.normalize import ReturnNormalizer, RunningMeanStd


def played(env: Any, steps: int, resets: bool = True) -> Any:
    """Transitions of a random policy: observation, reward, flags, info, ended before, mask of the reset after."""
    random, mode = np.random.default_rng(0), env.metadata["autoreset_mode"]
    env.action_space.seed(0)
    ended = np.zeros(env.num_envs, np.bool_)
    for t in range(steps):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        done = terminated | truncated
        mask = done.copy() if mode is AutoresetMode.DISABLED else np.zeros(env.num_envs, np.bool_)
        if resets and t % 17 == 16:
            mask |= random.random(env.num_envs) < 0.5
        yield obs, reward, done, info, ended, mask
        if mask.any():
            env.reset(options={"reset_mask": mask})
        ended = done & ~mask


class Recorder(gymnasium.vector.VectorWrapper):  # type: ignore[type-arg]
    """Keeps what came out of an environment."""

    def reset(self, **kwargs: Any) -> Any:
        self.first, info = self.env.reset(**kwargs)
        return self.first, info

    def step(self, actions: Any) -> Any:
        self.last = self.env.step(actions)
        return self.last


def standardized(x: Any, seen: Any, clip: float) -> Any:
    z = (x - np.mean(seen, axis=0)) / np.sqrt(np.var(seen, axis=0) + 1e-8)
    return np.clip(z, -clip, clip)


def test_observations_by_the_definition(toys: Any, mode: AutoresetMode) -> None:
    inner = Recorder(toys())
    env = NormalizeObservation(inner, clip=2.0)
    obs, _ = env.reset(seed=0)
    seen = list(inner.first)
    np.testing.assert_allclose(obs, standardized(inner.first, seen, 2.0), rtol=1e-5, atol=1e-6)
    finals = 0
    for obs, _, done, info, _, mask in played(env, 150):
        raw, *_, raw_info = inner.last
        seen += list(raw if mode is AutoresetMode.SAME_STEP else raw[~done])
        assert obs.dtype == np.float32
        np.testing.assert_allclose(obs, standardized(raw, seen, 2.0), rtol=1e-4, atol=1e-5)
        assert obs in env.observation_space
        if mode is AutoresetMode.SAME_STEP:
            for i in np.flatnonzero(done):
                finals += 1
                expected = standardized(raw_info["final_obs"][i], seen, 2.0)
                np.testing.assert_allclose(info["final_obs"][i], expected, rtol=1e-4, atol=1e-5)
        if mask.any():  # the reset that follows is seen too
            again = toys()
            again.reset(seed=0)
            seen += [again.envs[i].reset()[0] for i in np.flatnonzero(mask)]
    assert env.statistics.count == len(seen)
    assert finals > 10 or mode is not AutoresetMode.SAME_STEP


def test_rewards_by_the_definition(toys: Any, mode: AutoresetMode) -> None:
    gamma = 0.9
    inner = Recorder(toys())
    env = NormalizeReward(inner, gamma, clip=1.5)
    env.reset(seed=0)
    running, seen = np.zeros(5), []
    for _, reward, done, _, ended, mask in played(env, 300):
        raw = inner.last[1]
        valid = ~ended if mode is AutoresetMode.NEXT_STEP else np.ones(5, np.bool_)
        running = np.where(valid, gamma * running + raw, running)
        seen += running[valid].tolist()
        expected = np.clip(raw / np.sqrt(np.var(seen) + 1e-8), -1.5, 1.5)
        np.testing.assert_allclose(reward, expected, rtol=1e-5, atol=1e-6)
        assert reward.dtype == np.float64
        assert not reward[~valid].any()
        running[done | mask] = 0
    assert env.statistics.count == len(seen)


def test_the_same_statistics_as_in_training(mode: AutoresetMode) -> None:
    """As RunningMeanStd and ReturnNormalizer, fed as a rollout feeds them, in each mode the same."""
    env = NormalizeReward(
        NormalizeObservation(VectorEnv("Pendulum-v1", 4, autoreset_mode=mode, max_episode_steps=11)), 0.97
    )
    plain = VectorEnv("Pendulum-v1", 4, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=11)
    observations, returns = RunningMeanStd((3,)), ReturnNormalizer(4, 0.97)
    env.reset(seed=0), observations.update(plain.reset(seed=0)[0])
    random = np.random.default_rng(1)
    for _ in range(200):
        actions = random.uniform(-2, 2, (4, 1)).astype(np.float32)
        obs, reward, terminated, truncated, _ = plain.step(actions)
        observations.update(obs)
        returns.update(reward, terminated | truncated)
        *_, terminated, truncated, _ = env.step(actions)
        if (terminated | truncated).any():
            if mode is AutoresetMode.DISABLED:
                env.reset(options={"reset_mask": terminated | truncated})
            if mode is AutoresetMode.NEXT_STEP:  # all episodes end at once
                env.step(actions)
    assert env.env.statistics.count == observations.count
    np.testing.assert_allclose(env.env.statistics.mean, observations.mean, rtol=1e-9)
    np.testing.assert_allclose(env.env.statistics.var, observations.var, rtol=1e-9)
    assert env.statistics.count == returns.statistics.count
    np.testing.assert_allclose(env.statistics.var, returns.statistics.var, rtol=1e-12)


def test_gymnasiums_differ_as_the_docstrings_say() -> None:
    """Gymnasium's take in final observations and begin with 1e-4 of a pseudo-count; nothing else."""

    def make() -> Any:
        return gymnasium.make_vec("Pendulum-v1", 3, vectorization_mode="sync")  # nothing terminates

    ours, theirs = NormalizeObservation(make()), gymnasium.wrappers.vector.NormalizeObservation(make())
    scaled, scaled_theirs = NormalizeReward(ours, 0.9), gymnasium.wrappers.vector.NormalizeReward(theirs, 0.9)
    scaled.reset(seed=0), scaled_theirs.reset(seed=0)
    for t in range(150):  # an episode has 200 steps
        actions = np.full((3, 1), np.sin(t), np.float32)
        obs, reward, *_ = scaled.step(actions)
        expected, expected_reward, *_ = scaled_theirs.step(actions)
        if t > 20:
            np.testing.assert_allclose(obs, expected, atol=2e-3)
            np.testing.assert_allclose(reward, expected_reward, rtol=2e-3)


def test_standing_still(toys: Any) -> None:
    env = NormalizeReward(NormalizeObservation(toys()))
    env.reset(seed=0)
    for _ in played(env, 20):
        pass
    env.update_running_mean = env.env.update_running_mean = False
    before = pickle.dumps((env.statistics, env.env.statistics))
    env.reset(seed=1)
    for _ in played(env, 20):
        pass
    assert pickle.dumps((env.statistics, env.env.statistics)) == before


def test_statistics_are_saved_shared_and_merged(toys: Any, tmp_path: Path) -> None:
    image = spaces.Box(0, 255, (2, 3), np.uint8)
    one, other = (NormalizeObservation(toys(observation_space=image)) for _ in range(2))
    one.reset(), other.reset()
    for _ in played(one, 20):
        pass
    one.save(tmp_path / "statistics")
    other.load(tmp_path / "statistics")
    np.testing.assert_equal(other.statistics.state(), one.statistics.state())
    other.statistics.merge(one.statistics)
    assert other.statistics.count == 2 * one.statistics.count
    shared = NormalizeObservation(toys(observation_space=image), statistics=one.statistics)
    shared.reset()
    assert one.statistics is shared.statistics
    with pytest.raises(ValueError, match=r"must hold statistics of \[3\], got .*\[6\]"):
        NormalizeObservation(toys()).load(tmp_path / "statistics")
    rewards = NormalizeReward(toys())
    rewards.save(tmp_path / "rewards")
    rewards.load(tmp_path / "rewards")


def test_copies_and_states_continue_alike(mode: AutoresetMode, equal: Any) -> None:
    env = NormalizeReward(NormalizeObservation(VectorEnv("CartPole-v1", 3, autoreset_mode=mode)))
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.array([1, 0, 1]))
    state, twin = env.get_state(), pickle.loads(pickle.dumps(env))
    expected = env.step(np.array([1, 1, 1]))
    env.step(np.array([0, 0, 0]))
    env.set_state(state)
    equal(env.step(np.array([1, 1, 1])), expected)
    equal(twin.step(np.array([1, 1, 1])), expected)
    with pytest.raises(ValueError, match="state must be what get_state of its like returned"):
        env.set_state(state["env"])


def test_errors(toys: Any) -> None:
    with pytest.raises(TypeError, match="NormalizeObservation: observations must be Box, got Discrete"):
        NormalizeObservation(toys(observation_space=spaces.Discrete(3)))
    with pytest.raises(ValueError, match=r"statistics must be of shape \[3\], got \[2\]"):
        NormalizeObservation(toys(), statistics=RunningMeanStd((2,)))
    with pytest.raises(ValueError, match="clip must be > 0, got 0"):
        NormalizeObservation(toys(), clip=0)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got 1.5"):
        NormalizeReward(toys(), 1.5)
