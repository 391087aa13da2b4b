"""What prioritized DQNs learn, where uniform replay does not, and where wrong weights would mislead them."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.logger import Logger  # noqa: E402

from fastrl.integrations.sb3 import PERDQN, ReplayBuffer, make_vec_env  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")
LENGTH = 10


class Chain(gymnasium.Env):
    """The spaces of the blind cliffwalk."""

    observation_space = spaces.Discrete(LENGTH)
    action_space = spaces.Discrete(2)


def agent(cls, size, learning_rate, **kwargs):
    """An agent with one weight a state and action, which gradient descent trains on what is stored."""
    model = cls(
        "MlpPolicy",
        Chain(),
        learning_rate=learning_rate,
        buffer_size=size,
        gamma=0.9,
        policy_kwargs={"net_arch": [], "optimizer_class": torch.optim.SGD},
        max_grad_norm=1e9,
        seed=0,
        device="cpu",
        **kwargs,
    )
    model.set_logger(Logger(None, []))
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
    return model


def walk(buffer):
    """All action sequences of the cliffwalk: the right action goes on, the wrong one ends the episode, and
    only the whole walk is rewarded (Schaul et al. 2016, section 3.1). Episodes in proportion to their chance.
    """
    for steps in np.random.default_rng(0).geometric(0.5, 2**LENGTH).clip(max=LENGTH):
        for state in range(steps):
            wrong = state == steps - 1 and steps < LENGTH
            last = state == steps - 1
            reward = 1.0 if last and not wrong else 0.0
            following = np.array([min(state + 1, LENGTH - 1)])
            row = (np.array([state]), following, np.array([int(wrong)]), np.array([reward]), np.array([last]))
            buffer.add(*row, [{}])


def error(model):
    """Root mean square error of the right actions' values."""
    with torch.no_grad():
        values = model.q_net(torch.arange(LENGTH).reshape(-1, 1))[:, 0].numpy()
    return float(np.sqrt(np.mean((values - 0.9 ** np.arange(LENGTH - 1, -1, -1)) ** 2)))


def walked(cls, updates, **kwargs):
    model = agent(cls, 4096, 1.0, batch_size=8, **kwargs)
    walk(model.replay_buffer)
    for _ in range(updates):
        model.train(1, 8)
        model.q_net_target.load_state_dict(model.q_net.state_dict())
    return error(model)


@pytest.mark.learning
def test_priorities_find_the_one_reward_in_thousands():
    kwargs = {"replay_buffer_kwargs": {"alpha": 1.0, "beta": 0.0}}
    prioritized = walked(PERDQN, 1500, **kwargs)
    uniform = walked(sb3.DQN, 1500, replay_buffer_class=ReplayBuffer)
    assert prioritized < 0.1
    assert uniform > 0.3


@pytest.mark.learning
@pytest.mark.parametrize(("beta", "low", "high"), [(1.0, 0.09, 0.11), (0.0, 0.15, 0.5)])
def test_weights_make_the_mean_of_rare_rewards_right(beta, low, high):
    """Of one state and action 10 % of the rewards are 1: the value is 0.1. The rare ones have the larger error
    and are drawn more often, which the weights undo.
    """
    model = agent(PERDQN, 100, 0.02, replay_buffer_kwargs={"alpha": 1.0, "beta": beta, "eps": 0.05})
    model._current_progress_remaining = 1.0
    zero = np.zeros(1, int)
    for i in range(100):
        model.replay_buffer.add(zero, zero, zero, np.array([float(i % 10 == 0)]), np.array([True]), [{}])
    values = []
    for i in range(3000):
        model.train(1, 32)
        if i >= 1000:
            values.append(model.q_net.q_net[0].weight[0, 0].item() + model.q_net.q_net[0].bias[0].item())
    assert low < np.mean(values) < high


@pytest.mark.slow
@pytest.mark.learning
def test_cart_pole():
    """By the settings of rl-baselines3-zoo, half its steps: 500 measured, an agent that learned nothing has 10."""
    settings = {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1000,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256]},
    }
    model = PERDQN("MlpPolicy", make_vec_env("CartPole-v1", 1, seed=1), seed=1, device="cpu", **settings)
    model.learn(25_000)
    mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", 10, seed=1000), 20)
    assert mean > 195
