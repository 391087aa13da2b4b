"""State of compiled environments: saved, restored, pickled and copied runs continue to the bit."""

import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode

from fastrl.envs import VectorEnv
from fastrl.kernels.envs import TABLE


def cartpole(num_envs: int = 4, **kwargs: Any) -> VectorEnv:
    return VectorEnv("CartPole-v1", num_envs, **kwargs)


@pytest.mark.parametrize("env_id", list(TABLE))
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_round_trip(env_id: str, mode: AutoresetMode) -> None:
    """A run continued from saved bytes equals the run that went on."""
    env = VectorEnv(env_id, 9, autoreset_mode=mode, max_episode_steps=30)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(200)]
    env.reset(seed=5)

    def run(e: VectorEnv, part: list[np.ndarray]) -> list[bytes]:
        out = []
        for a in part:
            if mode is AutoresetMode.DISABLED and e._core.needs_reset.any():
                e.reset(options={"reset_mask": e._core.needs_reset.copy()})
            out.append(pickle.dumps(e.step(a)) + e.episode_return.tobytes())
        return out

    run(env, actions[:77])
    saved, pickled, deep = env.get_state(), pickle.dumps(env), copy.deepcopy(env)
    expected = run(env, actions[77:])
    fresh = VectorEnv(env_id, 9, autoreset_mode=mode, max_episode_steps=30)
    fresh.set_state(saved)
    unpickled = pickle.loads(pickled)
    assert unpickled.np_random_seed == tuple(range(5, 14))
    for other in (fresh, unpickled, deep):
        assert run(other, actions[77:]) == expected
        assert other.get_state().tobytes() == env.get_state().tobytes()


def test_copies_are_independent() -> None:
    env = gymnasium.make_vec("fastrl/CartPole-v1", num_envs=3, copy=False)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert repr(twin) == repr(env)
    assert twin.copy is False
    before = env.get_state().tobytes()
    twin.step(np.zeros(3, np.int64))
    assert env.get_state().tobytes() == before


def test_pickle_before_reset_and_after_close() -> None:
    env = pickle.loads(pickle.dumps(cartpole()))
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(4, np.int64))
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        pickle.loads(pickle.dumps(env)).step(np.zeros(4, np.int64))


def test_scalar_pickle() -> None:
    env = gymnasium.make("fastrl/CartPole-v1").unwrapped
    env.reset(seed=1)
    env.step(0)
    twin, deep = pickle.loads(pickle.dumps(env)), copy.deepcopy(env)
    for other in (twin, deep):
        assert other.state.tobytes() == env.state.tobytes()
    expected = env.step(1)[0], env.reset()[0]
    for other in (twin, deep):
        np.testing.assert_array_equal(expected, (other.step(1)[0], other.reset()[0]))


def test_foreign_state() -> None:
    env = cartpole(4)
    before = env.get_state()
    with pytest.raises(ValueError, match="no state of 4 such envs"):
        env.set_state(cartpole(3).get_state())
    with pytest.raises(ValueError, match="no state of 4 such envs"):
        env.set_state(np.zeros_like(before))
    with pytest.raises(ValueError, match="no state"):
        env.set_state(before[:-1])
    with pytest.raises(TypeError, match="uint8"):
        env.set_state(before.view(np.int8))
    assert env.get_state().tobytes() == before.tobytes()
