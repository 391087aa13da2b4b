"""Stacks equal those of Gymnasium's FrameStackObservation over each environment alone, in every mode."""

import copy
import pickle
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.wrappers import FrameStackObservation

from fastrl.envs import VectorEnv
from fastrl.envs.wrappers import FrameStack

SPACES = {
    "vector": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "image": spaces.Box(0, 255, (5, 4), np.uint8),
    "scalar": spaces.Box(2.0, 9.0, (), np.float64),
    "discrete": spaces.Discrete(7, start=2),
}


class WithActions(gymnasium.Wrapper):  # type: ignore[type-arg]
    """An environment whose stacks hold actions too, in a queue."""

    def __init__(self, env: Any, size: int, encode: Any, none: Any, space: Any) -> None:
        super().__init__(env)
        self.frames: deque[Any] = deque(maxlen=size)
        self.actions: deque[Any] = deque(maxlen=size)
        self.encode, self.none = encode, none
        stacked = gymnasium.vector.utils.batch_space(env.observation_space, size)
        self.observation_space = spaces.Dict(observation=stacked, action=space)

    def reset(self, **kwargs: Any) -> Any:
        obs, info = self.env.reset(**kwargs)
        for _ in range(self.frames.maxlen or 0):
            self.frames.append(obs)
            self.actions.append(self.none)
        return self._stacks(), info

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        self.frames.append(obs)
        self.actions.append(self.encode(action))
        return self._stacks(), *rest

    def _stacks(self) -> Any:
        return {"observation": np.stack(self.frames), "action": np.stack(self.actions)}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("padding", ["reset", "zero"])
def test_equal_to_each_alone(toys: Any, run: Any, space: str, padding: str) -> None:
    make = {"observation_space": SPACES[space]}
    ours = FrameStack(toys(**make), 3, padding=padding)
    theirs = toys(lambda env: FrameStackObservation(env, 3, padding_type=padding), **make)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    seen = run(ours, theirs, 400, info=False)
    assert min(seen.values()) > 10


@pytest.mark.parametrize("size", [1, 2, 5])
def test_sizes_and_views(toys: Any, run: Any, size: int) -> None:
    """With copy=False the stacks are views; equal whenever looked at in time."""
    ours = FrameStack(toys(), size, copy=False)
    run(ours, toys(lambda env: FrameStackObservation(env, size)), 300, info=False)
    assert np.shares_memory(ours.reset()[0], ours._observations.frames)


def one_hot(action: Any) -> Any:
    return np.eye(3, dtype=np.float32)[action]


@pytest.mark.parametrize("kind", ["one_hot", "raw", "raw continuous"])
def test_past_actions(toys: Any, run: Any, kind: str) -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    action = box if kind == "raw continuous" else spaces.Discrete(3)
    reference = {
        "one_hot": (one_hot, np.zeros(3, np.float32), spaces.Box(0, 1, (4, 3), np.float32)),
        "raw": (np.int64, np.int64(0), spaces.MultiDiscrete([3] * 4)),
        "raw continuous": (lambda x: x, np.zeros(2, np.float32), spaces.Box(-1, 1, (4, 2), np.float32)),
    }[kind]
    ours = FrameStack(toys(action_space=action), 4, actions=kind.split()[0])
    theirs = toys(lambda env: WithActions(env, 4, *reference), action_space=action)
    assert ours.single_observation_space == theirs.single_observation_space
    run(ours, theirs, 400, info=False)
    assert ours.reset()[0] in ours.observation_space


def test_compiled_environments(mode: AutoresetMode, run: Any) -> None:
    env = VectorEnv("CartPole-v1", 6, autoreset_mode=mode, max_episode_steps=12, copy=False)
    theirs = gymnasium.make_vec(
        "CartPole-v1",
        6,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        wrappers=[lambda env: FrameStackObservation(env, 4)],
        max_episode_steps=12,
    )
    run(FrameStack(env, 4), theirs, 500)


def test_asynchronous_environments(run: Any) -> None:
    functions = [lambda: gymnasium.make("CartPole-v1")] * 2
    ours = FrameStack(AsyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP), 4)
    stacked = [lambda: FrameStackObservation(gymnasium.make("CartPole-v1"), 4)] * 2
    theirs = gymnasium.vector.SyncVectorEnv(stacked, autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        run(ours, theirs, 100, info=False)
    finally:
        ours.close()


def test_what_was_returned_stays(toys: Any) -> None:
    env = FrameStack(toys(), 3)
    kept = [env.reset()[0]]
    copies = [kept[0].copy()]
    for _ in range(60):
        if env.mode is AutoresetMode.DISABLED:
            env.reset()
        obs = env.step(env.action_space.sample())[0]
        kept.append(obs[1:, ::2] if len(kept) % 2 else obs)  # a view holds its array
        copies.append(kept[-1].copy())
        env.step(env.action_space.sample()) if env.mode is not AutoresetMode.DISABLED else env.reset()
    for array, before in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, before)


