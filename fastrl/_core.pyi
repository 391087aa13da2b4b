"""
Compiled kernels of fastrl. Private: import fastrl.kernels instead.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
__all__: list[str] = ['Network', 'Tape', 'adam_step', 'isa', 'isa_supported', 'polyak', 'set_isa']
class Tape:
    """
    Activations a forward pass keeps for its backward pass.
    """
class Network:
    """
    A forest of dense layers over one flat parameter vector.
    """
    def __init__(self, inputs: typing.SupportsInt | typing.SupportsIndex, layers: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]], duelings: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]]) -> None:
        ...
    def backward(self, params: numpy.typing.NDArray[numpy.float32], tape: Tape, dy: numpy.typing.NDArray[numpy.float32], grad: numpy.typing.NDArray[numpy.float32] | None = None, dx: numpy.typing.NDArray[numpy.float32] | None = None) -> None:
        ...
    def forward(self, params: numpy.typing.NDArray[numpy.float32], x: numpy.typing.NDArray[numpy.float32], y: numpy.typing.NDArray[numpy.float32]) -> Tape:
        ...
    def infer(self, params: numpy.typing.NDArray[numpy.float32], x: numpy.typing.NDArray[numpy.float32], y: numpy.typing.NDArray[numpy.float32]) -> None:
        ...
    @property
    def inputs(self) -> int:
        ...
    @property
    def outputs(self) -> int:
        ...
    @property
    def size(self) -> int:
        ...
def adam_step(params: numpy.typing.NDArray[numpy.float32], grad: numpy.typing.NDArray[numpy.float32], m: numpy.typing.NDArray[numpy.float32], v: numpy.typing.NDArray[numpy.float32], t: typing.SupportsInt | typing.SupportsIndex, lr: typing.SupportsFloat | typing.SupportsIndex, beta1: typing.SupportsFloat | typing.SupportsIndex, beta2: typing.SupportsFloat | typing.SupportsIndex, eps: typing.SupportsFloat | typing.SupportsIndex, max_norm: typing.SupportsFloat | typing.SupportsIndex) -> float:
    ...
def isa() -> str:
    """
    Name of the instruction set in use.
    """
def isa_supported(name: str) -> bool:
    """
    Whether this processor can run the named instruction set.
    """
def polyak(target: numpy.typing.NDArray[numpy.float32], params: numpy.typing.NDArray[numpy.float32], tau: typing.SupportsFloat | typing.SupportsIndex) -> None:
    ...
def set_isa(name: str) -> None:
    """
    Use another instruction set (for tests).
    """
