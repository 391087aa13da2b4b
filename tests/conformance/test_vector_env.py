"""Every compiled environment against SyncVectorEnv over Gymnasium's: bit for bit, in each autoreset mode.

An environment enters the suite by its row in ``fastrl.kernels.envs.TABLE``.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import fastrl  # noqa: F401  # registers the environments
from fastrl.kernels.envs import NO_LIMIT, TABLE

# Gymnasium says so of every id that has a newer version
pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")

MODES = list(AutoresetMode)
NUM_ENVS = 17
# no episode of random actions ends by itself within 15 steps, or hardly one; toy text ones have tests of their own
ENDS_LATE = {
    "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1",
    "Taxi-v4", "CliffWalking-v1", "CliffWalkingSlippery-v1",
}  # fmt: skip
UNLIMITED = {"CliffWalking-v1", "CliffWalkingSlippery-v1"}
SHORT = {"Blackjack-v1": 2}


def swing(obs: np.ndarray) -> np.ndarray:
    """Pushes a car, or Acrobot's second joint, where it moves: reaches the goal."""
    return np.where(obs[:, -1] >= 0, 2, 0)


def push(obs: np.ndarray) -> np.ndarray:
    """The same with forces, of which some are beyond their bounds."""
    size = np.linspace(0.8, 1.3, len(obs))
    return np.where(obs[:, -1] >= 0, size, -size).astype(np.float32)[:, None]


# policies that reach the goal, and a limit by which about half of their episodes have
REACHES = {"Acrobot-v1": (swing, 95), "MountainCar-v0": (swing, 115), "MountainCarContinuous-v0": (push, 110)}


