"""Categorical policies: sampling, mode, log-probability and entropy, with an action mask."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_array
from fastrl.kernels._dispatch import resolve
from fastrl.kernels.distributions._check import require_key, require_logits


class CategoricalSample(NamedTuple):
    """What `categorical_sample` returns."""

    action: NDArray[np.int64]
    """[B], in [0, A)."""
    log_prob: NDArray[np.float32]
    """[B], log-probability of ``action``."""


def categorical_sample(
    logits: NDArray[np.float32],
    *,
    seed: int | None = None,
    counter: int = 0,
    uniform: NDArray[np.float32] | None = None,
    action_mask: NDArray[np.bool_] | None = None,
    out: CategoricalSample | None = None,
    backend: str | None = None,
) -> CategoricalSample:
    """Action [B] drawn from each row, and its log-probability [B], by inverting the distribution function.

    Row b takes the action a with ``F(a - 1) <= u[b] < F(a)``, F the cumulated probability; rounding never
    makes it an action that is masked or has probability 0. Where ``uniform`` is not given, u[b] is made of
    the upper 24 bits of word ``b % 4`` of Philox4x32-10 with key ``seed`` and counter words
    ``(counter, b // 4, 1)``: it depends on (seed, counter, b) only, whatever the batch around it. A run draws
    step t with ``counter=t``.

    Args:
        logits: float32 [B, A].
        seed: in [0, 2^64). Give this or ``uniform``.
        counter: in [0, 2^64).
        uniform: float32 [B] in [0, 1).
        action_mask: bool [B, A], True = legal.
        out: arrays to write into, any strides.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape; a seed or counter out of range; a row with NaN, +inf, no legal action or a
            uniform outside [0, 1), which is named. The contents of ``out`` are then undefined.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    op = "categorical_sample"
    batch, _ = require_logits(op, logits, action_mask)
    if (seed is None) == (uniform is None):
        raise ValueError(f"{op}: give either seed or uniform")
    if uniform is not None:
        require_array(op, "uniform", uniform, np.float32, (batch,), "[B]")
    require_key(op, seed or 0, counter)
    if out is None:
        out = CategoricalSample(np.empty(batch, np.int64), np.empty(batch, np.float32))
    else:
        require_array(op, "out.action", out.action, np.int64, (batch,), "[B]")
        require_array(op, "out.log_prob", out.log_prob, np.float32, (batch,), "[B]")
    run = resolve("distributions", op, "cpu", backend)
    run(logits, out.action, out.log_prob, seed or 0, counter, uniform, action_mask)
    return out


def categorical_mode(
    logits: NDArray[np.float32],
    *,
    action_mask: NDArray[np.bool_] | None = None,
    out: NDArray[np.int64] | None = None,
    backend: str | None = None,
) -> NDArray[np.int64]:
    """Most probable legal action [B] of each row, the first one where several are.

    Args:
        logits: float32 [B, A].
        action_mask: bool [B, A], True = legal.
        out: int64 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape, or a row with NaN or without a legal action, which is named.
    """
    op = "categorical_mode"
    batch, _ = require_logits(op, logits, action_mask)
    if out is None:
        out = np.empty(batch, np.int64)
    require_array(op, "out", out, np.int64, (batch,), "[B]")
    resolve("distributions", op, "cpu", backend)(logits, out, action_mask)
    return out


def categorical_log_prob(
    logits: NDArray[np.float32],
    action: NDArray[np.int64],
    *,
    action_mask: NDArray[np.bool_] | None = None,
    out: NDArray[np.float32] | None = None,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """log pi(action) [B] of each row; -inf for a masked action.

    A row with NaN, +inf or no legal action gives NaN.

    Args:
        logits: float32 [B, A].
        action: int64 [B] in [0, A).
        action_mask: bool [B, A], True = legal.
        out: float32 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape, or an action out of range, whose row is named.
    """
    op = "categorical_log_prob"
    batch, _ = require_logits(op, logits, action_mask)
    require_array(op, "action", action, np.int64, (batch,), "[B]")
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("distributions", op, "cpu", backend)(logits, action, out, action_mask)
    return out


def categorical_entropy(
    logits: NDArray[np.float32],
    *,
    action_mask: NDArray[np.bool_] | None = None,
    out: NDArray[np.float32] | None = None,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """Entropy [B] in nats, ``-sum_a pi(a) log pi(a)`` with ``0 log 0 = 0``.

    A row with NaN, +inf or no legal action gives NaN.

    Args:
        logits: float32 [B, A].
        action_mask: bool [B, A], True = legal.
        out: float32 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape.
    """
    op = "categorical_entropy"
    batch, _ = require_logits(op, logits, action_mask)
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("distributions", op, "cpu", backend)(logits, out, action_mask)
    return out
