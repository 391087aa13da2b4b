"""Windows of EnvPool's environments: one thread and two, and asynchronously, half of the envs at a time."""

import os
import warnings

import _protocol
import envpool
import numpy as np
from _windows import Contestants, Stepper, Trace, draw, serve

warnings.filterwarnings("ignore", module="gymnasium")
CORES = sorted(os.sched_getaffinity(0))
NAMES = {"Taxi-v4": "Taxi-v3"}
NO_LIMIT = 2**31 - 1


def make_env(env_id: str, num_envs: int, num_threads: int = 1, batch_size: int | None = None):
    os.sched_setaffinity(0, CORES[-num_threads:])  # which the pool's threads inherit
    return envpool.make(
        NAMES.get(env_id, env_id),
        env_type="gymnasium",
        num_envs=num_envs,
        batch_size=batch_size or num_envs,
        num_threads=num_threads,
        seed=0,
    )


def synchronous(env_id: str, num_envs: int, num_threads: int) -> Stepper:
    env = make_env(env_id, num_envs, num_threads)
    env.reset()
    actions = draw(env.action_space, num_envs, 64)
    return Stepper(env.step, actions, num_envs, CORES[-num_threads:], env.close)


def asynchronous(env_id: str, num_envs: int, num_threads: int) -> Stepper:
    batch_size = num_envs // 2
    env = make_env(env_id, num_envs, num_threads, batch_size)
    env.async_reset()

    def step(action):
        env.send(action, env.recv()[4]["env_id"])

    actions = draw(env.action_space, batch_size, 64)
    return Stepper(step, actions, batch_size, CORES[-num_threads:], env.close)


def make(env_id: str, num_envs: int) -> Contestants:
    if NAMES.get(env_id, env_id) not in envpool.list_all_envs():
        return {}
    found = {"EnvPool": synchronous(env_id, num_envs, 1)}
    if num_envs >= 64 and len(CORES) > 1:
        found["EnvPool, 2 threads"] = synchronous(env_id, num_envs, 2)
        found["EnvPool async, 2 threads"] = asynchronous(env_id, num_envs, 2)
    return found


def trace(env_id: str, steps: int, num_envs: int = 32) -> Trace:
    env = make_env(env_id, num_envs)
    limit = env.config["max_episode_steps"]
    rows: Trace = {name: [] for name in ("obs", "action", "next_obs", "reward", "terminated")}
    obs, running = env.reset()[0], np.ones(num_envs, bool)
    for action in draw(env.action_space, num_envs, steps):
        next_obs, reward, terminated, truncated, _ = env.step(action)
        for name, column in zip(rows, (obs, action, next_obs, reward, terminated), strict=True):
            rows[name] += column[running].tolist()
        obs, running = next_obs, ~(terminated | truncated)  # the step after an episode's last one resets
    env.close()
    return {"limit": None if limit == NO_LIMIT else limit, **rows}


serve(_protocol.versions("envpool"), make, trace)
