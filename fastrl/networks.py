"""Networks as specs, and the executors that run them over one flat float32 parameter vector.

A :class:`NetworkSpec` says what a network is; an executor says how it runs. :class:`NativeNetwork` runs on
``fastrl.kernels.network`` and never imports torch. Executors share one protocol: ``forward(x) -> (y, tape)``,
``backward(tape, dy) -> dx`` which adds to ``grad``, ``infer(x) -> y``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels import network as kernels
from fastrl.kernels._check import require_choice

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """One named group of output columns."""

    name: str
    outputs: int
    """Columns of y; for a dueling head, actions times atoms."""
    hidden: tuple[int, ...] = ()
    """Widths of the head's own hidden layers."""
    gain: float = 1.0
    """Gain of the orthogonal initialisation of the last layer."""
    dueling: bool = False
    """Whether the columns are q = v + A - mean A (Wang et al. 2016)."""
    atoms: int = 1
    """Atoms of each action of a dueling distributional head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSpec:
    """A multilayer perceptron: a shared trunk, and heads whose columns of y stand side by side."""

    inputs: int
    heads: tuple[Head, ...]
    trunk: tuple[int, ...] = ()
    """Widths of the hidden layers that all heads share."""
    activation: str = "tanh"
    copies: int = 1
    """Independent copies side by side in y, such as the two critics of TD3 and SAC."""
    noisy: float | None = None
    """Initial sigma of factorised noisy layers (Fortunato et al. 2018); None: plain layers."""
    free: tuple[tuple[str, int], ...] = ()
    """Names and sizes of parameter vectors outside the layers, initially 0, such as a Gaussian's log_std."""

    def __post_init__(self) -> None:
        require_choice("NetworkSpec", "activation", self.activation, kernels.ACTIVATIONS)
        for name, value in (("inputs", self.inputs), ("copies", self.copies)):
            if value < 1:
                raise ValueError(f"NetworkSpec: {name} must be >= 1, got {value}")
        if not self.heads:
            raise ValueError("NetworkSpec: heads must name at least one head")
        for width in (*self.trunk, *(w for head in self.heads for w in (*head.hidden, head.outputs))):
            if width < 1:
                raise ValueError(f"NetworkSpec: layer widths must be >= 1, got {width}")
        for head in self.heads:
            if head.dueling and head.outputs % head.atoms:
                raise ValueError(
                    f"NetworkSpec: outputs of {head.name} must be a multiple of its {head.atoms} atoms, "
                    f"got {head.outputs}"
                )

    @property
    def outputs(self) -> int:
        """Columns of y."""
        return self.copies * sum(head.outputs for head in self.heads)

    def columns(self, name: str, copy: int = 0) -> slice:
        """Columns of y that belong to a head."""
        start = copy * sum(head.outputs for head in self.heads)
        for head in self.heads:
            if head.name == name:
                return slice(start, start + head.outputs)
            start += head.outputs
        raise KeyError(f"no head {name!r}: the heads are {', '.join(h.name for h in self.heads)}")


@dataclass(frozen=True, slots=True)
class _Layers:
    """What a spec becomes: the kernels' plan, and per layer a name and an initial gain."""

    plan: kernels.Plan
    names: tuple[str, ...]
    gains: tuple[float, ...]


