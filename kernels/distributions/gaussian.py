"""Diagonal Gaussian policies, plain and squashed by tanh."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe, require_array, require_ndim
from fastrl.kernels._dispatch import resolve
from fastrl.kernels.distributions._check import require_key, require_mean, require_rows

Floats = NDArray[np.float32]


class GaussianSample(NamedTuple):
    """What `gaussian_sample` returns."""

    action: Floats
    """[B, A]."""
    log_prob: Floats
    """[B], log-density of ``action``."""


def gaussian_sample(
    mean: Floats,
    log_std: Floats,
    *,
    seed: int | None = None,
    counter: int = 0,
    noise: Floats | None = None,
    out: GaussianSample | None = None,
    backend: str | None = None,
) -> GaussianSample:
    """Action [B, A] drawn from each row, and its log-density [B].

    ``action = mean + exp(log_std) noise``. Where ``noise`` is not given, that of row b and component a is
    the standard normal's quantile at ``(k + 1/2) / 2^24``, k the upper 24 bits of word ``b % 4`` of
    Philox4x32-10 with key ``seed`` and counter words ``(counter, b // 4, 1 + 256 a)``: it depends on (seed,
    counter, b, a) only, whatever the batch around it, and stays within +-5.42. A run draws step t with
    ``counter=t``.

    ``log_prob`` is that of the action as rounded to float32, so that `ppo_gaussian` finds a ratio of exactly
    1 before the first update.

    Args:
        mean: float32 [B, A].
        log_std: float32 [B, A] or [A].
        seed: in [0, 2^64). Give this or ``noise``.
        counter: in [0, 2^64).
        noise: float32 [B, A], standard normal.
        out: arrays to write into, any strides; they share no memory with the inputs.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape; a seed or counter out of range; a row whose action or log_prob is not
            finite (NaN, infinity, or a deviation of 0 or infinity), which is named. The contents of ``out``
            are then undefined.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); Giles 2010,
    "Approximating the erfinv function".
    """
    op = "gaussian_sample"
    shape = _check_policy(op, mean, log_std)
    if (seed is None) == (noise is None):
        raise ValueError(f"{op}: give either seed or noise")
    if noise is not None:
        require_array(op, "noise", noise, np.float32, shape, "[B, A]")
    require_key(op, seed or 0, counter)
    if out is None:
        out = GaussianSample(np.empty(shape, np.float32), np.empty(shape[0], np.float32))
    else:
        require_array(op, "out.action", out.action, np.float32, shape, "[B, A]")
        require_array(op, "out.log_prob", out.log_prob, np.float32, shape[:1], "[B]")
    run = resolve("distributions", op, "cpu", backend)
    run(mean, log_std, out.action, out.log_prob, seed or 0, counter, noise)
    return out


def gaussian_log_prob(
    mean: Floats, log_std: Floats, action: Floats, *, out: Floats | None = None, backend: str | None = None
) -> Floats:
    """Log-density [B] of each row's action; NaN and infinity propagate.

    ``sum_a -((action - mean) / exp(log_std))^2 / 2 - log_std - log(2 pi) / 2``

    Args:
        mean: float32 [B, A].
        log_std: float32 [B, A] or [A].
        action: float32 [B, A].
        out: float32 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape.
    """
    return _log_prob("gaussian_log_prob", "action", mean, log_std, action, out, backend)


def squashed_gaussian_log_prob(
    mean: Floats, log_std: Floats, u: Floats, *, out: Floats | None = None, backend: str | None = None
) -> Floats:
    """Log-density [B] of ``tanh(u)``, where ``u`` is what was drawn from the Gaussian.

    ``gaussian_log_prob(u) - sum_a log(1 - tanh(u)^2)``, the correction computed as
    ``2 (log 2 - |u| - log(1 + exp(-2 |u|)))``, which is finite for every finite u. It is that of an action
    in (-1, 1); actions that `squash` scales to [low, high] have ``sum_a log((high - low) / 2)`` less.

    Args:
        mean: float32 [B, A], before squashing.
        log_std: float32 [B, A] or [A], before squashing.
        u: float32 [B, A].
        out: float32 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape.

    Source: Haarnoja et al. 2018, "Soft actor-critic", appendix C, eq. 21; the stable form is Spinning Up's.
    """
    return _log_prob("squashed_gaussian_log_prob", "u", mean, log_std, u, out, backend)


def gaussian_entropy(log_std: Floats, *, out: Floats | None = None, backend: str | None = None) -> Floats:
    """Entropy [B] in nats, ``sum_a log_std + (1 + log(2 pi)) / 2``; [1] of a log_std [A].

    Args:
        log_std: float32 [B, A] or [A].
        out: float32 [B] or [1] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape.
    """
    op = "gaussian_entropy"
    rows = log_std[None] if getattr(log_std, "ndim", 2) == 1 else log_std
    batch, actions = require_ndim(op, "log_std", rows, np.float32, 2, "[B, A]")
    if actions == 0:
        raise ValueError(f"{op}: log_std must have at least one action, got {describe(log_std)}")
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("distributions", op, "cpu", backend)(rows, out)
    return out


def squash(
    u: Floats, low: Floats, high: Floats, *, out: Floats | None = None, backend: str | None = None
) -> Floats:
    """Action [B, A] in [low, high] of a squashed policy: ``low + (high - low) (tanh(u) + 1) / 2``.

    Rounding never passes a bound. NaN propagates.

    Args:
        u: float32 [B, A].
        low: float32 [B, A] or [A], finite.
        high: float32 [B, A] or [A], finite.
        out: float32 [B, A] to write into; ``u`` itself is allowed.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape.
    """
    op = "squash"
    batch, actions = require_ndim(op, "u", u, np.float32, 2, "[B, A]")
    for name, x in (("low", low), ("high", high)):
        require_rows(op, name, x, (batch, actions))
    if out is None:
        out = np.empty((batch, actions), np.float32)
    require_array(op, "out", out, np.float32, (batch, actions), "[B, A]")
    resolve("distributions", op, "cpu", backend)(u, low, high, out)
    return out


def _log_prob(
    op: str, name: str, mean: Floats, log_std: Floats, x: Floats, out: Floats | None, backend: str | None
) -> Floats:
    shape = _check_policy(op, mean, log_std)
    require_array(op, name, x, np.float32, shape, "[B, A]")
    if out is None:
        out = np.empty(shape[0], np.float32)
    require_array(op, "out", out, np.float32, shape[:1], "[B]")
    resolve("distributions", op, "cpu", backend)(mean, log_std, x, out)
    return out


def _check_policy(op: str, mean: object, log_std: object) -> tuple[int, int]:
    shape = require_mean(op, mean)
    require_rows(op, "log_std", log_std, shape)
    return shape
