"""Compiled Pendulum: arithmetic, options, continuous actions, frames; the conformance suite has the rest."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.error import ResetNeeded

from fastrl import _core
from fastrl.envs import ScalarEnv, VectorEnv

ISAS = [name for name in ("baseline", "avx2", "avx512") if _core.isa_supported(name)]


def pendulum(num_envs: int = 4, **kwargs: Any) -> VectorEnv:
    return VectorEnv("Pendulum-v1", num_envs, **kwargs)


def zeros(num_envs: int = 4) -> np.ndarray:
    return np.zeros((num_envs, 1), np.float32)


def assert_steps_as_gymnasium(env: VectorEnv, actions: np.ndarray) -> None:
    """Observation, reward and next state of each env, against PendulumEnv put into its state."""
    theirs = PendulumEnv()
    before = env.state
    obs, reward, *_ = env.step(actions)
    after = env.state
    for i, action in enumerate(actions):
        theirs.state = before[i]
        expected_obs, expected_reward, *_ = theirs.step(action)
        assert obs[i].tobytes() == expected_obs.tobytes()
        assert reward[i].tobytes() == np.float64(expected_reward).tobytes(), (before[i], action)
        assert after[i].tobytes() == np.asarray(theirs.state).tobytes()


class TestArithmetic:
    @pytest.mark.parametrize("x_init", [1e-7, 0.05, 0.3, math.pi, 80.0, 3000.0, 1e7, 1e300])
    def test_step_has_gymnasiums_bits(self, isa: str, x_init: float) -> None:
        """Angles of every size, so that all ways to sine, remainder and squares are compared."""
        env = pendulum(2003)
        obs, _ = env.reset(seed=1, options={"x_init": x_init, "y_init": min(x_init, 9.0)})
        theta = env.state[:, 0]
        assert obs[:, 0].tobytes() == np.cos(theta).astype(np.float32).tobytes()
        assert obs[:, 1].tobytes() == np.sin(theta).astype(np.float32).tobytes()
        actions = np.random.default_rng(0).uniform(-2.5, 2.5, (2003, 1)).astype(np.float32)
        assert_steps_as_gymnasium(env, actions)

    @pytest.mark.parametrize("torque", [0.0, -0.0, 1e-45, 1e-25, 1e-12, 1e-4, 2.0, -2.0, 1e30])
    def test_special_torques(self, isa: str, torque: float) -> None:
        env = pendulum(3)
        env.reset(seed=0)
        assert_steps_as_gymnasium(env, np.full((3, 1), torque, np.float32))

    def test_at_rest(self, isa: str) -> None:
        """Zero angle, speed and torque: the reward is -0.0, as Gymnasium's."""
        env = pendulum(3)
        env.reset(seed=0, options={"x_init": 0.0, "y_init": 0})
        assert_steps_as_gymnasium(env, zeros(3))

    @pytest.mark.parametrize("turns", [-3, -1, -0.5, 0.5, 1, 2])
    def test_angles_at_multiples_of_pi(self, isa: str, turns: float) -> None:
        """Where the remainder jumps and sine or cosine vanish."""
        env = pendulum(40)
        env.reset(seed=0)
        angle = turns * 2 * math.pi
        env._core.state[0, :40] = [angle + k * math.ulp(angle) for k in range(-20, 20)]
        actions = zeros(40)
        env._core.state[1, :40] = 0.0
        expected = PendulumEnv()
        before = env.state
        _, reward, *_ = env.step(actions)
        for i in range(40):
            expected.state = before[i]
            assert reward[i] == expected.step(actions[i])[1]

    def test_instruction_sets_agree(self) -> None:
        """The whole state after the same 600 steps, in which some pendulums go round."""
        states = []
        before = _core.isa()
        for name in ISAS:
            _core.set_isa(name)
            env = pendulum(133, max_episode_steps=130)
            env.reset(seed=3)
            random = np.random.default_rng(0)
            for _ in range(600):
                env.step(random.uniform(-2, 2, (133, 1)).astype(np.float32))
            states.append(env.get_state().tobytes())
        _core.set_isa(before)
        assert len(set(states)) == 1

    def test_g(self) -> None:
        ours = gymnasium.make_vec("fastrl/Pendulum-v1", num_envs=5, g=9.81)
        theirs = gymnasium.make_vec("Pendulum-v1", 5, "sync", g=9.81)
        ours.reset(seed=2), theirs.reset(seed=2)
        for action in np.random.default_rng(0).uniform(-2, 2, (50, 5, 1)).astype(np.float32):
            np.testing.assert_array_equal(ours.step(action)[0], theirs.step(action)[0])


