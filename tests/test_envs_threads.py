"""Environments stepped by several threads: the same bits, in every process and from every Python thread."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.envs import VectorEnv
from fastrl.kernels.envs import TABLE

N = 20_011  # no multiple of a block; enough that threads join


def raw_bytes(x: Any) -> bytes:
    return b"".join(map(raw_bytes, x)) if isinstance(x, tuple) else x.tobytes()


def run(env: VectorEnv, steps: int) -> list[bytes]:
    """All outputs of these steps with random actions, and the state at their end."""
    env.single_action_space.seed(0)
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    random = np.random.default_rng(1)
    outputs = [raw_bytes(env.reset(seed=3)[0])]
    for _ in range(steps):
        raw = random.integers(low, high, env.action_space.shape)
        count = getattr(env.single_action_space, "n", 0)
        action = raw % count if count else (raw / high).astype(np.float32)
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and env.core.needs_reset.any():
            outputs.append(raw_bytes(env.reset(options={"reset_mask": env.core.needs_reset.copy()})[0]))
        outputs += [raw_bytes(x) for x in env.step(action)[:4]]
    return [*outputs, env.get_state().tobytes()]


@pytest.mark.parametrize("env_id", list(TABLE))
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_threads_do_not_change_a_bit(env_id: str, mode: str, autoreset: AutoresetMode) -> None:
    def make(num_threads: int) -> VectorEnv:
        return VectorEnv(
            env_id, N, mode=mode, autoreset_mode=autoreset, max_episode_steps=7, num_threads=num_threads
        )

    expected = run(make(1), 20)
    for num_threads in (2, 5):
        assert run(make(num_threads), 20) == expected


def test_invalid_action_is_the_first_one_and_changes_nothing() -> None:
    env = VectorEnv("CartPole-v1", 200_000, num_threads=3)
    env.reset(seed=0)
    env.step(np.zeros(env.num_envs, np.int64))
    before = env.get_state()
    for bad in ([5, 199_999], [131_072, 131_073, 199_999], [199_999]):
        action = np.zeros(env.num_envs, np.int64)
        action[bad] = 2
        with pytest.raises(ValueError, match=rf"env {bad[0]}, .* got 2"):
            env.step(action)
    assert env.get_state().tobytes() == before.tobytes()


@pytest.mark.parametrize("num_threads", [0, -1])
def test_num_threads(num_threads: int) -> None:
    with pytest.raises(ValueError, match=f"CartPole-v1: num_threads must be >= 1, got {num_threads}"):
        VectorEnv("CartPole-v1", 2, num_threads=num_threads)


def test_pickle_keeps_num_threads() -> None:
    assert pickle.loads(pickle.dumps(VectorEnv("CartPole-v1", 2, num_threads=3))).core.num_threads == 3


def script(code: str) -> str:
    """What a fresh process prints; it must end by itself."""
    header = """
import os, threading, numpy as np
import fastrl
from fastrl.envs import VectorEnv
def threads(): return len(os.listdir("/proc/self/task"))
def stepped(n, **kwargs):
    env = VectorEnv("CartPole-v1", n, **kwargs)
    env.reset(seed=0)
    for _ in range(3): env.step(np.zeros(n, np.int64))
    return env
before = threads()
"""
    command = [sys.executable, "-c", header + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_threads_start_when_many_envs_ask_for_them() -> None:
    counts = script("""
print(threads() - before, end=" ")
stepped(500_000); print(threads() - before, end=" ")
stepped(16, num_threads=4); print(threads() - before, end=" ")
stepped(500_000, num_threads=4); print(threads() - before, end=" ")
stepped(500_000, num_threads=3); print(threads() - before)
""")
    assert counts == "0 0 0 3 3"


def test_process_ends_while_threads_step() -> None:
    code = """
env = stepped(500_000, num_threads=3)
def forever():
    while True: env.step(np.zeros(500_000, np.int64))
threading.Thread(target=forever, daemon=True).start()
import time; time.sleep(0.2)
print("end")
"""
    assert script(code) == "end"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fork_after_use() -> None:
    """A child has no threads of its parent's: it starts its own, and so does its child."""
    env = VectorEnv("CartPole-v1", 200_000, num_threads=3)
    action = np.zeros(env.num_envs, np.int64)
    env.reset(seed=0)
    env.step(action)
    context = multiprocessing.get_context("fork")
    queue: Any = context.SimpleQueue()

    def child(depth: int) -> None:
        queue.put(crc32(env.step(action)[0].tobytes()))
        queue.put(len(list(Path("/proc/self/task").iterdir())) > 1)
        if depth:
            again = context.Process(target=child, args=(depth - 1,))
            again.start()
            again.join()

    process = context.Process(target=child, args=(1,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    first, second = (crc32(env.step(action)[0].tobytes()) for _ in range(2))
    assert [queue.get() for _ in range(4)] == [first, True, second, True]


def test_callers_from_several_python_threads() -> None:
    """Each has its own environment; all share the pool."""
    expected = run(VectorEnv("CartPole-v1", N), 10)
    results: list[list[bytes]] = [[] for _ in range(4)]

    def work(i: int) -> None:
        results[i] = run(VectorEnv("CartPole-v1", N, num_threads=3), 10)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [expected] * 4
    assert os.getpid() == threading.get_native_id()


def test_native_rollout_with_threads() -> None:
    batches = []
    for num_threads in (1, 3):
        env = VectorEnv("CartPole-v1", N, autoreset_mode="SameStep", num_threads=num_threads)
        batches.append(fastrl.PPO(env, num_envs=N, num_steps=4, seed=0).source.next())
    for name in ("obs", "action", "reward", "value", "next_value", "terminated", "episode_return"):
        np.testing.assert_array_equal(getattr(batches[0], name), getattr(batches[1], name))
