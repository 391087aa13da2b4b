"""The torch executor: any module, with its parameters and gradients in flat vectors that the kernels work
on.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastrl.cnn import ImageActorCritic
from fastrl.networks import NativeNetwork, NetworkOptions, NetworkSpec, actor_critic, copy_named, free_vectors

Float32 = NDArray[np.float32]
SMALL = 200_000
"""Parameters up to which a network of vectors runs on one thread: there, handing out work costs more."""
CHUNK_BYTES = 2**24
"""Of float32 inputs that go through a network together. With more, the memory allocator gives an update's
activations back to the system and faults them in again, which was a third of the time.
"""


class TorchNetwork:
    """Runs a module on the CPU by autograd.

    The module's parameters become views of one flat float32 vector, ``params``, and their gradients views of
    ``grad``: optimiser and checkpoints see the same memory as the module. Nothing may replace them: use
    ``load_tensors`` (or ``load_state_dict``, which copies in place), not ``module.to``.

    Calls run on ``threads`` threads, and leave torch's number of them as it was.

    Acting and predicting put the module into evaluation mode (Dropout, BatchNorm), learning those of its
    parts back into training mode that were given so.

    Args:
        module: maps float32 or uint8 [B, ...] to [B, outputs], or to a tuple of such, which is joined.
        compiled: whether to run the module through ``torch.compile``. Where that fails, as without a C++
            compiler, a warning says why and the module runs eagerly.
        bf16: whether to run it under bfloat16 autocast; parameters and gradients stay float32. Warns if this
            processor can only emulate it.
        free: names and sizes of parameter vectors outside the module, initially 0.
        shape: of one input; decides how many go through together, and on how many threads.

    Raises:
        TypeError: not a module.
        ValueError: the module has no parameters, some that are not float32 on the CPU, or one with the name
            of a free vector.
    """

    home = torch.device("cpu")
    params: Any
    grad: Any

    def __init__(
        self,
        module: nn.Module,
        *,
        compiled: bool = False,
        bf16: bool = False,
        free: tuple[tuple[str, int], ...] = (),
        shape: tuple[int, ...] = (1,),
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"policy: must be a torch module, got {module!r}")
        # a module that the user compiled runs so, but its tensors keep their own names
        self.module: nn.Module = getattr(module, "_orig_mod", module)
        own = self.module is not module
        self._learners = [part for part in self.module.modules() if part.training]
        self._learning = True
        self.bf16 = bf16
        self._free = free
        self._flatten()
        self.compiled = compiled or own
        self._run: Any = torch.compile(module) if compiled and not own else module
        self.chunk = min(256, 2 ** int(math.log2(max(8, CHUNK_BYTES // (4 * math.prod(shape))))))
        small = len(shape) == 1 and len(self.params) <= SMALL
        self.threads = 1 if small else torch.get_num_threads()
        if bf16 and self.home.type == "cpu" and not _flags() & BF16_FLAGS:
            warnings.warn(
                "bf16=True: this processor has no bfloat16 instructions and emulates them slowly",
                RuntimeWarning,
                stacklevel=2,
            )

    def __str__(self) -> str:
        modes = {"bfloat16": self.bf16, "compiled": self.compiled, "eager": not self.compiled}
        words = [mode for mode, holds in modes.items() if holds]
        return f"torch, {', '.join(words)}, {self._where()}"

    def forward(self, x: NDArray[Any]) -> tuple[Float32, torch.Tensor]:
        """y [B, outputs] for x [B, ...], and the tape that :meth:`backward` needs."""
        self._switch(True)
        y = self._call(torch.from_numpy(x))
        return y.detach().numpy(), y

    def infer(self, x: NDArray[Any]) -> Float32:
        """y alone."""
        self._switch(False)
        with torch.inference_mode():
            return self._call(torch.from_numpy(x)).numpy()

    def backward(
        self, tape: torch.Tensor, dy: Float32, *, params: bool = True, inputs: bool = False
    ) -> Float32 | None:
        """dL/dparams is added to ``grad``. ``dy`` is dL/dy [B, outputs].

        Raises:
            NotImplementedError: a gradient with respect to the input was asked for.
        """
        if inputs:
            raise NotImplementedError("TorchNetwork: dL/dx is not offered by this executor")
        if params:
            with self._threaded():
                torch.autograd.backward(tape, torch.from_numpy(dy))
        return None

    def zero_grad(self) -> None:
        """Set the gradient to zero; the views stay."""
        self.grad.fill(0.0)

    def named_tensors(self) -> dict[str, Float32]:
        """Views of parameters and buffers by their names in ``state_dict``, and of the free vectors."""
        views = {name: tensor.detach().numpy() for name, tensor in self.module.state_dict().items()}
        return views | free_vectors(self.params, self._free)

    def free(self, name: str) -> tuple[Float32, Float32]:
        """Views of a parameter vector outside the module, and of its gradient."""
        return free_vectors(self.params, self._free)[name], free_vectors(self.grad, self._free)[name]

    def load_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Copy named tensors into the parameters and buffers; all are checked before any is copied.

        Raises:
            ValueError: a tensor is missing, is one too many, or has another shape.
        """
        copy_named(self.named_tensors(), tensors)

    def _switch(self, learning: bool) -> None:
        """Put the module into training mode, or out of it."""
        if learning != self._learning:
            for part in self._learners:
                part.training = learning
            self._learning = learning

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        with self._precision():
            try:
                y = self._run(x)
            except Exception as error:
                if not self.compiled:
                    raise
                y = self._eagerly(x, error)
            return self._joined(y, len(x))

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The number of threads, too."""
        with self._threaded(), torch.autocast(self.home.type, torch.bfloat16) if self.bf16 else nullcontext():
            yield

    @staticmethod
    def _joined(y: Any, rows: int) -> torch.Tensor:
        """float32 [rows, outputs] of what a module gave."""
        parts = y if isinstance(y, tuple) else (y,)
        if not all(isinstance(part, torch.Tensor) for part in parts):
            got = ", ".join(type(part).__name__ for part in parts)
            raise TypeError(f"policy: the module must give a tensor or a tuple of tensors, got {got}")
        if isinstance(y, tuple):
            y = torch.cat([part.reshape(rows, -1) for part in y], 1)
        out: torch.Tensor = y.float()
        return out

    def _eagerly(self, x: torch.Tensor, error: Exception) -> Any:
        """What the module gives without torch.compile, which failed; from now on."""
        y = self.module(x)  # an error of the module's own is raised here
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"compile=True: torch.compile failed, the network runs eagerly: {type(error).__name__}: {reason}",
            RuntimeWarning,
            stacklevel=2,
        )
        self.compiled, self._run = False, self.module
        return y

    @contextmanager
    def _threaded(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _flatten(self) -> None:
        parameters = list(self.module.parameters())
        if not parameters:
            raise ValueError("TorchNetwork: the module must have parameters")
        if taken := self.module.state_dict().keys() & {name for name, _ in self._free}:
            raise ValueError(
                f"policy: the module must have no tensor {', '.join(sorted(taken))}: that is the name of a "
                "vector that the action distribution keeps beside it"
            )
        for name, parameter in self.module.named_parameters():
            if parameter.dtype != torch.float32 or parameter.device != self.home:
                raise ValueError(
                    f"TorchNetwork: parameter {name} must be float32 on {self.home}, got "
                    f"{parameter.dtype} on {parameter.device}"
                )
        free = torch.zeros(sum(size for _, size in self._free), device=self.home)
        flat = torch.cat([*(parameter.detach().reshape(-1) for parameter in parameters), free])
        grad = torch.zeros_like(flat)
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.data = flat[start:stop].view(parameter.shape)
            parameter.grad = grad[start:stop].view(parameter.shape)
            start = stop
        self.params, self.grad = self._vectors(flat, grad)

    def _where(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads > 1)}"

    def _vectors(self, flat: torch.Tensor, grad: torch.Tensor) -> tuple[Any, Any]:
        return flat.numpy(), grad.numpy()


class TorchMLP(TorchNetwork):
    """Runs a spec by torch, on the parameters of a native executor of the same spec.

    Both read and write one flat vector in one layout, so gradients come from autograd while inference, where
    torch's cost of a call dominates, runs on the native kernels.

    Args:
        spec: a network without noisy layers or dueling heads.
        rng: draws the initial parameters, the same as the native executor's.
        options: says whether to compile, and whether to compute in bfloat16.

    Raises:
        ValueError: noisy layers or dueling heads.
    """

    def __init__(self, spec: NetworkSpec, rng: np.random.Generator, options: NetworkOptions) -> None:
        self.native = NativeNetwork(spec, rng)
        module = _Dense(self.native)
        super().__init__(
            module, compiled=options.compiled, bf16=options.bf16, free=spec.free, shape=(spec.inputs,)
        )

    def infer(self, x: NDArray[Any]) -> Float32:
        """y alone, by the native executor."""
        return self.native.infer(x)

    def _flatten(self) -> None:
        self.params, self.grad = self.native.params, self.native.grad


def build(
    shape: tuple[int, ...],
    columns: int,
    trunk: str,
    options: NetworkOptions,
    seed: np.random.SeedSequence,
    module: nn.Module | None,
    free: tuple[tuple[str, int], ...],
) -> TorchNetwork:
    """An actor-critic for observations of ``shape``; see ``fastrl.policies.build_network``.

    Raises:
        ValueError: a module whose output is not ``columns + 1`` wide.
    """
    make: Callable[..., TorchNetwork] = TorchNetwork
    if options.device != "cpu":
        from fastrl.torch_device import DeviceNetwork, cuda_device

        make = partial(DeviceNetwork, device=cuda_device(options.device))
    if module is None and trunk == "mlp":
        rng = np.random.Generator(np.random.PCG64(seed))
        spec = actor_critic(shape[0], columns, options, free)
        if options.device == "cpu":
            return TorchMLP(spec, rng, options)
        module = _Dense(NativeNetwork(spec, rng))
    if module is None:
        module = ImageActorCritic(trunk, shape, columns, int(seed.generate_state(1)[0]))
    network = make(module, compiled=options.compiled, bf16=options.bf16, free=free, shape=shape)
    y = network.infer(np.zeros((2, *shape), np.uint8 if len(shape) == 3 else np.float32))
    if y.shape != (2, columns + 1):
        raise ValueError(
            f"policy: the module must give [B, {columns + 1}], {columns} columns for the action distribution "
            f"and the value, or a tuple of these two; for 2 observations it gave {list(y.shape)}"
        )
    return network


BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Instructions with which a processor computes in bfloat16, as Linux names them on x86-64 and aarch64."""


