"""Linear systems too large to be written down."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST = 10_000
"""Iterations, of two products each."""


def greatest(x: Floats) -> float:
    """The maximum norm."""
    return float(np.abs(x).max(initial=0.0))


@np.errstate(over="ignore", invalid="ignore")  # where it fails, the residual says so
def bicgstab(
    product: Callable[[Floats], Floats],
    right: Floats,
    first: Floats,
    wanted: float,
    norm: Callable[[Floats], float] = greatest,
) -> Floats:
    """x with ``norm(right - product(x)) <= wanted``, if rounding lets it come to that; callers look.

    Source: van der Vorst 1992, Bi-CGSTAB.
    """
    x = first.copy()
    residual = right - product(x)
    shadow, direction = residual.copy(), residual.copy()
    rho, left = float(shadow @ residual), np.inf
    for _ in range(min(10 * len(x) + 100, MOST)):
        if norm(residual) <= wanted or rho == 0:
            residual = right - product(x)  # the recurrence's own has drifted
            left, before = norm(residual), left
            if left <= wanted or left > 0.5 * before:  # rounding is what is left
                break
            shadow, direction = residual.copy(), residual.copy()
            rho = float(shadow @ residual)
        image = product(direction)
        along = float(shadow @ image)
        if along == 0:
            x += residual  # a sweep leads out of where the method has no next step
            rho = 0.0
            continue
        alpha = rho / along
        half = residual - alpha * image
        turned = product(half)
        omega = float(turned @ half) / max(float(turned @ turned), 1e-300)
        x += alpha * direction + omega * half
        residual = half - omega * turned
        after = float(shadow @ residual)
        if not np.isfinite(after):
            break
        if abs(after) < 1e-30 * float(residual @ residual) or omega == 0:
            residual = right - product(x)
            shadow, direction = residual.copy(), residual.copy()
            rho = float(shadow @ residual)
            continue
        direction = residual + after / rho * alpha / omega * (direction - omega * image)
        rho = after
    return x
