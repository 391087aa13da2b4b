"""The family's ops as a table: what the checks, the torch operators and the Triton kernels have in common."""

from typing import Any, NamedTuple

from fastrl.kernels._dispatch import is_tensor, resolve


class Op(NamedTuple):
    """Arguments of a backend's function, in order: the arrays, ``out``, the options."""

    arrays: tuple[str, ...]
    """[T, B] each, of the first one's dtype unless in ``FLAGS``."""
    options: tuple[str, ...]
    factors: tuple[str, ...] = ()
    """Options that may be arrays [T, B] as well."""
    row: bool = False
    """Whether ``next_value`` may be [B], V after the last step only."""
    outputs: int = 1


FLAGS = {"terminated", "truncated", "mask", "greedy"}
DIFFERENTIABLE = {"td_lambda": ("reward", "next_value"), "discounted": ("reward", "next_value")}
_ENDS = ("terminated", "truncated", "mask")
_BARS = ("rho_bar", "c_bar", "pg_rho_bar")

OPS = {
    "gae": Op(("reward", "value", "next_value", *_ENDS), ("gamma", "lam"), row=True),
    "td_lambda": Op(("reward", "next_value", *_ENDS), ("gamma", "lam"), ("gamma", "lam")),
    "discounted": Op(
        ("reward", "terminated", "truncated", "next_value", "mask"), ("gamma",), ("gamma",), row=True
    ),
    "n_step": Op(("reward", "next_value", *_ENDS), ("gamma", "n")),
    "vtrace": Op(("log_rho", "reward", "value", "next_value", *_ENDS), ("gamma", "lam", *_BARS), outputs=2),
    "retrace": Op(("log_rho", "reward", "q", "next_value", *_ENDS), ("gamma", "lam")),
    "q_lambda": Op(("reward", "next_value", "greedy", *_ENDS), ("gamma", "lam")),
}


def is_optional(op: str, name: str) -> bool:
    """Whether None may stand for this array."""
    return name in ("truncated", "mask") or (op == "discounted" and name == "next_value")


def call(op: str, arrays: tuple[Any, ...], out: Any, options: tuple[Any, ...], backend: str | None) -> Any:
    """``op`` of NumPy arrays or torch tensors."""
    if is_tensor(arrays[0]):
        from fastrl.kernels.returns import _torch

        return _torch.call(op, arrays, out, options, backend)
    return resolve("returns", op, "cpu", backend)(*arrays, out, *options)