def _build(spec: NetworkSpec) -> _Layers:
    layers: list[kernels.Dense] = []
    duelings: list[kernels.Dueling] = []
    names: list[str] = []
    gains: list[float] = []
    hidden_gain = 1.0 if spec.activation == "none" else float(np.sqrt(2.0))

    def add(name: str, source: int, outputs: int, column: int, activation: str, gain: float) -> int:
        inputs = spec.inputs if source < 0 else layers[source].outputs
        layers.append(kernels.Dense(inputs, outputs, source, column, activation))
        names.append(name)
        gains.append(gain)
        return len(layers) - 1

    def chain(prefix: str, source: int, widths: tuple[int, ...]) -> int:
        for depth, width in enumerate(widths):
            source = add(f"{prefix}.{depth}", source, width, -1, spec.activation, hidden_gain)
        return source

    column = 0
    for copy in range(spec.copies):
        prefix = f"copy{copy}." if spec.copies > 1 else ""
        trunk = chain(f"{prefix}trunk", -1, spec.trunk)
        for head in spec.heads:
            name = f"{prefix}{head.name}"
            if head.dueling:
                value = chain(f"{name}.value", trunk, head.hidden)
                value = add(f"{name}.value.out", value, head.atoms, -1, "none", head.gain)
                advantage = chain(f"{name}.advantage", trunk, head.hidden)
                advantage = add(f"{name}.advantage.out", advantage, head.outputs, -1, "none", head.gain)
                duelings.append(
                    kernels.Dueling(value, advantage, column, head.outputs // head.atoms, head.atoms)
                )
            else:
                add(f"{name}.out", chain(name, trunk, head.hidden), head.outputs, column, "none", head.gain)
            column += head.outputs
    return _Layers(kernels.Plan(spec.inputs, layers, duelings), tuple(names), tuple(gains))


def orthogonal(rng: np.random.Generator, rows: int, columns: int, gain: float) -> Float32:
    """A [rows, columns] matrix with orthonormal rows or columns, times ``gain`` (Saxe et al. 2014),
    float32.
    """
    normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q *= np.sign(np.diag(r))  # makes the distribution uniform over orthogonal matrices
    return (gain * (q if rows >= columns else q.T)).astype(np.float32)


class Network(Protocol):
    """What an executor offers. ``params`` and ``grad`` are flat float32 vectors; ``params`` owns the
    parameters.
    """

    params: Float32
    grad: Float32
    chunk: int
    """Rows that are best sent through together."""

    def forward(self, x: NDArray[Any]) -> tuple[Float32, Any]:
        """y [B, outputs] for x [B, ...], and the tape that :meth:`backward` needs."""
        ...

    def infer(self, x: NDArray[Any]) -> Float32:
        """y alone."""
        ...

    def backward(
        self, tape: Any, dy: Float32, *, params: bool = True, inputs: bool = False
    ) -> Float32 | None:
        """dL/dx if ``inputs``; with ``params``, dL/dparams is added to ``grad``. ``dy`` is dL/dy."""
        ...

    def zero_grad(self) -> None:
        """Set the gradient to zero."""
        ...

    def named_tensors(self) -> dict[str, Float32]:
        """Views of the parameters by name."""
        ...

    def load_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Copy named tensors into the parameters; all are checked before any is copied."""
        ...

    def free(self, name: str) -> tuple[Float32, Float32]:
        """Views of a parameter vector outside the layers, and of its gradient."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkOptions:
    """What a user chooses about a network; the environment says the rest."""

    engine: str = "auto"
    """"native", "torch", or "auto": native wherever it can run."""
    trunk: str = "auto"
    """"mlp", "nature", "impala", or "auto": an MLP for vectors, nature for images."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the MLPs' hidden layers."""
    activation: str = "tanh"
    """Activation of the MLPs' hidden layers."""
    compiled: bool = False
    """Whether torch networks run through torch.compile."""
    bf16: bool = False
    """Whether torch networks run under bfloat16 autocast."""
    device: str = "cpu"
    """Where torch networks run: "cpu", "cuda" or "cuda:N"."""
    recurrent: str = "none"
    """"lstm", "gru", or "none": the memory between trunk and heads."""
    recurrent_size: int = 64
    """Units of the memory."""


def actor_critic(
    inputs: int, columns: int, options: NetworkOptions, free: tuple[tuple[str, int], ...] = ()
) -> NetworkSpec:
    """Separate actor and critic, their gains as in Huang et al. 2022, detail 2: ``columns``, then the
    value.
    """
    return NetworkSpec(
        inputs=inputs,
        heads=(
            Head(name="policy", outputs=columns, hidden=options.hidden, gain=0.01),
            Head(name="value", outputs=1, hidden=options.hidden, gain=1.0),
        ),
        activation=options.activation,
        free=free,
    )


class NativeNetwork:
    """Runs a spec on the CPU kernels.

    ``params`` and ``grad`` are flat float32 vectors of the same size; ``params`` owns the parameters, and
    everything else (named tensors, checkpoints) is a view of it. With noisy layers it holds the mu of every
    layer, then the sigma of every layer.

    Args:
        spec: the network.
        rng: draws the initial parameters: orthogonal weights, zero biases (for noisy layers, mu uniform in
            +-1/sqrt(inputs) and sigma = ``spec.noisy`` / sqrt(inputs)), and the noise.
    """

    chunk = 256

    def __init__(self, spec: NetworkSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self._layers = _build(spec)
        self.plan = self._layers.plan
        layers = self.plan.size * (1 if spec.noisy is None else 2)
        self.params: Float32 = np.zeros(layers + sum(size for _, size in spec.free), np.float32)
        self.grad: Float32 = np.zeros_like(self.params)
        self.layer_params: Float32 = self.params[: self.plan.size]
        """View of the layers' weights and biases (mu, if noisy): what the kernels read."""
        self._layer_grad: Float32 = self.grad[: self.plan.size]
        self._noise: Float32 | None = None
        self._initialise(rng)
        if spec.noisy is not None:
            self.resample(rng)

    def __str__(self) -> str:
        return "native, 1 thread"

    def forward(self, x: Float32) -> tuple[Float32, kernels.Tape]:
        """y [B, outputs] for x [B, inputs], and the tape that :meth:`backward` needs."""
        return kernels.forward(self.plan, self._weights(), x)

    def infer(self, x: Float32) -> Float32:
        """y alone, bit for bit what :meth:`forward` gives."""
        return kernels.infer(self.plan, self._weights(), x)

    def backward(
        self, tape: kernels.Tape, dy: Float32, *, params: bool = True, inputs: bool = False
    ) -> Float32 | None:
        """dL/dx if ``inputs``; with ``params``, dL/dparams is added to ``grad``. ``dy`` is dL/dy [B,
        outputs].
        """
        weights = self._weights()
        if self._noise is None or not params:
            grad = self._layer_grad if params else None
            return kernels.backward(weights, tape, dy, grad=grad, inputs=inputs)
        n = self.plan.size
        dense = np.zeros_like(weights)
        dx = kernels.backward(weights, tape, dy, grad=dense, inputs=inputs)
        self.grad[:n] += dense
        self.grad[n : 2 * n] += dense * self._noise
        return dx

    def zero_grad(self) -> None:
        """Set the gradient to zero."""
        self.grad.fill(0.0)

    def resample(self, rng: np.random.Generator) -> None:
        """Draw new noise for noisy layers: eps_w = f(e_in) f(e_out), f(x) = sign(x) sqrt|x|."""
        if self.spec.noisy is None:
            raise ValueError("resample: this network has no noisy layers")
        parts = []
        for layer in self.plan.layers:
            e_in, e_out = rng.standard_normal(layer.inputs), rng.standard_normal(layer.outputs)
            f_in, f_out = (np.sign(e) * np.sqrt(np.abs(e)) for e in (e_in, e_out))
            parts += [np.outer(f_in, f_out).ravel(), f_out]
        self._noise = np.concatenate(parts).astype(np.float32)

    def named_tensors(self) -> dict[str, Float32]:
        """Views of the parameters: ``policy.0.weight`` [inputs, outputs], ``policy.0.bias`` [outputs]."""
        views = {}
        for index, kind in enumerate(("",) if self.spec.noisy is None else ("mu_", "sigma_")):
            base = index * self.plan.size
            for name, layer, offset in zip(
                self._layers.names, self.plan.layers, self.plan.offsets, strict=True
            ):
                start = base + offset
                middle = start + layer.inputs * layer.outputs
                views[f"{name}.{kind}weight"] = self.params[start:middle].reshape(layer.inputs, layer.outputs)
                views[f"{name}.{kind}bias"] = self.params[middle : middle + layer.outputs]
        return views | free_vectors(self.params, self.spec.free)

    def free(self, name: str) -> tuple[Float32, Float32]:
        """Views of a parameter vector outside the layers, and of its gradient."""
        return free_vectors(self.params, self.spec.free)[name], free_vectors(self.grad, self.spec.free)[name]

    def load_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Copy named tensors into the parameters; all are checked before any is copied.

        Raises:
            ValueError: a tensor is missing, is one too many, or has another shape.
        """
        copy_named(self.named_tensors(), tensors)

    def _weights(self) -> Float32:
        if self._noise is None:
            return self.layer_params
        n = self.plan.size
        return self.params[:n] + self.params[n : 2 * n] * self._noise

    def _initialise(self, rng: np.random.Generator) -> None:
        for layer, offset, gain in zip(self.plan.layers, self.plan.offsets, self._layers.gains, strict=True):
            stop = offset + (layer.inputs + 1) * layer.outputs
            if self.spec.noisy is None:
                weight = orthogonal(rng, layer.inputs, layer.outputs, gain)
                self.params[offset : offset + weight.size] = weight.ravel()
            else:
                bound = 1.0 / np.sqrt(layer.inputs)
                self.params[offset:stop] = rng.uniform(-bound, bound, stop - offset)
                self.params[self.plan.size + offset : self.plan.size + stop] = self.spec.noisy * bound


def free_vectors(flat: Float32, free: tuple[tuple[str, int], ...]) -> dict[str, Float32]:
    """Views by name of the parameter vectors that end a flat vector."""
    views = {}
    start = len(flat) - sum(size for _, size in free)
    for name, size in free:
        views[name] = flat[start : start + size]
        start += size
    return views


def copy_named(views: Mapping[str, NDArray[Any]], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Copy named tensors into views of the same names; all are checked before any is copied.

    Raises:
        ValueError: a tensor is missing, is one too many, or has another shape.
    """
    if views.keys() != tensors.keys():
        difference = ", ".join(sorted(views.keys() ^ tensors.keys()))
        raise ValueError(f"load_tensors: these tensors are missing or unknown: {difference}")
    for name, view in views.items():
        if tensors[name].shape != view.shape:
            raise ValueError(
                f"load_tensors: {name} must be {list(view.shape)}, got {list(tensors[name].shape)}"
            )
    for name, view in views.items():
        view[...] = tensors[name]
