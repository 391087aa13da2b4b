"""n-step targets R + d · V(what follows), of ours and of others' buffers, beside the sum written out: who is right,
and where those who are not go wrong.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastrl.replay import ReplayBuffer

N, GAMMA = 3, 0.9
TERMINATED, TRUNCATED, OPEN = "terminated", "truncated", "open"


@dataclass(frozen=True)
class Step:
    """One transition."""

    state: int
    """Of an episode all are in turn: 100 · episode + step."""
    reward: float
    last: bool
    """Of its episode."""
    how: str
    """How its episode ends."""

    @property
    def terminated(self) -> bool:
        return self.last and self.how == TERMINATED

    @property
    def truncated(self) -> bool:
        return self.last and self.how == TRUNCATED


def episodes(*kinds: tuple[int, str]) -> list[Step]:
    """Steps of episodes of these lengths, which end so."""
    rng = np.random.default_rng(0)
    return [
        Step(100 * e + t, float(rng.normal()), t == length - 1 and how != OPEN, how)
        for e, (length, how) in enumerate(kinds)
        for t in range(length)
    ]


def value(state: Any) -> Any:
    """V, of states that occur and of those that must not."""
    return np.sin(np.asarray(state, np.float64)) + 2


def expected(steps: list[Step]) -> dict[int, float]:
    """Target of each state."""
    targets = {}
    for start, step in enumerate(steps):
        total, discount = 0.0, 1.0
        for current in steps[start : start + N]:
            total += discount * current.reward
            discount *= GAMMA
            if current.last:
                break
        targets[step.state] = total + (0 if current.terminated else discount * value(current.state + 1))
    return targets


def ours(steps: list[Step], size: int = 100) -> dict[int, float]:
    names = ("obs", "rew", "next_obs", "done", "truncated")
    fields: dict[str, Any] = {name: {"dtype": np.float64} for name in names}
    buffer = ReplayBuffer(size, fields, Nstep={"size": N, "gamma": GAMMA, "rew": "rew", "next": "next_obs"})
    for step in steps:
        buffer.add(
            obs=step.state,
            rew=step.reward,
            next_obs=step.state + 1,
            done=step.terminated,
            truncated=step.truncated,
        )
    batch = buffer.gather(np.arange(len(buffer)))
    targets = batch["rew"] + batch["discount"].astype(float) * value(batch["next_obs"])
    return dict(zip(batch["obs"].astype(int).tolist(), targets.tolist(), strict=True))


def cpprb(steps: list[Step]) -> dict[int, float]:
    """As its documentation trains: gamma^n, and done masks."""
    library = pytest.importorskip("cpprb")
    fields = {name: {"dtype": np.float64} for name in ("obs", "rew", "next_obs", "done")}
    buffer = library.ReplayBuffer(
        100, fields, Nstep={"size": N, "gamma": GAMMA, "rew": "rew", "next": "next_obs"}
    )
    for step in steps:
        buffer.add(obs=step.state, rew=step.reward, next_obs=step.state + 1, done=step.terminated)
        if step.last:
            buffer.on_episode_end()
    rows = {name: values[:, 0] for name, values in buffer.get_all_transitions().items()}
    targets = rows["rew"] + GAMMA**N * (1 - rows["done"]) * value(rows["next_obs"])
    return dict(zip(rows["obs"].astype(int).tolist(), targets.tolist(), strict=True))


def cleanrl(steps: list[Step]) -> dict[int, float]:
    """The rule of cleanrl's rainbow_atari.py, April 2026, which is told of terminations only."""
    targets, window = {}, deque[Step](maxlen=N)
    for step in steps:
        window.append(step)
        if len(window) < N:
            continue
        total = sum(GAMMA**k * current.reward for k, current in enumerate(window))
        after = 0 if step.terminated else GAMMA**N * value(step.state + 1)
        targets[window[0].state] = total + after
        if step.terminated:
            window.clear()
    return {state: float(target) for state, target in targets.items()}


