"""Several independent categorical choices a row: MultiDiscrete and MultiBinary actions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_array
from fastrl.kernels._dispatch import resolve
from fastrl.kernels.distributions._check import require_key, require_logits, require_sizes
from fastrl.kernels.distributions.categorical import CategoricalSample


def multi_categorical_sample(
    logits: NDArray[np.float32],
    sizes: Sequence[int],
    *,
    seed: int | None = None,
    counter: int = 0,
    uniform: NDArray[np.float32] | None = None,
    action_mask: NDArray[np.bool_] | None = None,
    out: CategoricalSample | None = None,
    backend: str | None = None,
) -> CategoricalSample:
    """Action [B, K] drawn from each row, a choice as by `categorical_sample`, and its log-probability [B].

    The uniform of row b and choice k is word ``b % 4`` of Philox at ``(counter, b // 4, 1 + 256 k)``: it
    depends on (seed, counter, b, k) only, and the first choice draws what `categorical_sample` would.

    Args:
        logits: float32 [B, sum(sizes)].
        sizes: K numbers of actions. MultiBinary(n) is ``(2,) * n``.
        seed: in [0, 2^64). Give this or ``uniform``.
        counter: in [0, 2^64).
        uniform: float32 [B, K] in [0, 1).
        action_mask: bool [B, sum(sizes)], True = legal.
        out: arrays to write into, any strides.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: as `categorical_sample`, or sizes that are not positive or do not add up to the logits.
    """
    op = "multi_categorical_sample"
    batch = _check_policy(op, logits, sizes, action_mask)
    shape = (batch, len(sizes))
    if (seed is None) == (uniform is None):
        raise ValueError(f"{op}: give either seed or uniform")
    if uniform is not None:
        require_array(op, "uniform", uniform, np.float32, shape, "[B, K]")
    require_key(op, seed or 0, counter)
    if out is None:
        out = CategoricalSample(np.empty(shape, np.int64), np.empty(batch, np.float32))
    else:
        require_array(op, "out.action", out.action, np.int64, shape, "[B, K]")
        require_array(op, "out.log_prob", out.log_prob, np.float32, (batch,), "[B]")
    run = resolve("distributions", "categorical_sample", "cpu", backend)
    run(logits, out.action, out.log_prob, seed or 0, counter, uniform, action_mask, sizes)
    return out


def multi_categorical_mode(
    logits: NDArray[np.float32],
    sizes: Sequence[int],
    *,
    action_mask: NDArray[np.bool_] | None = None,
    out: NDArray[np.int64] | None = None,
    backend: str | None = None,
) -> NDArray[np.int64]:
    """Most probable legal action [B, K], the first one of each choice where several are.

    Args:
        logits: float32 [B, sum(sizes)].
        sizes: K numbers of actions.
        action_mask: bool [B, sum(sizes)], True = legal.
        out: int64 [B, K] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: as `categorical_mode`, or sizes that are not positive or do not add up to the logits.
    """
    op = "multi_categorical_mode"
    shape = (_check_policy(op, logits, sizes, action_mask), len(sizes))
    if out is None:
        out = np.empty(shape, np.int64)
    require_array(op, "out", out, np.int64, shape, "[B, K]")
    resolve("distributions", "categorical_mode", "cpu", backend)(logits, out, action_mask, sizes)
    return out


def multi_categorical_log_prob(
    logits: NDArray[np.float32],
    sizes: Sequence[int],
    action: NDArray[np.int64],
    *,
    action_mask: NDArray[np.bool_] | None = None,
    out: NDArray[np.float32] | None = None,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """log pi(action) [B], ``sum_k log pi_k(action[k])``; -inf where one of them is masked.

    Args:
        logits: float32 [B, sum(sizes)].
        sizes: K numbers of actions.
        action: int64 [B, K], ``action[b, k]`` in [0, sizes[k]).
        action_mask: bool [B, sum(sizes)], True = legal.
        out: float32 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: as `categorical_log_prob`, or sizes that are not positive or do not add up to the logits.
    """
    op = "multi_categorical_log_prob"
    batch = _check_policy(op, logits, sizes, action_mask)
    require_array(op, "action", action, np.int64, (batch, len(sizes)), "[B, K]")
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("distributions", "categorical_log_prob", "cpu", backend)(logits, action, out, action_mask, sizes)
    return out


def multi_categorical_entropy(
    logits: NDArray[np.float32],
    sizes: Sequence[int],
    *,
    action_mask: NDArray[np.bool_] | None = None,
    out: NDArray[np.float32] | None = None,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """Entropy [B] in nats, ``sum_k H(pi_k)``.

    Args:
        logits: float32 [B, sum(sizes)].
        sizes: K numbers of actions.
        action_mask: bool [B, sum(sizes)], True = legal.
        out: float32 [B] to write into.
        backend: "cpp" or "reference".

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape, or sizes that are not positive or do not add up to the logits.
    """
    op = "multi_categorical_entropy"
    batch = _check_policy(op, logits, sizes, action_mask)
    if out is None:
        out = np.empty(batch, np.float32)
    require_array(op, "out", out, np.float32, (batch,), "[B]")
    resolve("distributions", "categorical_entropy", "cpu", backend)(logits, out, action_mask, sizes)
    return out


def _check_policy(op: str, logits: object, sizes: Sequence[int], action_mask: object) -> int:
    batch, actions = require_logits(op, logits, action_mask)
    require_sizes(op, sizes, actions)
    return batch
