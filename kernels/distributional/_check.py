"""What the family's ops ask of their arguments, NumPy arrays or torch tensors.

The C++ kernels test the same themselves, in less time than one of these calls takes, and come here only to
say what is wrong (csrc/bind_distributional.cpp). The other backends call these first. What depends on the
values of tensors that are not in host memory is not checked.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrl.kernels._check import describe, repeats_elements, require_unit, share_memory
from fastrl.kernels._dispatch import is_tensor

SCALES = (1e-20, 1e20)
"""A gradient of ordinary size, scaled by these, is still a normal float32."""


class Arguments:
    """Checks arguments of one op against the first: same kind, same device, and a letter one size."""

    def __init__(self, op: str, first: Any, sizes: dict[str, int] | None = None) -> None:
        self.op, self.first, self.sizes = op, first, sizes or {}

    def array(self, name: str, x: Any, dtype: str, dims: str) -> None:
        """Raise unless ``x`` has this dtype and the shape ``dims``, as ``"[B, N]"``, or one of
        ``"[B, A, N] or [B, N]"``; letters get the sizes that they meet first.

        Raises:
            TypeError: another kind or dtype.
            ValueError: another shape or device, or memory not aligned.
        """
        rule = f"{self.op}: {name} must be {dtype} {dims}"
        if not (
            is_tensor(self.first) if is_tensor(x) else isinstance(x, np.ndarray) and not is_tensor(self.first)
        ):
            kind = "tensor" if is_tensor(self.first) else "array"
            raise TypeError(f"{self.op}: {name} must be a {dtype} {kind} {dims}, got {describe(x)}")
        if dtype_of(x) != dtype:
            raise TypeError(f"{rule}, got {describe(x)}")
        require_dense(self.op, name, x)
        for letters in (form.strip("[] ").split(", ") for form in dims.split(" or ")):
            if len(letters) == len(x.shape):
                break
        else:
            raise ValueError(f"{rule}, got {describe(x)}")
        wanted = [self.sizes.setdefault(letter, n) for letter, n in zip(letters, x.shape, strict=True)]
        if list(x.shape) != wanted:
            raise ValueError(f"{rule} = {wanted}, got {describe(x)}")
        if x.device != self.first.device:
            raise ValueError(
                f"{self.op}: {name} must be on {self.first.device} as the first argument is, got {x.device}"
            )
        if isinstance(x, np.ndarray) and not x.flags.aligned:
            raise ValueError(
                f"{self.op}: {name} must be aligned to its dtype, got an array that is not: pass a copy"
            )

    def output(self, name: str, x: Any, dtype: str, dims: str) -> None:
        """The same of what is written to, C-contiguous.

        Raises:
            TypeError: another kind or dtype.
            ValueError: anything else is wrong.
        """
        self.array(name, x, dtype, dims)
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            raise ValueError(f"{self.op}: {name} must be writeable, got a read-only array")
        if not (x.is_contiguous() if is_tensor(x) else x.flags.c_contiguous):
            raise ValueError(f"{self.op}: {name} must be C-contiguous, got a view with gaps: pass a copy")

    def nonempty(self, name: str, *letters: str) -> None:
        """Raise ValueError where one of these sizes is 0."""
        for letter in letters:
            if self.sizes[letter] == 0:
                raise ValueError(f"{self.op}: {name} must have {letter} >= 1, got {letter} = 0")


def dtype_of(x: object) -> str:
    """Name of the dtype of an array or tensor."""
    return str(getattr(x, "dtype", None)).removeprefix("torch.")


def require_support(
    op: str, support: Any, v_min: float | None, v_max: float | None, n: int | None, name: str = "support"
) -> None:
    """Raise unless these are at least two increasing atoms, as many as ``n`` where it is given.

    Raises:
        TypeError: the support is no array of float32 or float64, or v_min or v_max no number.
        ValueError: anything else is wrong.
    """
    if (support is None) == (v_min is None or v_max is None) or (
        support is not None and (v_min is not None or v_max is not None)
    ):
        raise ValueError(f"{op}: {name} must be given, or v_min and v_max, one of the two")
    if n is not None and n < 2:
        raise ValueError(f"{op}: {name} must have at least 2 atoms, got {n}")
    if support is None:
        for bound, x in (("v_min", v_min), ("v_max", v_max)):
            require_number(op, bound, x)
            if not -math.inf < x < math.inf:  # type: ignore[operator]  # math.isfinite cannot be traced
                raise ValueError(f"{op}: {bound} must be finite, got {x}")
        if not v_min < v_max:  # type: ignore[operator]
            raise ValueError(f"{op}: v_min must be < v_max, got {v_min} and {v_max}")
        if not v_max - v_min < math.inf:  # type: ignore[operator]
            raise ValueError(f"{op}: v_max - v_min must be finite, got {v_min} and {v_max}")
        return
    if dtype_of(support) not in ("float32", "float64"):
        raise TypeError(f"{op}: {name} must be float32 or float64 [N], got {describe(support)}")
    if len(support.shape) != 1 or (n is not None and support.shape[0] != n):
        raise ValueError(
            f"{op}: {name} must be [N]{'' if n is None else f' = [{n}]'}, got {describe(support)}"
        )
    if support.shape[0] < 2:
        raise ValueError(f"{op}: {name} must have at least 2 atoms, got {support.shape[0]}")
    if is_tensor(support) and not _has_values(support):
        return
    z = np.asarray(support)
    if not (np.isfinite(z).all() and (z[1:] > z[:-1]).all()):
        raise ValueError(f"{op}: {name} must be finite and increasing, got {z}")


def _has_values(x: Any) -> bool:
    """Whether the values of a tensor can be looked at here."""
    import torch

    return bool(x.is_cpu) and type(x) is torch.Tensor and not torch.compiler.is_compiling()


def require_bellman(
    check: Arguments, reward: Any, discount: Any, terminated: Any, gamma: Any, real: str
) -> None:
    """Raise unless rewards come with discounts, or with gamma and maybe with flags.

    Raises:
        TypeError: another kind or dtype.
        ValueError: anything else is wrong.
    """
    check.array("reward", reward, real, "[B]")
    if (discount is None) == (gamma is None):
        raise ValueError(f"{check.op}: discount must be given, or gamma, one of the two")
    if discount is not None:
        check.array("discount", discount, real, "[B]")
        if terminated is not None:
            raise ValueError(f"{check.op}: terminated goes with gamma; where it is, discount must be 0")
        return
    if terminated is not None:
        check.array("terminated", terminated, "bool", "[B]")
    require_number(check.op, "gamma", gamma)
    require_unit(check.op, "gamma", gamma)


def require_number(op: str, name: str, x: Any) -> None:
    """Raise TypeError unless ``x`` is a number."""
    _refuse_scalar_array(op, name, x, "a number", "float")
    if not isinstance(x, int | float | np.integer | np.floating):
        raise TypeError(f"{op}: {name} must be a number, got {describe(x)}")
    if isinstance(x, int) and abs(x) > 2**1000:
        raise ValueError(f"{op}: {name} must be a number that a float holds, got int")


def _refuse_scalar_array(op: str, name: str, x: Any, rule: str, kind: str) -> None:
    """Raise TypeError for an array of no dimensions, what NumPy's scalars are under torch.compile."""
    if isinstance(x, np.ndarray) and x.ndim == 0:
        raise TypeError(f"{op}: {name} must be {rule}, got an array of no dimensions: pass {kind}({name})")