def tianshou(steps: list[Step]) -> dict[int, float]:
    pytest.importorskip("tianshou")
    import torch
    from tianshou.algorithm import Algorithm
    from tianshou.data import Batch
    from tianshou.data import ReplayBuffer as Buffer

    buffer = Buffer(100)
    for step in steps:
        buffer.add(
            Batch(
                obs=step.state,
                act=0,
                rew=step.reward,
                terminated=step.terminated,
                truncated=step.truncated,
                obs_next=step.state + 1,
                info={},
            )
        )
    indices = np.arange(len(steps))

    def target_q(buffer: Any, indices: Any) -> Any:
        return torch.as_tensor(value(buffer[indices].obs_next))

    batch = Algorithm.compute_nstep_return(buffer[indices], buffer, indices, target_q, GAMMA, N)
    targets = np.asarray(batch.returns).reshape(-1).astype(float)
    return dict(zip((step.state for step in steps), targets.tolist(), strict=True))


def sb3(steps: list[Step]) -> dict[int, float]:
    pytest.importorskip("stable_baselines3")
    from gymnasium import spaces
    from stable_baselines3.common.buffers import NStepReplayBuffer

    space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    buffer = NStepReplayBuffer(100, space, space, n_steps=N, gamma=GAMMA)
    for step in steps:
        state, after = np.array([[step.state]]), np.array([[step.state + 1]])
        infos = [{"TimeLimit.truncated": step.truncated}]
        done = np.array([step.last])
        buffer.add(state, after, np.zeros((1, 1)), np.array([step.reward]), done, infos)
    rows = buffer._get_samples(np.arange(len(steps)))
    after = value(rows.next_observations.numpy())
    targets = rows.rewards.numpy() + rows.discounts.numpy() * (1 - rows.dones.numpy()) * after
    return dict(zip((step.state for step in steps), targets[:, 0].tolist(), strict=True))


HISTORIES = {
    "terminated": episodes((4, TERMINATED), (5, TERMINATED)),
    "truncated": episodes((4, TRUNCATED), (4, TRUNCATED)),
    "short": episodes((1, TERMINATED), (2, TRUNCATED), (1, TRUNCATED), (2, TERMINATED)),
    "mixed and open": episodes((5, TRUNCATED), (3, TERMINATED), (6, OPEN)),
}


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("peer", [ours, tianshou, sb3])
def test_who_is_right(peer: Callable[[list[Step]], dict[int, float]], history: str) -> None:
    steps = HISTORIES[history]
    assert peer(steps) == pytest.approx(expected(steps), rel=1e-5)


WRONG = {
    # the window that ends with the terminal step itself is not done: a value follows the end
    (cpprb, "terminated"): {1, 102},
    # the last n - 1 windows: what follows is an older row's, and gamma^n discounts fewer steps
    (cpprb, "truncated"): {2, 3, 102, 103},
    (cpprb, "mixed and open"): {3, 4, 100, 204, 205},  # the last two wait for what follows them
    # the windows that begin in an episode's last n - 1 steps are never stored
    (cleanrl, "terminated"): {2, 3, 103, 104},
    # and run into the next episode where it was truncated
    (cleanrl, "truncated"): {2, 3, 102, 103},
    (cleanrl, "mixed and open"): {3, 4, 101, 102, 204, 205},
}


@pytest.mark.parametrize(("peer", "history"), WRONG, ids=lambda x: getattr(x, "__name__", x))
def test_where_others_are_wrong(peer: Callable[[list[Step]], dict[int, float]], history: str) -> None:
    steps = HISTORIES[history]
    right, theirs = expected(steps), peer(steps)
    unlike = {
        state for state, target in right.items() if theirs.get(state) != pytest.approx(target, rel=1e-6)
    }
    assert unlike == WRONG[peer, history]


def test_the_ring_is_cut_at_its_head() -> None:
    """Ours in a full ring of 7 rows: the newest row's window does not run on into the oldest."""
    steps = episodes((20, OPEN))
    right = expected(steps)
    assert ours(steps, size=7) == pytest.approx(
        {step.state: right[step.state] for step in steps[-7:]}, rel=1e-6
    )
