"""What the distributions ops mean, in float64 NumPy."""

from collections.abc import Sequence
from statistics import NormalDist
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


def random_bits(seed: int, counter: int, batch: int, component: int) -> NDArray[np.uint64]:
    """24 bits a row, [B], the upper ones of a Philox word: four rows share a block."""
    index = np.arange((batch + 3) // 4, dtype=np.uint64)
    words = philox(seed, counter, index, ACTION_STREAM + 256 * component).reshape(-1)[:batch]
    return words >> np.uint64(8)


def uniforms(seed: int, counter: int, batch: int, component: int = 0) -> NDArray[np.float64]:
    """The numbers in [0, 1), [B], that `categorical_sample` draws."""
    return random_bits(seed, counter, batch, component).astype(np.float64) * 2.0**-24


def normals(seed: int, counter: int, batch: int, component: int) -> NDArray[np.float64]:
    """The standard normal numbers [B] that `gaussian_sample` draws."""
    u = uniforms(seed, counter, batch, component) + 2.0**-25
    return np.array([NormalDist().inv_cdf(x) for x in u])


def components(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """First column and the one after the last of each choice."""
    ends = np.cumsum(sizes).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


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
    sizes: Sequence[int] | None = None,
) -> None:
    """Writes the last action of positive probability whose share of [0, 1) starts at or below u."""
    batch = len(logits)
    actions, total, bad = [], np.zeros(batch), np.zeros(batch, bool)
    given = uniform if uniform is None or uniform.ndim == 2 else uniform[:, None]
    for k, part, mask in _parts(logits, action_mask, sizes):
        u = uniforms(seed, counter, batch, k) if given is None else given[:, k]
        log_p = log_softmax(part, mask)
        p = np.exp(log_p)
        start = np.cumsum(p, axis=1) - p
        hit = (start <= np.where((u >= 0) & (u < 1), u, np.nan)[:, None]) & (p > 0)
        bad |= ~hit.any(axis=1)
        chosen = part.shape[1] - 1 - hit[:, ::-1].argmax(axis=1)
        actions.append(chosen)
        total += log_p[np.arange(batch), chosen]
    _reject_row(bad, f"{_name('categorical_sample', sizes)}: no action can be drawn")
    action[:] = np.stack(actions, axis=1).reshape(action.shape)
    log_prob[:] = total


def categorical_mode(
    logits: NDArray[Any],
    action: NDArray[np.int64],
    action_mask: NDArray[np.bool_] | None = None,
    sizes: Sequence[int] | None = None,
) -> None:
    """Writes the first action with the highest legal logit."""
    chosen, bad = [], np.zeros(len(logits), bool)
    for _, part, mask in _parts(logits, action_mask, sizes):
        x = part if mask is None else np.where(mask, part, -np.inf)
        bad |= np.isnan(x).any(axis=1) | np.isneginf(x).all(axis=1)
        chosen.append(x.argmax(axis=1))
    _reject_row(bad, f"{_name('categorical_mode', sizes)}: no action is the best")
    action[:] = np.stack(chosen, axis=1).reshape(action.shape)


def categorical_log_prob(
    logits: NDArray[Any],
    action: NDArray[np.int64],
    log_prob: NDArray[Any],
    action_mask: NDArray[np.bool_] | None = None,
    sizes: Sequence[int] | None = None,
) -> None:
    """Writes log pi(action)."""
    batch = len(logits)
    parts = _parts(logits, action_mask, sizes)
    limits = np.array([part.shape[1] for _, part, _ in parts])
    actions = action.reshape(batch, len(parts))
    bad = ((actions < 0) | (actions >= limits)).any(axis=1)
    _reject_row(bad, f"{_name('categorical_log_prob', sizes)}: action is out of range")
    rows = np.arange(batch)
    log_prob[:] = sum(log_softmax(part, mask)[rows, actions[:, k]] for k, part, mask in parts)


def categorical_entropy(
    logits: NDArray[Any],
    out: NDArray[Any],
    action_mask: NDArray[np.bool_] | None = None,
    sizes: Sequence[int] | None = None,
) -> None:
    """Writes the entropy."""
    out[:] = sum(entropy(log_softmax(part, mask)) for _, part, mask in _parts(logits, action_mask, sizes))


def gaussian_z(mean: NDArray[Any], log_std: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float64]:
    """(action - mean) / exp(log_std), [B, A]."""
    z: NDArray[np.float64] = (action.astype(np.float64) - mean) * np.exp(-log_std.astype(np.float64))
    return z


def gaussian_entropy_of(log_std: NDArray[Any]) -> NDArray[np.float64]:
    """sum_a log_std + (1 + log 2 pi) / 2, over the last axis."""
    h: NDArray[np.float64] = (log_std.astype(np.float64) + 0.5 * (1.0 + np.log(2.0 * np.pi))).sum(axis=-1)
    return h


def gaussian_log_prob_of(
    mean: NDArray[Any], log_std: NDArray[Any], action: NDArray[Any]
) -> NDArray[np.float64]:
    """sum_a -z^2 / 2 - log_std - log(2 pi) / 2, [B]."""
    squares = gaussian_z(mean, log_std, action) ** 2
    log_p: NDArray[np.float64] = (-0.5 * squares - log_std - 0.5 * np.log(2.0 * np.pi)).sum(axis=1)
    return log_p


def gaussian_sample(
    mean: NDArray[Any],
    log_std: NDArray[Any],
    action: NDArray[Any],
    log_prob: NDArray[Any],
    seed: int,
    counter: int,
    noise: NDArray[Any] | None = None,
) -> None:
    """Writes mean + exp(log_std) noise, and the log-density of what was written."""
    batch, actions = mean.shape
    if noise is None:
        noise = np.stack([normals(seed, counter, batch, a) for a in range(actions)], axis=1)
    with np.errstate(all="ignore"):
        action[:] = mean + np.exp(log_std.astype(np.float64)) * noise
        log_prob[:] = gaussian_log_prob_of(mean, log_std, action)
    bad = ~np.isfinite(action).all(axis=1) | ~np.isfinite(log_prob)
    _reject_row(bad, "gaussian_sample: action or log_prob is not finite")


def gaussian_log_prob(
    mean: NDArray[Any], log_std: NDArray[Any], action: NDArray[Any], out: NDArray[Any]
) -> None:
    """Writes sum_a -z^2 / 2 - log_std - log(2 pi) / 2."""
    out[:] = gaussian_log_prob_of(mean, log_std, action)


def squashed_gaussian_log_prob(
    mean: NDArray[Any], log_std: NDArray[Any], u: NDArray[Any], out: NDArray[Any]
) -> None:
    """Writes gaussian_log_prob(u) - sum_a log(1 - tanh(u)^2)."""
    x = np.abs(u.astype(np.float64))
    correction = 2.0 * (np.log(2.0) - x - np.log1p(np.exp(-2.0 * x)))
    out[:] = gaussian_log_prob_of(mean, log_std, u) - correction.sum(axis=1)


def gaussian_entropy(log_std: NDArray[Any], out: NDArray[Any]) -> None:
    """Writes the entropy."""
    out[:] = gaussian_entropy_of(log_std)


def squash(u: NDArray[Any], low: NDArray[Any], high: NDArray[Any], out: NDArray[Any]) -> None:
    """Writes low + (high - low) (tanh(u) + 1) / 2."""
    least, most = low.astype(np.float64), high.astype(np.float64)
    out[:] = np.clip(least + (most - least) * 0.5 * (np.tanh(u.astype(np.float64)) + 1.0), least, most)


def _parts(
    logits: NDArray[Any], action_mask: NDArray[np.bool_] | None, sizes: Sequence[int] | None
) -> list[tuple[int, NDArray[Any], NDArray[np.bool_] | None]]:
    """Number, logits and mask of each choice."""
    return [
        (k, logits[:, a:b], None if action_mask is None else action_mask[:, a:b])
        for k, (a, b) in enumerate(components(sizes or (logits.shape[1],)))
    ]


def _name(op: str, sizes: Sequence[int] | None) -> str:
    return op if sizes is None else f"multi_{op}"


def _reject_row(bad: Any, what: str) -> None:
    if bad.any():
        raise ValueError(f"{what} in row {bad.argmax()}")
