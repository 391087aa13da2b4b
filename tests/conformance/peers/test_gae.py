"""Advantages by the conventions of other libraries: each reproduced by an option or an adapter of ours and compared
with the library, or with its formula where it is not installed; and who bootstraps where a time limit cut an episode.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from fastrl.integrations import cleanrl
from fastrl.kernels import gae

Array = NDArray[np.float32]
GAMMA, LAM = 0.97, 0.9


@dataclass(frozen=True)
class Rollout:
    """[T, B]; ``value`` has a row more, of the observation after the last step."""

    reward: Array
    value: Array
    final_value: Array
    """V of an episode's last observation, where it ended."""
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    @property
    def done(self) -> NDArray[np.bool_]:
        return self.terminated | self.truncated

    @property
    def next_value(self) -> Array:
        """V of the observation that each step led to."""
        return np.where(self.done, self.final_value, self.value[1:])


def rollout(T: int, B: int, terminated: float, truncated: float) -> Rollout:
    rng = np.random.default_rng(T)
    reward, value, final = (rng.standard_normal((n, B), np.float32) for n in (T, T + 1, T))
    ended = rng.random((T, B)) < terminated
    return Rollout(reward, value, final, ended, ~ended & (rng.random((T, B)) < truncated))


def truth(x: Rollout) -> Array:
    """The sum of the definition, episode by episode: A_t = Σ_k (γλ)^k δ_{t+k}, to the episode's last step."""
    delta = x.reward + GAMMA * np.where(x.terminated, 0, x.next_value) - x.value[:-1]
    advantage = np.zeros(x.reward.shape)
    for t, b in np.ndindex(*x.reward.shape):
        for k in range(t, len(x.reward)):
            advantage[t, b] += (GAMMA * LAM) ** (k - t) * delta[k, b]
            if x.done[k, b]:
                break
    return advantage


def exact(x: Rollout) -> Array:
    return gae(x.reward, x.value[:-1], x.next_value, x.terminated, x.truncated, gamma=GAMMA, lam=LAM)


def no_bootstrap(x: Rollout) -> Array:
    """Truncations as terminations; V of the next row is enough."""
    return gae(x.reward, x.value[:-1], x.value[-1], x.done, gamma=GAMMA, lam=LAM)


def sb3_inputs(x: Rollout) -> tuple[Array, Array]:
    """SB3's rewards, to which it adds γ V(terminal observation) at time limits, and ``episode_starts``."""
    starts = np.concatenate([np.ones((1, x.done.shape[1])), x.done[:-1]])
    return x.reward + np.float32(GAMMA) * np.where(x.truncated, x.final_value, 0), starts


def sb3_buffer(cls: type, x: Rollout) -> Array:
    T, B = x.reward.shape
    buffer = cls(
        T, spaces.Discrete(2), spaces.Discrete(2), device="cpu", gamma=GAMMA, gae_lambda=LAM, n_envs=B
    )
    rewards, starts = sb3_inputs(x)
    for t in range(T):
        value, zero = torch.from_numpy(x.value[t]), np.zeros(B, int)
        buffer.add(zero, zero, rewards[t], starts[t], value, torch.zeros(B))
    buffer.compute_returns_and_advantage(torch.from_numpy(x.value[-1]), x.done[-1])
    return buffer.advantages


def sb3(x: Rollout) -> Array:
    return sb3_buffer(pytest.importorskip("stable_baselines3.common.buffers").RolloutBuffer, x)


def sb3_ours(x: Rollout) -> Array:
    return sb3_buffer(pytest.importorskip("fastrl.integrations.sb3").RolloutBuffer, x)


def cleanrl_inputs(x: Rollout) -> tuple[torch.Tensor, ...]:
    """CleanRL's and LeanRL's ``dones`` belong to the observation before a step."""
    dones = np.concatenate([np.zeros((1, x.done.shape[1])), x.done]).astype(np.float32)
    arrays = x.reward, x.value[:-1], dones[:-1], x.value[-1:], dones[-1]
    return tuple(map(torch.from_numpy, arrays))


