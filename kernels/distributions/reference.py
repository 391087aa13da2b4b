"""What the distributions ops mean, in float64 NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DEVICES = ("cpu",)

ACTION_STREAM = 1


def philox(seed: int, counter: int, index: NDArray[np.uint64], stream: int) -> NDArray[np.uint64]:
    """Philox4x32-10: four words below 2^32, [..., 4], for each ``index`` (Salmon et al. 2011)."""
    low = np.uint64(0xFFFFFFFF)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    c0, c1, c2, c3 = (
        np.full_like(index, counter & 0xFFFFFFFF),
        np.full_like(index, counter >> 32),
        index,
        np.full_like(index, stream),
    )
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(key0),
            product1 & low,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(key1),
            product0 & low,
        )
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def uniforms(seed: int, counter: int, batch: int) -> NDArray[np.float64]:
    """The numbers in [0, 1), [B], that `categorical_sample` draws: four rows share a Philox block."""
    index = np.arange((batch + 3) // 4, dtype=np.uint64)
    words = philox(seed, counter, index, ACTION_STREAM).reshape(-1)[:batch]
    return (words >> np.uint64(8)).astype(np.float64) * 2.0**-24


def log_softmax(logits: NDArray[Any], action_mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """log pi [B, A]; -inf where masked, NaN in rows with NaN, +inf or no legal action."""
    x = logits.astype(np.float64)
    if action_mask is not None:
        x = np.where(action_mask, x, -np.inf)
    with np.errstate(invalid="ignore"):
        z = x - x.max(axis=1, keepdims=True)
        log_p: NDArray[np.float64] = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return log_p


def entropy(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-sum p log p [B] with 0 log 0 = 0."""
    h: NDArray[np.float64] = -(np.exp(log_p) * np.where(np.isneginf(log_p), 0.0, log_p)).sum(axis=1)
    return h


def categorical_sample(
    logits: NDArray[Any],
    action: NDArray[np.int64],
    log_prob: NDArray[Any],
    seed: int,
    counter: int,
    uniform: NDArray[Any] | None = None,
    action_mask: NDArray[np.bool_] | None = None,
) -> None:
    """Writes the last action of positive probability whose share of [0, 1) starts at or below u."""
    u = uniforms(seed, counter, len(logits)) if uniform is None else uniform.astype(np.float64)
    log_p = log_softmax(logits, action_mask)
    p = np.exp(log_p)
    start = np.cumsum(p, axis=1) - p
    hit = (start <= np.where((u >= 0) & (u < 1), u, np.nan)[:, None]) & (p > 0)
    _reject_row(~hit.any(axis=1), "categorical_sample: no action can be drawn")
    action[:] = logits.shape[1] - 1 - hit[:, ::-1].argmax(axis=1)
    log_prob[:] = log_p[np.arange(len(action)), action]


def categorical_mode(
    logits: NDArray[Any], action: NDArray[np.int64], action_mask: NDArray[np.bool_] | None = None
) -> None:
    """Writes the first action with the highest legal logit."""
    x = logits if action_mask is None else np.where(action_mask, logits, -np.inf)
    _reject_row(
        np.isnan(x).any(axis=1) | np.isneginf(x).all(axis=1), "categorical_mode: no action is the best"
    )
    action[:] = x.argmax(axis=1)


def categorical_log_prob(
    logits: NDArray[Any],
    action: NDArray[np.int64],
    log_prob: NDArray[Any],
    action_mask: NDArray[np.bool_] | None = None,
) -> None:
    """Writes log pi(action)."""
    _reject_row((action < 0) | (action >= logits.shape[1]), "categorical_log_prob: action is out of range")
    log_prob[:] = log_softmax(logits, action_mask)[np.arange(len(action)), action]


def categorical_entropy(
    logits: NDArray[Any], out: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
) -> None:
    """Writes the entropy."""
    out[:] = entropy(log_softmax(logits, action_mask))


def _reject_row(bad: Any, what: str) -> None:
    if bad.any():
        raise ValueError(f"{what} in row {bad.argmax()}")
