"""Quantile regression of value distributions."""

from typing import Any, Generic, NamedTuple, TypeVar

from fastrl.kernels._dispatch import is_tensor, resolve
from fastrl.kernels.distributional._check import require_flag, require_kappa

Array = TypeVar("Array", bound=Any)

REDUCTIONS = ("sum over quantiles", "mean", "sum over targets")
"""Over the pairs of N quantiles and M targets: sum / M, sum / (N M), sum / N."""


class QuantileHuberLoss(NamedTuple, Generic[Array]):
    """What `quantile_huber` returns."""

    loss: Array
    """[B], per sample; of a torch call, the one that autograd follows."""
    d_quantiles: Array
    """[B, N], scale * d loss[b] / d quantiles[b]."""


def quantile_huber(
    quantiles: Array,
    targets: Array,
    *,
    taus: Array | None = None,
    kappa: float = 1.0,
    reduction: str = "sum over quantiles",
    scaled: bool = False,
    scale: float | None = None,
    out: QuantileHuberLoss[Array] | None = None,
    backend: str | None = None,
) -> QuantileHuberLoss[Array]:
    """Quantile Huber loss [B] of all pairs of quantiles and targets, and its gradient by the quantiles.

    With ``δ_ij = targets[b, j] - quantiles[b, i]``, summed over pairs and divided as ``reduction`` says::

        ρ_ij = |τ_i - 1{δ_ij < 0}| · L(δ_ij)
        L(δ) = δ² / 2  where |δ| <= κ,  else κ (|δ| - κ / 2)           κ = 0: L(δ) = |δ|

    Memory is that of the arguments, whatever B; the time O(B N M). Of tensors, ``loss`` is differentiable
    (once) by the quantiles, the gradient is a constant; so are the targets. For the mean loss
    ``quantiles.backward(quantile_huber(quantiles.detach(), ...).d_quantiles)`` does the same and costs less.

    Args:
        quantiles: float32 [B, N], predicted; of the action taken.
        targets: float32 [B, M], ``reward + discount * next quantiles``.
        taus: float32 [N] or [B, N], the fraction τ_i that each quantile predicts, as IQN draws them; None:
            the midpoints (i + 1/2) / N of QR-DQN.
        kappa: κ, 0 or at least 1e-30; 0 is plain quantile regression, infinity the squared error.
        reduction: one of `REDUCTIONS`. "sum over quantiles" is the mean over targets of the sum over
            quantiles, as in the paper, SB3-contrib's QR-DQN, d3rlpy and RLax; "mean" is over both, as in TQC;
            "sum over targets" is the mean over quantiles of the sum over targets, as in Tianshou.
        scaled: divide by κ, as Dopamine and the IQN paper do, so that the slope of the outer parts is 1. κ
            is then at most 1e30.
        scale: factor on the gradient from 1e-20 to 1e20, None is 1 / B. It is not in what autograd passes on.
        out: C-contiguous arrays to write into (not of tensors), apart from the inputs.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    At δ = 0 the gradient of a pair is 0, so it makes no difference which side the indicator counts it to. NaN
    in a target makes its row NaN, NaN in a quantile the row's loss and that quantile's gradient. An infinite
    target gives an infinite loss and a finite gradient, but with infinite κ a loss of NaN and an infinite
    gradient. Memory holds no pairs.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; N or M is 0; kappa or scale out of range; another
            reduction; targets or taus that require grad. Nothing is changed.
        NotImplementedError: no backend runs on this device.

    Source: Dabney et al. 2018, "Distributional reinforcement learning with quantile regression", eqs. 9-10;
    any τ: Dabney et al. 2018, "Implicit quantile networks", eq. 3; TQC: Kuznetsov et al. 2020.
    """
    op = "quantile_huber"
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    require_flag(op, "scaled", scaled)
    require_kappa(kappa, scaled)
    weight = weight_of(getattr(quantiles, "shape", ()), getattr(targets, "shape", ()), reduction)
    if scaled:
        weight /= kappa
    if is_tensor(quantiles):
        from fastrl.kernels.distributional import _torch

        arguments = (quantiles, targets, taus, kappa, weight, scale, out)
        return QuantileHuberLoss(*_torch.loss(op, arguments, backend))
    kernel = resolve("distributional", op, "cpu", backend)
    return QuantileHuberLoss(*kernel(quantiles, targets, taus, kappa, weight, scale, out))


def weight_of(quantiles: tuple[int, ...], targets: tuple[int, ...], reduction: str) -> float:
    """What the sum over pairs is multiplied by; 1 where the shapes are wrong, as the kernel will say."""
    n = quantiles[-1] if quantiles and reduction != "sum over quantiles" else 1
    m = targets[-1] if targets and reduction != "sum over targets" else 1
    return 1.0 / max(n * m, 1)
