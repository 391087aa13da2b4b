"""The returns family in C++ (csrc/returns.cpp): the same bits on every instruction set."""

from fastrl._core import gae

__all__ = ["DEVICES", "gae"]

DEVICES = ("cpu",)
