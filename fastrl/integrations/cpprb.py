"""cpprb's replay buffers by a change of import: its arguments, shapes and defaults over fastrl's.

::

    from fastrl.integrations.cpprb import PrioritizedReplayBuffer  # was: from cpprb import ...

Fields have shape 1 unless told otherwise, so a scalar comes back as [B, 1]; ``add`` takes any array of whole
rows and passes over names that are no field; weights are relative to the buffer's least priority. Other than
cpprb 11: with ``Nstep`` rows can be drawn as soon as they are added, what follows a truncation is right, and
batches have ``discount`` besides, γ^k · (1 - done) of each row; batches always have ``indexes``, int64; draws
can be seeded; numbers that do not fit a field, and rows that are not stored, are refused; a file is a folder
of safetensors that holds priorities too.

cpprb itself need not be installed. Not there: ``mmap_prefix``, its files, other classes, ``create_buffer``.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrl import replay
from fastrl.kernels.replay._convert import array_of
from fastrl.replay.fields import names_of, number

__all__ = ["PrioritizedReplayBuffer", "ReplayBuffer"]

Names = str | Sequence[str] | None


def _spelt_out(env_dict: Mapping[str, Mapping[str, Any]] | None, stacked: Names) -> dict[str, dict[str, Any]]:
    names = names_of(stacked)
    if not isinstance(env_dict, Mapping):
        return {} if env_dict is None else env_dict  # which is refused
    return {
        name: {"shape": 1}
        | {
            key: options[key] for key in ("shape", "dtype") if key in options
        }  # cpprb adds its own to the dict
        | ({"stack_axis": -1} if name in names else {})
        if isinstance(options, Mapping)
        else options
        for name, options in env_dict.items()
    }


def _rows(size: float) -> int:
    if not math.isfinite(number("size", size)):
        raise ValueError(f"replay: size must be finite, got {size}")
    return int(size)


def _raveled(op: str, name: str, values: Any) -> Any:
    array = array_of(op, name, values, "numbers [B]").ravel()
    return array if array.size > 0 else []


class _AsCpprb(replay.ReplayBuffer):
    """What both buffers share: cpprb's names for things."""

    _flat = True

    def _build(
        self,
        size: float,
        env_dict: Mapping[str, Mapping[str, Any]] | None,
        Nstep: Mapping[str, Any] | None,
        next_of: Names,
        stack_compress: Names,
        default_dtype: DTypeLike | None,
        seed: int | None,
    ) -> None:
        replay.ReplayBuffer.__init__(
            self,
            _rows(size),
            _spelt_out(env_dict, stack_compress),
            Nstep={"rew": (), **Nstep} if isinstance(Nstep, Mapping) else Nstep,  # cpprb needs none
            next_of=next_of,
            stack_compress=stack_compress,
            default_dtype=np.float32 if default_dtype is None else default_dtype,
            seed=seed,
        )
        self._names = tuple(field.name for field in self.fields)
        self._episode_len, self._with_n_step = 0, bool(Nstep)

    def _add(self, fields: Mapping[str, Any], priorities: Any) -> int:
        before = self._core.added
        row = self._core.add({name: fields[name] for name in self._names}, priorities)
        self._episode_len += self._core.added - before
        return row

    def get_all_transitions(self, shuffle: bool = False) -> dict[str, NDArray[Any]]:
        """All rows, n-step returns made, in the order of row numbers or shuffled by NumPy's generator."""
        rows = np.arange(len(self))
        if shuffle:
            np.random.default_rng().shuffle(rows)
        batch = self._core.gather(rows, True)
        return {name: batch[name] for name in self._names}

    def get_current_episode_len(self) -> int:
        """Rows added since :meth:`on_episode_end`."""
        return self._episode_len

    def is_Nstep(self) -> bool:
        """Whether ``Nstep`` was given."""
        return self._with_n_step

    def on_episode_end(self, env: int | None = None) -> None:
        """The newest row was its episode's last, whether it is ``done`` or not."""
        self._core.end_episode(env)
        self._episode_len = 0

    def clear(self) -> None:
        """Forget all rows and priorities."""
        super().clear()
        self._episode_len = 0

    def save_transitions(self, file: Path | str, *, safe: bool = True) -> None:
        """Write everything to a folder; see :meth:`fastrl.replay.ReplayBuffer.save`.

        Args:
            file: the folder.
            safe: no effect.

        Raises:
            CheckpointError: it cannot be written.
        """
        self.save(file)

    def load_transitions(self, file: Path | str) -> None:
        """Read what :meth:`save_transitions` wrote; see :meth:`fastrl.replay.ReplayBuffer.load`.

        Raises:
            CheckpointError, TypeError, ValueError: not whole, or of another buffer; nothing is changed.
        """
        self.load(file)


