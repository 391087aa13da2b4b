"""PPO: its update against torch, its learning on several seeds, its configuration and its errors."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.algorithms.ppo import PPOConfig, explained_variance
from fastrl.checkpoint import CheckpointError
from fastrl.evaluate import evaluate

SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (16,)}


def torch_loss(agent, fields):
    """CleanRL's PPO loss in float64, and the parameters it is a function of."""
    tensors = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in agent.policy.network.named_tensors().items()
    }
    obs, action, old_log_prob, advantage, return_, old_value = (
        torch.as_tensor(x).double() if x.dtype != np.int64 else torch.as_tensor(x) for x in fields
    )

    def mlp(head):
        h = obs
        for depth in range(len(agent.config.hidden)):
            h = torch.tanh(h @ tensors[f"{head}.{depth}.weight"] + tensors[f"{head}.{depth}.bias"])
        return h @ tensors[f"{head}.out.weight"] + tensors[f"{head}.out.bias"]

    config = agent.config
    distribution = torch.distributions.Categorical(logits=mlp("policy"))
    value = mlp("value")[:, 0]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = (distribution.log_prob(action) - old_log_prob).exp()
    clipped = ratio.clamp(1 - config.clip_coef, 1 + config.clip_coef)
    policy_loss = torch.max(-advantage * ratio, -advantage * clipped).mean()
    value_loss = (value - return_) ** 2
    if config.clip_value is not None:
        bounded = old_value + (value - old_value).clamp(-config.clip_value, config.clip_value)
        value_loss = torch.max(value_loss, (bounded - return_) ** 2)
    entropy = distribution.entropy().mean()
    kl = (ratio - 1 - ratio.log()).mean()
    loss = (
        policy_loss
        - config.ent_coef * entropy
        + config.vf_coef * 0.5 * value_loss.mean()
        + config.kl_coef * kl
    )
    return loss, tensors


@pytest.mark.parametrize(
    "options", [{}, {"clip_value": 0.1}, {"kl_coef": 0.7}, {"ent_coef": 0.0, "vf_coef": 0.1}]
)
def test_gradient_of_a_minibatch_equals_torch(options, monkeypatch):
    agent = fastrl.PPO("CartPole-v1", seed=0, **{**SMALL, "num_steps": 160, "minibatch_size": 600}, **options)
    agent.policy.network.params += (
        np.random.default_rng(0).standard_normal(agent.policy.network.params.size).astype(np.float32) * 0.2
    )
    batch = agent.source.next()
    rng = np.random.default_rng(1)
    n = batch.value.size
    fields = [
        batch.obs.reshape(n, -1), batch.action.reshape(n),
        (batch.log_prob.reshape(n) + rng.normal(0, 0.3, n)).astype(np.float32),
        rng.standard_normal(n).astype(np.float32), rng.standard_normal(n).astype(np.float32),
        (batch.value.reshape(n) + rng.normal(0, 0.2, n)).astype(np.float32),
    ]  # fmt: skip
    seen = {}

    def step(max_grad_norm):
        seen["grad"] = agent.policy.network.grad.copy()
        return 0.0

    monkeypatch.setattr(agent.optimizer, "step", step)
    agent.minibatch(*fields)
    loss, tensors = torch_loss(agent, fields)
    loss.backward()
    expected = np.concatenate([tensor.grad.numpy().ravel() for tensor in tensors.values()])
    assert n > agent.policy.network.chunk  # more than one chunk was accumulated
    assert np.linalg.norm(seen["grad"] - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.learning
def test_learns_cartpole_on_ten_of_ten_seeds():
    """Deterministic evaluation over 100 episodes after 200k steps with the default configuration."""
    returns = []
    for seed in range(10):
        agent = fastrl.PPO("CartPole-v1", seed=seed).learn(200_000)
        returns.append(evaluate(agent, 100).mean)
    assert min(returns) >= 475, returns


@pytest.mark.learning
def test_learns_from_gymnasiums_own_environment():
    env = gymnasium.make_vec(
        "CartPole-v1", 8, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    slow = fastrl.PPO(env, seed=0).learn(20_000)
    fast = fastrl.PPO("CartPole-v1", seed=0).learn(20_000)
    np.testing.assert_array_equal(slow.policy.network.params, fast.policy.network.params)
    assert np.mean([episode[0] for episode in slow.episodes]) > 80  # a random policy earns about 22


def test_same_seed_is_bit_identical_and_another_is_not():
    first, second, other = (fastrl.PPO("CartPole-v1", seed=seed, **SMALL).learn(640) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.policy.network.params, second.policy.network.params)
    assert not np.array_equal(first.policy.network.params, other.policy.network.params)


def test_diagnostics():
    metrics = []
    fastrl.PPO("CartPole-v1", seed=0, **SMALL).learn(64 * 5, callback=lambda _, m: metrics.append(dict(m)))
    assert len(metrics) == 5
    last = metrics[-1]
    assert 0.6 < last["train/entropy"] <= np.log(2) + 1e-6
    assert last["train/approx_kl"] >= 0
    assert 0 <= last["train/clip_fraction"] <= 1
    assert last["train/explained_variance"] <= 1
    assert last["train/grad_norm"] > 0
    rates = [m["train/learning_rate"] for m in metrics]
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(5) / 5))


