"""The native and the torch engine learn alike: the same seeds give the same training curves, within noise.

Gradients of both are compared elsewhere. Here whole runs are: they begin alike, drift apart by rounding, and must
earn the same on average.
"""

import numpy as np
import pytest

import fastrl
from fastrl.statistics import bootstrap_interval, iqm

SEEDS = range(10)
CARTPOLE = {"num_envs": 8, "num_steps": 128, "minibatch_size": 256, "anneal_lr": False}
PENDULUM = {
    "num_envs": 16, "num_steps": 200, "minibatch_size": 400, "update_epochs": 10, "learning_rate": 3e-3,
    "gamma": 0.9, "ent_coef": 0.0, "normalize_reward": True,
}  # fmt: skip


def area(env, engine, seed, steps, **settings):
    """Mean over the run's batches of the mean return of the last 20 episodes."""
    curve = []
    agent = fastrl.PPO(env, seed=seed, engine=engine, **settings)
    agent.learn(steps, callback=lambda agent, _: curve.append([r for r, _ in list(agent.episodes)[-20:]]))
    return np.mean([np.mean(returns) for returns in curve if returns])


def difference(pairs, axis=None):
    return iqm(pairs[..., 0], axis=-1) - iqm(pairs[..., 1], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "steps", "settings"),
    [("CartPole-v1", 102_400, CARTPOLE), ("Pendulum-v1", 96_000, PENDULUM)],
    ids=["CartPole-v1", "Pendulum-v1"],
)
def test_areas_under_the_training_curves(env, steps, settings):
    areas = np.array(
        [[area(env, engine, seed, steps, **settings) for engine in ("native", "torch")] for seed in SEEDS]
    )
    low, high = bootstrap_interval(areas, difference)
    assert low <= 0 <= high, areas
    assert np.ptp(areas) > 0