def require_dense(op: str, name: str, x: Any) -> None:
    """Raise TypeError where ``x`` is a sparse tensor."""
    if is_tensor(x) and str(x.layout) != "torch.strided":
        raise TypeError(f"{op}: {name} must be a dense tensor, got one of layout {x.layout}")


def require_flag(op: str, name: str, x: Any) -> None:
    """Raise TypeError unless ``x`` is True or False."""
    _refuse_scalar_array(op, name, x, "True or False", "bool")
    if not isinstance(x, bool | np.bool_):
        raise TypeError(f"{op}: {name} must be True or False, got {describe(x)}")


def require_scale(op: str, scale: Any) -> None:
    """Raise unless ``scale`` is None or a number that float32 gradients can be scaled by, and back."""
    if scale is None:
        return
    require_number(op, "scale", scale)
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ValueError(f"{op}: scale must be from 1e-20 to 1e20, got {scale}")


def require_kappa(kappa: Any, scaled: bool = False) -> None:
    """Raise unless float32 can hold ``kappa``, and what it divides by it where ``scaled``."""
    op = "quantile_huber"
    require_number(op, "kappa", kappa)
    if not kappa >= 0:
        raise ValueError(f"{op}: kappa must be >= 0, got {kappa}")
    if scaled and not 0 < kappa <= 1e30:
        raise ValueError(f"{op}: kappa must be > 0 where scaled, and at most 1e30, got {kappa}")
    if 0 < kappa < 1e-30:
        raise ValueError(f"{op}: kappa must be 0 or at least 1e-30, got {kappa}")


