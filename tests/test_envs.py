"""Compiled environments: arithmetic, seeding, errors, processes; the conformance suite has the rest."""

import math
import multiprocessing
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from _memory import in_a_fresh_process, needs_proc, peak_of
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from fastrl import _core
from fastrl.envs import ScalarEnv, VectorEnv
from fastrl.kernels.envs import NO_LIMIT, make

ISAS = [name for name in ("baseline", "avx2", "avx512") if _core.isa_supported(name)]


def cartpole(num_envs: int = 4, **kwargs: Any) -> VectorEnv:
    return VectorEnv("CartPole-v1", num_envs, **kwargs)


def balance(obs: np.ndarray) -> np.ndarray:
    """Keeps the pole up for 500 steps from nearly every start."""
    return (obs @ np.array([0.1, 0.3, 1.0, 1.0]) > 0).astype(np.int64)


def cartpole_step(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Gymnasium's formula on NumPy arrays [4, N]."""
    x, x_dot, theta, theta_dot = state
    force = np.where(action == 1, 10.0, -10.0)
    cos, sin = np.cos(theta), np.sin(theta)
    total = 0.1 + 1.0
    temp = (force + 0.05 * np.square(theta_dot) * sin) / total
    theta_acc = (9.8 * sin - cos * temp) / (0.5 * (4.0 / 3.0 - 0.1 * np.square(cos) / total))
    x_acc = temp - 0.05 * theta_acc * cos / total
    return np.stack(
        (x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc)
    )


class TestArithmetic:
    @pytest.mark.parametrize("width", [1e-7, 1e-5, 0.05, 0.21, 0.26, 3.2, 1e6])
    def test_step_has_numpys_bits(self, isa: str, width: float) -> None:
        """Angles of every size, so that both ways to their sine and cosine are compared with libm's."""
        env = cartpole(100_003, validate=False)
        env.reset(seed=1, options={"low": -width, "high": width})
        before = env.state
        action = np.random.default_rng(0).integers(0, 2, env.num_envs)
        env.step(action)
        assert env.state.T.tobytes() == cartpole_step(before.T, action).tobytes()

    @pytest.mark.parametrize("angle", [0.0, -0.0, 5e-324, 1e-300, 0.25, -0.25, math.pi])
    def test_special_angles(self, isa: str, angle: float) -> None:
        env = cartpole(3)
        env.reset(seed=0, options={"low": angle, "high": angle})
        before = env.state
        env.step(np.array([0, 1, 1]))
        assert env.state.T.tobytes() == cartpole_step(before.T, np.array([0, 1, 1])).tobytes()

    def test_instruction_sets_agree(self) -> None:
        """The whole state after the same 400 steps."""
        states = []
        before = _core.isa()
        for name in ISAS:
            _core.set_isa(name)
            env = cartpole(133, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=40)
            env.reset(seed=3)
            random = np.random.default_rng(0)
            for _ in range(400):
                env.step(random.integers(0, 2, 133))
            states.append(env.get_state().tobytes())
        _core.set_isa(before)
        assert len(set(states)) == 1

    def test_truncated_at_500(self) -> None:
        """A policy that balances reaches the limit, like Gymnasium's, and only the limit."""
        ours = cartpole(16)
        theirs = gymnasium.make_vec("CartPole-v1", 16, vectorization_mode="sync")
        obs, _ = ours.reset(seed=0)
        theirs.reset(seed=0)
        ended = 0
        for _ in range(1010):
            action = balance(obs)
            obs, reward, terminated, truncated, _ = ours.step(action)
            expected = theirs.step(action)
            assert obs.tobytes() == expected[0].tobytes()
            assert reward.tobytes() == expected[1].tobytes()
            np.testing.assert_array_equal(terminated, expected[2])
            np.testing.assert_array_equal(truncated, expected[3])
            ended += truncated.sum()
            assert (ours.episode_length[truncated] == 500).all()
            assert (ours.episode_return[truncated] == 500).all()
        assert ended >= 30

    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_sutton_barto_reward(self, mode: AutoresetMode) -> None:
        ours = gymnasium.make_vec(
            "fastrl/CartPole-v1", num_envs=5, sutton_barto_reward=True, autoreset_mode=mode
        )
        theirs = gymnasium.make_vec(
            "CartPole-v1", 5, "sync", {"autoreset_mode": mode}, sutton_barto_reward=True
        )
        for env in (ours, theirs):
            env.reset(seed=2)
        rewards = [(ours.step(a)[1], theirs.step(a)[1]) for a in np.ones((9, 5), np.int64)]
        np.testing.assert_array_equal(*zip(*rewards, strict=True))
        assert {0.0, -1.0} == set(np.concatenate([r for r, _ in rewards]))

    def test_no_limit(self) -> None:
        env = cartpole(8, max_episode_steps=-1)
        obs, _ = env.reset(seed=0)
        for _ in range(600):
            obs, _, _, truncated, _ = env.step(balance(obs))
            assert not truncated.any()


class TestSeeding:
    @given(st.lists(st.integers(0, 2**200), min_size=1, max_size=3))
    def test_equals_numpy(self, seeds: list[int]) -> None:
        core = make("CartPole-v1", len(seeds), NO_LIMIT, "NextStep", {})
        core.seed(seeds)
        core.reset(None, (-0.05, 0.05))
        for state, seed in zip(core.state.T, seeds, strict=False):
            expected = np.random.Generator(np.random.PCG64(seed)).uniform(-0.05, 0.05, 4)
            assert state.tobytes() == expected.tobytes()

    @pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**64, 2**96, 2**128 - 1, 2**128, 2**160])
    def test_word_boundaries(self, seed: int) -> None:
        env = cartpole(1)
        env.reset(seed=[seed])
        expected = np.random.Generator(np.random.PCG64(seed))
        expected.uniform(size=4)
        assert env.np_random[0].bit_generator.state == expected.bit_generator.state
        assert env.np_random_seed == (seed,)

    def test_first_none_is_entropy(self) -> None:
        first, second = cartpole(3), cartpole(3)
        a, b = first.reset()[0], second.reset()[0]
        assert len({row.tobytes() for row in np.concatenate([a, b])}) == 6
        assert all(seed >= 2**64 for seed in first.np_random_seed)
        again = cartpole(3).reset(seed=list(first.np_random_seed))[0]
        np.testing.assert_array_equal(a, again)

    def test_np_random_setter(self) -> None:
        ours, same = cartpole(2), cartpole(2)
        ours.np_random = tuple(np.random.default_rng(seed) for seed in (4, 5))
        np.testing.assert_array_equal(ours.reset()[0], same.reset(seed=[4, 5])[0])
        assert ours.np_random_seed == (-1, -1)
        with pytest.raises(TypeError, match="PCG64"):
            ours.np_random = (np.random.Generator(np.random.MT19937(0)),) * 2

    def test_numpy_integers(self) -> None:
        a = cartpole(2).reset(seed=np.int64(3))[0]
        b = cartpole(2).reset(seed=np.array([3, 4]))[0]
        np.testing.assert_array_equal(a, b)


