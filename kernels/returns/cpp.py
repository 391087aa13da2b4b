"""The returns family in C++ (csrc/returns.cpp): the same bits on every instruction set."""

from fastrl._core import discounted, gae, n_step, q_lambda, retrace, td_lambda, vtrace

__all__ = ["DEVICES", "discounted", "gae", "n_step", "q_lambda", "retrace", "td_lambda", "vtrace"]

DEVICES = ("cpu",)
