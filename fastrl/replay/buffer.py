"""The uniform replay buffer, and all that the prioritized one has in common with it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrl import _core, checkpoint
from fastrl.kernels._check import describe, require_choice
from fastrl.replay import shards
from fastrl.replay.contents import contents, put, require_place
from fastrl.replay.fields import RESERVED, flag_fields, integer, parse_fields, parse_n_step, require_names
from fastrl.replay.frames import parse_frames, row_bytes
from fastrl.replay.memory import require_memory

OUTPUTS = ("numpy", "torch")


class ReplayBuffer:
    """The last transitions, to be drawn uniformly.

    A transition is a row of named fields. With ``num_envs`` environments, row ``t * num_envs + i`` is a step
    of environment i, and the newest rows replace the oldest.

    Where episodes end matters to n-step returns, and to fields that share memory with their neighbours. It is
    told by fields of these names, all optional: ``done`` (or ``terminated``): the episode terminated, no
    value follows; ``truncated``: its last step for another reason, such as a time limit, and a value follows.
    Without a field ``truncated``, :meth:`on_episode_end` says so after the last step was added.

    n-step returns are made when rows are drawn. The window of row t has rows t, ..., t+k-1: it ends after n
    rows, with its episode, or with the newest row of its environment. Returned are, for the fields that
    ``Nstep`` names::

        rew = Σ_{j<k} γ^j · rew_{t+j},    next = next_{t+k-1},    discount = γ^k · (1 - terminated_{t+k-1})

    and ``done``, ``terminated`` and ``truncated`` of row t+k-1: ``rew + discount * value(next)`` is the
    target, whatever ended the window.

    Threads may call it together: each call is as if alone. Many draw at once; adding waits for them. A
    child of fork has the buffer as it was between two calls. It can be copied and pickled, each frame once.

    Source: Lin 1992, Self-improving reactive agents based on reinforcement learning; n-step: Sutton & Barto
    2018, equation 7.1; at truncation, Pardo et al. 2018, Time limits in reinforcement learning.
    """

    _reserved: Sequence[str] = RESERVED  # what no field may be called
    _flat = False  # rows are whatever has as many elements
    _priorities: tuple[float, float, bool] | None = None  # alpha, eps, of new rows as the largest stored

    def __init__(
        self,
        size: int,
        env_dict: Mapping[str, Mapping[str, Any]],
        *,
        num_envs: int = 1,
        Nstep: Mapping[str, Any] | None = None,
        next_of: str | Sequence[str] | None = None,
        stack_compress: str | Sequence[str] | None = None,
        default_dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        """An empty buffer.

        Args:
            size: rows, in [num_envs, 2^31]; rounded down to a multiple of ``num_envs``.
            env_dict: field name to ``{"shape": ..., "dtype": ...}``; shape () and ``default_dtype`` if left
                out.
            num_envs: environments that are stepped together.
            Nstep: ``{"size": n, "gamma": 0.99, "rew": names, "next": names}``: n-step returns; needs a field
                ``done`` or ``terminated``.
            next_of: fields ``x`` that come with ``next_x``, the same one step on, which is then a field too:
                what the next row repeats is stored once.
            stack_compress: fields that are stacks of the last frames: each frame is stored once. The stack is
                the shorter of the first and the last axis (the last if they are equal), or the one that
                ``"stack_axis"``, 0 or -1, in ``env_dict`` says. Any values come back as they were added;
                those that do not continue the row before take more memory.
            default_dtype: of fields that name none.
            seed: of the draws, in [0, 2^64); None: from the system.

        Raises:
            TypeError, ValueError: an argument that will not do.
            MemoryError: the buffer does not fit in memory.
        """
        size, self.num_envs = integer("size", size), integer("num_envs", num_envs)
        if self.num_envs < 1 or not self.num_envs <= size <= 2**31:
            raise ValueError(
                f"replay: size must be in [num_envs = {num_envs}, 2^31], num_envs >= 1, got {size}"
            )
        fields = parse_fields(env_dict, default_dtype)
        self.fields, self.frames = parse_frames(fields, env_dict, next_of, stack_compress)
        self.n_step = parse_n_step(Nstep, self.fields)
        returned = ("discount",) if self.n_step.size > 1 else ()
        require_names(self.fields, (*self._reserved, *returned))
        kept = {name for one in self.frames for name in (one.current, one.following)}
        for name in self.n_step.rewards:
            if name in kept:
                raise ValueError(
                    f"replay: next_of and stack_compress must name no field that Nstep sums, got {name}"
                )
        terminated, truncated = flag_fields(self.fields)
        at = dict.fromkeys(self.n_step.rewards, "sum") | dict.fromkeys(
            (*self.n_step.following, *filter(None, (terminated, truncated))), "last"
        )
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        if not 0 <= integer("seed", seed) < 2**64:
            raise ValueError(f"replay: seed must be in [0, 2^64), got {seed}")
        self._saved: tuple[str, str] | None = None  # where to, and what: see shards.py
        self._row_bytes = row_bytes(self.fields, self.frames)
        row = self._row_bytes + 1 + (20 if self._priorities else 0)
        require_memory(f"replay: a buffer of {size:,} rows of {row:,} bytes", size * row)
        self._arguments = (
            [
                (field.name, field.dtype.name, field.shape, at.get(field.name, "first"))
                for field in self.fields
            ],
            (terminated, truncated, self.n_step.size, self.n_step.gamma, seed, self._priorities, self._flat),
        )
        self._size = size
        self._begin()

    def _begin(self) -> None:
        """Make the compiled part, empty."""
        fields, rest = self._arguments
        of_dtypes = [(name, np.dtype(dtype), shape, at) for name, dtype, shape, at in fields]
        steps = self._size // self.num_envs
        self._core = _core.Replay(steps, self.num_envs, of_dtypes, *rest, self._frame_arguments())

    def __getstate__(self) -> dict[str, Any]:
        """Arguments and rows, each frame once."""
        own = {name: x for name, x in self.__dict__.items() if name != "_core"}
        return {**own, "_saved": None, "contents": contents(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: x for name, x in state.items() if name != "contents"})
        self._begin()
        put(self, state["contents"])

    def _frame_arguments(self) -> list[tuple[int, int, int, bool]]:
        names = [field.name for field in self.fields]
        return [
            (
                names.index(one.current),
                -1 if one.following is None else names.index(one.following),
                one.stack,
                one.stack_last,
            )
            for one in self.frames
        ]

    def __len__(self) -> int:
        """Rows stored."""
        return self._core.stored

    def add(self, /, **fields: Any) -> int:
        """Store transitions; the row of the first.

        Each field [n, *shape], n a multiple of ``num_envs``: all environments' rows of one step, then the
        next step's. With one environment also one row [*shape]. Real numbers are converted to a field's float
        dtype, integers and bools to any that holds them.

        Raises:
            TypeError, ValueError: a field is missing, unknown, or of a wrong dtype or shape; nothing is
                stored.
            MemoryError: no memory for fields kept as frames; nothing is stored.
        """
        return self._core.add(fields, None)

    def sample(
        self,
        batch_size: int,
        *,
        replacement: bool = True,
        out: dict[str, Any] | None = None,
        output: str = "numpy",
    ) -> dict[str, Any]:
        """Rows drawn uniformly: each field [batch_size, *shape], and ``indexes`` int64, their rows.

        With ``Nstep`` also ``discount`` float32.

        Args:
            batch_size: how many, >= 0.
            replacement: each draw is independent; False: no row twice.
            out: arrays or CPU tensors, pinned or not, of the names, dtypes and shapes returned, C-contiguous:
                to be written and returned.
            output: ``"numpy"`` or ``"torch"``, without ``out``.

        Raises:
            TypeError, ValueError: the buffer is empty, or holds fewer than ``batch_size`` rows when each may
                be drawn once; ``out`` does not fit; nothing is drawn.
        """
        torch = output != "numpy" and wants_torch(output, out)
        batch = self._core.sample(batch_size, out, replacement)
        return as_torch(batch) if torch else batch

    def gather(self, indexes: Any, *, n_step: bool = True) -> dict[str, Any]:
        """The rows of these numbers, as :meth:`sample` returns them.

        Args:
            indexes: integers [B].
            n_step: apply ``Nstep``; False: as they were added.

        Raises:
            TypeError, IndexError: no integers, or rows that are not stored.
        """
        return self._core.gather(indexes, n_step)

    def on_episode_end(self, env: int | None = None) -> None:
        """The newest step of an environment (None: of each) was its episode's last, terminated or not.

        A step that said so itself by ``done`` or ``truncated`` stays as it is.

        Raises:
            ValueError: no such environment.
        """
        self._core.end_episode(env)

    def clear(self) -> None:
        """Forget all rows and priorities. The draws go on as they would have."""
        self._core.clear()
        self._saved = None

    def get_stored_size(self) -> int:
        """Rows stored."""
        return self._core.stored

    def get_buffer_size(self) -> int:
        """Rows that fit."""
        return self._core.capacity

    def get_next_index(self) -> int:
        """The row that :meth:`add` writes next."""
        return self._core.next_row

    def get_added_size(self) -> int:
        """Rows ever added, since :meth:`clear` if that was called."""
        return self._core.added

    def get_all_transitions(self) -> dict[str, NDArray[Any]]:
        """Copies of all rows as they were added, by row number."""
        batch = self._core.gather(np.arange(len(self)), False)
        del batch["indexes"]
        return batch

    def state(self) -> dict[str, Any]:
        """All that :meth:`load_state` needs to go on exactly: rows, episode ends, priorities, draws."""
        (added, seed, counter, max_priority), flags, leaves, fields = self._core.state()
        return {
            "config": self._config(),
            "added": added,
            "seed": seed,
            "counter": counter,
            "max_priority": max_priority,
            "flags": flags,
            "leaves": leaves,
            "fields": fields,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become the buffer of which ``state`` was taken; it must have been made with the same arguments.

        Raises:
            TypeError, ValueError: another configuration, or something is missing or wrong; nothing is
                changed.
            MemoryError: no memory for fields kept as frames; the buffer is empty then.
        """
        if not isinstance(state, Mapping) or set(state) != _STATE:
            raise ValueError(
                f"load_state: state must have {', '.join(sorted(_STATE))}, got {describe(state)}"
            )
        self._require_config("load_state", state["config"])
        place = require_place(
            "load_state", *(state[name] for name in ("added", "seed", "counter", "max_priority"))
        )
        fields = state["fields"]
        if not isinstance(fields, Mapping):
            raise TypeError(f"load_state: fields must be a dict of arrays, got {describe(fields)}")
        if self._priorities is None and state["leaves"] is not None:
            raise ValueError(
                f"load_state: leaves must be None without priorities, got {describe(state['leaves'])}"
            )
        self._saved = None  # what was saved is of the rows before
        self._core.restore(place, state["flags"], state["leaves"], dict(fields))

    def save(self, path: Path | str) -> Path:
        """Write the buffer to a folder with checksums, replacing an older save there; its absolute path.

        Each frame once; of a buffer that keeps frames, nothing may be added meanwhile.

        Raises:
            CheckpointError: it cannot be written; an older one is as it was.
            RuntimeError: rows were added; an older one is as it was.
        """
        state = self._state_of_frames() if self.frames else self.state()
        return checkpoint.save_folder(path, state, algorithm=type(self).__name__)

    def load(self, path: Path | str) -> Self:
        """Become the buffer that was saved; see :meth:`load_state`. No code is run from the files.

        Raises:
            CheckpointError: nothing there, damaged, or of another kind of buffer; nothing is changed.
            TypeError, ValueError, MemoryError: as :meth:`load_state`.
        """
        state = checkpoint.read(path, algorithm=type(self).__name__).state
        if isinstance(state, Mapping) and set(state) == {"config", "contents"}:
            self._require_config("load", state["config"])
            self._saved = None
            put(self, state["contents"])
        else:  # without frames, or from before they were written once
            self.load_state(state)
        return self

    def save_shards(self, path: Path | str) -> Path:
        """Write what is new since the last save to this folder, and no stack twice; its absolute path.

        Nothing may be added meanwhile. See :mod:`fastrl.replay.shards`.

        Raises:
            CheckpointError: the folder holds other files, or cannot be written; an earlier save is as it was.
            RuntimeError: rows were added; an earlier save is as it was.
        """
        return shards.save(self, path)

    def load_shards(self, path: Path | str) -> Self:
        """Become the buffer that :meth:`save_shards` saved; it must have been made with the same arguments.

        Raises:
            CheckpointError: nothing there, damaged, or of another kind of buffer; nothing is changed.
            ValueError: another configuration; nothing is changed.
        """
        shards.load(self, path)
        return self

    def _state_of_frames(self) -> dict[str, Any]:
        return {"config": self._config(), "contents": contents(self)}

    def _require_config(self, op: str, given: Any) -> None:
        own = self._config()
        try:
            same = bool(given == own)
        except ValueError:  # arrays compare element by element
            same = False
        if not same:
            raise ValueError(f"{op}: config must be {own}, got {given}")

    def _config(self) -> dict[str, Any]:
        return {
            "size": self.get_buffer_size(),
            "num_envs": self.num_envs,
            "fields": {field.name: [field.dtype.name, list(field.shape)] for field in self.fields},
            "n_step": [
                self.n_step.size,
                self.n_step.gamma,
                list(self.n_step.rewards),
                list(self.n_step.following),
            ],
            "frames": [list(dataclasses.astuple(one)) for one in self.frames],
        }


_STATE = {"config", "added", "seed", "counter", "max_priority", "flags", "leaves", "fields"}


def wants_torch(output: str, out: object) -> bool:
    """Whether a batch is to be new tensors.

    Raises:
        ValueError: no such output.
    """
    require_choice("sample", "output", output, OUTPUTS)
    return output == "torch" and out is None


def as_torch(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch's arrays as tensors that share their memory."""
    import torch

    return {name: torch.from_numpy(values) for name, values in batch.items()}
