"""Environments in fast mode: one step against float64, and everything but the arithmetic against exact mode."""

import math
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from fastrl.envs import ScalarEnv, VectorEnv
from fastrl.kernels.envs import TABLE

MAX_X, MAX_ANGLE = 2.4, 12 * 2 * math.pi / 360
# the initial state's first components are uniform between these, the others 0
INITIAL = {
    "Acrobot-v1": ([-0.1] * 4, [0.1] * 4),
    "CartPole-v1": ([-0.05] * 4, [0.05] * 4),
    "MountainCar-v0": ([-0.6], [-0.4]),
    "MountainCarContinuous-v0": ([-0.6], [-0.4]),
    "Pendulum-v1": ([-math.pi, -1.0], [math.pi, 1.0]),
}


@pytest.fixture(params=[i for i, row in TABLE.items() if row.obs_high and i != "CartPole-v0"])  # computes
def env_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair(env_id: str, num_envs: int, **kwargs: Any) -> tuple[VectorEnv, VectorEnv]:
    """Fast and exact."""
    return VectorEnv(env_id, num_envs, mode="fast", **kwargs), VectorEnv(env_id, num_envs, **kwargs)


def random_actions(random: np.random.Generator, env: VectorEnv) -> np.ndarray:
    if isinstance(env.single_action_space, gymnasium.spaces.Discrete):
        return random.integers(0, env.single_action_space.n, env.num_envs)
    return random.uniform(-2.5, 2.5, (env.num_envs, 1)).astype(np.float32)