def test_target_kl_skips_epochs():
    epochs = []
    agent = fastrl.PPO("CartPole-v1", seed=0, **SMALL, update_epochs=10, learning_rate=0.05, target_kl=0.02)
    agent.learn(64 * 4, callback=lambda _, m: epochs.append(m["train/epochs"]))
    assert min(epochs) < 10


def test_constant_learning_rate():
    rates = []
    agent = fastrl.PPO("CartPole-v1", **SMALL, anneal_lr=False)
    agent.learn(256, callback=lambda _, m: rates.append(m["train/learning_rate"]))
    assert set(rates) == {1e-3}


def test_explained_variance():
    x = np.array([1.0, 2.0, 4.0])
    assert explained_variance(x, x) == 1.0
    assert explained_variance(np.zeros(3), x) == 0.0
    assert explained_variance(x, np.ones(3)) == 0.0


def test_predict_single_and_batch():
    agent = fastrl.PPO("CartPole-v1", seed=0, **SMALL)
    obs = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    actions, state = agent.predict(obs, deterministic=True)
    assert state is None
    assert actions.shape == (50,)
    for row, action in zip(obs, actions, strict=True):
        single, _ = agent.predict(row, deterministic=True)
        assert single.shape == ()
        assert single == action
        assert agent.env.single_action_space.contains(single)
    drawn, _ = agent.predict(obs)
    again, _ = agent.predict(obs)
    assert not np.array_equal(drawn, again)
    assert agent.predict(obs[:0])[0].shape == (0,)


def test_predictions_do_not_disturb_training():
    obs = np.zeros((3, 4), np.float32)
    plain = fastrl.PPO("CartPole-v1", seed=0, **SMALL).learn(256)
    agent = fastrl.PPO("CartPole-v1", seed=0, **SMALL)
    agent.learn(256, callback=lambda agent, _: agent.predict(obs) and None)
    np.testing.assert_array_equal(agent.policy.network.params, plain.policy.network.params)


def test_save_and_load_continue_bit_for_bit(tmp_path):
    agent = fastrl.PPO("CartPole-v1", seed=3, **SMALL, total_timesteps=1024).learn(512)
    agent.total_timesteps = 1024
    path = agent.save(tmp_path / "agent")
    copy = fastrl.PPO.load(path)
    assert copy.config == agent.config
    assert copy.num_timesteps == 512
    agent.learn()
    copy.learn()
    assert agent.num_timesteps == copy.num_timesteps == 1024
    np.testing.assert_array_equal(agent.policy.network.params, copy.policy.network.params)
    np.testing.assert_array_equal(agent.optimizer.v, copy.optimizer.v)
    assert list(agent.episodes) == list(copy.episodes)


def test_load_refuses_another_algorithm(tmp_path):
    class Other(fastrl.PPO):
        pass

    path = Other("CartPole-v1", **SMALL).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="checkpoint is of Other, not PPO"):
        fastrl.PPO.load(path)


