"""Recurrent modules of the user's."""

import numpy as np
import pytest
import torch
from torch import nn

import fastrl
from fastrl.recurrent import RecurrentPolicy, RecurrentRollout
from fastrl.sequences import Sequences


class OwnMemory(nn.Module):
    """An Elman network, its state beside its output."""

    recurrent_state_size = 6

    def __init__(self, outputs=3, dropout=0.0):
        super().__init__()
        self.cell, self.out, self.dropout = nn.RNNCell(4, 6), nn.Linear(6, outputs), nn.Dropout(dropout)

    def forward(self, obs, state):
        h = self.dropout(self.cell(obs, state))
        y = self.out(h)
        return (y[:, :-1], y[:, -1]), h


def test_a_recurrent_module_of_the_users(tmp_path):
    torch.manual_seed(0)
    agent = fastrl.PPO(
        "CartPole-v1", policy=OwnMemory(), seed=0, num_envs=4, num_steps=16, minibatch_size=32, hidden=(8,)
    )
    assert isinstance(agent.policy, RecurrentPolicy)
    assert isinstance(agent.source, RecurrentRollout)
    batch = agent.source.next()
    for fields in agent.minibatches.epoch(batch, batch.value, batch.value, agent.rng):
        y, tape = agent.policy.network.forward(fields[0])
        np.testing.assert_allclose(y[:, -1], fields[-1], rtol=1e-5, atol=1e-6)
        agent.policy.network.backward(tape, np.ones_like(y))
    assert agent.policy.network.grad.all()
    agent.policy.network.zero_grad()
    agent.learn(128)
    copy = fastrl.PPO.load(agent.save(tmp_path / "agent"), policy=OwnMemory())
    obs = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(agent.predict(obs)[1], copy.predict(obs)[1])


def test_modules_that_do_not_fit():
    options = {"num_envs": 2, "num_steps": 8, "minibatch_size": 8}
    with pytest.raises(ValueError, match=r"must give \(\[B, 3\], \[B, 6\]\).* it gave \[2, 5\] and \[2, 6\]"):
        fastrl.PPO("CartPole-v1", policy=OwnMemory(5), **options)
    wrong = OwnMemory()
    wrong.recurrent_state_size = 0
    with pytest.raises(ValueError, match="recurrent_state_size must be an int >= 1, got 0"):
        fastrl.PPO("CartPole-v1", policy=wrong, **options)
    with pytest.raises(ValueError, match="recurrent='lstm' is for fastrl's networks"):
        fastrl.PPO("CartPole-v1", policy=OwnMemory(), recurrent="lstm", **options)
    with pytest.raises(ValueError, match=r"minibatch_size must be >= num_steps = 16 .*got 8"):
        fastrl.PPO("CartPole-v1", policy=OwnMemory(), num_envs=2, num_steps=16, minibatch_size=8)


def test_only_learning_is_in_training_mode():
    agent = fastrl.PPO(
        "CartPole-v1", policy=OwnMemory(dropout=0.5), num_envs=2, num_steps=16, minibatch_size=16
    )
    x, state = np.ones((3, 4), np.float32), np.ones((3, 6), np.float32)
    steps = [agent.network.step(x, state) for _ in range(2)]
    np.testing.assert_array_equal(*(y for y, _ in steps))
    np.testing.assert_array_equal(*(after for _, after in steps))
    agent.learn(32)
    sequences = Sequences(
        np.ones((5, 2, 4), np.float32), np.zeros((2, 6), np.float32), np.zeros((5, 2), np.bool_), None
    )
    assert not np.array_equal(*(agent.network.forward(sequences)[0] for _ in range(2)))
    np.testing.assert_array_equal(*(agent.network.infer(sequences) for _ in range(2)))