def cartpole_step(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Next states [4, N] in float64."""
    _, x_dot, theta, theta_dot = state
    force, cos, sin = np.where(action == 1, 10.0, -10.0), np.cos(theta), np.sin(theta)
    temp = (force + 0.05 * theta_dot**2 * sin) / 1.1
    theta_acc = (9.8 * sin - cos * temp) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    x_acc = temp - 0.05 * theta_acc * cos / 1.1
    return state + 0.02 * np.stack((x_dot, x_acc, theta_dot, theta_acc))


def pendulum_step(state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations [N, 3] and rewards [N] in float64."""
    theta, theta_dot = state
    torque = np.clip(action[:, 0].astype(np.float64), -2.0, 2.0)
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    speed = np.clip(theta_dot + 0.05 * (15.0 * np.sin(theta) + 3.0 * torque), -8.0, 8.0)
    angle_after = theta + 0.05 * speed
    obs = np.stack((np.cos(angle_after), np.sin(angle_after), speed), 1)
    return obs, -(angle**2 + 0.1 * theta_dot**2 + 0.001 * torque**2)


def car_step(env_id: str, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Next states [2, N] and in how far they are beyond the goal, in float64."""
    position, speed = state
    if env_id == "MountainCar-v0":
        force, goal = (action - 1) * 0.001, 0.5
    else:
        force, goal = np.clip(action[:, 0].astype(np.float64), -1, 1) * 0.0015, 0.45
    speed = np.clip(speed + force - 0.0025 * np.cos(3 * position), -0.07, 0.07)
    position = np.clip(position + speed, -1.2, 0.6)
    speed = np.where((position == -1.2) & (speed < 0), 0, speed)
    return np.stack((position, speed)), np.minimum(position - goal, speed)


def acrobot_slope(state: np.ndarray, torque: np.ndarray) -> np.ndarray:
    one, two, speed1, speed2 = state
    d1, d2 = 3.5 + np.cos(two), 1.25 + 0.5 * np.cos(two)
    phi2 = 4.9 * np.sin(one + two)
    phi1 = 14.7 * np.sin(one) + phi2 - (0.5 * speed2**2 + speed1 * speed2) * np.sin(two)
    turn2 = (torque + d2 / d1 * phi1 - 0.5 * speed1**2 * np.sin(two) - phi2) / (1.25 - d2**2 / d1)
    return np.stack((speed1, speed2, -(d2 * turn2 + phi1) / d1, turn2))


def acrobot_step(state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations [N, 6] and how much higher than the goal the free ends are, in float64."""
    torque = action - 1.0
    a = acrobot_slope(state, torque)
    b = acrobot_slope(state + 0.1 * a, torque)
    c = acrobot_slope(state + 0.1 * b, torque)
    d = acrobot_slope(state + 0.2 * c, torque)
    one, two, speed1, speed2 = state + 0.2 / 6 * (a + 2 * b + 2 * c + d)
    speeds = np.clip(speed1, -4 * math.pi, 4 * math.pi), np.clip(speed2, -9 * math.pi, 9 * math.pi)
    obs = np.stack((np.cos(one), np.sin(one), np.cos(two), np.sin(two), *speeds), 1)
    return obs, -np.cos(one) - np.cos(one + two) - 1


def assert_cartpole_close(got: np.ndarray, expected: np.ndarray) -> None:
    error, size = np.abs(got - expected), np.abs(expected)
    assert (error <= np.where(size >= 1e-3, 1e-4 * size, 2e-7)).all(), error.max()


class TestTolerance:
    def test_cartpole(self, isa: str) -> None:
        """A million steps: the promised error, and no episode that ends otherwise away from a threshold."""
        env = VectorEnv("CartPole-v1", 20_011, mode="fast", autoreset_mode=AutoresetMode.SAME_STEP)
        env.reset(seed=0)
        random = np.random.default_rng(0)
        ended = 0
        for _ in range(50):
            actions = random_actions(random, env)
            expected = cartpole_step(env.state.T.astype(np.float64), actions)
            obs, reward, terminated, _, _ = env.step(actions)
            got = np.where(terminated, env._core.final_obs.T, obs.T)
            assert_cartpole_close(got, expected)
            beyond = np.stack((np.abs(expected[0]) - MAX_X, np.abs(expected[2]) - MAX_ANGLE))
            clear = (np.abs(beyond) > 1e-5).all(0)
            np.testing.assert_array_equal(terminated[clear], (beyond > 0).any(0)[clear])
            assert (reward == 1.0).all()
            ended += terminated.sum()
        assert ended > 20_000

    def test_cartpole_at_any_angle(self, isa: str) -> None:
        """The wide bounds of a reset; errors of the angle's reduction are 2^-25 of it."""
        env = VectorEnv("CartPole-v1", 5003, mode="fast")
        env.reset(seed=0, options={"low": -7.0, "high": 7.0})
        before = env.state.T.astype(np.float64)
        actions = random_actions(np.random.default_rng(0), env)
        obs = env.step(actions)[0]
        np.testing.assert_allclose(obs.T, cartpole_step(before, actions), rtol=2e-6, atol=3e-6)

    def test_pendulum(self, isa: str) -> None:
        env = VectorEnv("Pendulum-v1", 5003, mode="fast", max_episode_steps=-1)
        env.reset(seed=0)
        random = np.random.default_rng(0)
        low, high = env.single_observation_space.low, env.single_observation_space.high
        for step in range(300):
            actions = np.full((5003, 1), 2.0, np.float32) if step < 100 else random_actions(random, env)
            expected_obs, expected_reward = pendulum_step(env.state.T.astype(np.float64), actions)
            obs, reward, *_ = env.step(actions)
            assert np.abs(obs - expected_obs).max() <= 1e-5
            assert np.abs(reward - expected_reward).max() <= 1e-5
            assert np.abs(env.state[:, 0]).max() <= math.pi + 1e-6
            assert ((obs >= low) & (obs <= high)).all()

    @pytest.mark.parametrize("env_id", ["MountainCar-v0", "MountainCarContinuous-v0"])
    def test_cars(self, isa: str, env_id: str) -> None:
        """Pushed where they roll, mostly, so that they meet wall, goal and speed limit."""
        env = VectorEnv(env_id, 5003, mode="fast", autoreset_mode=AutoresetMode.SAME_STEP)
        obs, _ = env.reset(seed=0)
        random = np.random.default_rng(0)
        ended = 0
        for _ in range(250):
            forward = (obs[:, 1] >= 0) ^ (random.random(5003) < 0.1)
            size = random.uniform(0.5, 1.2, (5003, 1)).astype(np.float32)
            actions = forward * 2 if env_id == "MountainCar-v0" else np.where(forward[:, None], size, -size)
            expected, beyond = car_step(env_id, env.state.T.astype(np.float64), actions)
            obs, reward, terminated, truncated, _ = env.step(actions)
            got = np.where(terminated | truncated, env._core.final_obs.T, obs.T)
            assert (np.abs(got - expected) <= np.array([[2e-7], [2e-8]])).all()
            clear = np.abs(beyond) > 2e-7
            np.testing.assert_array_equal(terminated[clear], (beyond >= 0)[clear])
            if env_id == "MountainCar-v0":
                assert (reward == -1).all()
            else:
                assert (reward == 100.0 * terminated - actions[:, 0].astype(np.float64) ** 2 * 0.1).all()
            ended += terminated.sum()
        assert ended > 5000

    def test_acrobot(self, isa: str) -> None:
        """At all speeds: swung up and, beyond the goal, to the limits of both joints."""
        env = VectorEnv("Acrobot-v1", 5003, mode="fast", max_episode_steps=-1, autoreset_mode="Disabled")
        obs, _ = env.reset(seed=0)
        random = np.random.default_rng(0)
        ended = 0
        for step in range(300):
            pumped = np.where(obs[:, 5] > 0, 2, 0)
            actions = pumped if step < 250 else random_actions(random, env)
            before = env.state.T.astype(np.float64)
            expected, beyond = acrobot_step(before, actions)
            obs, reward, terminated, _, _ = env.step(actions)
            bound = 1e-6 * (1 + before[2] ** 2 + before[3] ** 2)
            assert (np.abs(obs - expected).max(1) <= bound).all()
            clear = np.abs(beyond) > 4 * bound
            np.testing.assert_array_equal(terminated[clear], (beyond > 0)[clear])
            np.testing.assert_array_equal(reward, np.where(terminated, 0.0, -1.0))
            ended += terminated.sum()
            env._core.needs_reset[:] = False
        assert ended > 5000
        assert np.abs(obs[:, 5]).max() > 20
        assert math.pi - 0.1 < np.abs(env.state[:, :2]).max() <= math.pi + 1e-6


class TestBookkeeping:
    """Over episodes too short for the trajectories to part."""

    @pytest.mark.parametrize("mode", list(AutoresetMode))
    @pytest.mark.parametrize("limit", [1, 12])
    def test_equals_exact(self, env_id: str, mode: AutoresetMode, limit: int) -> None:
        fast, exact = pair(env_id, 37, autoreset_mode=mode, max_episode_steps=limit)
        fast.reset(seed=5), exact.reset(seed=5)
        random = np.random.default_rng(1)
        done = np.zeros(37, bool)
        ends = {"terminated": 0, "truncated": 0}
        for _ in range(400):
            if done.any() and mode is AutoresetMode.DISABLED:
                for env in (fast, exact):
                    env.reset(options={"reset_mask": done})
            actions = random_actions(random, fast)
            a, b = fast.step(actions), exact.step(actions)
            assert [x.dtype for x in a[:4]] == [x.dtype for x in b[:4]]
            np.testing.assert_allclose(a[0], b[0], atol=2e-4)
            np.testing.assert_allclose(a[1], b[1], atol=2e-4)
            np.testing.assert_array_equal(a[2], b[2])
            np.testing.assert_array_equal(a[3], b[3])
            assert list(a[4]) == list(b[4])
            done = a[2] | a[3]
            for x, y in zip(a[4].get("final_obs", done[:0]), b[4].get("final_obs", done[:0]), strict=True):
                assert (x is None) == (y is None)
                assert x is None or np.abs(x - y).max() < 2e-4
            np.testing.assert_array_equal(fast.episode_length, exact.episode_length)
            np.testing.assert_allclose(fast.episode_return, exact.episode_return, atol=2e-3)
            np.testing.assert_array_equal(fast._core.elapsed, exact._core.elapsed)
            for name, flags in zip(ends, a[2:4], strict=True):
                ends[name] += int(flags.sum())
        assert ends["truncated"] > 100
        assert limit == 1 or env_id != "CartPole-v1" or ends["terminated"] > 100
        for x, y in zip(fast.np_random, exact.np_random, strict=True):
            assert x.bit_generator.state == y.bit_generator.state

    def test_own_time_limit(self, env_id: str) -> None:
        """No episode is longer than the environment's limit, and those that reach it are truncated."""
        env = VectorEnv(env_id, 3, mode="fast", autoreset_mode=AutoresetMode.SAME_STEP)
        obs, _ = env.reset(seed=0)
        limit, lengths = TABLE[env_id].max_episode_steps, []
        for _ in range(2 * limit):
            if env_id == "CartPole-v1":  # balances
                actions = (obs @ np.array([0.1, 0.3, 1.0, 1.0], np.float32) > 0).astype(np.int64)
            else:  # idle
                actions = np.full(env.action_space.shape, 0 if env._core.action_size else 1)
                actions = actions.astype(env.action_space.dtype)
            obs, _, terminated, truncated, _ = env.step(actions)
            lengths += list(env.episode_length[terminated | truncated])
            assert (truncated <= (env.episode_length == limit)).all()
        assert lengths == [limit] * 6


class TestReset:
    @pytest.mark.parametrize("seed", [0, 12345])
    def test_initial_states_are_the_exact_ones_rounded(self, env_id: str, seed: int) -> None:
        fast, exact = pair(env_id, 1000)
        np.testing.assert_allclose(fast.reset(seed=seed)[0], exact.reset(seed=seed)[0], rtol=0, atol=2e-7)
        assert fast.state.dtype == np.float32
        assert fast.state.tobytes() == exact.state.astype(np.float32).tobytes()

    def test_distribution(self, env_id: str) -> None:
        """Uniform between the bounds: means and variances within five standard errors, also after autoreset."""
        env = VectorEnv(env_id, 20_000, mode="fast", autoreset_mode="SameStep", max_episode_steps=1)
        env.reset(seed=0)
        env.step(random_actions(np.random.default_rng(0), env))
        low, high = map(np.array, INITIAL[env_id])
        state = (2 * env.state[:, : len(low)].astype(np.float64) - low - high) / (high - low)
        assert np.abs(state).max() <= 1 + 1e-6
        assert np.abs(state.mean(0)).max() < 5 * math.sqrt(1 / 3 / 20_000)
        assert np.abs((state**2).mean(0) - 1 / 3).max() < 5 * math.sqrt(4 / 45 / 20_000)

    def test_pendulum_angles_are_wrapped(self) -> None:
        fast, exact = pair("Pendulum-v1", 1000)
        options = {"x_init": 100.0, "y_init": 8.0}
        np.testing.assert_allclose(
            fast.reset(seed=0, options=options)[0], exact.reset(seed=0, options=options)[0], atol=1e-6
        )
        assert np.abs(fast.state[:, 0]).max() <= math.pi + 1e-6
        assert np.abs(exact.state[:, 0]).max() > 90


class TestInterface:
    def test_made_by_gymnasium(self, env_id: str) -> None:
        vector = gymnasium.make_vec(f"fastrl/{env_id}", num_envs=2, mode="fast")
        alone = gymnasium.make(f"fastrl/{env_id}", mode="fast")
        assert isinstance(alone.unwrapped, ScalarEnv)
        first = vector.reset(seed=3)[0]
        np.testing.assert_array_equal(alone.reset(seed=3)[0], first[0])
        actions = random_actions(np.random.default_rng(0), vector.unwrapped)
        np.testing.assert_array_equal(alone.step(actions[0])[0], vector.step(actions)[0][0])

    def test_pickled(self, env_id: str) -> None:
        env = VectorEnv(env_id, 19, mode="fast")
        env.reset(seed=0)
        random = np.random.default_rng(0)
        env.step(random_actions(random, env))
        twin = pickle.loads(pickle.dumps(env))
        for _ in range(100):
            actions = random_actions(random, env)
            assert env.step(actions)[0].tobytes() == twin.step(actions)[0].tobytes()
        assert env.get_state().tobytes() == twin.get_state().tobytes()

    def test_state_of_the_other_mode_is_refused(self, env_id: str) -> None:
        fast, exact = pair(env_id, 4)
        with pytest.raises(ValueError, match="no state of 4 such envs"):
            fast.set_state(exact.get_state())
        with pytest.raises(ValueError, match="no state of 4 such envs"):
            exact.set_state(fast.get_state())

    def test_unknown_mode(self) -> None:
        with pytest.raises(ValueError, match="mode must be one of exact, fast, got 'quick'"):
            VectorEnv("CartPole-v1", 1, mode="quick")