def test_arrays_that_nobody_holds_are_used_again(toys: Any) -> None:
    """Their pages are there already; copies and pickles have none in common."""
    env = FrameStack(toys(), 3)
    env.reset()
    places = set()
    for _ in range(20):
        if env.mode is AutoresetMode.DISABLED:
            env.reset()
        obs = env.step(env.action_space.sample())[0]
        places.add(obs.ctypes.data)
    assert len(places) <= 3


def test_copies_and_states_continue_alike(mode: AutoresetMode, run: Any, equal: Any) -> None:
    env = FrameStack(
        VectorEnv("CartPole-v1", 4, autoreset_mode=mode, max_episode_steps=9), 3, actions="one_hot"
    )
    env.reset(seed=0)
    for _ in range(7):
        env.step(env.action_space.sample())
    state = env.get_state()
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    actions = [np.array([0, 1, 0, 1])] * 2
    expected = [env.step(a) for a in actions]
    env.reset(seed=5)
    env.set_state(state)
    for twin in [env, *twins]:
        for a, result in zip(actions, expected, strict=True):
            equal(twin.step(a), result)


def test_errors(toys: Any) -> None:
    env = FrameStack(toys(), 3, actions="one_hot")
    with pytest.raises(ResetNeeded, match="FrameStack step: call reset first"):
        env.step(np.zeros(5, np.int64))
    with pytest.raises(ResetNeeded, match="the first reset takes no reset_mask"):
        env.reset(options={"reset_mask": np.ones(5, np.bool_)})
    env.reset()
    before = env._own_state()
    with pytest.raises(ValueError, match=r"actions must be in Discrete\(3\), got"):
        env.step(np.array([0, 1, 2, 3, -1]))
    with pytest.raises(TypeError, match=r"actions must be integers \[5\], got float64 \[5\]"):
        env.step(np.zeros(5))
    with pytest.raises(ValueError, match=r"actions must be \[5\], got int64 \[4\]"):
        env.step(np.zeros(4, np.int64))
    with pytest.raises(TypeError, match=r"reset_mask must be bool \[5\], got int64 \[5\]"):
        env.reset(options={"reset_mask": np.ones(5, np.int64)})
    with pytest.raises(ValueError, match=r"reset_mask must be bool \[5\], got bool \[4\]"):
        env.reset(options={"reset_mask": np.ones(4, np.bool_)})
    with pytest.raises(ValueError, match="at least one True, got none"):
        env.reset(options={"reset_mask": np.zeros(5, np.bool_)})
    np.testing.assert_equal(env._own_state(), before)
    with pytest.raises(AttributeError, match="FrameStack: env must have get_state, got SyncVectorEnv"):
        env.get_state()


def test_refused_arguments(toys: Any) -> None:
    with pytest.raises(ValueError, match="FrameStack: size must be > 0, got 0"):
        FrameStack(toys(), 0)
    with pytest.raises(ValueError, match="padding must be one of reset, zero, got 'first'"):
        FrameStack(toys(), 2, padding="first")
    with pytest.raises(ValueError, match="actions must be one of None, one_hot, raw, got 'all'"):
        FrameStack(toys(), 2, actions="all")
    with pytest.raises(TypeError, match="actions='one_hot' needs Discrete actions, got Box"):
        FrameStack(toys(action_space=spaces.Box(-1, 1, (2,))), 2, actions="one_hot")
    with pytest.raises(TypeError, match="observations must be arrays of numbers, got Tuple"):
        FrameStack(gymnasium.make_vec("Blackjack-v1", 2), 2)
    env = toys()
    env.metadata = {"autoreset_mode": "NextStep"}
    env.autoreset_mode = "NextStep"
    with pytest.raises(ValueError, match="its metadata must say its AutoresetMode, got 'NextStep'"):
        FrameStack(env, 2)


def test_a_state_of_another_size_is_refused(mode: AutoresetMode) -> None:
    env, other = (FrameStack(VectorEnv("CartPole-v1", 2, autoreset_mode=mode), size) for size in (2, 3))
    env.reset(seed=0), other.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=r"frames must be \[2, 2, 4\], got float32 \[2, 3, 4\]"):
        env.set_state(other.get_state())
    with pytest.raises(ValueError, match="state must be what get_state of its like returned"):
        env.set_state({})
    np.testing.assert_equal(env.get_state(), before)