def random_actions(random: np.random.Generator, space: gymnasium.Space[Any], num_envs: int) -> np.ndarray:
    """Actions for ``num_envs`` envs; continuous ones beyond their bounds as well."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return random.integers(0, int(space.n), num_envs)
    assert isinstance(space, gymnasium.spaces.Box)
    scale = random.choice([0.01, 1.0, 1.5], (num_envs, 1))
    return (random.uniform(space.low, space.high, (num_envs, *space.shape)) * scale).astype(space.dtype)


def pair(env_id: str, mode: AutoresetMode, num_envs: int = NUM_ENVS, **kwargs: Any) -> tuple[Any, Any]:
    """Ours, and what it must equal."""
    ours = gymnasium.make_vec(f"fastrl/{env_id}", num_envs=num_envs, autoreset_mode=mode, **kwargs)
    theirs = gymnasium.make_vec(
        env_id, num_envs, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **kwargs
    )
    return ours, theirs


def arrays_in(result: Any) -> list[np.ndarray]:
    """The arrays of nested tuples and dicts."""
    if isinstance(result, dict):
        result = tuple(result.values())
    return [x for part in result for x in arrays_in(part)] if isinstance(result, tuple) else [result]


def assert_equal(ours: Any, theirs: Any) -> None:
    """Same types, dtypes, shapes and bytes, in nested tuples, dicts and object arrays as well."""
    assert type(ours) is type(theirs) or (isinstance(ours, float) and isinstance(theirs, float))
    if isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if ours.dtype == object:
            assert_equal(tuple(ours), tuple(theirs))
        else:
            assert ours.tobytes() == theirs.tobytes(), (ours, theirs)
    else:
        assert ours == theirs


def run(
    ours: Any,
    theirs: Any,
    steps: int,
    seed: int = 0,
    policy: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, int]:
    """Steps of both, random without a policy, compared; counts what happened."""
    random = np.random.default_rng(seed)
    seen = {"terminated": 0, "truncated": 0, "both": 0}
    done = np.zeros(ours.num_envs, bool)
    for _ in range(steps):
        if done.any() and ours.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
            assert_equal(ours.reset(options={"reset_mask": done}), theirs.reset(options={"reset_mask": done}))
        actions = random_actions(random, ours.single_action_space, ours.num_envs)
        if policy is not None:
            actions = policy(ours._core.obs)
        result = ours.step(actions)
        assert_equal(result, theirs.step(actions))
        _, _, terminated, truncated, _ = result
        done = terminated | truncated
        seen["terminated"] += int(terminated.sum())
        seen["truncated"] += int(truncated.sum())
        seen["both"] += int((terminated & truncated).sum())
    return seen


@pytest.fixture(params=list(TABLE))
def env_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODES, ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> AutoresetMode:
    assert isinstance(request.param, AutoresetMode)
    return request.param


def test_attributes(env_id: str, mode: AutoresetMode) -> None:
    ours, theirs = pair(env_id, mode)
    for name in ("num_envs", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
    for name in ("max_episode_steps", "reward_threshold"):
        assert getattr(gymnasium.spec(f"fastrl/{env_id}"), name) == getattr(gymnasium.spec(env_id), name)


def test_random_policy(env_id: str, mode: AutoresetMode) -> None:
    ours, theirs = pair(env_id, mode)
    assert_equal(ours.reset(seed=7), theirs.reset(seed=7))
    seen = run(ours, theirs, 2000)
    limit = TABLE[env_id].max_episode_steps
    whole = 100 if limit == NO_LIMIT else min(100, NUM_ENVS * (2000 // (limit + 1)) - 1)
    assert seen["terminated"] + seen["truncated"] > whole or env_id in UNLIMITED


def test_truncation(env_id: str, mode: AutoresetMode) -> None:
    """A limit near the typical length of an episode: truncations, and both flags at once."""
    ours, theirs = pair(env_id, mode, max_episode_steps=SHORT.get(env_id, 15))
    assert_equal(ours.reset(seed=8), theirs.reset(seed=8))
    seen = run(ours, theirs, 1500)
    wanted = {"truncated"} if env_id in ENDS_LATE else set(seen)
    assert min(seen[name] for name in wanted) > 20, seen


@pytest.mark.parametrize("env_id", list(REACHES))
def test_goal(env_id: str, mode: AutoresetMode) -> None:
    """What random actions never reach: the goal, at times in the very step of the limit."""
    policy, limit = REACHES[env_id]
    ours, theirs = pair(env_id, mode, max_episode_steps=limit)
    assert_equal(ours.reset(seed=9), theirs.reset(seed=9))
    seen = run(ours, theirs, 1500, policy=policy)
    assert seen["terminated"] > 20
    assert seen["truncated"] > 20
    assert seen["both"] > 0


def test_seeds(env_id: str, mode: AutoresetMode) -> None:
    ours, theirs = pair(env_id, mode, num_envs=4)
    for seed in (3, None, [5, None, 2**70 + 1, 0], None, (None, 9, None, None), [1, 1, 1, 1]):
        assert_equal(ours.reset(seed=seed), theirs.reset(seed=seed))
        run(ours, theirs, 60)
        if mode is AutoresetMode.DISABLED:  # Gymnasium's refuses the steps of a finished episode
            assert_equal(ours.reset(), theirs.reset())
    assert ours.np_random_seed == theirs.np_random_seed == (1, 1, 1, 1)
    for a, b in zip(ours.np_random, theirs.np_random, strict=True):
        assert a.bit_generator.state == b.bit_generator.state


def test_partial_reset(env_id: str, mode: AutoresetMode) -> None:
    ours, theirs = pair(env_id, mode)
    assert_equal(ours.reset(seed=7), theirs.reset(seed=7))
    random = np.random.default_rng(1)
    for round_ in range(20):
        run(ours, theirs, 12, seed=round_)
        mask = random.random(NUM_ENVS) < 0.4
        mask[round_ % NUM_ENVS] = True
        seed = [None, round_, list(range(NUM_ENVS))][round_ % 3]
        if mode is AutoresetMode.DISABLED:
            mask |= ours._core.needs_reset
        assert_equal(
            ours.reset(seed=seed, options={"reset_mask": mask}),
            theirs.reset(seed=seed, options={"reset_mask": mask}),
        )


def test_episode_statistics(env_id: str, mode: AutoresetMode) -> None:
    ours, theirs = (RecordEpisodeStatistics(env) for env in pair(env_id, mode))
    ours.reset(seed=7), theirs.reset(seed=7)
    random = np.random.default_rng(0)
    done = np.zeros(NUM_ENVS, bool)
    for _ in range(300):
        if done.any() and mode is AutoresetMode.DISABLED:
            running = theirs.episode_returns[~done], theirs.episode_lengths[~done]
            for env in (ours, theirs):
                env.reset(options={"reset_mask": done.copy()})
            # Sync pops the mask from the options, so that the wrapper forgot the running episodes as well
            theirs.episode_returns[~done], theirs.episode_lengths[~done] = running
        actions = random_actions(random, ours.single_action_space, NUM_ENVS)
        *_, terminated, truncated, infos = ours.step(actions)
        *_, expected = theirs.step(actions)
        done = terminated | truncated
        assert ("episode" in infos) == ("episode" in expected) == done.any()
        if done.any():
            assert_equal({k: infos["episode"][k] for k in "rl"}, {k: expected["episode"][k] for k in "rl"})
            assert_equal(infos["_episode"], expected["_episode"])
            env = ours.unwrapped
            np.testing.assert_array_equal(env.episode_return[done], infos["episode"]["r"][done])
            np.testing.assert_array_equal(env.episode_length[done], infos["episode"]["l"][done])


def test_outputs_are_fresh(env_id: str, mode: AutoresetMode) -> None:
    """With copy=True nothing that was returned changes later."""
    ours, _ = pair(env_id, mode)
    results = [ours.reset(seed=7)]
    for _ in range(30):
        if mode is AutoresetMode.DISABLED:
            ours.reset()
        results.append(ours.step(np.zeros(ours.action_space.shape, ours.action_space.dtype)))
    arrays = [x for result in results for x in arrays_in(result)]
    for i, a in enumerate(arrays):
        assert a.flags.owndata
        assert not any(np.shares_memory(a, b) for b in arrays[i + 1 : i + 20])


def test_scalar_env(env_id: str) -> None:
    """Alone, through gymnasium.make, a compiled environment equals Gymnasium's."""
    ours, theirs = gymnasium.make(f"fastrl/{env_id}"), gymnasium.make(env_id)
    random = np.random.default_rng(0)
    episodes = 3 if env_id in UNLIMITED else 50
    for episode in range(episodes):
        seed = episode if episode % 3 == 0 else None
        assert_equal(ours.reset(seed=seed), theirs.reset(seed=seed))
        assert ours.np_random.random() == theirs.np_random.random()
        over = False
        while not over:
            action = random_actions(random, ours.action_space, 1)[0]
            result, expected = ours.step(action), theirs.step(action)
            assert_equal(result, (expected[0], float(expected[1]), *expected[2:]))  # some rewards are int
            over = result[2] or result[3]
