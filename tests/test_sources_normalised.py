"""Rollouts with running normalisation: all paths give one batch, and statistics are of what is acted on."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import fastrl
from fastrl.distributions import distribution_for
from fastrl.envs import VectorEnv
from fastrl.networks import NativeNetwork, NetworkOptions, actor_critic
from fastrl.normalize import ReturnNormalizer, RunningMeanStd
from fastrl.observations import Encoder
from fastrl.policies import ActorCritic
from fastrl.sources import Rollout

ARRAYS = ("obs", "action", "log_prob", "value", "next_value", "reward", "terminated", "truncated",
          "episode_return", "episode_length")  # fmt: skip
LIMIT = 30  # so that many episodes are truncated


def normalised(env_id, obs, reward, kind="compiled", mode=AutoresetMode.SAME_STEP):
    """A source over 5 environments, with normalisers of observations and of rewards or without."""
    if kind == "gymnasium":
        make = [lambda: gymnasium.make(env_id, max_episode_steps=LIMIT)] * 5
        envs = SyncVectorEnv(make, autoreset_mode=mode)
    else:
        envs = VectorEnv(env_id, 5, autoreset_mode=mode, max_episode_steps=LIMIT)
    encoder, distribution = Encoder(envs.single_observation_space), distribution_for(envs.single_action_space)
    spec = actor_critic(
        encoder.shape[0], distribution.columns, NetworkOptions(hidden=(16,)), distribution.free
    )
    network = NativeNetwork(spec, np.random.default_rng(0))
    actor = ActorCritic(network, encoder, distribution, 3, normalize=obs)
    rewards = ReturnNormalizer(5, 0.97) if reward else None
    return Rollout(envs, actor, 70, seed=7, reward_normalizer=rewards)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize(("obs", "reward"), [(True, False), (False, True), (True, True)])
def test_all_paths_normalise_alike(env_id, obs, reward, isa):
    """The same batches and the same statistics, bit for bit, and the native path is what runs."""
    native, stepwise, foreign = (
        normalised(env_id, obs, reward, kind) for kind in ("compiled", "compiled", "gymnasium")
    )
    stepwise.on_step = lambda data: None
    native._collect = None  # would fail if it were called
    truncated = 0
    for _ in range(3):
        expected = native.next()
        truncated += (expected.truncated & ~expected.terminated).sum()
        for other in (stepwise.next(), foreign.next()):
            for name in ARRAYS:
                np.testing.assert_array_equal(getattr(other, name), getattr(expected, name), err_msg=name)
    assert truncated > 5 or env_id == "CartPole-v1"
    states = [
        repr([s.policy.normalizer and s.policy.normalizer.state(), reward and s.reward_normalizer.state()])
        for s in (native, stepwise, foreign)
    ]
    assert states[0] == states[1] == states[2]


def test_normalised_final_observations_bootstrap():
    """A truncated step's next_value is that of the final observation by the statistics of its own time."""
    source = normalised("Pendulum-v1", True, False)
    seen = []
    source.env.step, step = lambda action: seen.append(step(action)) or seen[-1], source.env.step
    source.on_step = lambda data: values.append(final_values())
    values = []

    def final_values():
        done = seen[-1][3]
        if not done.any():
            return None
        return source.policy.value(source.policy.observe(np.stack(seen[-1][4]["final_obs"][done])))

    stepwise = source.next().next_value.copy()
    native = normalised("Pendulum-v1", True, False).next()
    np.testing.assert_array_equal(native.next_value, stepwise)
    for t, value in enumerate(values):
        if value is not None:
            np.testing.assert_allclose(native.next_value[t], value, rtol=1e-5)


def test_statistics_leave_out_the_resets_of_next_step_environments():
    """Only observations that are acted on and rewards of real steps count, as in the other modes."""
    source = normalised("CartPole-v1", True, True, mode=AutoresetMode.NEXT_STEP)
    source.policy.normalizer = RunningMeanStd((4,))
    seen = []
    source.env.step, step = lambda action: seen.append(step(action)) or seen[-1], source.env.step
    batch = source.next()
    ended = (batch.terminated | batch.truncated) & batch.valid
    assert ended.any()
    acted_on = np.concatenate([obs[~end] for (obs, *_), end in zip(seen, ended, strict=True)])
    statistics = source.policy.normalizer
    assert statistics.count == len(acted_on) == batch.valid.size - ended.sum()
    np.testing.assert_allclose(statistics.mean, acted_on.mean(0, np.float64), rtol=1e-12, atol=1e-12)
    assert source.reward_normalizer.statistics.count == batch.valid.sum()
    returns, running = [], np.zeros(5)
    for valid, end in zip(batch.valid, ended, strict=True):
        running[valid] = 0.97 * running[valid] + 1
        returns += running[valid].tolist()
        running[end] = 0
    np.testing.assert_allclose(source.reward_normalizer.statistics.var, np.var(returns), rtol=1e-12)


