"""Rollouts: the native and the step-by-step path, compiled and Gymnasium's environments, all give one batch."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from fastrl import _core
from fastrl.distributions import Categorical, DiagonalGaussian, MultiCategorical
from fastrl.envs import VectorEnv
from fastrl.networks import NativeNetwork, NetworkOptions, actor_critic
from fastrl.normalize import RunningMeanStd
from fastrl.observations import Encoder
from fastrl.policies import ActorCritic
from fastrl.sources import Rollout

ARRAYS = ("obs", "action", "log_prob", "value", "next_value", "reward", "terminated", "truncated",
          "episode_return", "episode_length")  # fmt: skip
LIMIT = 30  # so that many episodes are truncated


def policy(seed=0, inputs=4, actions=2):
    rng = np.random.default_rng(seed)
    space = gymnasium.spaces.Box(-np.inf, np.inf, (inputs,), np.float32)
    network = NativeNetwork(actor_critic(inputs, actions, NetworkOptions(hidden=(16,))), rng)
    network.params += rng.standard_normal(network.params.size).astype(np.float32) * 0.3
    return ActorCritic(network, Encoder(space), Categorical(gymnasium.spaces.Discrete(actions)), seed)


def compiled(n=6):
    return VectorEnv("CartPole-v1", n, max_episode_steps=LIMIT, autoreset_mode=AutoresetMode.SAME_STEP)


def gymnasiums(n=6):
    return SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)] * n,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )


def batches(env, count=4, stepwise=False, num_steps=50, normalize=False):
    actor = policy()
    actor.normalizer = RunningMeanStd((4,)) if normalize else None
    source = Rollout(env, actor, num_steps, seed=7)
    if stepwise:
        source.on_step = lambda data: None
    for _ in range(count):
        batch = source.next()
        yield {name: np.array(getattr(batch, name)) for name in ARRAYS}, batch, source


def gaussian(
    stepwise=False, env="compiled", squash=False, state_dependent_std=False, limit=LIMIT, env_id="Pendulum-v1"
):
    """Batches of a continuous environment with a Gaussian policy."""
    if env == "compiled":
        envs = VectorEnv(env_id, 5, max_episode_steps=limit, autoreset_mode=AutoresetMode.SAME_STEP)
    else:
        envs = SyncVectorEnv(
            [lambda: gymnasium.make(env_id, max_episode_steps=limit)] * 5,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
    seen, space = envs.single_observation_space, envs.single_action_space
    distribution = DiagonalGaussian(space, squash=squash, state_dependent_std=state_dependent_std)
    rng = np.random.default_rng(0)
    spec = actor_critic(seen.shape[0], distribution.columns, NetworkOptions(hidden=(16,)), distribution.free)
    network = NativeNetwork(spec, rng)
    network.params += rng.standard_normal(network.params.size).astype(np.float32) * 0.3
    encoder = Encoder(seen)
    source = Rollout(envs, ActorCritic(network, encoder, distribution, seen.shape[0]), 70, seed=7)
    source.on_step = (lambda data: None) if stepwise else None
    for _ in range(3):
        batch = source.next()
        yield {name: np.array(getattr(batch, name)) for name in ARRAYS}


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCarContinuous-v0"])
@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("state_dependent_std", [False, True])
def test_gaussian_paths_give_the_same_batches(env_id, squash, state_dependent_std):
    """The mountain car pays for its action before it clips it, so that the rollout must."""
    options = {"env_id": env_id, "squash": squash, "state_dependent_std": state_dependent_std}
    native = list(gaussian(**options))
    for other in (gaussian(stepwise=True, **options), gaussian(env="gymnasium", **options)):
        for a, b in zip(native, other, strict=True):
            for name in ARRAYS:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert native[0]["truncated"].any()
    assert native[0]["action"].shape == (70, 5, 1)
    assert native[0]["action"].std() > 0.3


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
        for name in ARRAYS:
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


def test_next_step_environments_mark_their_resets():
    """Without the steps marked invalid, a NEXT_STEP rollout is what a scalar loop over each environment gives."""
    n = 3
    envs = SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)] * n,
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )
    source = Rollout(envs, policy(), 80, seed=7)
    batch = source.next()
    done = batch.terminated | batch.truncated
    assert not batch.valid.all()
    for env in range(n):
        single = gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)
        ends = np.flatnonzero(done[:, env] & batch.valid[:, env])
        np.testing.assert_array_equal(
            np.flatnonzero(~batch.valid[:, env]), [e + 1 for e in ends if e + 1 < 80]
        )
        start = 0
        for end in ends:
            rows = [t for t in range(start, end + 1) if batch.valid[t, env]]
            single.reset(seed=0)
            single.unwrapped.state = batch.obs[rows[0], env].astype(np.float64)
            for t in rows:
                obs, reward, _, _, _ = single.step(int(batch.action[t, env]))
                if t < end:
                    np.testing.assert_allclose(obs, batch.obs[t + 1, env], rtol=1e-4, atol=1e-5)
                single.unwrapped.state = obs.astype(np.float64)
                assert reward == batch.reward[t, env]
            # the value of the final observation, which such environments return before they reset
            value = source.policy.value(batch.obs[end + 1 : end + 2, env])[0] if end + 1 < 80 else None
            if value is not None and not batch.terminated[end, env]:
                assert batch.next_value[end, env] == value
            start = end + 1
    assert batch.episode_length.sum() <= batch.valid.sum()


def test_a_loaded_next_step_environment_still_resets_itself():
    """A checkpoint at the end of an episode: the next step is a reset, and marked as such."""

    def source(seed):
        envs = VectorEnv("CartPole-v1", 4, max_episode_steps=20, autoreset_mode=AutoresetMode.NEXT_STEP)
        return Rollout(envs, policy(), 20, seed=seed)

    straight = source(7)
    straight.next()
    assert straight._ended.any()
    state = straight.state()
    resumed = source(9)
    resumed.load_state(state)
    expected, got = straight.next(), resumed.next()
    assert not expected.valid[0].all()
    for name in (*ARRAYS, "valid"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)


def test_disabled_environments_are_reset_by_mask():
    def envs(mode):
        return SyncVectorEnv(
            [lambda: gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)] * 4, autoreset_mode=mode
        )

    same = batches(envs(AutoresetMode.SAME_STEP), normalize=True)
    disabled = batches(envs(AutoresetMode.DISABLED), normalize=True)
    shared = VectorEnv(
        "CartPole-v1", 4, max_episode_steps=LIMIT, autoreset_mode=AutoresetMode.DISABLED, copy=False
    )
    reused = batches(shared, normalize=True)
    for (a, _, _), (b, _, _), (c, _, _) in zip(same, disabled, reused, strict=True):
        for name in ARRAYS:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
            np.testing.assert_array_equal(a[name], c[name], err_msg=name)


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


def test_a_draw_of_several_choices_is_one_native_call():
    """As the network and the distribution apart."""
    space = gymnasium.spaces.MultiDiscrete([3, 2, 4])
    distribution = MultiCategorical(space)
    rng = np.random.default_rng(0)
    network = NativeNetwork(actor_critic(5, 9, NetworkOptions(hidden=(16,))), rng)
    network.params += rng.standard_normal(network.params.size).astype(np.float32) * 0.3
    actor = ActorCritic(network, Encoder(gymnasium.spaces.Box(-9, 9, (5,), np.float32)), distribution, seed=3)
    x = rng.standard_normal((100, 5)).astype(np.float32)
    action, log_prob, value = actor.act(x, 11)
    y = network.infer(x)
    expected = distribution.sample(network, y[:, :-1], 3, 11)
    np.testing.assert_array_equal(action, expected[0])
    np.testing.assert_array_equal(log_prob, expected[1])
    np.testing.assert_array_equal(value, y[:, -1])
    assert action.shape == (100, 3)
    with pytest.raises(ValueError, match="act: sizes must be positive and add up to the number of logits"):
        _core.act(network.plan.core, network.layer_params, x, 0, 0, sizes=(3, 2))


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
    env = gymnasiums()
    env.metadata = {}
    with pytest.raises(ValueError, match="must say its AutoresetMode, got None"):
        Rollout(env, policy(), 4, seed=0)
    source = Rollout(compiled(), policy(), 4, seed=0)
    source.policy.normalizer = RunningMeanStd((3,))
    with pytest.raises(ValueError, match="obs_normalizer must be of the environment's observations"):
        source.next()
    with pytest.raises(ValueError, match="network must be a reader of the environment's observations"):
        Rollout(compiled(), policy(inputs=3), 4, seed=0)