def cleanrl_loop(x: Rollout) -> Array:
    rewards, values, dones, next_value, next_done = cleanrl_inputs(x)
    advantages, last = torch.zeros_like(rewards), 0
    for t in reversed(range(len(rewards))):
        at_end = t == len(rewards) - 1
        going_on = 1.0 - (next_done if at_end else dones[t + 1])
        following = next_value[0] if at_end else values[t + 1]
        delta = rewards[t] + GAMMA * following * going_on - values[t]
        advantages[t] = last = delta + GAMMA * LAM * going_on * last
    return advantages.numpy()


def cleanrl_ours(x: Rollout) -> Array:
    return cleanrl.gae(*cleanrl_inputs(x), GAMMA, LAM)[0].numpy()


def tianshou(x: Rollout) -> Array:
    """Environment after environment in one row; ``v_s_`` is 0 where terminated; unfinished ends are ends."""
    algorithm_base = pytest.importorskip("tianshou.algorithm.algorithm_base")
    end = x.done.copy()
    end[-1] = True
    following = np.where(x.terminated, 0, x.next_value)
    flat = (y.T.reshape(-1).astype(np.float64) for y in (x.value[:-1], following, x.reward))
    advantage = algorithm_base._gae(*flat, end.T.reshape(-1), GAMMA, LAM)
    return advantage.reshape(x.reward.T.shape).T


def tianshou_ours(x: Rollout) -> Array:
    """Also in one row: a copy of nothing, [T, B] in any strides, float64."""
    value, next_value, reward = (y.astype(np.float64) for y in (x.value[:-1], x.next_value, x.reward))
    return gae(reward, value, next_value, x.terminated, x.truncated, gamma=GAMMA, lam=LAM)


def torchrl(x: Rollout) -> Array:
    """[B, T, 1]; ``done`` cuts the sum, ``terminated`` the bootstrap."""
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    values = x.value[:-1], x.next_value, x.reward, x.done, x.terminated
    arguments = (torch.from_numpy(np.ascontiguousarray(y.T))[..., None] for y in values)
    advantage, _ = functional.generalized_advantage_estimate(GAMMA, LAM, *arguments)
    return advantage[..., 0].numpy().T


def torchrl_ours(x: Rollout) -> Array:
    """[B, T] as transposed views."""
    rows = (
        np.ascontiguousarray(y.T).T for y in (x.reward, x.value[:-1], x.next_value, x.terminated, x.truncated)
    )
    return gae(*rows, gamma=GAMMA, lam=LAM)


def rlax(x: Rollout) -> Array:
    """One discount says both, γ(1 - done): [T], and values [T + 1]."""
    module = pytest.importorskip("rlax")
    discount = (GAMMA * (1 - x.done)).astype(np.float32)
    columns = [
        module.truncated_generalized_advantage_estimation(x.reward[:, b], discount[:, b], LAM, x.value[:, b])
        for b in range(x.reward.shape[1])
    ]
    return np.stack(columns, axis=1)


def rlax_formula(x: Rollout) -> Array:
    discount = GAMMA * (1 - x.done)
    delta = x.reward + discount * x.value[1:] - x.value[:-1]
    advantage = np.zeros_like(x.value)
    for t in reversed(range(len(delta))):
        advantage[t] = delta[t] + discount[t] * LAM * advantage[t + 1]
    return advantage[:-1]


def pufferlib_formula(x: Rollout) -> Array:
    """[B, T]: reward and done of t belong to the arrival at t, and the last advantage is not written."""
    reward, value, done = arrivals(x)
    advantage = np.zeros_like(value)
    for t in reversed(range(len(value) - 1)):
        going_on = 1.0 - done[t + 1]
        delta = reward[t + 1] + GAMMA * value[t + 1] * going_on - value[t]
        advantage[t] = delta + GAMMA * LAM * going_on * advantage[t + 1]
    return advantage


def pufferlib(x: Rollout) -> Array:
    return pufferlib_formula(x)[:-1]


def arrivals(x: Rollout) -> tuple[Array, Array, NDArray[np.bool_]]:
    """What T + 1 arrivals bring: reward and done of the step before."""
    first = np.zeros((1, x.reward.shape[1]), np.float32)
    return np.concatenate([first, x.reward]), x.value, np.concatenate([first.astype(bool), x.done])


