"""The returns family in C++ (csrc/returns.cpp): the same bits on every instruction set with FMA.

Without it, V-trace and Retrace of float32 differ in the last ones.
"""

from fastrl._core import discounted, gae, n_step, q_lambda, retrace, td_lambda, vtrace

__all__ = ["DEVICES", "discounted", "gae", "n_step", "q_lambda", "retrace", "td_lambda", "vtrace"]

DEVICES = ("cpu",)
