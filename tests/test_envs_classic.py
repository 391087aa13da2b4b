"""Compiled mountain cars and Acrobot: arithmetic, options, frames; the conformance suite has the rest."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

from fastrl import _core
from fastrl.envs import VectorEnv

ISAS = [name for name in ("baseline", "avx2", "avx512") if _core.isa_supported(name)]
GYMNASIUM = {
    "Acrobot-v1": AcrobotEnv,
    "MountainCar-v0": MountainCarEnv,
    "MountainCarContinuous-v0": Continuous_MountainCarEnv,
}
CARS = ["MountainCar-v0", "MountainCarContinuous-v0"]
LIMIT = float(np.float32(0.07))


@pytest.fixture(params=list(GYMNASIUM))
def env_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def draw(env: VectorEnv, seed: int = 0) -> np.ndarray:
    """Random actions, continuous ones often at or beyond their bounds."""
    random = np.random.default_rng(seed)
    if isinstance(env.single_action_space, gymnasium.spaces.Discrete):
        return random.integers(0, 3, env.num_envs)
    wide = random.uniform(-1.5, 1.5, (env.num_envs, 1))
    edge = random.choice([-1.0, 1.0, 0.0, -0.0, 1e-30, -1e30], (env.num_envs, 1))
    return np.where(random.random((env.num_envs, 1)) < 0.8, wide, edge).astype(np.float32)


def assert_steps_as_gymnasium(env: VectorEnv, actions: np.ndarray, **kwargs: Any) -> np.ndarray:
    """All that a step changes, against Gymnasium's class put into each env's state; its terminations."""
    theirs = GYMNASIUM[env.env_id](**kwargs)
    before, elapsed = env.state, np.array(env._core.elapsed)
    obs, reward, terminated, *_ = env.step(actions)
    after = env.state
    for i, action in enumerate(actions):
        float32 = env.env_id == "MountainCarContinuous-v0" and elapsed[i] > 0
        theirs.state = before[i].astype(np.float32) if float32 else before[i]
        expected_obs, expected_reward, expected_end, *_ = theirs.step(action)
        assert obs[i].tobytes() == expected_obs.tobytes(), (before[i], action)
        assert reward[i].tobytes() == np.float64(expected_reward).tobytes(), (before[i], action)
        assert terminated[i] == expected_end, (before[i], action)
        assert after[i].tobytes() == np.asarray(theirs.state, np.float64).tobytes()
    return terminated


class TestArithmetic:
    @pytest.mark.parametrize(
        "bounds", [(-0.6, -0.4), (-1.2, 0.6), (0.44, 0.52), (-1e-7, 1e-7), (-12.0, 12.0), (-1e4, 1e4)]
    )
    def test_step_has_gymnasiums_bits(self, isa: str, env_id: str, bounds: tuple[float, float]) -> None:
        """First and later steps from states of every size, so that all ways to sine and cosine are compared."""
        if env_id == "Acrobot-v1" and bounds[1] > 1e3:
            bounds = (-30.0, 30.0)  # Gymnasium unwinds larger angles for minutes
        env = VectorEnv(env_id, 403)
        env.reset(seed=1, options={"low": bounds[0], "high": bounds[1]})
        for step in range(3):
            assert_steps_as_gymnasium(env, draw(env, step))
            env._core.needs_reset[:] = False  # goes on after the goal, as Gymnasium's classes do

    def test_mountain_car_has_numpys_bits(self, isa: str) -> None:
        """Enough angles that cosines whose last bit is hard to tell are among them."""
        for width in (1.2, 300.0, 1e6):
            env = VectorEnv("MountainCar-v0", 100_003)
            env.reset(seed=1, options={"low": -width, "high": width})
            before, actions = env.state[:, 0], draw(env)
            env.step(actions)
            speed = 0.0 + ((actions - 1) * 0.001 + np.cos(3 * before) * -0.0025)
            speed = np.clip(speed, -0.07, 0.07)
            position = np.clip(before + speed, -1.2, 0.6)
            speed[(position == -1.2) & (speed < 0)] = 0
            assert env.state.tobytes() == np.stack((position, speed), 1).tobytes()

    @pytest.mark.parametrize("env_id", CARS)
    @pytest.mark.parametrize("goal_velocity", [0, 0.02, 0.07, 0.070000001, LIMIT, -0.07, -LIMIT, math.inf])
    def test_goal_velocity(self, isa: str, env_id: str, goal_velocity: float) -> None:
        """Speeds about the limit, near the goal: those that are clipped compare differently in float32."""
        env = VectorEnv(env_id, 201, goal_velocity=goal_velocity)
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, env.action_space.dtype))
        speeds = np.repeat(np.float32([0.0, 0.02, LIMIT, -LIMIT]), 51)[:201]
        speeds += np.float32(1e-3) * np.tile(np.arange(-25, 26, dtype=np.float32), 4)[:201]
        env._core.state[0, :201] = np.float32(0.5) - speeds * np.float32(0.9)
        env._core.state[1, :201] = speeds
        terminated = assert_steps_as_gymnasium(env, draw(env), goal_velocity=goal_velocity)
        assert terminated.any() == (goal_velocity <= 0.07)

    @pytest.mark.parametrize("env_id", CARS)
    def test_left_wall(self, isa: str, env_id: str) -> None:
        """The car stops there; so does one that arrives exactly, and none that leaves."""
        env = VectorEnv(env_id, 201)
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, env.action_space.dtype))
        env._core.state[0, :201] = np.float32(np.linspace(-1.2, -1.1, 201))
        env._core.state[1, :201] = np.float32(-0.05)
        assert_steps_as_gymnasium(env, draw(env))
        stopped = env.state[:, 1] == 0
        assert stopped.any()
        assert not stopped.all()
        assert_steps_as_gymnasium(env, draw(env, 1))

    @pytest.mark.parametrize("width", [0.1, 1.0, 30.0, 1e4, 9e4, 1e6])
    def test_acrobot_is_reset_to_numpys_float32(self, isa: str, width: float) -> None:
        """Gymnasium computes the first observation from float32 angles, with NumPy's own sine and cosine."""
        env = VectorEnv("Acrobot-v1", 20_011, autoreset_mode="SameStep")
        obs, _ = env.reset(seed=0, options={"low": -width, "high": width})
        one, two, *speeds = env.state.T.astype(np.float32)
        expected = np.stack((np.cos(one), np.sin(one), np.cos(two), np.sin(two), *speeds), 1)
        assert obs.tobytes() == expected.tobytes()

    def test_acrobot_from_hopeless_angles(self, isa: str) -> None:
        """Where Gymnasium's loop over the turns of an angle never ends."""
        env = VectorEnv("Acrobot-v1", 67)
        for width, finite in ((1e9, True), (1e200, False), (0.1, True)):
            env.reset(seed=0, options={"low": -width, "high": width})
            assert np.isfinite(env.step(draw(env))[0]).all() == finite
            assert not finite or np.abs(env.state[:, :2]).max() <= math.pi

    def test_instruction_sets_agree(self, env_id: str) -> None:
        """The whole state after the same 300 steps."""
        states = []
        before = _core.isa()
        for name in ISAS:
            _core.set_isa(name)
            env = VectorEnv(env_id, 133, autoreset_mode="SameStep", max_episode_steps=110)
            env.reset(seed=3)
            for step in range(300):
                env.step(draw(env, step))
            states.append(env.get_state().tobytes())
        _core.set_isa(before)
        assert len(set(states)) == 1


