"""The distributional family in float64 NumPy: the definition of its ops."""

from math import erfc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.distributional._check import (
    require_c51_loss,
    require_expectation,
    require_hl_gauss,
    require_projection,
    require_quantile_huber,
    require_two_hot,
)

DEVICES = ("cpu",)

Floats = NDArray[Any]


def atoms_of(support: Floats | None, v_min: float | None, v_max: float | None, n: int | None) -> Floats:
    """The atoms, float64 [N]."""
    if support is not None:
        return np.asarray(support, np.float64)
    return np.linspace(float(v_min), float(v_max), int(n))  # type: ignore[arg-type]


def discounts(discount: Floats | None, terminated: Floats | None, gamma: float | None, batch: int) -> Floats:
    """The discount of each row, float64 [B]."""
    if discount is not None:
        return discount.astype(np.float64)
    return np.where(np.zeros(batch, bool) if terminated is None else terminated, 0.0, float(gamma))  # type: ignore[arg-type]


def project(probs: Floats, reward: Floats, discount: Floats, source: Floats, target: Floats) -> Any:
    """Mass of each source atom shared by the two target atoms around where it lands, linearly."""
    row = np.arange(len(probs))[:, None]
    with np.errstate(all="ignore"):  # NaN and infinity are values here
        z = reward.astype(np.float64)[:, None] + discount[:, None] * source
        inside = np.clip(z, target[0], target[-1])
        below = np.clip(np.searchsorted(target, inside, side="right") - 1, 0, len(target) - 2)
        up = (inside - target[below]) / (target[below + 1] - target[below])
        result = np.zeros((len(probs), len(target)))
        np.add.at(result, (row, below), probs * (1.0 - up))
        np.add.at(result, (row, below + 1), probs * up)
    finite = np.isfinite(discount) & np.isfinite(probs).all(1)
    result[np.isnan(reward) | ~finite] = np.nan
    return result


def c51_project(
    probs: Floats,
    reward: Floats,
    discount: Floats | None,
    terminated: Floats | None,
    gamma: float | None,
    support: Floats | None,
    v_min: float | None,
    v_max: float | None,
    target_support: Floats | None,
    out: Floats | None,
) -> Any:
    """Projected distributions, rounded to the dtype of ``probs`` at the end."""
    require_projection(
        *(probs, reward, discount, terminated, gamma, support, v_min, v_max, target_support, out)
    )
    source = atoms_of(support, v_min, v_max, probs.shape[1])
    target = source if target_support is None else atoms_of(target_support, None, None, None)
    result = project(probs, reward, discounts(discount, terminated, gamma, len(probs)), source, target)
    if out is None:
        return result.astype(probs.dtype)
    out[...] = result
    return out