def test_a_user_environment(tmp_path):
    env = gymnasium.make_vec(
        "Acrobot-v1", 2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    agent = fastrl.PPO(env, num_steps=8, minibatch_size=8).learn(64)
    assert agent.config.num_envs == 2
    assert agent.env_id == "Acrobot-v1"
    assert not agent.source.exact_resume
    assert evaluate(agent, 2).episode_length.min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"PPOConfig: gamma must be in \[0, 1\], got 1.5"),
        ({"gamma": float("nan")}, r"gamma must be in \[0, 1\], got nan"),
        ({"gae_lambda": -0.1}, r"gae_lambda must be in \[0, 1\], got -0.1"),
        ({"num_envs": 0}, "num_envs must be >= 1, got 0"),
        ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
        ({"total_timesteps": 0}, "total_timesteps must be >= 1, got 0"),
        ({"minibatch_size": 1025}, r"minibatch_size must be <= num_envs \* num_steps = 1024, got 1025"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0, got 0.0"),
        ({"clip_coef": -1.0}, "clip_coef must be > 0, got -1.0"),
        ({"clip_value": 0.0}, "clip_value must be > 0 or None, got 0.0"),
        ({"ent_coef": -0.1}, "ent_coef must be >= 0, got -0.1"),
        ({"hidden": (64, 0)}, r"hidden must be widths >= 1, got \(64, 0\)"),
        ({"engine": "gpu"}, "engine must be auto, native or torch, got 'gpu'"),
        ({"network": "nature"}, "network='nature' does not read observations of Box"),
        (
            {"compile": True, "engine": "native"},
            "engine='native' cannot run compile=True; engine='torch' does",
        ),
        ({"activation": "gelu"}, "PPOConfig: activation must be tanh, relu or silu, got 'gelu'"),
    ],
)
def test_bad_configuration(options, message):
    with pytest.raises(ValueError, match=message):
        fastrl.PPO("CartPole-v1", **options)


def test_bad_arguments():
    with pytest.raises(TypeError, match="unknown field 'gama', not among activation"):
        fastrl.PPO("CartPole-v1", gama=0.9)
    with pytest.raises(ValueError, match=r"env: .*NoSuchEnv.* Compiled environments: .*CartPole"):
        fastrl.PPO("NoSuchEnv-v0")
    with pytest.raises(
        TypeError, match="must be an id, a function that makes one, or a vector environment, got int"
    ):
        fastrl.PPO(3)
    agent = fastrl.PPO("CartPole-v1", **SMALL)
    with pytest.raises(ValueError, match=r"observation must be \[4\] or \[N, 4\], got \[3\]"):
        agent.predict(np.zeros(3))
    with pytest.raises(ValueError, match="observation is not finite"):
        agent.predict(np.full(4, np.nan))
    with pytest.raises(ValueError, match="total_timesteps must be >= 1, got 0"):
        agent.learn(0)
    for name in ("eval_interval", "eval_episodes", "checkpoint_interval"):
        with pytest.raises(ValueError, match=f"learn: {name} must be >= 1, got -3"):
            agent.learn(64, **{name: -3})
    assert agent.num_timesteps == 0
    with pytest.raises(ValueError, match="episodes must be >= 1, got 0"):
        evaluate(agent, 0)


def test_configuration_is_frozen_and_documented():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PPOConfig().gamma = 0.5
    assert fastrl.PPO("CartPole-v1", PPOConfig(seed=4), **SMALL).config.seed == 4


def test_a_batch_in_which_all_environments_reset_themselves():
    """A vector step of NEXT_STEP environments may hold no step at all."""
    make = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=3)] * 2
    envs = gymnasium.vector.SyncVectorEnv(make, autoreset_mode=AutoresetMode.NEXT_STEP)
    agent = fastrl.PPO(envs, num_steps=1, minibatch_size=2, hidden=(16,))
    empty = []
    agent.learn(16, callback=lambda agent, metrics: empty.append("train/entropy" not in metrics))
    assert empty == [False, False, False, True] * 2