class TestActions:
    def test_clipped(self) -> None:
        env, twin = pendulum(), pendulum()
        env.reset(seed=0), twin.reset(seed=0)
        a = env.step(np.array([[5.0], [-1e30], [2.0], [-2.5]], np.float32))
        b = twin.step(np.array([[2.0], [-2.0], [2.0], [-2.0]], np.float32))
        assert a[0].tobytes() == b[0].tobytes()
        assert a[1].tobytes() == b[1].tobytes()

    @pytest.mark.parametrize(
        ("actions", "error", "match"),
        [
            (np.array([[0], [1], [math.nan], [0]], np.float32), ValueError, "env 2, step 1 .* finite .*nan"),
            (np.array([[0], [math.inf], [0], [0]], np.float32), ValueError, "env 1, step 1 .* finite .*inf"),
            (
                np.array([[0], [0], [0], [-1e300]]),
                ValueError,
                r"env 3, .* finite in float32, got \[-1\.e\+300\]",
            ),
            (np.zeros(4, np.float32), ValueError, r"floats \[4, 1\], got float32 \[4\]"),
            (np.zeros((4, 2), np.float32), ValueError, r"floats \[4, 1\], got float32 \[4, 2\]"),
            (np.zeros((3, 1)), ValueError, r"got float64 \[3, 1\]"),
            (np.zeros((4, 1), np.int64), TypeError, r"floats \[4, 1\], got int64 \[4, 1\]"),
            (np.zeros((4, 1), bool), TypeError, "got bool"),
            ([["0"]] * 4, TypeError, "floats"),
            (None, TypeError, "floats"),
        ],
    )
    def test_errors(self, actions: Any, error: type[Exception], match: str) -> None:
        env, twin = pendulum(), pendulum()
        for e in (env, twin):
            e.reset(seed=0)
            e.step(zeros())
        before = env.get_state()
        with pytest.raises(error, match=match):
            env.step(actions)
        assert env.get_state().tobytes() == before.tobytes()
        assert env.step(zeros())[0].tobytes() == twin.step(zeros())[0].tobytes()

    @pytest.mark.parametrize(
        "actions",
        [
            [[0.5], [1.0], [-1.0], [0.25]],
            np.array([[0.5], [1.0], [-1.0], [0.25]]),
            np.array([[0.5], [1.0], [-1.0], [0.25]], np.float16),
            np.array([[0.5], [1.0], [-1.0], [0.25]], np.dtype(">f4")),
            np.array([[0.5, 9], [1.0, 9], [-1.0, 9], [0.25, 9]], np.float32)[:, :1],
            np.frombuffer(b"-" + np.array([0.5, 1, -1, 0.25], "f4").tobytes(), "f4", offset=1).reshape(4, 1),
        ],
    )
    def test_other_floats_are_converted(self, actions: Any) -> None:
        env, twin = pendulum(), pendulum()
        env.reset(seed=0), twin.reset(seed=0)
        plain = np.array([[0.5], [1.0], [-1.0], [0.25]], np.float32)
        assert env.step(actions)[0].tobytes() == twin.step(plain)[0].tobytes()

    def test_next_step_ignores_the_action_of_an_ended_env(self) -> None:
        env = pendulum(2, max_episode_steps=1)
        env.reset(seed=0)
        env.step(zeros(2))
        env.step(np.full((2, 1), np.nan, np.float32))
        assert np.isfinite(env.state).all()
        with pytest.raises(ValueError, match="env 0"):
            env.step(np.full((2, 1), np.nan, np.float32))

    def test_unvalidated(self) -> None:
        env, twin = pendulum(validate=False), pendulum()
        env.reset(seed=0), twin.reset(seed=0)
        env.step(np.array([[0], [np.nan], [np.inf], [-np.inf]], np.float32))
        env.step(zeros())
        np.testing.assert_array_equal(env.reset(seed=0)[0], twin.reset(seed=0)[0])
        assert env.step(zeros())[0].tobytes() == twin.step(zeros())[0].tobytes()

    def test_before_reset(self) -> None:
        with pytest.raises(ResetNeeded, match="call reset first"):
            pendulum().step(zeros())

    def test_scalar(self) -> None:
        env = ScalarEnv("Pendulum-v1")
        env.reset(seed=0)
        env.step([0.5])
        env.step(np.array([9.0], np.float32))
        for action, error in ((0.5, ValueError), (np.array([1]), TypeError), ([math.nan], ValueError)):
            with pytest.raises(error):
                env.step(action)


