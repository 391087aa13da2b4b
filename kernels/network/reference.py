"""The definition of the network's two passes, in float64 NumPy, for reading and for tests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.network import Plan

Float64 = NDArray[np.float64]


def parameters(plan: Plan, params: NDArray[Any]) -> list[tuple[Float64, Float64]]:
    """W [in, out] and b [out] of each layer."""
    pairs = []
    for layer, start in zip(plan.layers, plan.offsets, strict=True):
        middle = start + layer.inputs * layer.outputs
        weight = params[start:middle].reshape(layer.inputs, layer.outputs).astype(np.float64)
        pairs.append((weight, params[middle : middle + layer.outputs].astype(np.float64)))
    return pairs


def forward(
    plan: Plan, params: NDArray[Any], x: NDArray[Any]
) -> tuple[Float64, list[tuple[Float64, Float64]]]:
    """y, and the pre-activation and output of each layer."""
    x = x.astype(np.float64)
    y = np.zeros((len(x), plan.outputs))
    values: list[tuple[Float64, Float64]] = []
    for layer, (weight, bias) in zip(plan.layers, parameters(plan, params), strict=True):
        source = x if layer.source < 0 else values[layer.source][1]
        z = source @ weight + bias
        values.append((z, _activate(layer.activation, z)))
        if layer.column >= 0:
            y[:, layer.column : layer.column + layer.outputs] = values[-1][1]
    for d in plan.duelings:
        value = values[d.value][1][:, None, :]
        advantage = values[d.advantage][1].reshape(len(x), d.actions, d.atoms)
        q = value + advantage - advantage.mean(1, keepdims=True)
        y[:, d.column : d.column + d.actions * d.atoms] = q.reshape(len(x), -1)
    return y, values


def backward(plan: Plan, params: NDArray[Any], x: NDArray[Any], dy: NDArray[Any]) -> tuple[Float64, Float64]:
    """dL/dparams and dL/dx for dL/dy = ``dy``."""
    x = x.astype(np.float64)
    _, values = forward(plan, params, x)
    pairs = parameters(plan, params)
    deltas = [np.zeros_like(z) for z, _ in values]
    for d in plan.duelings:
        dq = dy[:, d.column : d.column + d.actions * d.atoms].reshape(len(x), d.actions, d.atoms)
        deltas[d.value] += dq.sum(1)
        deltas[d.advantage] += (dq - dq.mean(1, keepdims=True)).reshape(len(x), -1)
    dx = np.zeros_like(x)
    grads: list[Float64] = []
    for index in reversed(range(len(plan.layers))):
        layer = plan.layers[index]
        delta = deltas[index]
        if layer.column >= 0:
            delta = delta + dy[:, layer.column : layer.column + layer.outputs]
        delta = delta * _derivative(layer.activation, *values[index])
        source = x if layer.source < 0 else values[layer.source][1]
        grads[:0] = [(source.T @ delta).ravel(), delta.sum(0)]
        upstream = delta @ pairs[index][0].T
        if layer.source < 0:
            dx += upstream
        else:
            deltas[layer.source] += upstream
    return np.concatenate(grads), dx


def adam_step(
    params: Float64,
    grad: Float64,
    m: Float64,
    v: Float64,
    *,
    t: int,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
    max_grad_norm: float,
) -> tuple[Float64, Float64, Float64]:
    """New parameters and moments."""
    norm = np.sqrt(np.sum(grad**2))
    g = grad * min(1.0, max_grad_norm / (norm + 1e-6))
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    root = np.sqrt(v / (1 - betas[1] ** t)) + eps
    return params - learning_rate / (1 - betas[0] ** t) * m / root, m, v


def _sigmoid(z: Float64) -> Float64:
    return np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))) / (1.0 + np.exp(-np.abs(z)))


def _activate(kind: str, z: Float64) -> Float64:
    match kind:
        case "tanh":
            return np.tanh(z)
        case "relu":
            return np.maximum(z, 0.0)
        case "silu":
            return z * _sigmoid(z)
    return z


def _derivative(kind: str, z: Float64, y: Float64) -> Float64:
    match kind:
        case "tanh":
            return 1.0 - y * y
        case "relu":
            return (z > 0).astype(np.float64)
        case "silu":
            s = _sigmoid(z)
            return s * (1.0 + z * (1.0 - s))
    return np.ones_like(z)
