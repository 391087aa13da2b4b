"""What goes wrong in environments that users write: one message that names it, and nothing goes on silently."""

from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.envs import UserEnv, VectorEnv, compiled
from fastrl.envs.examples import Catch, deep_sea

STATE = Box(-np.inf, np.inf, (2,), np.float32)


def broken(
    reset: Any = lambda rng: (0.0, 0.0),
    step: Any = lambda state, action, rng: (state, 0.0, False),
    observe: Any = None,
    **kwargs: Any,
) -> UserEnv:
    functions = {"reset": reset, "step": step} | ({} if observe is None else {"observe": observe})
    return compiled(**{"observation_space": STATE, "action_space": Discrete(2)} | kwargs)(
        type("Broken", (), functions)
    )


def plain_python_helper(x: Any) -> Any:
    return x


class TestDefinitionErrors:
    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"reset": lambda rng: plain_python_helper(0.0)}, r"reset cannot be compiled: .*plain_python_helper.*\.py, line"),
            ({"step": lambda state, action, rng: state.missing}, "step cannot be compiled: .*missing"),
            ({"observe": lambda state: state + "a"}, "observe cannot be compiled: "),
            ({"reset": lambda rng: "text"}, "reset: the state must be a number, an array, or a tuple"),
            ({"reset": lambda rng: ((0.0, 1.0), 2.0)}, "reset: the state must be a number"),
            ({"reset": lambda rng: np.zeros(2, np.float32)}, "array of the state must be int64 or float64, got float32"),
            ({"step": lambda state, action, rng: (state, 0.0)}, r"step must give \(state, reward, terminated\), got"),
            ({"step": lambda state, action, rng: (state, 0.0, 1)}, "a bool as terminated, got"),
            ({"step": lambda state, action, rng: (state, 1j, True)}, "a number as reward, got complex"),
            ({"step": lambda state, action, rng: (0.0, 0.0, True)}, r"state as reset does, \(float64, float64\), got float64"),
            ({"step": lambda state, action, rng: ((0.0, 0.0, 0.0), 0.0, True)}, "state as reset does"),
            ({"reset": lambda rng: (0, 0)}, None),
            ({"reset": lambda rng: (0, 0), "step": lambda state, action, rng: ((0.5, 0), 0.0, True)}, r"\(int64, int64\), got"),
            ({"observe": lambda state: state[0]}, "observe must give 2 numbers, as observation_space says, got 1"),
            ({"reset": lambda rng: 0.0}, "reset must give 2 numbers"),
            ({"observe": lambda state: 0.5, "observation_space": Discrete(3)}, "observe must give an integer"),
        ],
    )  # fmt: skip
    def test_one_message(self, kwargs: dict[str, Any], match: str | None) -> None:
        if match is None:
            broken(**kwargs)(1)
            return
        with pytest.raises(TypeError, match=f"^Broken: .*{match}") as error:
            broken(**kwargs)(1)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("kwargs", "error", "match"),
        [
            ({"step": lambda state, action: state}, TypeError, r"Broken: step must be step\(state, action, rng\), got step\(state, action\)"),
            ({"step": 3}, TypeError, r"Broken: must define step\(state, action, rng\)"),
            ({"observation_space": MultiDiscrete([2, 2])}, TypeError, "observation_space must be Discrete or Box"),
            ({"observation_space": Box(0, 1, (2, 2), np.float32)}, TypeError, "observation_space must be"),
            ({"observation_space": Discrete(2, start=1)}, TypeError, "observation_space must be"),
            ({"action_space": Box(-np.inf, 1, (2,), np.float32)}, ValueError, "action_space must have finite bounds"),
            ({"max_episode_steps": 0}, ValueError, "max_episode_steps must be >= 1"),
        ],
    )  # fmt: skip
    def test_decorator(self, kwargs: dict[str, Any], error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            broken(**kwargs)

    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [({"num_envs": 0}, "num_envs must be >= 1, got 0"), ({"num_threads": 0}, "num_threads must be >= 1")],
    )
    def test_constructor(self, kwargs: dict[str, Any], match: str) -> None:
        with pytest.raises(ValueError, match=f"Catch: {match}"):
            Catch(**kwargs)

    def test_state_of_another_environment(self) -> None:
        with pytest.raises(ValueError, match="Catch set_state: these"):
            Catch(2).set_state(deep_sea(4)(2).get_state())


