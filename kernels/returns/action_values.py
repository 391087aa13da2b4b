"""Targets of action values from another policy's steps: Retrace, Watkins' Q(λ)."""

from typing import Any

from fastrl.kernels.returns._ops import call

__all__ = ["q_lambda", "retrace"]


def retrace(
    log_rho: Any,
    reward: Any,
    q: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    mask: Any = None,
    gamma: float = 0.99,
    lam: float = 1.0,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Targets of Q(x_t, a_t) by Retrace(λ).

    ::

        G_t = reward_t + γ · (1 - terminated_t) · (next_value_t + c_{t+1} · (G_{t+1} - q_{t+1}))
        c_t = λ · min(1, ρ_t)

    with ρ_t = exp(log_rho_t) = π(a_t | x_t) / μ(a_t | x_t). At an episode's last step and at the last row the
    term with G_{t+1} is left out. The result is without gradient. exp is computed to 1.4 units in the last
    place in float32, 5 where abs(log_rho) > 10 (2 in float64); the bits are the same on every instruction
    set with FMA.

    Args:
        log_rho: float32 or float64 [T, B]: log-probability of the action taken, under the target policy π
            minus that under the policy μ that acted. Its first row is not used.
        reward: same dtype, [T, B], received by step t.
        q: same dtype, [T, B]: Q(x_t, a_t). Its first row is not used.
        next_value: same dtype, [T, B]: E_π Q(x, ·) of the observation x that step t led to; at a truncation,
            of the episode's last one.
        terminated: bool [T, B]: step t ended its episode for good, no value follows.
        truncated: bool [T, B]: step t was its episode's last for another reason; its next_value counts.
        mask: bool [T, B], for padded sequences: a step where it is False gives 0, and the one before it is
            its sequence's last, as if truncated. None: every step is one.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1].
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input. None: a
            new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; ``gamma`` or ``lam`` outside [0, 1]; an input that requires grad
            while grad mode is on; an ``out`` that cannot be written.
        NotImplementedError: no backend runs on this device.

    Source: Munos et al. 2016, Safe and Efficient Off-Policy Reinforcement Learning, eq. 3 and 4, as a
    recursion.
    """
    arrays = (log_rho, reward, q, next_value, terminated, truncated, mask)
    return call("retrace", arrays, out, (gamma, lam), backend)


def q_lambda(
    reward: Any,
    next_value: Any,
    greedy: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    mask: Any = None,
    gamma: float = 0.99,
    lam: float = 0.95,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Targets of Q(x_t, a_t) by Watkins' Q(λ), whose traces end before an action that was not greedy.

    ::

        G_t = reward_t + γ · (1 - terminated_t) · ((1 - λ_{t+1}) · next_value_t + λ_{t+1} · G_{t+1})
        λ_t = λ if greedy_t else 0

    where next_value_t alone stands in the bracket at an episode's last step and at the last row. The result
    is without gradient.

    Args:
        reward: float32 or float64 [T, B], received by step t.
        next_value: same dtype, [T, B]: max Q(x, ·) of the observation x that step t led to; at a truncation,
            of the episode's last one.
        greedy: bool [T, B]: whether a_t was an action of the greatest Q(x_t, ·). Its first row is not used.
            True everywhere gives Peng's Q(λ), which does not cut.
        terminated: bool [T, B]: step t ended its episode for good, no value follows.
        truncated: bool [T, B]: step t was its episode's last for another reason; its next_value counts.
        mask: bool [T, B], for padded sequences: a step where it is False gives 0, and the one before it is
            its sequence's last, as if truncated. None: every step is one.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1].
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input. None: a
            new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; ``gamma`` or ``lam`` outside [0, 1]; an input that requires grad
            while grad mode is on; an ``out`` that cannot be written.
        NotImplementedError: no backend runs on this device.

    Source: Watkins 1989, Learning from Delayed Rewards; Sutton and Barto 2018, Reinforcement Learning,
    section 12.10; Peng and Williams 1996, Incremental Multi-Step Q-Learning.
    """
    arrays = (reward, next_value, greedy, terminated, truncated, mask)
    return call("q_lambda", arrays, out, (gamma, lam), backend)
