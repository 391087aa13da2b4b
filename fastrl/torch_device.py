"""The torch executor on a CUDA device, and the capture of its work as CUDA graphs."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastrl.networks import copy_named, free_vectors
from fastrl.torch_networks import TorchNetwork

Float32 = NDArray[np.float32]


def cuda_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ValueError: no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type != "cuda":
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise ValueError(f"device={name!r}: torch {torch.__version__} finds {count} CUDA devices here")
    return torch.device("cuda", device.index or 0)


class DeviceNetwork(TorchNetwork):
    """Runs a module on a device; ``params`` and ``grad`` are tensors there.

    ``infer`` takes and gives NumPy arrays, for environments; ``forward`` and ``backward`` take and give
    tensors.

    Args:
        module: as for ``TorchNetwork``; it is moved.
        device: where to.
        options: as for ``TorchNetwork``.
    """

    def __init__(self, module: nn.Module, *, device: torch.device, **options: Any) -> None:
        self.device = self.home = device
        super().__init__(module.to(device), **options)
        self.chunk = sys.maxsize  # a minibatch goes through whole
        self._infer = Captured(self.acting)

    def forward(self, x: Any) -> tuple[Any, torch.Tensor]:
        """y [B, outputs] for x [B, ...], and the tape that :meth:`backward` needs."""
        self._switch(True)
        y = self._call(x)
        return y.detach(), y

    def acting(self, x: torch.Tensor) -> torch.Tensor:
        """y alone, on the device."""
        self._switch(False)
        return self._call(x)

    def infer(self, x: NDArray[Any]) -> Float32:
        """y alone; the only call that waits for the device."""
        with torch.no_grad():
            y: Float32 = self._infer(torch.from_numpy(x).to(self.device, non_blocking=True)).cpu().numpy()
        return y

    def backward(self, tape: torch.Tensor, dy: Any, *, params: bool = True, inputs: bool = False) -> None:
        """dL/dparams is added to ``grad``. ``dy`` is dL/dy [B, outputs].

        Raises:
            NotImplementedError: a gradient with respect to the input was asked for.
        """
        if inputs:
            raise NotImplementedError("DeviceNetwork: dL/dx is not offered by this executor")
        if params:
            torch.autograd.backward(tape, dy)

    def zero_grad(self) -> None:
        """Set the gradient to zero; the views stay."""
        self.grad.zero_()

    def named_tensors(self) -> dict[str, Float32]:
        """Copies of parameters and buffers by their names in ``state_dict``, and of the free vectors."""
        return {name: x.cpu().numpy() for name, x in self._tensors().items()}

    def load_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Copy named tensors into the parameters and buffers; all are checked before any is copied.

        Raises:
            ValueError: a tensor is missing, is one too many, or has another shape.
        """
        host = self.named_tensors()
        copy_named(host, tensors)
        for name, x in self._tensors().items():
            x.copy_(torch.from_numpy(host[name]))

    def _where(self) -> str:
        graphs = " with graphs" if self.device.type == "cuda" else ""
        return f"{self.device}{graphs}"

    def _vectors(self, flat: torch.Tensor, grad: torch.Tensor) -> tuple[Any, Any]:
        return flat, grad

    def _tensors(self) -> dict[str, torch.Tensor]:
        views = {name: x.detach() for name, x in self.module.state_dict().items()}
        return views | free_vectors(self.params, self._free)


class Captured:
    """A function of tensors, replayed as a CUDA graph from its third call with arguments of equal shapes.

    The first two run as they are, which compiles kernels and fills pools. What the function changes besides,
    such as parameters, must be the same tensors at each call. Results are the graph's own: the next call
    overwrites them. On other devices the function is just called.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._calls: dict[Any, int] = {}
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...], Any]] = {}

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """The function's result."""
        if not tensors[0].is_cuda:
            return self.function(*tensors)
        key = tuple((x.shape, x.dtype) for x in tensors)
        if key not in self._graphs:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls <= 2:
                return self._beside(tensors)
            self._capture(key, tensors)
        graph, inputs, result = self._graphs[key]
        for mine, given in zip(inputs, tensors, strict=True):
            mine.copy_(given)
        graph.replay()
        return result

    def _beside(self, tensors: tuple[torch.Tensor, ...]) -> Any:
        """On a stream of its own, as torch asks of what will be captured."""
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.function(*tensors)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _capture(self, key: Any, tensors: tuple[torch.Tensor, ...]) -> None:
        inputs = tuple(x.clone() for x in tensors)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.function(*inputs)
        self._graphs[key] = graph, inputs, result
