"""Time of the returns family beside what users run today: ``python bench/bench_returns.py``."""

import _harness

# isort: split
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastrl.kernels import gae

Array = NDArray[np.float32]
GAMMA, LAM = 0.99, 0.95
SHAPES = [(1, 1), (128, 8), (2048, 1), (128, 4096), (1024, 1024)]


def numpy_rows(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Array:
    advantage = np.empty_like(reward)
    next_value, following = last, np.zeros_like(last)
    for t in reversed(range(len(reward))):
        alive = np.float32(1) - terminated[t]
        delta = reward[t] + np.float32(GAMMA) * next_value * alive - value[t]
        following = advantage[t] = delta + np.float32(GAMMA * LAM) * alive * following
        next_value = value[t]
    return advantage


@numba.njit(nogil=True)
def numba_loop(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Array:
    advantage = np.empty_like(reward)
    following = np.zeros_like(last)
    gamma, decay = np.float32(GAMMA), np.float32(GAMMA * LAM)
    for t in range(len(reward) - 1, -1, -1):
        for b in range(reward.shape[1]):
            next_value = last[b] if t == len(reward) - 1 else value[t + 1, b]
            alive = np.float32(0) if terminated[t, b] else np.float32(1)
            delta = reward[t, b] + gamma * alive * next_value - value[t, b]
            following[b] = delta + decay * alive * following[b]
            advantage[t, b] = following[b]
    return advantage


def sb3(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Callable[[], Array]:
    """Writes returns as well."""
    gymnasium = importlib.import_module("gymnasium")
    buffers = importlib.import_module("stable_baselines3.common.buffers")
    torch = importlib.import_module("torch")
    box = gymnasium.spaces.Box(-1, 1, (1,))
    steps, batch = reward.shape
    buffer = buffers.RolloutBuffer(steps, box, box, "cpu", LAM, GAMMA, batch)
    buffer.rewards, buffer.values = reward, value
    buffer.episode_starts[1:] = terminated[:-1]
    last_value = torch.from_numpy(last)

    def run() -> Array:
        buffer.compute_returns_and_advantage(last_value, terminated[-1])
        return buffer.advantages

    return run


def tianshou(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Callable[[], Any]:
    """Of flat float64 arrays, one column after the other."""
    scan = importlib.import_module("tianshou.algorithm.algorithm_base")._gae
    batch = reward.shape[1]
    end = terminated.copy()
    end[-1] = True
    follows = np.where(terminated, 0, np.concatenate([value[1:], last[None]]))
    flat = [
        np.ascontiguousarray(x.T).ravel()
        for x in (value.astype(float), follows.astype(float), reward.astype(float))
    ]
    end_flat = np.ascontiguousarray(end.T).ravel()
    return lambda: scan(*flat, end_flat, GAMMA, LAM).reshape(batch, -1).T


def rlax(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Callable[[], Any]:
    jax = importlib.import_module("jax")
    one = importlib.import_module("rlax").truncated_generalized_advantage_estimation
    scan = jax.jit(jax.vmap(lambda r, d, v: one(r, d, LAM, v), 1, 1))
    discount = (GAMMA * ~terminated).astype(np.float32)
    arrays = [jax.numpy.asarray(x) for x in (reward, discount, np.concatenate([value, last[None]]))]
    return lambda: scan(*arrays).block_until_ready()


def torchrl(name: str) -> Callable[..., Callable[[], Any]]:
    def build(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Callable[[], Any]:
        torch = importlib.import_module("torch")
        scan = getattr(importlib.import_module("torchrl.objectives.value.functional"), name)
        follows = np.concatenate([value[1:], last[None]])
        tensors = [
            torch.from_numpy(np.ascontiguousarray(x.T))[..., None]
            for x in (value, follows, reward, terminated)
        ]
        return lambda: scan(GAMMA, LAM, *tensors, tensors[-1])[0][..., 0].T

    return build


def torch_rows(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Callable[[], Any]:
    """The loop of single-file implementations."""
    torch = importlib.import_module("torch")
    r, v, last_value, ended = (torch.from_numpy(x) for x in (reward, value, last, terminated))

    def run() -> Any:
        advantage = torch.zeros_like(r)
        next_value, following = last_value, torch.zeros_like(last_value)
        for t in reversed(range(len(r))):
            alive = 1.0 - ended[t].float()
            delta = r[t] + GAMMA * next_value * alive - v[t]
            advantage[t] = following = delta + GAMMA * LAM * alive * following
            next_value = v[t]
        return advantage

    return run


def ours_on_tensors(
    reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]
) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    tensors = [torch.from_numpy(x) for x in (reward, value, last, terminated)]
    return lambda: gae(*tensors)


BUILDERS = {
    "ours, torch tensors": ours_on_tensors,
    "SB3 RolloutBuffer": sb3,
    "tianshou numba, flat float64": tianshou,
    "rlax jit": rlax,
    "torchrl loop": torchrl("generalized_advantage_estimate"),
    "torchrl vectorized": torchrl("vec_generalized_advantage_estimate"),
    "torch row loop": torch_rows,
}


def agree(ours: Any, peer: Any) -> bool:
    ours, peer = np.asarray(ours), np.asarray(peer)
    return ours.shape == peer.shape and np.allclose(ours, peer, rtol=1e-4, atol=1e-4 * np.abs(ours).max())


def present(name: str) -> bool:
    row = np.zeros((1, 1), np.float32)
    try:
        BUILDERS[name](row, row, row[0], row.astype(bool))
    except ImportError as error:
        print(f"left out: {name}, {error}")
        return False
    return True


def cases() -> Iterator[_harness.Case]:
    builders = {name: build for name, build in BUILDERS.items() if present(name)}
    for steps, batch in SHAPES:
        rng = np.random.default_rng(0)
        reward, value = rng.normal(size=(2, steps, batch)).astype(np.float32)
        last = rng.normal(size=batch).astype(np.float32)
        terminated = rng.random((steps, batch)) < 0.01
        rollout = (reward, value, last, terminated)
        out = np.empty_like(reward)
        follows = np.concatenate([value[1:], last[None]])
        peers: dict[str, Callable[[], Any]] = {
            "ours, out=": lambda rollout=rollout, out=out: gae(*rollout, out=out),
            "ours, next_value [T, B]": lambda x=(reward, value, follows, terminated): gae(*x),
            "numpy row loop": lambda rollout=rollout: numpy_rows(*rollout),
            "numba loop": lambda rollout=rollout: numba_loop(*rollout),
        }
        peers |= {name: build(*rollout) for name, build in builders.items()}
        yield _harness.Case(
            name=f"gae float32 [{steps}, {batch}], advantages only, 1 % terminated",
            ours=lambda rollout=rollout: gae(*rollout),
            peers=peers,
            agree=agree,
            bytes=13 * steps * batch,  # reads reward, value, terminated; writes the advantage
        )


if __name__ == "__main__":
    _harness.main(
        "returns", cases, ["torch", "numba", "stable-baselines3", "tianshou", "rlax", "jax", "torchrl"]
    )