def require_projection(
    probs: Any,
    reward: Any,
    discount: Any,
    terminated: Any,
    gamma: Any,
    support: Any,
    v_min: Any,
    v_max: Any,
    target_support: Any,
    out: Any,
) -> None:
    """Raise unless ``fastrl.kernels.c51_project`` takes these arguments.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    op = "c51_project"
    real = "float64" if dtype_of(probs) == "float64" else "float32"
    check = Arguments(op, probs)
    check.array("probs", probs, real, "[B, N]")
    require_bellman(check, reward, discount, terminated, gamma, real)
    require_support(op, support, v_min, v_max, check.sizes["N"])
    check.sizes["M"] = check.sizes["N"]
    if target_support is not None:
        require_support(op, target_support, None, None, None, "target_support")
        check.sizes["M"] = target_support.shape[0]
    if out is not None:
        check.array("out", out, real, "[B, M]")
        require_apart(op, out, probs, reward, discount, terminated, support, target_support)


def require_apart(op: str, out: Any, *inputs: Any, name: str = "out") -> None:
    """Raise ValueError unless ``out`` can be written, holds each element once, and overlaps no input."""
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(f"{op}: {name} must be writeable, got a read-only array")
    if repeats_elements(out):
        raise ValueError(f"{op}: {name} must hold each element once, got a view that repeats some")
    if any(x is not None and share_memory(out, x) for x in inputs):
        raise ValueError(f"{op}: {name} must not share memory with an input")


def require_c51_loss(
    logits: Any,
    action: Any,
    next_logits: Any,
    reward: Any,
    discount: Any,
    terminated: Any,
    gamma: Any,
    support: Any,
    v_min: Any,
    v_max: Any,
    next_selector: Any,
    kl: Any,
    scale: Any,
    out: Any,
) -> None:
    """Raise unless ``fastrl.kernels.c51_loss`` takes these arguments; actions in range are not checked.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    op = "c51_loss"
    check = Arguments(op, logits)
    check.array("logits", logits, "float32", "[B, A, N] or [B, N]")
    several = len(logits.shape) == 3
    if several:
        check.nonempty("logits", "A")
        if action is None:
            raise ValueError(f"{op}: action must be given with logits [B, A, N], got None")
        check.array("action", action, "int64", "[B]")
    elif action is not None:
        raise ValueError(f"{op}: action must be None with logits [B, N], which are those of the action taken")
    following = Arguments(op, logits, {letter: check.sizes[letter] for letter in "BN"})
    following.array("next_logits", next_logits, "float32", "[B, A, N] or [B, N]")
    if len(next_logits.shape) == 3:
        following.nonempty("next_logits", "A")
    if next_selector is not None:
        dims = "[B, A, N]" if len(next_logits.shape) == 3 else "[B, N]"
        following.array("next_selector", next_selector, "float32", dims)
    require_bellman(check, reward, discount, terminated, gamma, "float32")
    require_support(op, support, v_min, v_max, check.sizes["N"])
    require_flag(op, "kl", kl)
    require_scale(op, scale)
    inputs = (logits, action, next_logits, reward, discount, terminated, next_selector)
    require_pair(check, out, "d_logits", "[B, A, N]" if several else "[B, N]", inputs)


