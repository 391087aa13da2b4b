"""What Gymnasium's vector environments tell in ``infos``, in their order, dtypes and masks."""

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


def same_step_infos(core: _core.VecEnv, done: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos of a SAME_STEP step, the final observations and infos of the envs ``done`` [N] among them."""
    infos: dict[str, Any] = core.infos()
    ended = done.nonzero()[0]
    if ended.size == 0:
        return infos
    final_obs = np.full(done.size, None, dtype=object)
    final_obs[ended] = final_observations(core, ended)
    final: dict[str, Any] = {
        "final_obs": final_obs,
        "_final_obs": done,
        "final_info": _final_info(core, done, ended),
        "_final_info": done.copy(),
    }
    return {**final, **infos} if done[0] else {**infos, **final}  # a key stands where env 0 put it


def final_observations(core: _core.VecEnv, ended: NDArray[np.int64]) -> NDArray[np.object_]:
    """The last observation of each of the envs that ended: float32 [obs_size], int, or a tuple of int."""
    parts = core.final_discrete
    if len(parts) == 0:
        return np.fromiter(core.final_obs[ended], object, ended.size)
    values = parts[:, ended].tolist()
    return np.fromiter(values[0] if len(parts) == 1 else zip(*values, strict=True), object, ended.size)


def _final_info(core: _core.VecEnv, done: NDArray[np.bool_], ended: NDArray[np.int64]) -> dict[str, Any]:
    if not core.has_prob:
        return {}
    info: dict[str, Any] = {"prob": np.where(done, core.final_prob, 0.0), "_prob": done.copy()}
    mask = core.action_mask
    if mask is not None:
        info["action_mask"] = np.zeros((done.size, mask.shape[1]), np.int8)
        info["action_mask"][ended] = mask[core.final_discrete[0, ended]]
        info["_action_mask"] = done.copy()
    return info


def env_info(infos: dict[str, Any], env: int) -> dict[str, Any]:
    """The info that one environment alone gives: numbers of Python's types, arrays."""
    alone: dict[str, Any] = {}
    for key, value in infos.items():
        if not key.startswith("_"):
            alone[key] = value[env].copy() if value.ndim > 1 else value[env].item()
    return alone
