"""A limit equals Gymnasium's TimeLimit over each environment alone, in every mode."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import FrameStackObservation
from gymnasium.wrappers import TimeLimit as TimeLimitAlone

from fastrl.envs import VectorEnv
from fastrl.envs.wrappers import FrameStack, TimeLimit


@pytest.mark.parametrize("limit", [1, 4, 13])
@pytest.mark.parametrize("num_envs", [1, 5])
def test_equal_to_each_alone(toys: Any, run: Any, limit: int, num_envs: int) -> None:
    """Infos too."""
    theirs = toys(lambda env: TimeLimitAlone(env, limit), num_envs)
    assert run(TimeLimit(toys(num_envs=num_envs), limit), theirs, 300)["truncated"] > 30 // limit * num_envs


@pytest.mark.parametrize("copy", [True, False])
def test_compiled_environments(mode: AutoresetMode, run: Any, copy: bool) -> None:
    ours = VectorEnv("CartPole-v1", 6, autoreset_mode=mode, max_episode_steps=-1, copy=copy)
    theirs = VectorEnv("CartPole-v1", 6, autoreset_mode=mode, max_episode_steps=15)
    seen = run(TimeLimit(ours, 15), theirs, 700)
    assert min(seen[name] for name in ("terminated", "truncated", "both")) > 9


def test_dict_and_discrete_observations(toys: Any, run: Any) -> None:
    run(
        TimeLimit(toys(observation_space=spaces.Discrete(5)), 6),
        toys(lambda env: TimeLimitAlone(env, 6), observation_space=spaces.Discrete(5)),
        200,
    )
    stacked = FrameStack(toys(), 2, actions="raw")
    limited = FrameStack(toys(lambda env: TimeLimitAlone(env, 6)), 2, actions="raw")
    run(TimeLimit(stacked, 6), limited, 200)


def test_inside_and_outside_of_a_stack(toys: Any, run: Any) -> None:
    theirs = toys(lambda env: FrameStackObservation(TimeLimitAlone(env, 5), 3))
    run(FrameStack(TimeLimit(toys(), 5), 3), theirs, 200)
    run(TimeLimit(FrameStack(toys(), 3), 5), theirs, 200)


def test_a_stopped_limit_counts_on(mode: AutoresetMode) -> None:
    env = TimeLimit(VectorEnv("Pendulum-v1", 2, autoreset_mode=mode, max_episode_steps=-1), 5)
    env.reset(seed=0)
    actions = np.zeros((2, 1), np.float32)
    for _ in range(3):
        env.step(actions)
    state = env.get_state()
    env.reset()
    env.set_state(state)
    assert not env.step(actions)[3].any()
    assert env.step(actions)[3].all()


def test_errors(toys: Any, mode: AutoresetMode) -> None:
    with pytest.raises(ValueError, match="TimeLimit: max_episode_steps must be > 0, got 0"):
        TimeLimit(toys(), 0)
    with pytest.raises(TypeError, match="integer"):
        TimeLimit(toys(), 2.5)  # type: ignore[arg-type]
    env = TimeLimit(toys(), 1)
    with pytest.raises(ResetNeeded, match="TimeLimit step: call reset first"):
        env.step(np.zeros(5, np.int64))
    env.reset()
    assert env.step(np.zeros(5, np.int64))[3].all()
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(ResetNeeded, match="TimeLimit step: the episode of env 0 is over; reset it with"):
            env.step(np.zeros(5, np.int64))


def test_other_wrappers_of_gymnasium_go_around(toys: Any, mode: AutoresetMode) -> None:
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(TimeLimit(toys(), 4))
    env.reset(seed=0)
    lengths: list[int] = []
    for _ in range(60):
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        done = terminated | truncated
        if done.any():
            lengths += info["episode"]["l"][info["_episode"]].tolist()
        if done.any() and mode is AutoresetMode.DISABLED:
            env.reset(options={"reset_mask": done})
    assert max(lengths) == 4
    assert len(lengths) > 50
