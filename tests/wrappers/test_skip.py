"""Frame skips equal a loop over each environment alone; small grey frames equal ALE's and OpenCV's."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AtariPreprocessing, MaxAndSkipObservation

from fastrl.envs import VectorEnv
from fastrl.envs.wrappers import FrameSkip, FrameStack, GrayscaleResize, TimeLimit
from fastrl.kernels import grayscale_resize

RGB = spaces.Box(0, 255, (21, 16, 3), np.uint8)


class Skip(gymnasium.Wrapper):  # type: ignore[type-arg]
    """The definition: repeats, sums, stops at the end, and observes the larger of the last two frames."""

    def __init__(self, env: Any, skip: int, observe: Any = np.maximum, space: Any = None) -> None:
        super().__init__(env)
        self.skip, self.observe = skip, observe
        if space is not None:
            self.observation_space = space

    def reset(self, **kwargs: Any) -> Any:
        obs, info = self.env.reset(**kwargs)
        return self.observe(obs, obs), info

    def step(self, action: Any) -> Any:
        frames, total = [], 0.0
        for _ in range(self.skip):
            obs, reward, terminated, truncated, info = self.env.step(action)
            frames.append(obs)
            total += reward
            if terminated or truncated:
                break
        return self.observe(frames[-1], frames[max(0, len(frames) - 2)]), total, terminated, truncated, info


@pytest.mark.parametrize("skip", [1, 2, 4])
@pytest.mark.parametrize("num_envs", [1, 5])
def test_equal_to_each_alone(toys: Any, run: Any, skip: int, num_envs: int) -> None:
    seen = run(FrameSkip(toys(num_envs=num_envs), skip), toys(lambda env: Skip(env, skip), num_envs), 400)
    assert min(seen.values()) > 0


@pytest.mark.parametrize("copy", [True, False])
def test_compiled_environments(mode: AutoresetMode, run: Any, copy: bool) -> None:
    """One environment alone: nothing is stepped in vain, so that a random one has the same episodes too."""
    env = VectorEnv("CartPole-v1", 1, autoreset_mode=mode, max_episode_steps=14, copy=copy)
    theirs = gymnasium.make_vec(
        "CartPole-v1",
        1,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        wrappers=[lambda env: Skip(env, 4)],
        max_episode_steps=14,
    )
    seen = run(FrameSkip(env, 4), theirs, 400)
    assert min(seen[name] for name in ("terminated", "truncated")) > 20


def test_equal_to_gymnasiums_where_no_episode_ends(toys: Any, mode: AutoresetMode) -> None:
    ours, theirs = FrameSkip(toys(), 3), toys(lambda env: MaxAndSkipObservation(env, 3))
    ours.reset(), theirs.reset()
    compared, ended = 0, np.zeros(5, np.bool_)
    for _ in range(200):
        actions = ours.action_space.sample()
        obs, reward, *flags, _ = ours.step(actions)
        expected, expected_reward, *expected_flags, _ = theirs.step(actions)
        np.testing.assert_array_equal(flags, expected_flags)
        np.testing.assert_array_equal(reward, expected_reward)
        done = flags[0] | flags[1]
        np.testing.assert_array_equal(obs[~done], expected[~done])
        compared += int((~done & ~ended).sum())
        ended = done
        if done.any() and mode is AutoresetMode.DISABLED:
            for env in (ours, theirs):
                env.reset(options={"reset_mask": done.copy()})
    assert compared > 300


@pytest.mark.parametrize("skip", [1, 3])
def test_grey_and_small(toys: Any, run: Any, skip: int) -> None:
    def observe(frame: Any, before: Any) -> Any:
        return grayscale_resize(frame[None], before[None], size=(8, 9), backend="reference")[0]

    small = spaces.Box(0, 255, (8, 9), np.uint8)
    ours = GrayscaleResize(toys(observation_space=RGB), (8, 9), skip=skip)
    theirs = toys(lambda env: Skip(env, skip, observe, small), observation_space=RGB)
    assert ours.observation_space == theirs.observation_space
    run(ours, theirs, 200)


def test_actions_are_refused_where_an_episode_is_over(toys: Any, mode: AutoresetMode) -> None:
    env = FrameSkip(toys(), 4)
    with pytest.raises(ResetNeeded, match="FrameSkip step: call reset first"):
        env.step(np.zeros(5, np.int64))
    if mode is not AutoresetMode.DISABLED:
        return
    env.reset()
    while not env._ended.any():
        env.step(env.action_space.sample())
    with pytest.raises(ResetNeeded, match=r"FrameSkip step: the episode of env \d is over"):
        env.step(env.action_space.sample())


def test_refused_arguments(toys: Any) -> None:
    with pytest.raises(ValueError, match="FrameSkip: skip must be > 0, got 0"):
        FrameSkip(toys(), 0)
    with pytest.raises(TypeError, match="observations must be Box, got Discrete"):
        FrameSkip(toys(observation_space=spaces.Discrete(3)))
    with pytest.raises(TypeError, match=r"frame must be uint8 .*, got float32 \[1, 3\]"):
        GrayscaleResize(toys())
    with pytest.raises(ValueError, match=r"size must be a height in \[1, 21\] and a width in \[1, 16\]"):
        GrayscaleResize(toys(observation_space=RGB), (22, 9))


@pytest.fixture
def ale() -> Any:
    ale_py = pytest.importorskip("ale_py")
    gymnasium.register_envs(ale_py)
    return ale_py


@pytest.mark.parametrize("game", ["ALE/Breakout-v5", "ALE/MsPacman-v5"])
@pytest.mark.parametrize("obs_type", ["rgb", "grayscale"])
def test_atari_preprocessing(ale: Any, run: Any, game: str, obs_type: str) -> None:
    """Skip, maximum, grey, 84x84 and stack, to the bit, through the ends of games."""
    pytest.importorskip("cv2")

    def make(obs_type: str) -> Any:
        return gymnasium.make(
            game, frameskip=1, repeat_action_probability=0.0, obs_type=obs_type, max_episode_steps=300
        )

    mode = AutoresetMode.SAME_STEP
    ours = GrayscaleResize(SyncVectorEnv([lambda: make(obs_type)], autoreset_mode=mode), skip=4)
    theirs = SyncVectorEnv([lambda: AtariPreprocessing(make("rgb"), noop_max=0)], autoreset_mode=mode)
    ours.action_space.seed(0)
    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    ends = 0
    for _ in range(200):
        actions = ours.action_space.sample()
        obs, reward, *flags, _ = ours.step(actions)
        expected, expected_reward, *expected_flags, _ = theirs.step(actions)
        np.testing.assert_array_equal(obs, expected)
        np.testing.assert_array_equal(reward, expected_reward)
        np.testing.assert_array_equal(flags, expected_flags)
        ends += int(flags[0][0] or flags[1][0])
    assert ends > 1


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_around_ales_vector_environment(ale: Any, mode: AutoresetMode) -> None:
    """Its final observations are one array, without a mask."""
    inner = ale.AtariVectorEnv(
        "breakout", 3, autoreset_mode=mode, stack_num=1, max_num_frames_per_episode=300, noop_max=1
    )
    env = FrameStack(TimeLimit(inner, 90), 2)
    env.reset(seed=0)
    env.action_space.seed(0)
    ends = 0
    for _ in range(200):
        obs, _, terminated, truncated, info = env.step(env.action_space.sample())
        done = terminated | truncated
        ends += int(done.sum())
        assert obs.shape == (3, 2, 1, 84, 84)
        if mode is AutoresetMode.SAME_STEP and done.any():
            np.testing.assert_array_equal(info["_final_obs"], done)
            assert [final is not None for final in info["final_obs"]] == done.tolist()
    env.close()
    assert ends > 3


def test_ale_vector_environment(ale: Any) -> None:
    """Ours over ALE's environment alone gives what ALE's vector environment gives, to the bit."""
    theirs = ale.AtariVectorEnv(
        "pong", 1, noop_max=0, use_fire_reset=False, reward_clipping=False, repeat_action_probability=0.0
    )
    single = SyncVectorEnv(
        [lambda: gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)]
    )
    ours = FrameStack(GrayscaleResize(single, skip=4), 4, padding="zero")
    ours.action_space.seed(0)
    obs, expected = ours.reset(seed=0)[0], theirs.reset(seed=0)[0]
    assert obs.shape == expected.shape
    np.testing.assert_array_equal(obs[:, -1], expected[:, -1])
    for step in range(150):
        actions = ours.action_space.sample()
        obs, reward, *_ = ours.step(actions)
        expected, expected_reward, *_ = theirs.step(actions)
        np.testing.assert_array_equal(obs[:, -min(step, 4) :], expected[:, -min(step, 4) :])
        np.testing.assert_array_equal(reward, expected_reward)
    theirs.close()
