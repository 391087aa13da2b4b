"""Planning for a fixed number of steps by backward induction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe, require_array, require_unit
from fastrl.kernels.tabular import bellman
from fastrl.tabular.mdp import MDP


@dataclass(frozen=True, kw_only=True)
class FiniteHorizon:
    """Optimal values and decision rules of a problem of T steps."""

    value: NDArray[np.float64]
    """[T + 1, S]: ``value[t]`` is worth what steps t to T - 1 and the final values bring; 0 in terminal
    states."""
    policy: NDArray[np.int64]
    """[T, S]: the first of the best actions at step t; -1 in terminal states."""


def finite_horizon(
    mdp: MDP,
    horizon: int,
    gamma: float = 1.0,
    *,
    final_value: NDArray[np.float64] | None = None,
    num_threads: int = 1,
) -> FiniteHorizon:
    """Optimal values and policies, by backward induction (Puterman 1994, section 4.5)::

        V_T(s) = final_value(s)
        V_t(s) = max_a r(s, a) + γ · Σ_s' p(s' | s, a) · discount(s, a, s') · V_{t+1}(s')

    Exact but for rounding. A step costs one sweep over the outcomes.

    Args:
        mdp: S states.
        horizon: T >= 0, steps.
        gamma: in [0, 1].
        final_value: float64 [S], finite, 0 in terminal states. None: 0.
        num_threads: threads at most.

    Raises:
        TypeError, ValueError: an argument that is none of these.
    """
    if not isinstance(horizon, int | np.integer) or horizon < 0:
        raise ValueError(f"finite_horizon: horizon must be an integer >= 0, got {describe(horizon)}")
    require_unit("finite_horizon", "gamma", gamma)
    if num_threads < 1:
        raise ValueError(f"finite_horizon: num_threads must be >= 1, got {num_threads}")
    ended = np.zeros(mdp.num_states, np.bool_) if mdp.terminal is None else mdp.terminal
    value = np.zeros((horizon + 1, mdp.num_states))
    if final_value is not None:
        require_array("finite_horizon", "final_value", final_value, np.float64, (mdp.num_states,), "[S]")
        bad = ~np.isfinite(final_value) | (ended & (final_value != 0))
        if bad.any():
            s = int(bad.argmax())
            rule = "0 in terminal states" if ended[s] else "finite"
            raise ValueError(f"finite_horizon: final_value must be {rule}, got {final_value[s]} in state {s}")
        value[horizon] = final_value
    policy = np.full((horizon, mdp.num_states), -1)
    acting = np.flatnonzero(~ended)
    sweeps = bellman(mdp)
    for t in reversed(range(horizon)):
        choice = np.full(mdp.num_states, -1, np.int32)
        sweeps.backup(value[t + 1], gamma, value[t], choice, None, num_threads)
        policy[t, acting] = mdp.action[mdp.pair_offset[acting] + choice[acting]]
    return FiniteHorizon(value=value, policy=policy)