class TestErrors:
    """Each error says what is wrong, changes nothing, and leaves the environment usable."""

    @pytest.mark.parametrize(
        ("actions", "error", "match"),
        [
            (np.array([0, 1, 2, 5]), ValueError, r"env 2, step 1 of its episode: action .* \[0, 2\), got 2"),
            (np.array([0, -1, 0, 0]), ValueError, "env 1, step 1 .* got -1"),
            (np.array([0, 0, 0, np.iinfo(np.int64).min]), ValueError, "env 3"),
            (np.array([0, 0, 0, np.iinfo(np.int64).max]), ValueError, "env 3"),
            (np.array([0, 0, 2**63, 0], np.uint64), ValueError, "env 2, .* got 9223372036854775808"),
            (np.array([0.0, 1.0, 0.0, np.nan]), TypeError, r"integers \[4\], got float64 \[4\]"),
            (np.array([True, False, True, False]), TypeError, "got bool"),
            (np.array(["0", "1", "0", "1"]), TypeError, "integers"),
            (np.zeros(3, np.int64), ValueError, r"integers \[4\], got int64 \[3\]"),
            (np.zeros((4, 1), np.int64), ValueError, r"got int64 \[4, 1\]"),
            (1, ValueError, r"got int64 \[\]"),
            (None, TypeError, "integers"),
        ],
    )
    def test_actions(self, actions: Any, error: type[Exception], match: str) -> None:
        env, twin = cartpole(), cartpole()
        for e in (env, twin):
            e.reset(seed=0)
            e.step(np.zeros(4, np.int64))
        before = env.get_state()
        with pytest.raises(error, match=match):
            env.step(actions)
        assert env.get_state().tobytes() == before.tobytes()
        assert env.step(np.ones(4, np.int64))[0].tobytes() == twin.step(np.ones(4, np.int64))[0].tobytes()

    @pytest.mark.parametrize(
        "actions",
        [
            [0, 1, 1, 0],
            (0, 1, 1, 0),
            np.array([0, 1, 1, 0], np.uint8),
            np.array([0, 1, 1, 0], np.int32),
            np.array([0, 9, 1, 9, 1, 9, 0, 9])[::2],
            np.array([0, 1, 1, 0], np.dtype(">i8")),
            np.frombuffer(b"-" + np.array([0, 1, 1, 0]).tobytes(), np.int64, offset=1),  # not aligned
        ],
    )
    def test_other_integers_are_converted(self, actions: Any) -> None:
        env, twin = cartpole(), cartpole()
        env.reset(seed=0), twin.reset(seed=0)
        assert env.step(actions)[0].tobytes() == twin.step(np.array([0, 1, 1, 0]))[0].tobytes()

    def test_next_step_ignores_the_action_of_an_ended_env(self) -> None:
        """As Gymnasium's, which never looks at it."""
        env = cartpole(2, max_episode_steps=1)
        env.reset(seed=0)
        env.step(np.array([0, 0]))
        env.step(np.array([99, -7]))
        with pytest.raises(ValueError, match="env 0"):
            env.step(np.array([99, -7]))

    def test_unvalidated(self) -> None:
        env, twin = cartpole(validate=False), cartpole()
        env.reset(seed=0), twin.reset(seed=0)
        env.step(np.array([0, 9, -4, 2**62]))
        env.reset(seed=0)
        actions = np.array([0, 1, 0, 1])
        assert env.step(actions)[0].tobytes() == twin.step(actions)[0].tobytes()

    def test_order(self) -> None:
        env = cartpole()
        with pytest.raises(ResetNeeded, match="call reset first"):
            env.step(np.zeros(4, np.int64))
        with pytest.raises(ResetNeeded, match="first reset takes no reset_mask"):
            env.reset(options={"reset_mask": np.ones(4, bool)})
        obs, _ = env.reset(seed=0)
        env.close()
        env.close()
        with pytest.raises(ClosedEnvironmentError, match="step after close"):
            env.step(np.zeros(4, np.int64))
        with pytest.raises(ClosedEnvironmentError, match="reset after close"):
            env.reset()
        del env
        assert np.isfinite(obs).all()

    def test_disabled_refuses_ended_envs(self) -> None:
        env = cartpole(3, autoreset_mode="Disabled", max_episode_steps=2)
        env.reset(seed=0)
        env.step(np.zeros(3, np.int64))
        env.reset(options={"reset_mask": np.array([True, False, True])})
        env.step(np.zeros(3, np.int64))
        with pytest.raises(ResetNeeded, match="env 1, step 2 of its episode: the episode is over"):
            env.step(np.zeros(3, np.int64))
        env.reset(options={"reset_mask": np.array([False, True, False])})
        *_, truncated, _ = env.step(np.zeros(3, np.int64))
        np.testing.assert_array_equal(truncated, [True, False, True])

    @pytest.mark.parametrize(
        ("kwargs", "error", "match"),
        [
            ({"seed": -1}, ValueError, "seed of env 0 must be >= 0, got -1"),
            ({"seed": [1, 2, 3]}, ValueError, "one item for each of 4 envs, got 3"),
            ({"seed": [1, 2, 3, "4"]}, TypeError, "seed of env 3 must be an int or None, got '4'"),
            ({"seed": 1.5}, TypeError, "seed must be an int, .*, got 1.5"),
            ({"seed": [1, 2.0, 3, 4]}, TypeError, "seed of env 1"),
            ({"options": {"reset_mask": [True] * 4}}, TypeError, "reset_mask must be bool"),
            ({"options": {"reset_mask": np.ones(4, int)}}, TypeError, r"reset_mask .* got int64 \[4\]"),
            ({"options": {"reset_mask": np.ones(3, bool)}}, ValueError, r"bool \[4\], got bool \[3\]"),
            ({"options": {"reset_mask": np.zeros(4, bool)}}, ValueError, "at least one True"),
            ({"options": {"low": 1.0}}, ValueError, "low must be <= high, both finite, got 1.0 and 0.05"),
            ({"options": {"low": "x"}}, ValueError, "low must be a number, got 'x'"),
            ({"options": {"high": math.nan}}, ValueError, "both finite"),
            ({"options": {"high": math.inf}}, ValueError, "both finite"),
            ({"seed": 1, "options": {"low": None}}, ValueError, "low must be a number"),
        ],
    )
    def test_reset(self, kwargs: dict[str, Any], error: type[Exception], match: str) -> None:
        env = cartpole()
        env.reset(seed=0)
        before = env.get_state()
        with pytest.raises(error, match=match):
            env.reset(**kwargs)
        assert env.get_state().tobytes() == before.tobytes()
        assert env.np_random_seed == (0, 1, 2, 3)

    @pytest.mark.parametrize(
        ("args", "kwargs", "error", "match"),
        [
            (("CartPole-v7", 1), {}, ValueError, "env_id must be one of .*, got 'CartPole-v7'"),
            (("CartPole-v1", 0), {}, ValueError, "num_envs must be >= 1, got 0"),
            (("CartPole-v1", 1), {"max_episode_steps": 0}, ValueError, "max_episode_steps must be >= 1"),
            (("CartPole-v1", 1), {"autoreset_mode": "Sometimes"}, ValueError, "Sometimes"),
            (("CartPole-v1", 1), {"render_mode": "human"}, ValueError, "render_mode must be"),
            (("CartPole-v1", 1), {"gravity": 1.0}, TypeError, "no argument 'gravity'"),
        ],
    )
    def test_constructor(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], match: str
    ) -> None:
        with pytest.raises(error, match=match):
            VectorEnv(*args, **kwargs)

    def test_scalar(self) -> None:
        env = ScalarEnv("CartPole-v1")
        env.reset(seed=0)
        with pytest.raises(TypeError):
            env.step(0.7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="got 2"):
            env.step(2)
        while not env.step(1)[2]:
            pass
        with pytest.raises(ResetNeeded, match="the episode is over"):
            env.step(1)
        env.reset()
        env.step(np.int64(1))


class TestProcess:
    def test_import_needs_no_torch_and_no_pygame(self) -> None:
        code = "import sys, fastrl; print(sorted({'torch', 'pygame', 'numba'} & set(sys.modules)))"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == "[]"

    def test_fork(self) -> None:
        env = cartpole(2048)
        env.reset(seed=0)
        action = np.zeros(2048, np.int64)
        env.step(action)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=lambda: queue.put(env.step(action)[0].tobytes()))
        child.start()
        result = queue.get()
        child.join()
        assert result == env.step(action)[0].tobytes()

    @needs_proc
    def test_no_leak(self) -> None:
        assert in_a_fresh_process(growth) < 2**24


def growth() -> int:
    """Each of 300 rounds would leave an env of 300 KiB, or 2000 resets, behind."""

    def rounds(count: int) -> None:
        for _ in range(count):
            env = cartpole(2048, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=3)
            env.reset(seed=0)
            for _ in range(6):
                env.step(np.zeros(2048, np.int64))
            env.reset(options={"reset_mask": np.ones(2048, bool)})

    rounds(50)
    return peak_of(lambda: rounds(300))
