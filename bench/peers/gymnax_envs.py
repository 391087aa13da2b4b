"""Windows of gymnax's environments: a compiled call a step, and one for 64 steps by ``jax.lax.scan``.

Both get their actions beforehand, return observations, rewards and flags of every step, and wait for them.
"""

import os

CORES = sorted(os.sched_getaffinity(0))[-1:]
os.sched_setaffinity(0, CORES)  # before JAX starts threads
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

# isort: split
import _protocol
import gymnasium
import gymnax
import jax
import numpy as np
from _windows import Contestants, Stepper, Trace, draw, serve

STEPS = 64  # of a scan
FROZEN_LAKES = {"FrozenLake-v1": "4x4", "FrozenLake8x8-v1": "8x8"}


def start(env_id: str, num_envs: int):
    """The first observations, what a step carries on, and the step."""
    if env_id in FROZEN_LAKES:
        env, params = gymnax.make("FrozenLake-misc", map_name=FROZEN_LAKES[env_id])
    else:
        env, params = gymnax.make(env_id)
    batched = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    def step(carry, action):
        key, state = carry
        key, used = jax.random.split(key)
        obs, state, reward, terminated, truncated, info = batched(
            jax.random.split(used, num_envs), state, action, params
        )
        return (key, state), (obs, reward, terminated, truncated, info["final_observation"])

    key, used = jax.random.split(jax.random.key(0))
    keys = jax.random.split(used, num_envs)
    obs, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    return obs, (key, state), step, params.max_steps_in_episode


def stepper(step, carry, actions, env_steps: int) -> Stepper:
    def run(action):
        nonlocal carry
        carry, outputs = step(carry, action)
        jax.block_until_ready(outputs)

    return Stepper(run, actions, env_steps, CORES)


def make(env_id: str, num_envs: int) -> Contestants:
    if env_id not in gymnax.registered_envs and env_id not in FROZEN_LAKES:
        return {}
    _, carry, step, _ = start(env_id, num_envs)
    actions = draw(gymnasium.make(env_id).action_space, num_envs, STEPS)

    def without_final(carry, action):
        carry, outputs = step(carry, action)
        return carry, outputs[:-1]

    @jax.jit
    def scan(carry, actions):
        return jax.lax.scan(without_final, carry, actions)

    one = stepper(jax.jit(without_final), carry, list(map(jax.numpy.asarray, actions)), num_envs)
    many = stepper(scan, carry, [jax.numpy.asarray(np.stack(actions))], STEPS * num_envs)
    return {"gymnax": one, "gymnax scan": many}


def trace(env_id: str, steps: int, num_envs: int = 32) -> Trace:
    if env_id not in gymnax.registered_envs and env_id not in FROZEN_LAKES:
        return {}
    obs, carry, step, limit = start(env_id, num_envs)
    step = jax.jit(step)
    rows: Trace = {name: [] for name in ("obs", "action", "next_obs", "reward", "terminated")}
    for action in draw(gymnasium.make(env_id).action_space, num_envs, steps):
        carry, (after, reward, terminated, _, final) = step(carry, action)
        for name, column in zip(rows, (obs, action, final, reward, terminated), strict=True):
            rows[name] += column.tolist()
        obs = after
    return {"limit": limit, **rows}


serve(_protocol.versions("gymnax", "jax", "jaxlib"), make, trace)
