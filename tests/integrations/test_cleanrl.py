"""What replaces parts of CleanRL's scripts, beside those parts."""

import numpy as np
import pytest
import torch

from fastrl.integrations.cleanrl import gae


def loop(rewards, values, dones, next_value, next_done, gamma, gae_lambda):
    """CleanRL's ppo.py, of NumPy arrays or tensors."""
    advantages, last = torch.zeros_like(torch.as_tensor(rewards)), 0
    if not torch.is_tensor(rewards):
        advantages = advantages.numpy()
    for t in reversed(range(len(rewards))):
        at_end = t == len(rewards) - 1
        nonterminal = 1.0 - (next_done if at_end else dones[t + 1])
        following = next_value.reshape(-1) if at_end else values[t + 1]
        delta = rewards[t] + gamma * following * nonterminal - values[t]
        advantages[t] = last = delta + gamma * gae_lambda * nonterminal * last
    return advantages, advantages + values


def rollout(T, N, dtype=np.float32, ended=0.2):
    rng = np.random.default_rng(T * 100 + N)
    rewards, values = rng.standard_normal((2, T, N)).astype(dtype)
    dones = (rng.random((T + 1, N)) < ended).astype(dtype)
    return [rewards, values, dones[:-1], rng.standard_normal((1, N)).astype(dtype), dones[-1]]


@pytest.mark.parametrize("kind", ["tensor", "array"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ended", [0, 0.2, 1])
@pytest.mark.parametrize(("T", "N"), [(128, 8), (1, 1), (1, 5), (33, 1), (7, 17)])
def test_gae_is_the_loop_to_the_bit(kind, dtype, ended, T, N):
    arguments = rollout(T, N, dtype, ended)
    if kind == "tensor":
        arguments = [torch.from_numpy(x) for x in arguments]
    for ours, theirs in zip(gae(*arguments, 0.99, 0.95), loop(*arguments, 0.99, 0.95), strict=True):
        assert type(ours) is type(theirs)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_gae_takes_what_scripts_pass():
    rewards, values, dones, next_value, next_done = map(torch.from_numpy, rollout(9, 4))
    expected = gae(rewards, values, dones, next_value, next_done)
    flags = dones.bool(), next_done.bool()  # LeanRL's dones
    for found in (
        gae(rewards, values, flags[0], next_value, flags[1], 0.99, 0.95),
        gae(rewards, values, dones, next_value[0], next_done[None], 0.99, 0.95),
        gae(rewards.T.contiguous().T, values.T.contiguous().T, dones, next_value, next_done),
    ):
        assert all(map(torch.equal, found, expected))
    with torch.no_grad():
        assert torch.equal(
            gae(rewards, values.requires_grad_(), dones, next_value, next_done)[0], expected[0]
        )


def test_gae_leaks_no_nan_over_an_end():
    rewards, values, dones, next_value, next_done = map(torch.from_numpy, rollout(3, 1, ended=0))
    dones[1], values[1] = 1, float("nan")
    advantages, _ = gae(rewards, values, dones, next_value, next_done)
    assert torch.equal(advantages[0], rewards[0] - values[0])
    assert loop(rewards, values, dones, next_value, next_done, 0.99, 0.95)[0][0].isnan()


def test_gae_of_no_steps():
    empty = torch.zeros(0, 3)
    advantages, returns = gae(empty, empty, empty, torch.zeros(1, 3), torch.zeros(3))
    assert advantages.shape == returns.shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dones": np.zeros((4, 2))}, TypeError, r"gae: dones must be a tensor as rewards is, got ndarray"),
        ({"dones": torch.zeros(3, 2)}, ValueError, r"gae: dones must be \[4, 2\], got float32 \[3, 2\]"),
        ({"next_done": torch.zeros(3)}, ValueError, r"gae: next_done must be \[2\], got float32 \[3\]"),
        ({"next_done": 0.0}, TypeError, r"gae: next_done must be a tensor as rewards is, got float"),
        (
            {"values": torch.zeros(4, 2, dtype=torch.float64)},
            TypeError,
            r"gae: value must be float32 \[T, B\]",
        ),
        ({"next_value": torch.zeros(1, 3)}, ValueError, r"gae: next_value must be float32 \[B\] = \[2\]"),
        ({"gamma": 1.5}, ValueError, r"gae: gamma must be in \[0, 1\], got 1.5"),
        ({"gae_lambda": -1}, ValueError, r"gae: lam must be in \[0, 1\], got -1"),
    ],
)
def test_gae_refuses(change, error, message):
    arguments = {
        "rewards": torch.zeros(4, 2),
        "values": torch.zeros(4, 2),
        "dones": torch.zeros(4, 2),
        "next_value": torch.zeros(1, 2),
        "next_done": torch.zeros(2),
    }
    with pytest.raises(error, match=message):
        gae(**(arguments | change))
