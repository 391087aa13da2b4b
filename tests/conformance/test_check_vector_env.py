"""The check that any vector environment can be put through: what is right passes, what is known wrong does not."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from fastrl.envs import VectorEnv, check_vector_env


def sync(env_id, mode, num_envs=5, **kwargs):
    return SyncVectorEnv([partial(gymnasium.make, env_id, **kwargs)] * num_envs, autoreset_mode=mode)


class Kept(gymnasium.vector.VectorWrapper):
    """Puts SyncVectorEnv right where it is not: it removes the mask from the caller's options (Gymnasium#1696),
    and steps after close."""

    def reset(self, *, seed=None, options=None):
        if self.env.closed:
            raise gymnasium.error.ClosedEnvironmentError
        return self.env.reset(seed=seed, options=None if options is None else dict(options))

    def step(self, actions):
        if self.env.closed:
            raise gymnasium.error.ClosedEnvironmentError
        return self.env.step(actions)


CART_POLE = partial(sync, "CartPole-v1")


def test_what_is_right_passes():
    check_vector_env(lambda mode: VectorEnv("CartPole-v1", 5, autoreset_mode=mode), CART_POLE)
    check_vector_env(lambda mode: Kept(CART_POLE(mode)), CART_POLE)


def test_sync_removes_the_mask_from_the_options():
    with pytest.raises(
        AssertionError,
        match=r"NextStep: options given to reset.*keys of value must be \['reset_mask'\], got \[\]",
    ):
        check_vector_env(CART_POLE, CART_POLE)


def test_cartpole_vector_env_seeds_all_envs_from_one_stream():
    with pytest.raises(AssertionError, match=r"NextStep: reset\(seed=3\): value\[0\] must be"):
        check_vector_env(lambda mode: CartPoleVectorEnv(5), CART_POLE, modes=[AutoresetMode.NEXT_STEP])


class Wrong(Kept):
    def __init__(self, env, wrong):
        super().__init__(env)
        self.wrong = wrong
        if wrong == "single space":  # envpool's
            self.observation_space = env.single_observation_space

    def reset(self, *, seed=None, options=None):
        if self.wrong == "seed ignored":  # envpool's
            seed = None
        if self.wrong == "mask ignored":  # CartPoleVectorEnv's
            options = None
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        obs, reward, terminated, truncated, infos = super().step(actions)
        match self.wrong:
            case "rewards float32":  # CartPoleVectorEnv's, envpool's
                reward = reward.astype(np.float32)
            case "truncation as termination":
                terminated, truncated = terminated | truncated, np.zeros_like(truncated)
            case "no masks":  # envpool's
                infos = {key: value for key, value in infos.items() if not key.startswith("_")}
            case "one array for final_obs" if "final_obs" in infos:  # ALE's
                infos["final_obs"] = obs
            case "buffer reused":
                self.buffer = getattr(self, "buffer", obs)
                self.buffer[...] = obs
                obs = self.buffer
        return obs, reward, terminated, truncated, infos


WRONGS = {
    "single space": "observation_space: value must be",
    "seed ignored": r"reset\(seed=3\)",
    "mask ignored": "by mask",
    "rewards float32": r"value\[1\] must be float64 \[5\], got float32",
    "truncation as termination": r"value\[2\] must be",
    "no masks": r"keys of value\[4\]",
    "one array for final_obs": r"final_obs'\] must be object",
    "buffer reused": "result of .*, after",
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_what_is_wrong_is_found(wrong):
    reference = partial(sync, "CartPole-v1", max_episode_steps=12)
    with pytest.raises(AssertionError, match=WRONGS[wrong]):
        check_vector_env(
            lambda mode: Wrong(reference(mode), wrong), reference, modes=[AutoresetMode.SAME_STEP]
        )


def test_a_closed_environment_must_say_so():
    with pytest.raises(AssertionError, match="reset after close must raise ClosedEnvironmentError, it ran"):
        check_vector_env(
            lambda mode: KeptOpen(CART_POLE(mode)), CART_POLE, steps=3, modes=[AutoresetMode.NEXT_STEP]
        )


class KeptOpen(gymnasium.vector.VectorWrapper):
    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=seed, options=None if options is None else dict(options))