class TestReset:
    @pytest.mark.parametrize("options", [{"x_init": 0.5}, {"y_init": 3}, {"x_init": 7.0, "y_init": 0.25}, {}])
    def test_options(self, options: dict[str, Any]) -> None:
        ours = gymnasium.make_vec("fastrl/Pendulum-v1", num_envs=9)
        theirs = gymnasium.make_vec("Pendulum-v1", 9, "sync")
        for seed in (3, None):
            a = ours.reset(seed=seed, options=dict(options))[0]
            assert a.tobytes() == theirs.reset(seed=seed, options=dict(options))[0].tobytes()

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"x_init": -1.0}, "x_init must be >= 0 and finite, got -1.0"),
            ({"y_init": math.inf}, "y_init must be >= 0 and finite, got inf"),
            ({"y_init": math.nan}, "y_init must be >= 0"),
            ({"x_init": 1.7e308}, "x_init must be >= 0 and finite"),
            ({"x_init": "a"}, "x_init must be a number, got 'a'"),
            ({"y_init": None}, "y_init must be a number, got None"),
        ],
    )
    def test_errors(self, options: dict[str, Any], match: str) -> None:
        env = pendulum()
        env.reset(seed=0)
        before = env.get_state()
        with pytest.raises(ValueError, match=match):
            env.reset(seed=1, options=options)
        assert env.get_state().tobytes() == before.tobytes()


def test_render(monkeypatch: pytest.MonkeyPatch) -> None:
    """The torque's arrow too, which an env has from its first step until it is reset."""
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    kwargs = {"render_mode": "rgb_array", "max_episode_steps": 2}
    ours = gymnasium.make_vec("fastrl/Pendulum-v1", num_envs=2, **kwargs)
    theirs = gymnasium.make_vec("Pendulum-v1", 2, "sync", **kwargs)
    alone = gymnasium.make("fastrl/Pendulum-v1", render_mode="rgb_array")
    ours.reset(seed=0), theirs.reset(seed=0), alone.reset(seed=0)
    frames = []
    for step in range(5):
        frames.append(ours.render())
        np.testing.assert_array_equal(frames[-1], theirs.render())
        if step < 3:
            np.testing.assert_array_equal(alone.render(), frames[-1][0])
        action = np.array([[3.0], [-0.7]], np.float32)
        ours.step(action), theirs.step(action)
        if step < 3:
            alone.step(action[0])
    assert len({frame[0].tobytes() for frame in frames}) == 5
    for env in (ours, theirs, alone):
        env.close()
