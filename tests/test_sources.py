"""Rollouts: the native and the step-by-step path, compiled and Gymnasium's environments, all give one batch."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from fastrl.envs import VectorEnv
from fastrl.policies import CategoricalPolicy
from fastrl.sources import Rollout

ARRAYS = ("obs", "action", "log_prob", "value", "next_value", "reward", "terminated", "truncated",
          "episode_return", "episode_length")  # fmt: skip
LIMIT = 30  # so that many episodes are truncated


def policy(seed=0, inputs=4, actions=2):
    rng = np.random.default_rng(seed)
    made = CategoricalPolicy(inputs, actions, hidden=(16,), activation="tanh", rng=rng, seed=seed)
    made.network.params += rng.standard_normal(made.network.params.size).astype(np.float32) * 0.3
    return made


def compiled(n=6):
    return VectorEnv("CartPole-v1", n, max_episode_steps=LIMIT, autoreset_mode=AutoresetMode.SAME_STEP)


def gymnasiums(n=6):
    return SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)] * n,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )


def batches(env, count=4, stepwise=False, num_steps=50):
    source = Rollout(env, policy(), num_steps, seed=7)
    if stepwise:
        source.on_step = lambda data: None
    for _ in range(count):
        batch = source.next()
        yield {name: np.array(getattr(batch, name)) for name in ARRAYS}, batch, source


@pytest.mark.parametrize("other", ["stepwise", "gymnasium"])
def test_all_paths_give_the_same_batches(other):
    native = batches(compiled())
    slow = batches(compiled(), stepwise=True) if other == "stepwise" else batches(gymnasiums())
    truncated = 0
    for (a, _, _), (b, _, _) in zip(native, slow, strict=True):
        for name in ARRAYS:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
            assert a[name].dtype == b[name].dtype
        truncated += a["truncated"].sum()
    assert truncated > 5


def test_paths_can_alternate():
    straight = [arrays for arrays, _, _ in batches(compiled())]
    source = Rollout(compiled(), policy(), 50, seed=7)
    for turn, expected in enumerate(straight):
        source.on_step = (lambda data: None) if turn % 2 else None
        batch = source.next()
        for name in ARRAYS[:-2]:
            np.testing.assert_array_equal(getattr(batch, name), expected[name], err_msg=name)


def test_next_value_is_that_of_the_true_next_observation():
    for arrays, batch, source in batches(compiled()):
        value, next_value = arrays["value"], arrays["next_value"]
        done = arrays["terminated"] | arrays["truncated"]
        np.testing.assert_array_equal(next_value[:-1][~done[:-1]], value[1:][~done[:-1]])
        cut = arrays["truncated"] & ~arrays["terminated"]
        # at a truncation the next row starts another episode: its value must not be used
        assert (next_value[:-1][cut[:-1]] != value[1:][cut[:-1]]).all()
        np.testing.assert_array_equal(
            batch.next_value[-1][~done[-1]], source.policy.value(np.array(source.env.core.obs))[~done[-1]]
        )


def test_episode_statistics():
    (arrays, _, _), *_ = batches(compiled(), count=1, num_steps=LIMIT * 3)
    ends = (arrays["terminated"] | arrays["truncated"]).sum()
    assert len(arrays["episode_return"]) == len(arrays["episode_length"]) == ends
    np.testing.assert_array_equal(arrays["episode_return"], arrays["episode_length"])  # reward 1 a step
    assert arrays["episode_length"].max() <= LIMIT


def test_state_continues_bit_for_bit():
    source = Rollout(compiled(), policy(), 20, seed=3)
    source.next()
    state = source.state()
    expected = np.array(source.next().obs)
    other = Rollout(compiled(), policy(), 20, seed=99)
    other.load_state(state)
    np.testing.assert_array_equal(other.next().obs, expected)


class Broken(gymnasium.Env):
    """Gives NaN in one field at its third step."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, field):
        self.field = field

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        now = self.t == 3
        obs = np.full(
            3, np.nan if now and self.field in ("observation", "final observation") else 0.0, np.float32
        )
        reward = np.nan if now and self.field == "reward" else 0.0
        return obs, reward, False, now and self.field == "final observation", {}


@pytest.mark.parametrize("field", ["reward", "observation", "final observation"])
def test_nan_names_step_env_and_field(field):
    env = SyncVectorEnv([lambda: Broken(None), lambda: Broken(field)], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(FloatingPointError, match=f"the {field} is not finite at step 2, env 1"):
        Rollout(env, policy(inputs=3), 5, seed=0).next()


@pytest.mark.parametrize("stepwise", [False, True])
def test_non_finite_logits_stop_the_rollout(stepwise):
    source = Rollout(compiled(), policy(), 5, seed=0)
    source.on_step = (lambda data: None) if stepwise else None
    source.policy.network.params[:] = np.nan
    with pytest.raises(FloatingPointError, match="the policy's output is not finite"):
        source.next()


def test_bad_input():
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        Rollout(compiled(), policy(), 0, seed=0)
    with pytest.raises(ValueError, match="must be SAME_STEP, got"):
        Rollout(VectorEnv("CartPole-v1", 2), policy(), 4, seed=0)
    with pytest.raises(ValueError, match="network's inputs must be the environment's observations"):
        Rollout(compiled(), policy(inputs=3), 4, seed=0)