def softmax(logits: Floats) -> tuple[Floats, Floats]:
    """Probabilities and their logarithms along the last axis."""
    with np.errstate(all="ignore"):
        z = logits.astype(np.float64)
        z = z - z.max(-1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return np.exp(log_p), log_p


def c51_loss(
    logits: Floats,
    action: NDArray[Any] | None,
    next_logits: Floats,
    reward: Floats,
    discount: Floats | None,
    terminated: Floats | None,
    gamma: float | None,
    support: Floats | None,
    v_min: float | None,
    v_max: float | None,
    next_selector: Floats | None,
    kl: bool,
    scale: float | None,
    out: Any,
) -> tuple[Floats, Floats]:
    """Loss and gradient."""
    arguments = (logits, action, next_logits, reward, discount, terminated, gamma, support, v_min, v_max)
    require_c51_loss(*arguments, next_selector, kl, scale, out)
    batch, n = len(logits), logits.shape[-1]
    row = np.arange(batch)
    if action is not None and not ((action >= 0) & (action < logits.shape[1])).all():
        bad = ((action < 0) | (action >= logits.shape[1])).argmax()
        raise ValueError(
            f"c51_loss: action must be in [0, {logits.shape[1]}), got {action[bad]} in row {bad}"
        )
    z = atoms_of(support, v_min, v_max, n)
    if next_logits.ndim == 3:
        p, _ = softmax(next_logits if next_selector is None else next_selector)
        next_logits = next_logits[row, (p @ z).argmax(1)]
    next_p, _ = softmax(next_logits)
    target = project(next_p, reward, discounts(discount, terminated, gamma, batch), z, z)
    p, log_p = softmax(logits if action is None else logits[row, action])
    with np.errstate(all="ignore"):
        log_ratio = log_p - np.log(target) if kl else log_p
        loss = -np.where(target == 0, 0.0, target * log_ratio).sum(1)
        gradient = (1.0 / max(batch, 1) if scale is None else scale) * (
            target.sum(1, keepdims=True) * p - target
        )
    d_logits = gradient
    if action is not None:
        d_logits = np.zeros(logits.shape)
        d_logits[row, action] = gradient
    return _written(out, loss, d_logits)


def quantile_huber(
    quantiles: Floats,
    targets: Floats,
    taus: Floats | None,
    kappa: float,
    weight: float,
    scale: float | None,
    out: Any,
) -> tuple[Floats, Floats]:
    """Loss and gradient; ``weight`` is that of the sum over pairs."""
    require_quantile_huber(quantiles, targets, taus, kappa, weight, scale, out)
    batch, n = quantiles.shape
    tau = (np.arange(n) + 0.5) / n if taus is None else taus.astype(np.float64)
    tau = np.broadcast_to(tau, (batch, n))[:, :, None]
    with np.errstate(all="ignore"):
        delta = targets.astype(np.float64)[:, None, :] - quantiles.astype(np.float64)[:, :, None]
        size = np.where(delta < 0, 1.0 - tau, tau)
        if kappa == 0:
            slope = np.sign(delta)
            loss = size * np.abs(delta)
        else:
            slope = np.clip(delta, -kappa, kappa)
            loss = size * slope * (delta - 0.5 * slope)
        scale = 1.0 / max(batch, 1) if scale is None else scale
        return _written(out, weight * loss.sum((1, 2)), -scale * weight * (size * slope).sum(2))


def expectation(
    x: Floats, support: Floats | None, v_min: float | None, v_max: float | None, logits: bool
) -> Any:
    """Mean of each row."""
    require_expectation(x, support, v_min, v_max, logits)
    p = softmax(x)[0] if logits else x.astype(np.float64)
    with np.errstate(all="ignore"):
        return (p * atoms_of(support, v_min, v_max, x.shape[1])).sum(1).astype(np.float32)


def two_hot(
    x: Floats, support: Floats | None, v_min: float | None, v_max: float | None, atoms: int | None
) -> Any:
    """Projection of rows that have a reward x and no value after it."""
    require_two_hot(x, support, v_min, v_max, atoms)
    one, none = np.ones((len(x), 1)), np.zeros(len(x))
    target = atoms_of(support, v_min, v_max, atoms)
    return project(one, x, none, np.zeros(1), target).astype(np.float32)


def hl_gauss(
    x: Floats,
    support: Floats | None,
    v_min: float | None,
    v_max: float | None,
    atoms: int | None,
    sigma: float,
) -> Any:
    """Probability of each atom's bin under a normal distribution around x, cut off at the outer edges."""
    require_hl_gauss(x, support, v_min, v_max, atoms, sigma)
    z = atoms_of(support, v_min, v_max, atoms)
    edges = np.concatenate([[1.5 * z[0] - 0.5 * z[1]], 0.5 * (z[1:] + z[:-1]), [1.5 * z[-1] - 0.5 * z[-2]]])
    mean = np.clip(x.astype(np.float64), edges[0], edges[-1])
    deviation = np.clip(
        float(sigma), 1e-300, 1e4 * (edges[-1] - edges[0])
    )  # beyond, nothing changes but rounding
    with np.errstate(over="ignore"):
        u = (edges - mean[:, None]) / (deviation * np.sqrt(2.0))
    # differences of the tail's erfc on either side, as those of values near 1 would lose their digits
    right, left = (np.vectorize(erfc, otypes=[float])(side) for side in (u, -u))
    mass = np.where(u[:, :-1] > 0, right[:, :-1] - right[:, 1:], left[:, 1:] - left[:, :-1])
    return (mass / mass.sum(1, keepdims=True)).astype(np.float32)


def _written(out: Any, loss: Floats, gradient: Floats) -> tuple[Floats, Floats]:
    if out is None:
        return loss.astype(np.float32), gradient.astype(np.float32)
    out[0][...], out[1][...] = loss, gradient
    return out[0], out[1]
