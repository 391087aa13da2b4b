"""Recurrent PPO: what a policy without a memory cannot learn, on several seeds; every space and network."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import fastrl
from fastrl.evaluate import evaluate

KINDS = ["lstm", "gru"]
SMALL = {"num_envs": 8, "num_steps": 32, "minibatch_size": 128, "hidden": (16,), "recurrent_size": 16}


class Recall(gymnasium.Env):
    """Shows a sign once, then nothing; rewards its recall at the last of six steps, +1 or -1.

    Without a memory the last observation says nothing: whatever the policy, its mean return is 0.
    """

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    LENGTH = 6

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.sign = 0, float(self.np_random.choice([-1, 1]))
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        last = self.t == self.LENGTH
        return self._obs(), (1.0 if (action == 1) == (self.sign > 0) else -1.0) * last, last, False, {}

    def _obs(self):
        return np.array([self.sign * (self.t == 0), self.t == self.LENGTH - 1], np.float32)


def trained(kind, seed, steps=8_192):
    agent = fastrl.PPO(Recall, recurrent=kind, seed=seed, learning_rate=5e-3, **SMALL)
    return evaluate(agent.learn(steps), 200).mean


@pytest.mark.learning
@pytest.mark.parametrize("kind", KINDS)
def test_learns_to_recall_on_five_of_five_seeds(kind):
    returns = [trained(kind, seed) for seed in range(5)]
    assert min(returns) >= 0.95, returns


@pytest.mark.learning
def test_without_a_memory_there_is_nothing_to_learn():
    returns = [trained("none", seed) for seed in range(5)]
    assert np.abs(returns).max() < 0.3, returns  # four deviations of a mean over 200 episodes


class Positions(gymnasium.ObservationWrapper):
    """CartPole without velocities."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observation(self, observation):
        return observation[[0, 2]]


@pytest.mark.slow
@pytest.mark.learning
@pytest.mark.parametrize(("kind", "low", "high"), [("lstm", 450, 500), ("gru", 450, 500), ("none", 0, 60)])
def test_infers_velocities_from_positions_on_five_of_five_seeds(kind, low, high):
    """CartPole-v1 without velocities: 150k steps, deterministic evaluation over 100 episodes."""
    returns = []
    for seed in range(5):
        agent = fastrl.PPO(
            lambda: Positions(gymnasium.make("CartPole-v1")),
            recurrent=kind, seed=seed, minibatch_size=256, gae_lambda=0.98, normalize_reward=True,
        )  # fmt: skip
        returns.append(evaluate(agent.learn(150_000), 100).mean)
    assert low <= min(returns) <= max(returns) <= high, returns


class Any(gymnasium.Env):
    """Random observations and rewards; only the spaces matter."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        draw = self.np_random.random()
        return self.observation_space.sample(), draw, draw < 0.1, draw > 0.9, {}


VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (44, 44, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("observation", "action", "options"),
    [
        (VECTOR, spaces.MultiDiscrete([2, 3]), {"normalize_obs": True, "normalize_reward": True}),
        (VECTOR, spaces.Box(-1, 1, (2,), np.float32), {"bf16": True}),
        (VECTOR, spaces.Box(-1, 1, (2,), np.float32), {"squash_actions": True, "hidden": ()}),
        (VECTOR, spaces.Discrete(3, start=4), {"clip_value": 0.2, "target_kl": 0.01, "activation": "silu"}),
        (spaces.Dict({"a": spaces.Discrete(3), "b": VECTOR}), spaces.MultiBinary(2), {}),
        (IMAGE, spaces.Discrete(2), {"network": "nature"}),
        (IMAGE, spaces.Discrete(2), {"network": "impala", "bf16": True}),
    ],
    ids=str,
)
def test_every_space_and_network(kind, observation, action, options, tmp_path):
    small = {"num_envs": 3, "num_steps": 8, "minibatch_size": 16, "hidden": (8,), "recurrent_size": 8}
    agent = fastrl.PPO(lambda: Any(observation, action), recurrent=kind, **{**small, **options})
    metrics = []
    agent.learn(72, callback=lambda _, m: metrics.append(m))
    assert all(np.isfinite(value) for value in metrics[-1].values())
    if not options.get("bf16"):
        batch = agent.source.next()
        for obs, *_, value in agent.minibatches.epoch(batch, batch.value, batch.value, agent.rng):
            y, _ = agent.policy.network.forward(obs)
            np.testing.assert_allclose(y[:, -1], value, rtol=1e-4, atol=1e-5)
    copy = fastrl.PPO.load(agent.save(tmp_path / "agent"), lambda: Any(observation, action))
    single = observation.sample()
    first, state = agent.predict(single, deterministic=True)
    assert action.contains(first)
    np.testing.assert_array_equal(copy.predict(single, deterministic=True)[1], state)
    for _ in range(2):
        assert action.contains(agent.predict(single, state)[0])


def test_images_share_one_memory_and_vectors_have_two():
    small = {"num_envs": 2, "num_steps": 8, "minibatch_size": 8, "recurrent_size": 5, "recurrent": "gru"}
    sizes = [
        fastrl.PPO(lambda space=space: Any(space, spaces.Discrete(2)), **small).policy.network.state_size
        for space in (IMAGE, VECTOR)
    ]
    assert sizes == [5, 10]


def test_memories_begin_orthogonal_with_zero_biases():
    agent = fastrl.PPO("CartPole-v1", recurrent="lstm", minibatch_size=256)
    for name, tensor in agent.policy.network.named_tensors().items():
        if "bias" in name:
            assert not tensor.any()
        elif "rnn" in name:
            np.testing.assert_allclose(tensor.T @ tensor, np.eye(64), atol=1e-5)
    again = fastrl.PPO("CartPole-v1", recurrent="lstm", minibatch_size=256)
    np.testing.assert_array_equal(again.policy.network.params, agent.policy.network.params)
