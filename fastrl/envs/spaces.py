"""The spaces of one built-in environment, as Gymnasium's has them."""

from typing import Any

import gymnasium
import numpy as np

from fastrl import _core
from fastrl.kernels.envs import CompiledEnv


def of(row: CompiledEnv, core: _core.VecEnv) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Those of the observation and of the action."""
    return _observation_space(row, core), _action_space(row, core)


def _observation_space(row: CompiledEnv, core: _core.VecEnv) -> gymnasium.Space[Any]:
    if row.obs_high:
        high = np.array(row.obs_high, np.float32)
        low = -high if row.obs_low is None else np.array(row.obs_low, np.float32)
        return gymnasium.spaces.Box(low, high, dtype=np.float32)
    if row.obs_sizes:
        return gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(n) for n in row.obs_sizes])
    return gymnasium.spaces.Discrete(core.num_states)


def _action_space(row: CompiledEnv, core: _core.VecEnv) -> gymnasium.Space[Any]:
    if not row.action_high:
        return gymnasium.spaces.Discrete(core.num_actions)
    high = np.array(row.action_high, np.float32)
    return gymnasium.spaces.Box(-high, high, dtype=np.float32)
