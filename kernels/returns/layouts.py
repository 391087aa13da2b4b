"""Other conventions brought to the family's own: time-major [T, B], a flag at t for what step t ended.

Views wherever the memory allows, so that nothing is copied: the ops take any strides. For NumPy arrays and
torch tensors.

``[B, T]`` arrays need no helper: pass ``x.T``, and ``out.T`` for the result in their layout. So does
sample-factory's [E, T].
"""

from typing import Any

import numpy as np

from fastrl.kernels._check import describe
from fastrl.kernels._dispatch import is_tensor

__all__ = ["after_step", "from_arrival", "from_flat", "padded"]


def after_step(before: Any, after_last: Any) -> Any:
    """Flags after each step, from flags before each step: row t is what step t led to.

    CleanRL's ``dones`` [T, B] (``dones[t]``: the episode had ended before step t) with ``next_done`` [B], and
    SB3's ``episode_starts`` with the ``dones`` of the last step. Both write termination and truncation into
    one flag: as ``terminated``, no value follows a truncation, which is what CleanRL computes; SB3 has put
    the value of a truncated step into its reward already. So ``after_step`` of values before each step is
    ``next_value``, where :func:`gae` does not take [B].

    A new array, as the first row is dropped and one appended; a rollout buffer with T + 1 rows needs none:
    ``flags[1:]``.

    Args:
        before: [T, B], any dtype: ``before[t]`` belongs to the observation that step t starts from.
        after_last: [B] or [1, B], same dtype: that of the observation after the last step.

    Raises:
        TypeError: neither arrays nor tensors.
        ValueError: shapes that do not fit.
    """
    _require_arrays("after_step", before=before, after_last=after_last)
    if before.ndim != 2 or after_last.shape not in ((before.shape[1],), (1, before.shape[1])):
        raise ValueError(
            "after_step: after_last must be [B] beside before [T, B], got "
            f"{describe(after_last)} beside {describe(before)}"
        )
    row = after_last.reshape(1, -1)
    if is_tensor(before):
        import torch

        return torch.cat([before[1:], row]) if len(before) else before
    return np.concatenate([before[1:], row]) if len(before) else before


def from_arrival(*arrays: Any) -> tuple[Any, ...]:
    """Rows of steps, from rows of arrivals: views without the first row.

    PufferLib keeps the reward and the flag of a step with the observation that it led to: ``rewards[t]`` and
    ``dones[t]`` were received on arrival at observation t. The first row then belongs to a step before the
    rollout. With values [T, B] of the same observations, ``value[:-1]`` are those before each step and
    ``value[1:]`` those after::

        reward, terminated = from_arrival(rewards.T, dones.T)
        advantage = gae(reward, values.T[:-1], values.T[1:], terminated)

    which are advantages of T - 1 steps, as the last observation has no step yet.
    """
    return tuple(x[1:] for x in arrays)


def from_flat(x: Any, num_envs: int) -> Any:
    """[T, B] as a view of a flat vector [B · T] that holds one environment's steps after the other's.

    Tianshou's buffers, when every environment has as many steps. Where lengths differ, the vector is one
    column of the family's: ``x[:, None]``, with the last step of each environment marked as ``truncated``.

    Args:
        x: [B · T], contiguous or with a constant stride.
        num_envs: B, at least 1.

    Raises:
        TypeError: neither an array nor a tensor.
        ValueError: another number of axes, or a length that is no multiple of ``num_envs``.
    """
    _require_arrays("from_flat", x=x)
    if x.ndim != 1 or num_envs < 1 or len(x) % num_envs:
        raise ValueError(f"from_flat: x must be [B · T] with B = {num_envs}, got {describe(x)}")
    return x.reshape(num_envs, -1).T if len(x) else x.reshape(0, num_envs)


def padded(lengths: Any, steps: int) -> Any:
    """The ``mask`` of sequences of these lengths, padded at their ends: bool [steps, B].

    Args:
        lengths: integers [B], from 0 to ``steps``.
        steps: T.

    Raises:
        TypeError: neither an array nor a tensor.
        ValueError: a length outside its range.
    """
    _require_arrays("padded", lengths=lengths)
    if len(lengths) and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
        raise ValueError(f"padded: lengths must be from 0 to {steps}, got {lengths.tolist()}")
    if is_tensor(lengths):
        import torch

        return lengths > torch.arange(steps, device=lengths.device)[:, None]
    mask: Any = lengths > np.arange(steps)[:, None]
    return mask


def _require_arrays(op: str, **arrays: Any) -> None:
    for name, x in arrays.items():
        if not isinstance(x, np.ndarray) and not is_tensor(x):
            raise TypeError(f"{op}: {name} must be an array or a tensor, got {describe(x)}")
