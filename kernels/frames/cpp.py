"""The frames family in C++ (csrc/frames.cpp): the same bits on every instruction set."""

from fastrl._core import grayscale, grayscale_resize, push_frames

__all__ = ["DEVICES", "grayscale", "grayscale_resize", "push_frames"]

DEVICES = ("cpu",)
