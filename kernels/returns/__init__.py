"""Returns and advantages over a rollout, y_t = a_t + b_t · y_{t+1}: time-major [T, B], after-step flags."""

from typing import Any

from fastrl.kernels._dispatch import is_tensor, resolve

__all__ = ["gae"]


def gae(
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    gamma: float = 0.99,
    lam: float = 0.95,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Advantages by generalized advantage estimation.

    ::

        δ_t = reward_t + γ · (1 - terminated_t) · next_value_t - value_t
        A_t = δ_t + γλ · (1 - (terminated_t | truncated_t)) · A_{t+1},   A_T = 0

    NumPy arrays in, array out; torch tensors in, tensor out on their device, without gradient.

    A flag selects, it does not multiply by 0: what follows a finished episode does not leak into it, not even
    NaN. Elsewhere NaN and infinity propagate as written. The arithmetic is in the dtype of ``reward``.

    Args:
        reward: float32 or float64 [T, B], received by step t.
        value: same dtype, [T, B]: V of the observation before step t.
        next_value: same dtype. [T, B]: V of the observation that step t led to; at a truncation, of the
            episode's last one. Or [B]: V after the last step only, and before it next_value_t = value_{t+1},
            which saves reading an array. That row is another episode's after a truncation, so [B] refuses
            ``truncated``; so it is after a termination, but there it is not used.
        terminated: bool [T, B]: step t ended its episode for good, no value follows.
        truncated: bool [T, B]: step t was its episode's last for another reason, such as a time limit: the
            value that follows counts, the advantages that follow do not. None: no step was.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1]; 0 gives δ, 1 the discounted return minus the value.
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input, at the cost
            of a temporary. None: a new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Any strides give the same numbers; contiguous rows are the fastest. T = 0 or B = 0 gives an empty result.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; ``gamma`` or ``lam`` outside [0, 1]; ``truncated`` with
            ``next_value`` [B]; an input that requires grad while grad mode is on; an ``out`` that requires
            grad, is read-only or repeats elements; memory not aligned to its dtype.
        NotImplementedError: no backend runs on this device.

    Source: Schulman et al. 2016, High-Dimensional Continuous Control Using Generalized Advantage Estimation,
    eq. 16; at truncation, partial-episode bootstrapping of Pardo et al. 2018, Time Limits in Reinforcement
    Learning.
    """
    if is_tensor(reward):
        from fastrl.kernels.returns import _torch

        return _torch.gae(reward, value, next_value, terminated, truncated, out, gamma, lam, backend)
    kernel = resolve("returns", "gae", "cpu", backend)
    return kernel(reward, value, next_value, terminated, truncated, out, gamma, lam)
