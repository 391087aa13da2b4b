"""PPO on continuous actions: its update against torch, its learning, what reaches the environment."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

import fastrl
from fastrl.distributions import DiagonalGaussian, distribution_for
from fastrl.evaluate import evaluate

PENDULUM = {"gamma": 0.9, "ent_coef": 0.0, "num_steps": 200, "minibatch_size": 100, "update_epochs": 10}


@pytest.mark.parametrize("state_dependent_std", [False, True])
def test_gradient_of_a_minibatch_equals_torch(state_dependent_std, monkeypatch):
    agent = fastrl.PPO(
        "Pendulum-v1", seed=0, hidden=(16,), num_envs=4, num_steps=100, minibatch_size=400, ent_coef=0.03,
        state_dependent_std=state_dependent_std,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    network = agent.policy.network
    network.params += rng.standard_normal(network.params.size).astype(np.float32) * 0.2
    batch = agent.source.next()
    n = batch.value.size
    fields = [
        batch.obs.reshape(n, -1), batch.action.reshape(n, 1),
        (batch.log_prob.reshape(n) + rng.normal(0, 0.2, n)).astype(np.float32),
        rng.standard_normal(n).astype(np.float32), rng.standard_normal(n).astype(np.float32),
        batch.value.reshape(n).copy(),
    ]  # fmt: skip
    seen = {}
    monkeypatch.setattr(
        agent.optimizer, "step", lambda *_: seen.setdefault("grad", network.grad.copy()) is None
    )
    agent.minibatch(*fields)

    tensors = {
        k: torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for k, v in network.named_tensors().items()
    }
    obs, action, old_log_prob, advantage, return_ = (torch.as_tensor(x).double() for x in fields[:5])

    def mlp(head):
        h = torch.tanh(obs @ tensors[f"{head}.0.weight"] + tensors[f"{head}.0.bias"])
        return h @ tensors[f"{head}.out.weight"] + tensors[f"{head}.out.bias"]

    columns = mlp("policy")
    log_std = columns[:, 1:] if state_dependent_std else tensors["log_std"].expand(n, 1)
    normal = torch.distributions.Normal(columns[:, :1], log_std.exp())
    ratio = (normal.log_prob(action).sum(1) - old_log_prob).exp()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    policy_loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean()
    value_loss = 0.5 * ((mlp("value")[:, 0] - return_) ** 2).mean()
    (policy_loss + 0.5 * value_loss - 0.03 * normal.entropy().sum(1).mean()).backward()
    expected = np.concatenate([tensor.grad.numpy().ravel() for tensor in tensors.values()])
    assert np.linalg.norm(seen["grad"] - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.learning
@pytest.mark.parametrize("squash_actions", [False, True])
def test_learns_pendulum_on_three_of_three_seeds(squash_actions):
    """Deterministic evaluation over 100 episodes after 200k steps; a random policy earns about -1200."""
    returns = []
    for seed in range(3):
        agent = fastrl.PPO("Pendulum-v1", seed=seed, squash_actions=squash_actions, **PENDULUM).learn(200_000)
        returns.append(evaluate(agent, 100).mean)
    assert min(returns) >= -350, returns


def test_the_torch_engine_shares_log_std():
    small = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (16,)}
    agents = [
        fastrl.PPO("Pendulum-v1", seed=0, engine=engine, **small).learn(320) for engine in ("native", "torch")
    ]
    a, b = (agent.policy.network.params for agent in agents)
    assert agents[0].policy.network.free("log_std")[0] != 0.0
    assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(a)


def test_save_and_load(tmp_path):
    agent = fastrl.PPO("Pendulum-v1", seed=0, num_envs=2, num_steps=16, minibatch_size=32).learn(64)
    copy = fastrl.PPO.load(agent.save(tmp_path / "agent"))
    np.testing.assert_array_equal(agent.policy.network.params, copy.policy.network.params)
    assert "log_std" in copy.policy.network.named_tensors()
    obs = np.zeros((3, 3), np.float32)
    action, _ = copy.predict(obs)
    assert action.shape == (3, 1)
    assert action.dtype == np.float32
    assert copy.predict(obs[0], deterministic=True)[0].shape == (1,)


@pytest.mark.parametrize("squash", [False, True])
def test_actions_stay_in_bounds_and_shape(squash):
    space = spaces.Box(np.array([[-1.0, 0.0]]), np.array([[3.0, 0.5]]), dtype=np.float64)
    distribution = DiagonalGaussian(space, squash=squash)
    raw = np.random.default_rng(0).normal(0, 5, (50, 2)).astype(np.float32)
    action = distribution.to_env(raw)
    assert action.shape == (50, 1, 2)
    assert action.dtype == np.float64
    assert all(space.contains(row) for row in action)


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bounds_hold_in_the_precision_of_the_space(squash, dtype):
    """0.1 and 0.7 lie on different sides of the float32 numbers next to them."""
    bounds = np.array([[-0.1, 0.7, 0.1], [0.1, 0.9, 0.7]], dtype)
    space = spaces.Box(*bounds, dtype=dtype)
    raw = np.repeat(np.float32([[-50.0], [50.0]]), 3, axis=1)
    action = DiagonalGaussian(space, squash=squash).to_env(raw)
    np.testing.assert_allclose(action, bounds, rtol=1e-6)
    assert all(space.contains(row) for row in action)


def test_actions_of_half_infinite_bounds_in_float64():
    space = spaces.Box(np.array([-np.inf, -0.1]), np.array([0.1, np.inf]), dtype=np.float64)
    action = DiagonalGaussian(space).to_env(np.random.default_rng(0).normal(0, 9, (99, 2)).astype(np.float32))
    assert action.dtype == np.float64
    assert all(space.contains(row) for row in action)


def test_spaces_without_a_distribution():
    with pytest.raises(ValueError, match=r"action space Text.* is not supported; Discrete, MultiDiscrete"):
        distribution_for(spaces.Text(3))
    with pytest.raises(ValueError, match="action space Box"):
        distribution_for(spaces.Box(0, 5, (2,), np.int64))
    with pytest.raises(ValueError, match="squash_actions needs finite bounds, got Box"):
        distribution_for(spaces.Box(-np.inf, 1, (2,), np.float32), squash=True)
