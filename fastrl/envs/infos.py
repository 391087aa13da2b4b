"""The ``infos`` of resets and of one environment alone; ``csrc/env_infos.cpp`` has those of steps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import _core


def reset_infos(core: _core.VecEnv, mask: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Infos of a reset, of the envs of a mask: the entries of the others are 0."""
    infos = core.infos()
    if mask is None or not infos:
        return infos
    if core.whole_reset_prob:
        infos["prob"] = infos["prob"].astype(np.int64)
    for key, value in infos.items():
        if not key.startswith("_"):
            value[~mask] = 0
            infos[f"_{key}"] = mask.copy()
    return infos


def env_info(infos: dict[str, Any], env: int) -> dict[str, Any]:
    """The info that one environment alone gives: numbers of Python's types, arrays."""
    alone: dict[str, Any] = {}
    for key, value in infos.items():
        if not key.startswith("_"):
            alone[key] = value[env].copy() if value.ndim > 1 else value[env].item()
    return alone