class ReplayBuffer(_AsCpprb):
    """cpprb's ``ReplayBuffer``: rows drawn uniformly."""

    def __init__(
        self,
        size: float,
        env_dict: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        next_of: Names = None,
        stack_compress: Names = None,
        default_dtype: DTypeLike | None = None,
        Nstep: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        """An empty buffer.

        Args:
            size: rows.
            env_dict: field name to ``{"shape": 1, "dtype": default_dtype}``.
            next_of: fields whose next value is stored with them.
            stack_compress: fields that are stacks of frames, the last axis.
            default_dtype: float32.
            Nstep: ``{"size": n, "gamma": 0.99, "rew": names, "next": names}``, all but ``size`` optional.
            seed: of the draws; None: from the system.

        Raises:
            TypeError, ValueError, MemoryError: as ``fastrl.replay.ReplayBuffer``.
        """
        self._build(size, env_dict, Nstep, next_of, stack_compress, default_dtype, seed)

    def add(self, /, **fields: Any) -> int:
        """Store transitions, each field an array of whole rows; the row of the first.

        Raises:
            KeyError: a field is missing.
            TypeError, ValueError: a value that will not do; nothing is stored.
        """
        return self._add(fields, None)


class PrioritizedReplayBuffer(_AsCpprb, replay.PrioritizedReplayBuffer):
    """cpprb's ``PrioritizedReplayBuffer``: rows drawn by priority, stratified."""

    def __init__(
        self,
        size: float,
        env_dict: Mapping[str, Mapping[str, Any]] | None = None,
        alpha: float = 0.6,
        *,
        Nstep: Mapping[str, Any] | None = None,
        eps: float = 1e-4,
        check_for_update: bool = False,
        next_of: Names = None,
        stack_compress: Names = None,
        default_dtype: DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        """An empty buffer.

        Args:
            size: rows.
            env_dict: field name to ``{"shape": 1, "dtype": default_dtype}``.
            alpha: exponent of priorities.
            Nstep: ``{"size": n, "gamma": 0.99, "rew": names, "next": names}``, all but ``size`` optional.
            eps: added to priorities.
            check_for_update: let :meth:`update_priorities` pass over rows written since :meth:`sample`.
            next_of: fields whose next value is stored with them.
            stack_compress: fields that are stacks of frames, the last axis.
            default_dtype: float32.
            seed: of the draws; None: from the system.

        Raises:
            TypeError, ValueError, MemoryError: as ``fastrl.replay.PrioritizedReplayBuffer``.
        """
        self._prioritize(alpha, eps, True, "buffer", "ever")
        self._build(size, env_dict, Nstep, next_of, stack_compress, default_dtype, seed)
        self._check_for_update, self._sampled_at = check_for_update, 0

    def add(self, /, *, priorities: Any = None, **fields: Any) -> int:
        """Store transitions, each field an array of whole rows; the row of the first.

        Args:
            priorities: of each row; None: the largest so far.
            fields: of each row.

        Raises:
            KeyError: a field is missing.
            TypeError, ValueError: a value that will not do; nothing is stored.
        """
        return self._add(
            fields, priorities if priorities is None else _raveled("add", "priorities", priorities)
        )

    def sample(  # type: ignore[override]
        self, batch_size: int, beta: float = 0.4, *, out: dict[str, Any] | None = None, output: str = "numpy"
    ) -> dict[str, Any]:
        """Rows drawn by priority; see :meth:`fastrl.replay.PrioritizedReplayBuffer.sample`."""
        if self._check_for_update:
            self._sampled_at = self._core.added
        return replay.PrioritizedReplayBuffer.sample(self, batch_size, beta, out=out, output=output)

    def update_priorities(  # type: ignore[override]
        self, indexes: Any, priorities: Any
    ) -> None:
        """Give rows new priorities; see :meth:`fastrl.replay.PrioritizedReplayBuffer.update_priorities`."""
        since = self._sampled_at if self._check_for_update else None
        rows, values = (
            _raveled("update_priorities", name, x)
            for name, x in (("indexes", indexes), ("priorities", priorities))
        )
        if isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and (rows == np.rint(rows)).all():
            rows = rows.astype(np.int64)  # as cpprb takes them
        super().update_priorities(rows, values, since=since)