def test_normalisation():
    source = normalised("CartPole-v1", True, True)
    batches = [source.next() for _ in range(3)]
    rows = batches[-1].obs.reshape(-1, 4)
    assert source.policy.normalizer.count == 5 * (1 + 3 * 70)
    assert np.abs(rows.mean(0)).max() < 0.5
    assert np.abs(rows.std(0) - 1).max() < 0.5
    assert 0 < batches[-1].reward.max() < 1  # the running return's deviation is far above 1
    np.testing.assert_array_equal(batches[-1].episode_return, batches[-1].episode_length)


def test_normalisation_continues_from_a_checkpoint(tmp_path):
    options = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (16,), "total_timesteps": 640,
               "normalize_obs": True, "normalize_reward": True}  # fmt: skip
    straight = fastrl.PPO("CartPole-v1", **options).learn()
    half = fastrl.PPO("CartPole-v1", **options).learn(callback=lambda agent, _: agent.num_timesteps < 320)
    resumed = fastrl.PPO.load(half.save(tmp_path / "agent")).learn()
    np.testing.assert_array_equal(resumed.policy.network.params, straight.policy.network.params)
    np.testing.assert_array_equal(resumed.policy.normalizer.var, straight.policy.normalizer.var)
    obs = np.ones((1, 4), np.float32)
    count = straight.policy.normalizer.count
    np.testing.assert_array_equal(straight.policy.observe(obs), resumed.policy.observe(obs))
    assert not np.array_equal(straight.policy.observe(obs), obs)
    straight.predict(obs)
    assert straight.policy.normalizer.count == count


def test_a_loaded_agent_sees_its_first_observations_by_its_own_statistics(tmp_path):
    """Other environments restart their episodes; the statistics do not."""

    def make():
        return gymnasium.make("CartPole-v1")

    options = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (16,), "normalize_obs": True}
    agent = fastrl.PPO(make, **options).learn(640)
    loaded = fastrl.PPO(make, agent.config)
    loaded.load_checkpoint_state(agent.checkpoint_state())
    expected = agent.policy.normalizer.normalize(loaded.source._obs.copy())
    np.testing.assert_array_equal(loaded.source.next().obs[0], expected)


def test_statistics_go_along_into_other_environments(tmp_path):
    """Returns of the episodes that were left behind do not."""
    options = {
        "num_envs": 4,
        "num_steps": 16,
        "minibatch_size": 32,
        "hidden": (16,),
        "normalize_reward": True,
    }
    agent = fastrl.PPO("CartPole-v1", **options).learn(640)
    path, kept = agent.save(tmp_path / "agent"), agent.source.reward_normalizer
    assert kept.returns.any()
    for env in ("CartPole-v1", VectorEnv("CartPole-v1", 3), lambda: gymnasium.make("CartPole-v1")):
        source = fastrl.PPO.load(path, env).source
        assert source.reward_normalizer.statistics.var == kept.statistics.var
        assert source.reward_normalizer.statistics.count == kept.statistics.count
        assert not source.reward_normalizer.returns.any()
        assert source.counter == agent.source.counter  # no draw comes twice


def test_environments_that_restart_on_resume_begin_new_returns():
    options = {
        "num_envs": 2,
        "num_steps": 16,
        "minibatch_size": 32,
        "hidden": (16,),
        "normalize_reward": True,
    }
    agent = fastrl.PPO(lambda: gymnasium.make("CartPole-v1"), **options).learn(320)
    loaded = fastrl.PPO(lambda: gymnasium.make("CartPole-v1"), **options)
    loaded.load_checkpoint_state(agent.checkpoint_state())
    assert agent.source.reward_normalizer.returns.any()
    assert not loaded.source.reward_normalizer.returns.any()