def _flags() -> set[str]:
    return set(Path("/proc/cpuinfo").read_text().split())


class _Dense(nn.Module):
    """The layers of a plan as torch operations on views of the native executor's vectors."""

    def __init__(self, native: NativeNetwork) -> None:
        super().__init__()
        if native.spec.noisy is not None or native.plan.duelings:
            raise ValueError("TorchMLP: noisy layers and dueling heads run on the native executor only")
        self._layers = native.plan.layers
        weights = torch.from_numpy(native.params)
        gradients = torch.from_numpy(native.grad)
        self._weights: list[nn.Parameter] = []
        self._biases: list[nn.Parameter] = []
        for index, (layer, start) in enumerate(zip(native.plan.layers, native.plan.offsets, strict=True)):
            middle = start + layer.inputs * layer.outputs
            stop = middle + layer.outputs
            # stored [in, out]: torch's [out, in] is its transpose, a view
            weight = nn.Parameter(weights[start:middle].view(layer.inputs, layer.outputs).t())
            weight.grad = gradients[start:middle].view(layer.inputs, layer.outputs).t()
            bias = nn.Parameter(weights[middle:stop])
            bias.grad = gradients[middle:stop]
            self.register_parameter(f"weight{index}", weight)
            self.register_parameter(f"bias{index}", bias)
            self._weights.append(weight)
            self._biases.append(bias)
        functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "none": nn.Identity(),
            "tanh": torch.tanh,
            "relu": torch.relu,
            "silu": nn.functional.silu,
        }
        self._functions = [functions[layer.activation] for layer in self._layers]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: list[torch.Tensor] = []
        columns: list[tuple[int, torch.Tensor]] = []
        for layer, weight, bias, function in zip(
            self._layers, self._weights, self._biases, self._functions, strict=True
        ):
            source = x if layer.source < 0 else outputs[layer.source]
            outputs.append(function(nn.functional.linear(source, weight, bias)))
            if layer.column >= 0:
                columns.append((layer.column, outputs[-1]))
        return torch.cat([out for _, out in sorted(columns, key=lambda pair: pair[0])], 1)
