"""The returns family in float64 NumPy: the definition of its ops.

Every op is y_t from y_{t+1}, from the last step to the first. ``last`` are the steps after which nothing of
their sequence follows: ends of episodes, of the arrays, and before padding.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.returns._check import require
from fastrl.kernels.returns._ops import FLAGS, OPS

DEVICES = ("cpu",)
Array = NDArray[Any]


def _op(define: Callable[..., Any]) -> Callable[..., Any]:
    """The backend's function: checks, float64, ``last`` in place of ``truncated``, padding set to 0."""
    name = define.__name__
    spec = OPS[name]

    @wraps(define)
    def run(*arguments: Any) -> Any:
        count = len(spec.arrays)
        arrays, out, options = arguments[:count], arguments[count], arguments[count + 1 :]
        require(name, arrays, out, options)
        given = dict(zip(spec.arrays, arrays, strict=True))
        dtype, shape = arrays[0].dtype, arrays[0].shape
        for key, x in given.items():
            if x is not None and key not in FLAGS:
                given[key] = x.astype(np.float64)
        mask, truncated = given.pop("mask"), given.pop("truncated")
        last = given["terminated"].copy()
        last[-1:] = True
        if truncated is not None:
            last |= truncated
        if mask is not None:
            last[:-1] |= ~mask[1:]
        numbers = {
            key: np.broadcast_to(x, shape).astype(np.float64) if key in spec.factors else x
            for key, x in zip(spec.options, options, strict=True)
        }
        with np.errstate(all="ignore"):  # NaN and infinity are values here
            results = define(**given, last=last, **numbers)
            results = results if spec.outputs == 2 else (results,)
            if mask is not None:
                results = [np.where(mask, y, 0) for y in results]
            if out is None:
                written = tuple(y.astype(dtype) for y in results)
                return written if spec.outputs == 2 else written[0]
            for y, target in zip(results, out if spec.outputs == 2 else (out,), strict=True):
                target[...] = y
        return tuple(out) if spec.outputs == 2 else out

    return run


def _backwards(reward: Array) -> tuple[Array, Any]:
    return np.zeros((len(reward) + 1, *reward.shape[1:])), reversed(range(len(reward)))


@_op
def gae(
    reward: Array, value: Array, next_value: Array, terminated: Array, last: Array, gamma: float, lam: float
) -> Array:
    """Generalized advantage estimates."""
    if next_value.ndim == 1:
        next_value = np.concatenate([value, next_value[None]])[1:]
    advantage, steps = _backwards(reward)
    for t in steps:
        delta = reward[t] + np.where(terminated[t], 0, gamma * next_value[t]) - value[t]
        advantage[t] = delta + np.where(last[t], 0, gamma * lam * advantage[t + 1])
    return advantage[:-1]


@_op
def td_lambda(
    reward: Array, next_value: Array, terminated: Array, last: Array, gamma: Array, lam: Array
) -> Array:
    """Lambda-returns."""
    target, steps = _backwards(reward)
    for t in steps:
        mixed = (1 - lam[t]) * next_value[t] + lam[t] * target[t + 1]
        follows = np.where(last[t], next_value[t], mixed)
        target[t] = reward[t] + np.where(terminated[t], 0, gamma[t] * follows)
    return target[:-1]


@_op
def discounted(
    reward: Array, terminated: Array, next_value: Array | None, last: Array, gamma: Array
) -> Array:
    """Discounted sums of rewards to come."""
    if next_value is None:
        next_value = np.zeros_like(reward)
    total, steps = _backwards(reward)
    for t in steps:
        value = next_value if next_value.ndim == 1 else next_value[t]
        follows = np.where(last[t], value, total[t + 1])
        total[t] = reward[t] + np.where(terminated[t], 0, gamma[t] * follows)
    return total[:-1]


@_op
def n_step(reward: Array, next_value: Array, terminated: Array, last: Array, gamma: float, n: int) -> Array:
    """n-step returns: the window grows from its end, reward by reward."""
    target = np.empty_like(reward)
    for t in range(len(reward)):
        for k in reversed(range(t, min(t + n, len(reward)))):
            value = np.where(terminated[k], 0, next_value[k])
            stops = last[k] | (k == t + n - 1)
            target[t] = reward[k] + np.where(terminated[k], 0, gamma * np.where(stops, value, target[t]))
    return target


@_op
def vtrace(
    log_rho: Array,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    last: Array,
    gamma: float,
    lam: float,
    rho_bar: float,
    c_bar: float,
    pg_rho_bar: float,
) -> tuple[Array, Array]:
    """V-trace targets and policy gradient advantages."""
    rho = np.exp(log_rho)
    target, steps = _backwards(reward)
    advantage = np.empty_like(reward)
    for t in steps:
        delta = reward[t] + np.where(terminated[t], 0, gamma * next_value[t]) - value[t]
        trace = gamma * lam * np.minimum(c_bar, rho[t])
        follows = np.where(last[t], next_value[t], target[t + 1])
        error = reward[t] + np.where(terminated[t], 0, gamma * follows) - value[t]
        advantage[t] = np.minimum(pg_rho_bar, rho[t]) * error
        ahead = np.where(last[t], 0, trace * (target[t + 1] - next_value[t]))
        target[t] = value[t] + np.minimum(rho_bar, rho[t]) * delta + ahead
    return target[:-1], advantage


@_op
def retrace(
    log_rho: Array,
    reward: Array,
    q: Array,
    next_value: Array,
    terminated: Array,
    last: Array,
    gamma: float,
    lam: float,
) -> Array:
    """Retrace targets."""
    trace = lam * np.minimum(1, np.exp(log_rho))
    correction = np.zeros(reward.shape[1:])  # c_{t+1} (y_{t+1} - q_{t+1})
    target, steps = _backwards(reward)
    for t in steps:
        follows = next_value[t] + np.where(last[t], 0, correction)
        target[t] = reward[t] + np.where(terminated[t], 0, gamma * follows)
        correction = trace[t] * (target[t] - q[t])
    return target[:-1]


@_op
def q_lambda(
    reward: Array,
    next_value: Array,
    greedy: Array,
    terminated: Array,
    last: Array,
    gamma: float,
    lam: float,
) -> Array:
    """Watkins' lambda-returns of action values."""
    target, steps = _backwards(reward)
    cut = last.copy()
    cut[:-1] |= ~greedy[1:]
    for t in steps:
        mixed = (1 - lam) * next_value[t] + lam * target[t + 1]
        target[t] = reward[t] + np.where(terminated[t], 0, gamma * np.where(cut[t], next_value[t], mixed))
    return target[:-1]
