"""Other libraries' conventions brought to the family's, beside those libraries' own loops."""

from typing import Any

import numpy as np
import pytest
from _returns import make, run

from fastrl.kernels import gae, td_lambda
from fastrl.kernels.returns._ops import OPS
from fastrl.kernels.returns.layouts import after_step, from_arrival, from_flat, padded

GAMMA, LAM = 0.9, 0.8
KINDS = ["numpy", "torch"]


def kind_of(kind: str, x: np.ndarray) -> Any:
    if kind == "numpy":
        return x
    return pytest.importorskip("torch").from_numpy(x)


@pytest.mark.parametrize("kind", KINDS)
def test_flags_before_steps(kind: str) -> None:
    """CleanRL's loop."""
    data = make("gae", 7, 3, ends=0.3)
    rewards, values, dones = data["reward"], data["value"], data["terminated"]
    next_value, next_done = data["next_value"][0], np.array([True, False, False])
    expected, last = np.zeros_like(rewards), np.zeros(3, np.float32)
    for t in reversed(range(7)):
        alive = 1.0 - (next_done if t == 6 else dones[t + 1])
        following = next_value if t == 6 else values[t + 1]
        delta = rewards[t] + GAMMA * following * alive - values[t]
        expected[t] = last = delta + GAMMA * LAM * alive * last
    arrays = [kind_of(kind, x) for x in (rewards, values, next_value, dones, next_done)]
    terminated = after_step(*arrays[3:])
    got = gae(*arrays[:3], terminated, gamma=GAMMA, lam=LAM)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert after_step(arrays[3][:0], arrays[4]).shape == (0, 3)
    assert after_step(arrays[3], arrays[4][None]).shape == (7, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_arrivals(kind: str) -> None:
    """PufferLib's loop, [B, T]: rewards and dones of a step stand with the observation it led to."""
    data = make("gae", 4, 9, ends=0.3)
    rewards, values, dones = data["reward"], data["value"], data["terminated"]
    expected = np.zeros_like(rewards)
    for b in range(4):
        last = 0.0
        for t in reversed(range(8)):
            alive = 1.0 - dones[b, t + 1]
            delta = rewards[b, t + 1] + GAMMA * values[b, t + 1] * alive - values[b, t]
            expected[b, t] = last = delta + GAMMA * LAM * alive * last
    r, v, d = (kind_of(kind, x).T for x in (rewards, values, dones))
    reward, terminated = from_arrival(r, d)
    got = gae(reward, v[:-1], v[1:], terminated, gamma=GAMMA, lam=LAM)
    np.testing.assert_allclose(got.T, expected[:, :-1], rtol=1e-5, atol=1e-6)
    if kind == "numpy":
        assert np.shares_memory(reward, rewards)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", OPS)
def test_flat_by_environment(op: str, kind: str) -> None:
    """Each environment's steps after the other's, in one vector: without a copy, and into one."""
    data = make(op, 6, 5)
    variant = {"n": 3} if op == "n_step" else {}
    flat = {name: np.ascontiguousarray(x.T).ravel() for name, x in data.items()}
    views = {name: from_flat(kind_of(kind, x), 5) for name, x in flat.items()}
    if kind == "numpy":
        assert all(np.shares_memory(views[name], flat[name]) for name in flat)
    out = tuple(np.zeros(30, np.float32) for _ in range(OPS[op].outputs))
    targets = tuple(from_flat(kind_of(kind, x), 5) for x in out)
    run(op, views, **variant, out=targets if len(targets) == 2 else targets[0])
    for x, y in zip(out, run(op, data, **variant), strict=True):
        np.testing.assert_array_equal(x, y.T.ravel())


def test_flat_of_unequal_lengths() -> None:
    """Tianshou: one column, with the end of each environment's part truncated."""
    parts = [make("td_lambda", steps, 1, seed=steps) for steps in (3, 5)]
    names = ("reward", "next_value", "terminated", "truncated")
    flat = {name: np.concatenate([part[name][:, 0] for part in parts]) for name in names}
    flat["truncated"][[2, 7]] = True
    got = td_lambda(**{name: x[:, None] for name, x in flat.items()})[:, 0]
    expected = [td_lambda(**{name: part[name] for name in names})[:, 0] for part in parts]
    np.testing.assert_array_equal(got, np.concatenate(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_padding(kind: str) -> None:
    lengths = np.array([3, 0, 6])
    mask = padded(kind_of(kind, lengths), 6)
    np.testing.assert_array_equal(np.asarray(mask).sum(0), lengths)
    data = make("td_lambda", 6, 3, ends=0.1)
    got = td_lambda(**{name: kind_of(kind, x) for name, x in (data | {"mask": np.asarray(mask)}).items()})
    for b, length in enumerate(lengths):
        alone = {name: x[:length, b : b + 1] for name, x in data.items() if name != "mask"}
        np.testing.assert_array_equal(got[:length, b], td_lambda(**alone)[:, 0])
        assert (np.asarray(got)[length:, b] == 0).all()


def test_refuses() -> None:
    flags = np.zeros((4, 3), bool)
    with pytest.raises(ValueError, match=r"after_step: after_last must be \[B\] .* got bool \[2\] beside"):
        after_step(flags, flags[0, :2])
    with pytest.raises(ValueError, match=r"from_flat: x must be \[B · T\] with B = 5, got bool \[12\]"):
        from_flat(flags.ravel(), 5)
    with pytest.raises(ValueError, match=r"padded: lengths must be from 0 to 4, got \[5\]"):
        padded(np.array([5]), 4)
    for call in (
        lambda: after_step(flags.tolist(), flags[0]),
        lambda: after_step(flags, flags[0].tolist()),
        lambda: from_flat([True], 1),
        lambda: padded([1], 4),
    ):
        with pytest.raises(TypeError, match=r": \w+ must be an array or a tensor, got list"):
            call()