def require_pair(check: Arguments, out: Any, gradient: str, dims: str, inputs: Sequence[Any]) -> None:
    """Raise unless ``out`` is None or a loss [B] and its gradient to write to, apart from all else.

    Raises:
        TypeError: not a pair, or another kind or dtype.
        ValueError: anything else is wrong.
    """
    if out is None:
        return
    if not isinstance(out, Sequence) or len(out) != 2:
        raise TypeError(f"{check.op}: out must be a pair (loss, {gradient}), got {describe(out)}")
    check.output("out.loss", out[0], "float32", "[B]")
    check.output(f"out.{gradient}", out[1], "float32", dims)
    require_apart(check.op, out[0], *inputs, name="out.loss")
    require_apart(check.op, out[1], *inputs, name=f"out.{gradient}")
    if share_memory(*out):
        raise ValueError(f"{check.op}: out must be two arrays apart, got memory that they share")


def require_quantile_huber(
    quantiles: Any, targets: Any, taus: Any, kappa: Any, weight: Any, scale: Any, out: Any
) -> None:
    """Raise unless ``fastrl.kernels.quantile_huber`` takes these arguments.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    op = "quantile_huber"
    check = Arguments(op, quantiles)
    check.array("quantiles", quantiles, "float32", "[B, N]")
    check.array("targets", targets, "float32", "[B, M]")
    check.nonempty("quantiles", "N")
    check.nonempty("targets", "M")
    if taus is not None:
        check.array("taus", taus, "float32", "[N] or [B, N]")
    require_kappa(kappa)
    require_scale(op, scale)
    require_pair(check, out, "d_quantiles", "[B, N]", (quantiles, targets, taus))


def require_expectation(x: Any, support: Any, v_min: Any, v_max: Any, logits: Any) -> None:
    """Raise unless ``fastrl.kernels.expectation`` takes these arguments, with ``x`` as rows [B, N].

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    check = Arguments("expectation", x)
    check.array("x", x, "float32", "[B, N]")
    require_support("expectation", support, v_min, v_max, check.sizes["N"])
    require_flag("expectation", "logits", logits)


def require_hl_gauss(x: Any, support: Any, v_min: Any, v_max: Any, atoms: Any, sigma: Any) -> None:
    """Raise unless ``fastrl.kernels.hl_gauss`` takes these arguments.

    Raises:
        TypeError: a dtype is wrong, or arrays and tensors are mixed.
        ValueError: anything else is wrong.
    """
    require_values("hl_gauss", x, support, v_min, v_max, atoms)
    require_number("hl_gauss", "sigma", sigma)
    if not 0 < sigma < math.inf:
        raise ValueError(f"hl_gauss: sigma must be > 0 and finite, got {sigma}")


def require_two_hot(x: Any, support: Any, v_min: Any, v_max: Any, atoms: Any) -> None:
    """Raise unless ``fastrl.kernels.two_hot`` takes these arguments.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: anything else is wrong.
    """
    require_values("two_hot", x, support, v_min, v_max, atoms)


def require_values(op: str, x: Any, support: Any, v_min: Any, v_max: Any, atoms: Any) -> None:
    """Raise unless values [B] come with atoms.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: anything else is wrong.
    """
    Arguments(op, x).array("x", x, "float32", "[B]")
    _refuse_scalar_array(op, "atoms", atoms, "an integer", "int")
    whole = isinstance(atoms, int | np.integer) and not isinstance(atoms, bool)
    if not whole and (support is None or atoms is not None):
        rule = "an integer with v_min and v_max" if support is None else "an integer or None"
        raise TypeError(f"{op}: atoms must be {rule}, got {describe(atoms)}")
    if support is None and atoms > 2**31:
        raise ValueError(f"{op}: atoms must be at most 2**31, got {atoms}")
    require_support(op, support, v_min, v_max, atoms)