def pufferlib_ours(x: Rollout) -> Array:
    """The arrays one step on are those after a step: views."""
    reward, value, done = arrivals(x)
    return gae(reward[1:], value[:-1], value[-1], done[1:], gamma=GAMMA, lam=LAM)


def sample_factory_formula(x: Rollout) -> Array:
    """[E, T], all steps valid."""
    rewards, dones, values = x.reward, x.done.astype(np.float32), x.value
    deltas = (rewards - values[:-1]) + (1 - dones) * (GAMMA * values[1:])
    advantage, cumulative = np.zeros_like(deltas), 0
    for t in reversed(range(len(deltas))):
        advantage[t] = cumulative = deltas[t] + GAMMA * LAM * cumulative * (1 - dones[t])
    return advantage


Advantages = Callable[[Rollout], Array]


@dataclass(frozen=True)
class Convention:
    """How a library says it, and how ours does."""

    peer: Advantages
    ours: Advantages
    bootstraps: bool
    """Whether it counts V of an episode's last observation at a time limit."""
    exact: bool = False
    """Ours is the peer's to the bit; else to 2e-6 of the largest advantage."""


CONVENTIONS = {
    "SB3": Convention(sb3, exact, True),
    "SB3, its buffer": Convention(sb3, sb3_ours, True, exact=True),
    "CleanRL": Convention(cleanrl_loop, cleanrl_ours, False, exact=True),
    "Tianshou": Convention(tianshou, tianshou_ours, True),
    "TorchRL": Convention(torchrl, torchrl_ours, True),
    "RLax": Convention(rlax, no_bootstrap, False),
    "RLax, its formula": Convention(rlax_formula, no_bootstrap, False),
    "PufferLib, its formula": Convention(pufferlib, pufferlib_ours, False),
    "Sample Factory, its formula": Convention(sample_factory_formula, no_bootstrap, False),
}


def close(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max(initial=0) <= 2e-6 * max(1, np.abs(b).max(initial=0)))


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
@pytest.mark.parametrize("ends", [(0, 0), (0.1, 0), (0.1, 0.1), (0, 0.2), (1, 0), (0, 1)])
@pytest.mark.parametrize(("T", "B"), [(20, 3), (1, 1), (33, 1), (2, 5)])
def test_conventions(convention, ends, T, B):
    x = rollout(T, B, *ends)
    ours, theirs = convention.ours(x), convention.peer(x)
    if convention.exact:
        np.testing.assert_array_equal(ours, theirs)
    assert close(ours, theirs)
    if convention.bootstraps or not x.truncated.any():
        assert close(ours, truth(x))
        assert close(theirs, truth(x))
    else:
        assert not close(theirs, truth(x)), "bootstraps after all"


@pytest.mark.parametrize("ends", [(0.1, 0.1), (0, 0.3), (0.3, 0)])
def test_what_follows_an_episode_does_not_matter(ends):
    """Of skrl it did where episodes were truncated (Toni-SM/skrl#449)."""
    x = rollout(20, 4, *ends)
    before = exact(x)
    last = int(np.flatnonzero(x.done[:, 0])[0])
    for array in (x.reward, x.value, x.final_value):
        array[last + 1 :, 0] = np.nan
    np.testing.assert_array_equal(exact(x)[: last + 1, 0], before[: last + 1, 0])


def test_nan_crosses_the_ends_of_those_who_multiply_by_0():
    x = rollout(5, 1, 0, 0)
    x.terminated[2], x.value[3:] = True, np.nan
    assert np.isfinite(exact(x)[:3]).all()
    assert np.isfinite(cleanrl_ours(x)[:3]).all()
    assert np.isnan(cleanrl_loop(x)[:3]).all()
    assert np.isnan(rlax_formula(x)[:3]).all()


def test_the_last_step_has_an_advantage():
    """Of PufferLib's segments the last arrival has none (PufferLib#363, #445); its action is trained on 0."""
    x = rollout(6, 2, 0.2, 0.2)
    assert (pufferlib_formula(x)[-1] == 0).all()
    assert np.abs(exact(x)[-1]).min() > 0
    assert close(exact(x)[-1], truth(x)[-1])
