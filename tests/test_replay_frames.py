"""A buffer that stores frames once gives what one that stores all gives, draw by draw."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _memory import no_asan
from hypothesis import given
from hypothesis import strategies as st

from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer
from fastrl.replay import memory as replay_memory


def assert_equal(x: dict[str, Any], y: dict[str, Any]) -> None:
    assert set(x) == set(y)
    for name in x:
        np.testing.assert_array_equal(x[name], y[name], err_msg=name)


class Envs:
    """Environments of random episodes, seen in stacks of frames."""

    def __init__(self, random: np.random.Generator, num_envs: int, shape: tuple[int, ...], axis: int | None):
        self.random, self.shape, self.axis = random, shape, axis
        self.now = [self.begin() for _ in range(num_envs)]

    def begin(self) -> np.ndarray:
        if self.axis is None:
            return self.random.integers(256, size=self.shape, dtype=np.uint8)
        first = self.random.integers(4, size=np.delete(self.shape, self.axis), dtype=np.uint8)
        frames = [first] * self.shape[self.axis]
        if self.random.random() < 0.3:
            frames[:-1] = [np.zeros_like(first)] * (len(frames) - 1)
        return np.stack(frames, self.axis)

    def after(self, obs: np.ndarray) -> np.ndarray:
        if self.axis is None:
            return self.begin()
        frames = list(np.moveaxis(obs, self.axis, 0))
        return np.stack(
            [*frames[1:], self.random.integers(4, size=frames[0].shape, dtype=np.uint8)], self.axis
        )

    def step(self) -> dict[str, np.ndarray]:
        now, after = self.now, [self.after(obs) for obs in self.now]
        done = self.random.random(len(now)) < 0.1
        truncated = self.random.random(len(now)) < 0.1
        self.now = [self.begin() if end else obs for end, obs in zip(done | truncated, after, strict=True)]
        reward = self.random.normal(size=len(now)).astype(np.float32)
        return {
            "obs": np.array(now), "next_obs": np.array(after), "rew": reward, "done": done, "truncated": truncated
        }  # fmt: skip


LAYOUTS = [((3, 5, 5), 0, {}), ((6, 5, 4), -1, {}), ((3, 4), -1, {"stack_axis": -1}), ((7,), None, {})]


@given(
    seed=st.integers(0, 2**32 - 1),
    num_envs=st.integers(1, 4),
    steps=st.integers(1, 30),
    added=st.integers(1, 80),
    layout=st.sampled_from(LAYOUTS),
    prioritized=st.booleans(),
    n_step=st.sampled_from([None, 1, 3]),
    follows=st.booleans(),
)
def test_as_a_buffer_that_stores_all(
    seed: int,
    num_envs: int,
    steps: int,
    added: int,
    layout: Any,
    prioritized: bool,
    n_step: int | None,
    follows: bool,
) -> None:
    shape, axis, options = layout
    random = np.random.default_rng(seed)
    envs = Envs(random, num_envs, shape, axis)
    obs = {"shape": shape, "dtype": np.uint8, **options}
    flags = {"done": {"dtype": np.bool_}, "truncated": {"dtype": np.bool_}}
    fields = {"obs": obs, "rew": {}, **flags}
    kind = PrioritizedReplayBuffer if prioritized else ReplayBuffer
    shared: dict[str, Any] = {"num_envs": num_envs, "seed": 5}
    if n_step is not None:
        names = ["next_obs"] if follows else []
        shared["Nstep"] = {"size": n_step, "gamma": 0.9, "rew": "rew", "next": names}
    size = num_envs * steps
    # the names' order is that of the draws' dictionary, not of the draws
    whole = kind(size, {**fields, "next_obs": obs}, **shared)
    store = kind(
        size, fields, next_of="obs", stack_compress=None if axis is None else ["obs", "next_obs"], **shared
    )
    for t in range(added):
        row = envs.step()
        assert whole.add(**row) == store.add(**row)
        if random.random() < 0.05:
            env = int(random.integers(num_envs))
            whole.on_episode_end(env)
            store.on_episode_end(env)
        if random.random() < 0.2 or t == added - 1:
            assert_equal(store.sample(9), whole.sample(9))
            assert_equal(store.get_all_transitions(), whole.get_all_transitions())
            if prioritized:
                index, priority = random.integers(len(whole), size=4), random.random(4)
                whole.update_priorities(index, priority)
                store.update_priorities(index, priority)
        if random.random() < 0.02:
            whole.clear()
            store.clear()
            assert len(store) == 0
            break
    if len(store):
        other = kind(size, fields, next_of="obs", stack_compress=None if axis is None else "obs", **shared)
        other.load_state(store.state())
        assert_equal(other.get_all_transitions(), whole.get_all_transitions())
        row = envs.step()
        for buffer in (other, store, whole):
            buffer.add(**row)
        drawn = whole.sample(9)
        assert_equal(other.sample(9), drawn)
        assert_equal(store.sample(9), drawn)


def test_stacks_without_next_ones() -> None:
    random = np.random.default_rng(0)
    envs = Envs(random, 1, (3, 5, 5), 0)
    store = ReplayBuffer(30, {"obs": {"shape": (3, 5, 5), "dtype": np.uint8}}, stack_compress="obs", seed=0)
    whole = ReplayBuffer(30, {"obs": {"shape": (3, 5, 5), "dtype": np.uint8}}, seed=0)
    for _ in range(50):
        obs = envs.step()["obs"]
        store.add(obs=obs)
        whole.add(obs=obs)
    assert_equal(store.sample(100), whole.sample(100))


def test_out_and_tensors_are_filled() -> None:
    torch = pytest.importorskip("torch")
    buffer = ReplayBuffer(
        8, {"obs": {"shape": (2, 3), "dtype": np.uint8}}, next_of="obs", stack_compress="obs", seed=0
    )
    x = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    buffer.add(obs=x, next_obs=x + 1)
    out = {
        "obs": torch.zeros(5, 2, 3, dtype=torch.uint8),
        "next_obs": np.zeros((5, 2, 3), np.uint8),
        "indexes": np.zeros(5, np.int64),
    }
    assert buffer.sample(5, out=out) is out
    np.testing.assert_array_equal(out["obs"].numpy(), x[out["indexes"]])
    np.testing.assert_array_equal(out["next_obs"], x[out["indexes"]] + 1)


def test_batches_keep_their_memory() -> None:
    """Memory of large batches is used again only when nobody has them."""
    buffer = ReplayBuffer(64, {"x": {"shape": (20_000,), "dtype": np.uint8}}, seed=0)
    x = np.random.default_rng(0).integers(256, size=(64, 20_000), dtype=np.uint8)
    buffer.add(x=x)
    held = [buffer.sample(32) for _ in range(4)]
    views = [batch["x"][3:5, 7:] for batch in held]
    rows = [batch["indexes"][3:5] for batch in held]
    del held
    for _ in range(8):
        buffer.sample(32)["x"][:] = 0
    for view, row in zip(views, rows, strict=True):
        np.testing.assert_array_equal(view, x[row][:, 7:])


def test_a_buffer_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_memory, "available_memory", lambda: 10_000_000_000)
    fields = {"obs": {"shape": (4, 84, 84), "dtype": np.uint8}}
    with pytest.raises(MemoryError, match=r"needs 56,4\d\d,\d{3},\d{3} bytes"):
        ReplayBuffer(1_000_000, {**fields, "next_obs": fields["obs"]})
    assert len(ReplayBuffer(1_000_000, fields, next_of="obs", stack_compress="obs")) == 0
    with pytest.raises(MemoryError, match=r"needs 14,14\d,\d{3},\d{3} bytes"):
        ReplayBuffer(2_000_000, fields, next_of="obs", stack_compress="obs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"next_of": "act"}, "next_of names must be one of obs, rew"),
        ({"stack_compress": "act"}, "stack_compress names must be one of"),
        ({"stack_compress": "rew"}, "must have an axis of frames"),
    ],
)
def test_wrong_names_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(10, {"obs": {"shape": 4}, "rew": {}}, **options)


def test_wrong_stacks_are_refused() -> None:
    with pytest.raises(ValueError, match="next_obs must be as obs is"):
        ReplayBuffer(10, {"obs": {"shape": 4}, "next_obs": {"shape": 5}}, next_of="obs")
    with pytest.raises(ValueError, match="at most 128 frames, got \\[200, 200\\]"):
        ReplayBuffer(10, {"obs": {"shape": (200, 200)}}, stack_compress="obs")
    with pytest.raises(ValueError, match="stack_axis of obs must be one of 0, -1, got 1"):
        ReplayBuffer(10, {"obs": {"shape": (2, 2), "stack_axis": 1}}, stack_compress="obs")


@given(
    seed=st.integers(0, 2**32 - 1),
    shared=st.lists(st.sampled_from(["obs", "done", "truncated"]), unique=True),
    stacked=st.lists(st.sampled_from(["obs", "next_obs"]), unique=True),
    following=st.lists(st.sampled_from(["obs", "next_obs", "action"]), unique=True),
    n_step=st.integers(1, 4),
)
def test_windows_of_fields_kept_as_frames(
    seed: int, shared: list[str], stacked: list[str], following: list[str], n_step: int
) -> None:
    random = np.random.default_rng(seed)
    envs = Envs(random, 2, (3, 4), 0)
    obs = {"shape": (3, 4), "dtype": np.uint8, "stack_axis": 0}
    flag = {"dtype": np.bool_}
    fields = {
        "obs": obs, "next_obs": obs, "done": flag, "truncated": flag, "next_done": flag, "next_truncated": flag,
        "action": {}, "rew": {},
    }  # fmt: skip
    window = {"size": n_step, "gamma": 0.9, "rew": "rew", "next": following}
    whole = ReplayBuffer(16, fields, num_envs=2, Nstep=window, seed=1)
    store = ReplayBuffer(16, fields, num_envs=2, Nstep=window, next_of=shared, stack_compress=stacked, seed=1)
    for _ in range(12):
        row = envs.step() | {name: random.random(2) < 0.5 for name in ("next_done", "next_truncated")}
        row["action"] = random.random(2)
        assert whole.add(**row) == store.add(**row)
    every = np.arange(len(whole))
    assert_equal(store.gather(every), whole.gather(every))


@no_asan
def test_no_memory_for_frames_changes_nothing() -> None:
    """In a process of its own, which has no memory to spare from other tests."""
    here = Path(__file__)
    path = os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", f"import {here.stem} as here; here.run_out_of_memory()"]
    run = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def run_out_of_memory() -> None:
    shape = (1024, 1024)
    buffer = ReplayBuffer(60, {"obs": {"shape": shape, "dtype": np.uint8}}, next_of="obs", seed=1)
    random = np.random.default_rng(0)

    def rows(n: int) -> dict[str, np.ndarray]:
        obs = random.integers(256, size=(n, *shape), dtype=np.uint8)
        return {"obs": obs, "next_obs": obs}

    buffer.add(**rows(40))
    before, more = buffer.gather([0, 7, 39]), rows(90)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 40 * 2**20, hard))
    try:
        with pytest.raises(MemoryError):
            buffer.add(**more)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert (len(buffer), buffer.get_next_index()) == (40, 40)
    assert_equal(buffer.gather([0, 7, 39]), before)
    buffer.add(**rows(2))
    assert len(buffer) == 42
