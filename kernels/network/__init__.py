"""Small multilayer perceptrons over one flat float32 vector: forward, backward, clip + Adam, Polyak.

A :class:`Plan` is a forest of dense layers ``y = activation(x W + b)``, W stored [in, out], each reading the
network's input or an earlier layer; output layers write columns of one array ``y``. ``forward`` keeps a tape
that ``backward`` turns into the gradient of the parameters, of the input, or of both. Nothing here needs
torch.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels._check import describe, require_array, require_ndim, require_positive, require_unit

ACTIVATIONS = ("none", "tanh", "relu", "silu")
Float32 = NDArray[np.float32]


class Dense(NamedTuple):
    """One layer of a plan: ``y = activation(x W + b)``."""

    inputs: int
    outputs: int
    source: int = -1
    """Index of the layer whose output is read; -1 is the network's input."""
    column: int = -1
    """First column of the network's output that is written; -1 marks a hidden layer."""
    activation: str = "none"


class Dueling(NamedTuple):
    """q[a, k] = v[k] + A[a, k] - mean over a' of A[a', k] (Wang et al. 2016, equation 9), k over atoms."""

    value: int
    """Index of the layer giving v, [atoms] wide."""
    advantage: int
    """Index of the layer giving A, [actions * atoms] wide."""
    column: int
    actions: int
    atoms: int = 1


class Tape:
    """The activations of one forward pass, for one or more backward passes."""

    __slots__ = ("core", "plan")

    def __init__(self, plan: "Plan", core: _core.Tape) -> None:
        self.plan = plan
        self.core = core


class Plan:
    """A network's layers and the layout of its parameters: for each layer W [inputs, outputs], then b
    [outputs].

    Args:
        inputs: columns of x.
        layers: in an order in which each reads only earlier ones; at most 64.
        duelings: output groups made from two layers.

    Raises:
        ValueError: widths that do not fit, unknown activation, a layer that reads a later one.
    """

    def __init__(self, inputs: int, layers: Sequence[Dense], duelings: Sequence[Dueling] = ()) -> None:
        for layer in layers:
            if layer.activation not in ACTIVATIONS:
                raise ValueError(
                    f"network: activation must be one of {', '.join(ACTIVATIONS)}, got {layer.activation!r}"
                )
        self.inputs = inputs
        self.layers = tuple(layers)
        self.duelings = tuple(duelings)
        self.core = _core.Network(
            inputs, [(*layer[:4], ACTIVATIONS.index(layer.activation)) for layer in layers], list(duelings)
        )
        self.outputs: int = self.core.outputs
        self.size: int = self.core.size

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer's W starts in the parameters; its b follows W."""
        sizes = [(layer.inputs + 1) * layer.outputs for layer in self.layers]
        return tuple(int(n) for n in np.cumsum([0, *sizes[:-1]]))


def forward(plan: Plan, params: Float32, x: Float32, *, out: Float32 | None = None) -> tuple[Float32, Tape]:
    """Output ``y`` [B, plan.outputs] of the network for ``x`` [B, plan.inputs], and the tape for
    :func:`backward`.

    Args:
        plan: the layers.
        params: float32 [plan.size].
        x: float32 [B, plan.inputs], C-contiguous; must not change until the tape is used.
        out: float32 [B, plan.outputs] to write into.

    Raises:
        TypeError: wrong dtype. ValueError: wrong shape or strides.
    """
    y = _prepare(plan, params, x, out)
    return y, Tape(plan, plan.core.forward(params, x, y))


def infer(plan: Plan, params: Float32, x: Float32, *, out: Float32 | None = None) -> Float32:
    """Output of the network as :func:`forward` gives it, bit for bit, keeping no tape."""
    y = _prepare(plan, params, x, out)
    plan.core.infer(params, x, y)
    return y


def backward(
    params: Float32,
    tape: Tape,
    dy: Float32,
    *,
    grad: Float32 | None = None,
    inputs: bool = False,
) -> Float32 | None:
    """Gradient with respect to the input, if ``inputs``; that of the parameters is added to ``grad``, if
    given.

    With L the scalar whose gradient ``dy`` = dL/dy is, ``grad += dL/dparams`` and the result is dL/dx.

    Args:
        params: float32 [plan.size], the ones of the forward pass.
        tape: what :func:`forward` gave.
        dy: float32 [B, plan.outputs], C-contiguous.
        grad: float32 [plan.size], accumulated into.
        inputs: whether to return dL/dx, float32 [B, plan.inputs].
    """
    plan = tape.plan
    _require_contiguous("dy", dy, 2, "[B, outputs]")
    dx = np.empty((len(dy), plan.inputs), np.float32) if inputs else None
    plan.core.backward(params, tape.core, dy, grad, dx)
    return dx


def adam_step(
    params: Float32,
    grad: Float32,
    m: Float32,
    v: Float32,
    *,
    t: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    max_grad_norm: float = np.inf,
) -> float:
    """Global norm of ``grad``; clips it to ``max_grad_norm`` and takes one Adam step, all in place but
    ``grad``.

    g = grad min(1, max_norm / (norm + 1e-6)); m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
    params -= lr / (1-b1^t) m / (sqrt(v / (1-b2^t)) + eps)

    This is torch's ``clip_grad_norm_`` followed by its ``Adam``: eps is added after the bias-corrected root
    (Kingma and Ba 2015, algorithm 1). A non-finite norm is returned and changes nothing.

    Args:
        params: float32 [n], as are ``grad``, ``m`` and ``v``.
        grad: the gradient.
        m: first moment.
        v: second moment.
        t: number of this step, from 1.
        learning_rate: step size.
        betas: decay of the two moments.
        eps: added to the root.
        max_grad_norm: inf leaves the gradient as it is.
    """
    shape = require_ndim("adam_step", "params", params, np.float32, 1, "[n]")
    for name, x in (("grad", grad), ("m", m), ("v", v)):
        require_array("adam_step", name, x, np.float32, shape, "[n]")
    require_positive("adam_step", "max_grad_norm", max_grad_norm)
    return _core.adam_step(params, grad, m, v, t, learning_rate, *betas, eps, max_grad_norm)


def polyak(target: Float32, params: Float32, *, tau: float) -> None:
    """Move ``target`` towards ``params`` in place: target += tau (params - target) (Lillicrap et al.
    2016).
    """
    shape = require_ndim("polyak", "params", params, np.float32, 1, "[n]")
    require_array("polyak", "target", target, np.float32, shape, "[n]")
    require_unit("polyak", "tau", tau)
    _core.polyak(target, params, tau)


def _prepare(plan: Plan, params: Float32, x: Float32, out: Float32 | None) -> Float32:
    _require_contiguous("params", params, 1, f"[{plan.size}]")
    _require_contiguous("x", x, 2, f"[B, {plan.inputs}]")
    if out is None:
        return np.empty((len(x), plan.outputs), np.float32)
    _require_contiguous("out", out, 2, f"[B, {plan.outputs}]")
    return out


def _require_contiguous(name: str, x: Float32, ndim: int, dims: str) -> None:
    require_ndim("network", name, x, np.float32, ndim, dims)
    if not x.flags.c_contiguous:
        raise ValueError(f"network: {name} must be C-contiguous, got {describe(x)} with strides {x.strides}")
