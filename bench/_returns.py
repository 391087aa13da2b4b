"""What users run today for each op of the returns family: builders of functions without arguments.

A builder takes the data and gives a function that computes the op's result, arrays [T, B] or a tuple of them;
it raises ImportError where its package is absent.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
GAMMA, LAM, N = 0.99, 0.95, 5


@dataclass(frozen=True)
class Data:
    """A rollout without truncations."""

    reward: Array
    value: Array
    last: Array
    terminated: NDArray[np.bool_]
    log_rho: Array
    greedy: NDArray[np.bool_]

    @property
    def next_value(self) -> Array:
        return np.concatenate([self.value[1:], self.last[None]])

    @property
    def discount(self) -> Array:
        return (GAMMA * ~self.terminated).astype(np.float32)


Builder = Callable[[Data], Callable[[], Any]]


def numpy_rows(op: str) -> Builder:
    """A loop over the rows, as in many single files."""

    def build(data: Data) -> Callable[[], Any]:
        reward, value, next_value, discount = data.reward, data.value, data.next_value, data.discount
        rho = np.exp(data.log_rho)

        def run() -> Any:
            out, other = np.empty_like(reward), np.empty_like(reward)
            following = np.zeros_like(data.last) if op in ("gae", "discounted") else next_value[-1]
            for t in reversed(range(len(reward))):
                if op == "gae":
                    delta = reward[t] + discount[t] * next_value[t] - value[t]
                    following = delta + discount[t] * np.float32(LAM) * following
                elif op == "td_lambda":
                    mixed = np.float32(1 - LAM) * next_value[t] + np.float32(LAM) * following
                    following = reward[t] + discount[t] * mixed
                elif op == "discounted":
                    following = reward[t] + discount[t] * following
                else:
                    delta = reward[t] + discount[t] * next_value[t] - value[t]
                    clipped = np.minimum(1, rho[t])
                    other[t] = clipped * (reward[t] + discount[t] * following - value[t])
                    ahead = discount[t] * clipped * (following - next_value[t])
                    following = value[t] + clipped * delta + ahead
                out[t] = following
            return (out, other) if op == "vtrace" else out

        return run

    return build


@numba.njit(nogil=True)
def _numba_gae(reward: Array, value: Array, last: Array, terminated: NDArray[np.bool_]) -> Array:
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


def numba_gae(data: Data) -> Callable[[], Any]:
    return lambda: _numba_gae(data.reward, data.value, data.last, data.terminated)


def sb3_gae(data: Data) -> Callable[[], Any]:
    """Writes returns as well."""
    gymnasium = importlib.import_module("gymnasium")
    buffers = importlib.import_module("stable_baselines3.common.buffers")
    torch = importlib.import_module("torch")
    box = gymnasium.spaces.Box(-1, 1, (1,))
    steps, batch = data.reward.shape
    buffer = buffers.RolloutBuffer(steps, box, box, "cpu", LAM, GAMMA, batch)
    buffer.rewards, buffer.values = data.reward, data.value
    buffer.episode_starts[1:] = data.terminated[:-1]
    last_value = torch.from_numpy(data.last)

    def run() -> Array:
        buffer.compute_returns_and_advantage(last_value, data.terminated[-1])
        return buffer.advantages

    return run


def _by_environment(x: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(x.T).ravel()


def tianshou_gae(data: Data) -> Callable[[], Any]:
    """Of flat float64 arrays, one column after the other."""
    scan = importlib.import_module("tianshou.algorithm.algorithm_base")._gae
    end = data.terminated.copy()
    end[-1] = True
    follows = np.where(data.terminated, 0, data.next_value)
    flat = [_by_environment(x.astype(float)) for x in (data.value, follows, data.reward)]
    end_flat, batch = _by_environment(end), data.reward.shape[1]
    return lambda: scan(*flat, end_flat, GAMMA, LAM).reshape(batch, -1).T


def tianshou_n_step(data: Data) -> Callable[[], Any]:
    """Of flat float64 arrays, with the indices of each window made beforehand."""
    n_step = importlib.import_module("tianshou.algorithm.algorithm_base")._nstep_return
    steps, batch = data.reward.shape
    end = data.terminated.copy()
    end[-1] = True
    end_flat = _by_environment(end)
    indices = [np.arange(steps * batch)]
    for _ in range(N - 1):
        indices.append(np.where(end_flat[indices[-1]], indices[-1], indices[-1] + 1))
    windows = np.stack(indices)
    values = np.where(data.terminated, 0, data.next_value).astype(float)
    target = _by_environment(values)[windows[-1]][:, None]
    reward = _by_environment(data.reward.astype(float))
    return lambda: n_step(reward, end_flat, target, windows, GAMMA, N).reshape(batch, steps).T


def rlax(op: str) -> Builder:
    """jit of vmap over the columns."""

    def build(data: Data) -> Callable[[], Any]:
        jax, library = importlib.import_module("jax"), importlib.import_module("rlax")
        values = np.concatenate([data.value, data.last[None]])
        clipped = np.minimum(1, np.exp(data.log_rho))
        trace = np.where(data.greedy, LAM, 0).astype(np.float32)
        following_trace = np.concatenate([trace[1:], trace[:1]])
        plain = (data.reward, data.discount)

        def targets(value: Any, follows: Any, reward: Any, discount: Any, log_rho: Any) -> Any:
            of = library.vtrace_td_error_and_advantage
            result = of(value, follows, reward, discount, jax.numpy.exp(log_rho))
            return result.errors + value, result.pg_advantage

        calls: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
            "gae": (
                lambda r, d, v: library.truncated_generalized_advantage_estimation(r, d, LAM, v),
                (*plain, values),
            ),
            "td_lambda": (lambda r, d, v: library.lambda_returns(r, d, v, LAM), (*plain, data.next_value)),
            "q_lambda": (library.lambda_returns, (*plain, data.next_value, following_trace)),
            "discounted": (library.discounted_returns, (*plain, np.zeros_like(data.reward))),
            "n_step": (
                lambda r, d, v: library.n_step_bootstrapped_returns(r, d, v, N),
                (*plain, data.next_value),
            ),
            "vtrace": (targets, (data.value, data.next_value, *plain, data.log_rho)),
            "retrace": (
                library.general_off_policy_returns_from_q_and_v,
                (data.value[1:], data.next_value, *plain, clipped[1:]),
            ),
        }
        function, arrays = calls[op]
        scan = jax.jit(jax.vmap(function, 1, 1))
        placed = [jax.numpy.asarray(x) for x in arrays]
        return lambda: jax.block_until_ready(scan(*placed))

    return build


def torchrl(name: str) -> Builder:
    """Of tensors [B, T, 1]."""

    def build(data: Data) -> Callable[[], Any]:
        torch = importlib.import_module("torch")
        function = getattr(importlib.import_module("torchrl.objectives.value.functional"), name)

        def tensor(x: NDArray[Any]) -> Any:
            return torch.from_numpy(np.ascontiguousarray(x.T))[..., None]

        value, follows, reward, done, log_pi = (
            tensor(x) for x in (data.value, data.next_value, data.reward, data.terminated, data.log_rho)
        )
        if "advantage_estimate" in name and "vtrace" in name:
            log_mu = torch.zeros_like(log_pi)

            def both() -> Any:
                advantage, target = function(GAMMA, log_pi, log_mu, value, follows, reward, done, done)
                return target[..., 0].T, advantage[..., 0].T

            return both
        if "td_lambda" in name:
            return lambda: function(GAMMA, LAM, follows, reward, done, done)[..., 0].T
        return lambda: function(GAMMA, LAM, value, follows, reward, done, done)[0][..., 0].T

    return build


def torch_rows(compiled: bool) -> Builder:
    """GAE as in single-file implementations, and that loop unrolled by torch.compile, which takes minutes for
    long rollouts: only up to 128 steps.
    """

    def build(data: Data) -> Callable[[], Any]:
        torch = importlib.import_module("torch")
        r, v, last_value, ended = (
            torch.from_numpy(x) for x in (data.reward, data.value, data.last, data.terminated)
        )

        def run(r: Any, v: Any, next_value: Any, ended: Any) -> Any:
            advantage = torch.zeros_like(r)
            following = torch.zeros_like(next_value)
            for t in reversed(range(len(r))):
                alive = 1.0 - ended[t].float()
                delta = r[t] + GAMMA * next_value * alive - v[t]
                advantage[t] = following = delta + GAMMA * LAM * alive * following
                next_value = v[t]
            return advantage

        function = torch.compile(run) if compiled else run
        return lambda: function(r, v, last_value, ended)

    return build


PEERS: dict[str, dict[str, Builder]] = {
    "gae": {
        "numpy row loop": numpy_rows("gae"),
        "numba loop": numba_gae,
        "SB3 RolloutBuffer": sb3_gae,
        "tianshou numba, flat float64": tianshou_gae,
        "rlax jit": rlax("gae"),
        "torchrl loop": torchrl("generalized_advantage_estimate"),
        "torchrl vectorized": torchrl("vec_generalized_advantage_estimate"),
        "CleanRL torch loop": torch_rows(compiled=False),
        "CleanRL loop, torch.compile": torch_rows(compiled=True),
    },
    "td_lambda": {
        "numpy row loop": numpy_rows("td_lambda"),
        "rlax jit": rlax("td_lambda"),
        "torchrl loop": torchrl("td_lambda_return_estimate"),
        "torchrl vectorized": torchrl("vec_td_lambda_return_estimate"),
    },
    "discounted": {"numpy row loop": numpy_rows("discounted"), "rlax jit": rlax("discounted")},
    "n_step": {"rlax jit": rlax("n_step"), "tianshou numba, flat float64": tianshou_n_step},
    "vtrace": {
        "numpy row loop": numpy_rows("vtrace"),
        "rlax jit": rlax("vtrace"),
        "torchrl loop": torchrl("vtrace_advantage_estimate"),
    },
    "retrace": {"rlax jit": rlax("retrace")},
    "q_lambda": {"rlax jit, lambda_returns": rlax("q_lambda")},
}