def repeat(steps: int, envs: VectorEnv) -> None:
    for _ in range(steps):
        envs.step(np.zeros(envs.num_envs, np.int64))


class TestFailures:
    """An env that raises, or gives what is not finite, stops everything and is named."""

    @pytest.mark.parametrize("mode", list(AutoresetMode))
    @pytest.mark.parametrize("num_threads", [1, 3])
    def test_step_raises(self, mode: AutoresetMode, num_threads: int) -> None:
        def step(state, action, rng):
            table = np.zeros(3)
            return (table[int(state[0]) + 5 * action], state[1] + 1), 0.0, False

        envs = broken(step=step)(200, autoreset_mode=mode, num_threads=num_threads)
        envs.reset(seed=0)
        actions = np.zeros(200, np.int64)
        envs.step(actions)
        actions[[77, 150]] = 1
        message = "Broken step: env 77, step 1 of its episode: IndexError: .*; all environments must be reset"
        with pytest.raises(RuntimeError, match=message) as error:
            envs.step(actions)
        assert isinstance(error.value.__cause__, IndexError)
        with pytest.raises(ResetNeeded):
            envs.step(np.zeros(200, np.int64))
        envs.reset()
        envs.step(np.zeros(200, np.int64))

    def test_draws_before_a_failure_are_the_same_in_its_report(self) -> None:
        def step(state, action, rng):
            if rng.random() < 0.2:
                raise ValueError("unlucky")
            return state, 0.0, False

        envs = broken(step=step)(1)
        envs.reset(seed=0)
        with pytest.raises(RuntimeError, match="ValueError: unlucky"):
            repeat(100, envs)

    def test_reset_raises(self) -> None:
        def reset(rng):
            if rng.random() < 0.5:
                raise ValueError("no start")
            return 0.0, 0.0

        with pytest.raises(RuntimeError, match=r"Broken reset: env [0-3], step 0 .*: ValueError: no start"):
            broken(reset=reset)(20).reset(seed=0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, bad: float) -> None:
        def step(state, action, rng):
            return (state[0] + 1, bad if action == 1 else 0.0), bad if state[0] == 2 else 0.0, False

        envs = broken(step=step)(3)
        envs.reset(seed=0)
        with pytest.raises(
            FloatingPointError, match=r"Broken observe: env 2, step 1 .*: the observation is not finite"
        ):
            envs.step(np.array([0, 0, 1]))
        envs.reset(seed=0)
        message = rf"Broken step: env 0, step 2 .*: the reward is not finite, got {bad}"
        with pytest.raises(FloatingPointError, match=message):
            repeat(3, envs)

    def test_discrete_observation_out_of_range(self) -> None:
        env = broken(
            reset=lambda rng: 0,
            step=lambda state, action, rng: (state + 1, 0.0, False),
            observation_space=Discrete(2),
        )
        envs = env(2)
        envs.reset(seed=0)
        envs.step(np.array([0, 0]))
        with pytest.raises(
            RuntimeError, match=r"Broken observe: env 0, step 2 .* must be in \[0, 2\), got 2"
        ):
            envs.step(np.array([0, 0]))

    def test_native_rollout_names_env_and_step(self) -> None:
        def step(state, action, rng):
            return (state[0] + 1, 0.0), np.nan if state[0] == 40 else 0.0, False

        agent = fastrl.PPO(broken(step=step), num_envs=2, num_steps=32, seed=0)
        with pytest.raises(RuntimeError, match="the environment failed at step 40, env 0"):
            agent.learn(1000)
