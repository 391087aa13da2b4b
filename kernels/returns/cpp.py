"""The returns family in C++ (csrc/returns.cpp): float32 or float64, the same bits on every instruction set."""

from fastrl._core import gae

__all__ = ["DEVICES", "gae"]

DEVICES = ("cpu",)