@pytest.mark.parametrize("options", [{"low": -0.7, "high": 0.5}, {"high": 0.3}, {"low": 0.2, "high": 0.2}])
def test_reset_options(env_id: str, options: dict[str, Any]) -> None:
    options = {"low": -0.9, **options}
    ours = gymnasium.make_vec(f"fastrl/{env_id}", num_envs=9)
    theirs = gymnasium.make_vec(env_id, 9, "sync")
    for seed in (3, None):
        a = ours.reset(seed=seed, options=dict(options))[0]
        assert a.tobytes() == theirs.reset(seed=seed, options=dict(options))[0].tobytes()
    actions = draw(ours.unwrapped)
    assert ours.step(actions)[0].tobytes() == theirs.step(actions)[0].tobytes()


def test_arguments_of_others_are_refused() -> None:
    with pytest.raises(TypeError, match="no argument 'goal_velocity'; it has none of its own"):
        VectorEnv("Acrobot-v1", goal_velocity=0.1)
    with pytest.raises(TypeError, match="no argument 'g'; it has goal_velocity"):
        VectorEnv("MountainCar-v0", g=9.81)


def test_render(monkeypatch: pytest.MonkeyPatch, env_id: str) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    ours = gymnasium.make_vec(f"fastrl/{env_id}", num_envs=2, render_mode="rgb_array")
    theirs = gymnasium.make_vec(env_id, 2, "sync", render_mode="rgb_array")
    alone = gymnasium.make(f"fastrl/{env_id}", render_mode="rgb_array")
    for env in (ours, theirs, alone):
        env.reset(seed=0)
    frames = []
    for step in range(30):
        if step % 10 == 0:
            frames.append(ours.render())
            np.testing.assert_array_equal(frames[-1], theirs.render())
            np.testing.assert_array_equal(alone.render(), frames[-1][0])
        actions = draw(ours.unwrapped, step)
        ours.step(actions), theirs.step(actions), alone.step(actions[0])
    assert len({frame[0].tobytes() for frame in frames}) == 3
    for env in (ours, theirs, alone):
        env.close()
