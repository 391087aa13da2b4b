"""Scalars as categorical distributions, and back: two-hot, HL-Gauss, expectation."""

from typing import Any

from fastrl.kernels._check import describe
from fastrl.kernels._dispatch import is_tensor, resolve
from fastrl.kernels.distributional._check import require_dense


def expectation(
    x: Any,
    *,
    support: Any | None = None,
    v_min: float | None = None,
    v_max: float | None = None,
    logits: bool = False,
    backend: str | None = None,
) -> Any:
    """Mean of each distribution over atoms: ``sum_i p_i z_i``, with p = x, or softmax(x) of logits.

    The inverse of `two_hot` within the atoms' range, and of `hl_gauss` nearly. Of tensors it is
    differentiable (once) by ``x``.

    Args:
        x: float32 [..., N], probabilities or logits; other axes as you like.
        support: float32 or float64 [N], the atoms, increasing; or instead of it
        v_min: the first atom and
        v_max: the last of N evenly spaced ones.
        logits: ``x`` holds logits.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Returns float32 [...]. NaN and infinity propagate as in the sum.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape; a support that will not do, as in `c51_project`.
        NotImplementedError: no backend runs on this device.

    Source: Bellemare et al. 2017, "A distributional perspective on reinforcement learning", Algorithm 1.
    """
    shape = getattr(x, "shape", None)
    if not shape:
        raise TypeError(f"expectation: x must be float32 [..., N], got {describe(x)}")
    if len(shape) != 2:
        require_dense("expectation", "x", x)  # which cannot be reshaped
    rows = x if len(shape) == 2 else x.reshape(-1, shape[-1]) if shape[-1] else x[..., None]
    if is_tensor(x):
        from fastrl.kernels.distributional import _torch

        result = _torch.expectation(rows, support, v_min, v_max, logits, backend)
    else:
        kernel = resolve("distributional", "expectation", "cpu", backend)
        result = kernel(rows, support, v_min, v_max, logits)
    return result if len(shape) == 2 else result.reshape(shape[:-1])


def two_hot(
    x: Any,
    *,
    support: Any | None = None,
    v_min: float | None = None,
    v_max: float | None = None,
    atoms: int | None = None,
    backend: str | None = None,
) -> Any:
    """Each scalar's two neighbouring atoms share probability 1, so that the mean is the scalar: [B, N].

    ``c51_project`` of a reward alone: outside the atoms' range all is on the outer one, a scalar on an atom
    has it all there, and NaN gives a row of NaN.

    Args:
        x: float32 [B].
        support: float32 or float64 [N], the atoms, increasing; or instead of it
        v_min: the first atom and
        v_max: the last of
        atoms: so many evenly spaced ones.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape; a support that will not do, as in `c51_project`.
        NotImplementedError: no backend runs on this device.

    Source: Schrittwieser et al. 2020, "Mastering Atari, Go, chess and shogi by planning with a learned
    model", appendix F; Imani and White 2018, "Improving regression performance with distributional losses".
    """
    arguments = (x, support, v_min, v_max, atoms)
    if is_tensor(x):
        from fastrl.kernels.distributional import _torch

        return _torch.constant("two_hot", arguments, backend)
    return resolve("distributional", "two_hot", "cpu", backend)(*arguments)


def hl_gauss(
    x: Any,
    *,
    sigma: float,
    support: Any | None = None,
    v_min: float | None = None,
    v_max: float | None = None,
    atoms: int | None = None,
    backend: str | None = None,
) -> Any:
    """Each scalar as a histogram of a normal distribution around it, [B, N].

    Bins lie around the atoms, with edges e midway between them and as far again outside; Φ is the normal
    distribution function, and x is clipped to [e_0, e_N]::

        out[b, i] = (Φ((e_{i+1} - x) / σ) - Φ((e_i - x) / σ)) / (Φ((e_N - x) / σ) - Φ((e_0 - x) / σ))

    Args:
        x: float32 [B].
        sigma: σ > 0, in the unit of x. The paper takes 0.75 of a bin's width. From 1e4 times e_N - e_0 on it
            makes no difference: each bin has its part of the range.
        support: float32 or float64 [N], the centres of the bins, increasing; or instead of it
        v_min: the first centre and
        v_max: the last of
        atoms: so many evenly spaced ones.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    A code that gives edges from low to high, as the paper's does, has centres ``(e[1:] + e[:-1]) / 2``. NaN
    gives a row of NaN.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape; sigma not positive; a support that will not do, as in `c51_project`.
        NotImplementedError: no backend runs on this device.

    Source: Farebrother et al. 2024, "Stop regressing: training value functions via classification for
    scalable deep RL", section 3.1; Imani and White 2018.
    """
    arguments = (x, support, v_min, v_max, atoms, sigma)
    if is_tensor(x):
        from fastrl.kernels.distributional import _torch

        return _torch.constant("hl_gauss", arguments, backend)
    return resolve("distributional", "hl_gauss", "cpu", backend)(*arguments)
