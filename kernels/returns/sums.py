"""Discounted sums of rewards, bootstrapped from values: to the end, over n steps, over all n mixed by λ."""

from typing import Any

from fastrl.kernels.returns._ops import call

__all__ = ["discounted", "n_step", "td_lambda"]


def td_lambda(
    reward: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    mask: Any = None,
    gamma: Any = 0.99,
    lam: Any = 0.95,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """λ-returns, the targets of TD(λ).

    ::

        G_t = reward_t + γ_t · (1 - terminated_t) · ((1 - λ_t) · next_value_t + λ_t · G_{t+1})

    where next_value_t alone stands in the inner bracket at an episode's last step and at the last row. With
    value_{t+1} = next_value_t inside episodes, G is :func:`gae`'s advantage plus the value. NaN of a
    next_value counts even where λ_t = 1, as written.

    Tensors are differentiable by ``reward`` and ``next_value``, any number of times.

    Args:
        reward: float32 or float64 [T, B], received by step t.
        next_value: same dtype, [T, B]: V of the observation that step t led to; at a truncation, of the
            episode's last one.
        terminated: bool [T, B]: step t ended its episode for good, no value follows.
        truncated: bool [T, B]: step t was its episode's last for another reason; its next_value counts.
        mask: bool [T, B], for padded sequences: a step where it is False gives 0, and the one before it is
            its sequence's last, as if truncated. None: every step is one.
        gamma: discount in [0, 1]; or one a step, same dtype, [T, B], whose range is not checked.
        lam: λ in [0, 1]; or one a step, same dtype, [T, B], whose range is not checked.
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input. None: a
            new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; a number ``gamma`` or ``lam`` outside [0, 1]; one of them that
            requires grad, or ``out`` beside an input that does; an ``out`` that cannot be written.
        NotImplementedError: no backend runs on this device.

    Source: Sutton and Barto 2018, Reinforcement Learning, eq. 12.18 and 12.23 (state-dependent γ and λ).
    """
    arrays = (reward, next_value, terminated, truncated, mask)
    return call("td_lambda", arrays, out, (gamma, lam), backend)


def discounted(
    reward: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    next_value: Any = None,
    mask: Any = None,
    gamma: Any = 0.99,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Discounted sums of the rewards to come in the episode (rewards-to-go, Monte Carlo returns).

    ::

        G_t = reward_t + γ_t · (1 - terminated_t) · G_{t+1}

    where next_value_t stands for G_{t+1} at an episode's last step and at the last row; elsewhere it is not
    used, and may be anything.

    Tensors are differentiable by ``reward`` and ``next_value``, any number of times.

    Args:
        reward: float32 or float64 [T, B], received by step t.
        terminated: bool [T, B]: step t ended its episode for good, nothing follows.
        truncated: bool [T, B]: step t was its episode's last for another reason.
        next_value: same dtype, [T, B]: V of the observation that step t led to. Or [B]: V after the last step
            only, which refuses ``truncated`` and ``mask``. None: 0, what was not seen counts nothing.
        mask: bool [T, B], for padded sequences: a step where it is False gives 0, and the one before it is
            its sequence's last, as if truncated. None: every step is one.
        gamma: discount in [0, 1]; or one a step, same dtype, [T, B], whose range is not checked.
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input. None: a
            new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; a number ``gamma`` outside [0, 1]; ``gamma`` that requires grad,
            or ``out`` beside an input that does; an ``out`` that cannot be written.
        NotImplementedError: no backend runs on this device.

    Source: Sutton and Barto 2018, Reinforcement Learning, eq. 3.9.
    """
    return call("discounted", (reward, terminated, truncated, next_value, mask), out, (gamma,), backend)


def n_step(
    reward: Any,
    next_value: Any,
    terminated: Any,
    truncated: Any = None,
    *,
    mask: Any = None,
    gamma: float = 0.99,
    n: int,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """n-step returns, which bootstrap early where the episode or the rollout ends early.

    ::

        G_t = Σ_{k < m} γ^k · reward_{t+k} + γ^m · (1 - terminated_{t+m-1}) · next_value_{t+m-1}

    with m the least of n, the steps to the episode's last one, and the steps to the last row: at a truncation
    the value counts, with the exponent of the steps really taken. On the CPU the time does not depend on n
    beyond n = 5, and is shorter below.

    Args:
        reward: float32 or float64 [T, B], received by step t.
        next_value: same dtype, [T, B]: V of the observation that step t led to; at a truncation, of the
            episode's last one.
        terminated: bool [T, B]: step t ended its episode for good, no value follows.
        truncated: bool [T, B]: step t was its episode's last for another reason; its next_value counts.
        mask: bool [T, B], for padded sequences: a step where it is False gives 0, and the one before it is
            its sequence's last, as if truncated. None: every step is one.
        gamma: discount γ in [0, 1].
        n: steps, at least 1; from T on, G is the return to the end.
        out: where to write, [T, B] like ``reward``; returned. It may share memory with an input. None: a
            new C-contiguous array.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; ``gamma`` outside [0, 1]; ``n`` no integer >= 1; an input that
            requires grad while grad mode is on; an ``out`` that cannot be written.
        NotImplementedError: no backend runs on this device.

    Source: Sutton and Barto 2018, Reinforcement Learning, eq. 7.1; where n > 5, by running sums over blocks
    of n, van Herk 1992.
    """
    return call("n_step", (reward, next_value, terminated, truncated, mask), out, (gamma, n), backend)
