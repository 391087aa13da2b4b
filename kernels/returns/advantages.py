"""Advantages and value targets of a policy: GAE, V-trace."""

from typing import Any

from fastrl.kernels.returns._ops import call

__all__ = ["gae", "vtrace"]


def gae(
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    mask: Any = None,
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
        mask: bool [T, B], for padded sequences: False where there is no step t. Such a step gives 0, and the
            one before it is its sequence's last, as if truncated. None: every step is one.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1]; 0 gives δ, 1 the discounted return minus the value.
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input, at the cost
            of a temporary. None: a new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Any strides give the same numbers; contiguous rows are the fastest. T = 0 or B = 0 gives an empty result.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; ``gamma`` or ``lam`` outside [0, 1]; ``truncated`` or ``mask``
            with ``next_value`` [B]; an input that requires grad while grad mode is on; an ``out`` that
            requires grad, is read-only or repeats elements; memory not aligned to its dtype.
        NotImplementedError: no backend runs on this device.

    Source: Schulman et al. 2016, High-Dimensional Continuous Control Using Generalized Advantage Estimation,
    eq. 16; at truncation, partial-episode bootstrapping of Pardo et al. 2018, Time Limits in Reinforcement
    Learning.
    """
    arrays = (reward, value, next_value, terminated, truncated, mask)
    return call("gae", arrays, out, (gamma, lam), backend)


def vtrace(
    log_rho: Any,
    reward: Any,
    value: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    mask: Any = None,
    gamma: float = 0.99,
    lam: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    pg_rho_bar: float = 1.0,
    out: Any = None,
    backend: str | None = None,
) -> tuple[Any, Any]:
    """Value targets and policy gradient advantages of a policy from another one's steps, by V-trace.

    ::

        δ_t  = min(rho_bar, ρ_t) · (reward_t + γ · (1 - terminated_t) · next_value_t - value_t)
        vs_t = value_t + δ_t + γ · λ · min(c_bar, ρ_t) · (vs_{t+1} - next_value_t)
        A_t  = min(pg_rho_bar, ρ_t) · (reward_t + γ · (1 - terminated_t) · vs_{t+1} - value_t)

    with ρ_t = exp(log_rho_t) = π(a_t | x_t) / μ(a_t | x_t). At an episode's last step and at the last row,
    vs_{t+1} is next_value_t, so that the last term of vs_t is 0. With λ = 1 and every ρ_t = 1, vs is the
    λ-return of :func:`td_lambda` with λ = 1. The pair (vs, A) is without gradient.

    An infinite trace, of an infinite ``c_bar`` and a ratio that overflows, may give NaN where the equation
    gives infinity. exp is computed to 1.4 units in the last place in float32, 5 where abs(log_rho) > 10 (2 in
    float64); the rest is exact arithmetic of the dtype, the same bits on every instruction set with FMA.

    Args:
        log_rho: float32 or float64 [T, B]: log-probability of the action taken, under the policy π that
            learns, minus that under the policy μ that acted.
        reward: same dtype, [T, B], received by step t.
        value: same dtype, [T, B]: V of the observation before step t.
        next_value: same dtype, [T, B]: V of the observation that step t led to; at a truncation, of the
            episode's last one. Elsewhere it is value_{t+1}.
        terminated: bool [T, B]: step t ended its episode for good, no value follows.
        truncated: bool [T, B]: step t was its episode's last for another reason; its next_value counts.
        mask: bool [T, B], for padded sequences: a step where it is False gives 0, and the one before it is
            its sequence's last, as if truncated. None: every step is one.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1], Remark 2 of the paper.
        rho_bar: > 0, may be inf: truncates ρ in δ, and so decides what policy's value is the fixed point.
        c_bar: > 0, may be inf, at most ``rho_bar`` in the paper: truncates the traces.
        pg_rho_bar: > 0, may be inf: truncates ρ in the advantage.
        out: where to write, a pair of arrays [T, B] apart; each may share memory with an input. None: two new
            ones.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device, a number outside its range, an input that requires grad while
            grad mode is on, an ``out`` that cannot be written.
        NotImplementedError: no backend runs on this device.

    Source: Espeholt et al. 2018, IMPALA, eq. 1 in the form of Remark 1, and section 4.2 for the advantage.
    """
    arrays = (log_rho, reward, value, next_value, terminated, truncated, mask)
    result: tuple[Any, Any] = call("vtrace", arrays, out, (gamma, lam, rho_bar, c_bar, pg_rho_bar), backend)
    return result
