"""Sequences of steps, for networks with a memory and for models of the world."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrl.kernels._check import require_choice
from fastrl.replay.buffer import as_torch, wants_torch
from fastrl.replay.fields import RESERVED, integer
from fastrl.replay.prioritized import PrioritizedReplayBuffer

ENDS = ("across", "full", "padded")
"""What a sequence does where an episode ends."""


class SequenceReplayBuffer(PrioritizedReplayBuffer):
    """The last steps, of which sequences of ``length`` steps are drawn, each from one environment.

    Sequences begin every ``stride`` steps. Each has a priority, as rows have in
    :class:`PrioritizedReplayBuffer`; with α = 0, the default, all are as likely. A draw takes O(log size),
    however many episodes there are, and is never thrown away.

    What happens where an episode ends is told by ``ends``:

    - ``"full"``: a sequence is of one episode. Those too short for a sequence are not drawn.
    - ``"padded"``: also, but it may stop where the episode does, or the newest step. ``mask`` tells its own
      steps; others are 0.
    - ``"across"``: a sequence goes on with the next episode. ``is_first`` says where one begins.

    Source: sequences with priorities: Kapturowski et al. 2019, Recurrent experience replay in distributed
    reinforcement learning; across episodes with ``is_first``: Hafner et al. 2023, DreamerV3.
    """

    _reserved = (*RESERVED, "mask", "is_first")

    def __init__(
        self,
        size: int,
        env_dict: Mapping[str, Mapping[str, Any]],
        *,
        length: int,
        stride: int = 1,
        ends: str = "full",
        alpha: float = 0.0,
        eps: float = 1e-4,
        num_envs: int = 1,
        next_of: str | Sequence[str] | None = None,
        stack_compress: str | Sequence[str] | None = None,
        default_dtype: DTypeLike = np.float32,
        seed: int | None = None,
        stratified: bool = True,
        normalize: str | None = "batch",
        new_priority: str = "ever",
    ) -> None:
        """An empty buffer; see :class:`PrioritizedReplayBuffer` for what is not said here.

        Args:
            size: rows; each environment's must hold at least ``length + stride`` steps.
            env_dict: fields; ``done`` (or ``terminated``) and ``truncated`` say where episodes end.
            length: steps of a sequence, >= 1.
            stride: steps from one sequence's begin to the next one's, >= 1; counted from an episode's first
                step, with ``"across"`` from the first step ever.
            ends: ``"full"``, ``"padded"`` or ``"across"``.
            alpha: exponent α of priorities; 0: uniform.
            eps: ε >= 0, added to priorities.
            num_envs: environments that are stepped together.
            next_of: fields that come with the next ones.
            stack_compress: fields that are stacks of frames.
            default_dtype: of fields that name none.
            seed: of the draws.
            stratified: draw one from each of batch_size equal parts of the total.
            normalize: which weight is 1.
            new_priority: of a sequence when it is whole.

        Raises:
            TypeError, ValueError: an argument that will not do.
            MemoryError: the buffer does not fit in memory.
        """
        require_choice("replay", "ends", ends, ENDS)
        self.ends, self.length, self.stride = ends, integer("length", length), integer("stride", stride)
        for name, steps in (("length", self.length), ("stride", self.stride)):
            if not 1 <= steps <= 2**31:
                raise ValueError(f"replay: {name} must be in [1, 2^31], got {steps}")
        super().__init__(
            size,
            env_dict,
            alpha=alpha,
            eps=eps,
            num_envs=num_envs,
            next_of=next_of,
            stack_compress=stack_compress,
            default_dtype=default_dtype,
            seed=seed,
            stratified=stratified,
            normalize=normalize,
            new_priority=new_priority,
        )

    def _begin(self) -> None:
        super()._begin()
        self._core.keep_sequences(self.length, self.stride, ENDS.index(self.ends))

    def add(self, /, **fields: Any) -> int:
        """Store steps; the row of the first. See :meth:`ReplayBuffer.add`.

        Raises:
            TypeError, ValueError: a field that will not do; nothing is stored.
        """
        return self._core.add(fields, None)

    def sample(  # type: ignore[override]
        self,
        batch_size: int,
        beta: float = 0.4,
        *,
        time_major: bool = True,
        out: dict[str, Any] | None = None,
        output: str = "numpy",
    ) -> dict[str, Any]:
        """Sequences: each field [length, batch_size, *shape], and bools ``mask`` and ``is_first``.

        Also ``indexes`` int64 [batch_size], the rows where they begin, and ``weights`` float32 [batch_size].

        Args:
            batch_size: how many, >= 0.
            beta: exponent β >= 0 of the weights.
            time_major: False: [batch_size, length, ...], views of the same memory.
            out: arrays or CPU tensors, pinned or not, of the names, dtypes and shapes that are returned
                time-major, C-contiguous: to be written and returned.
            output: ``"numpy"`` or ``"torch"``, without ``out``.

        Raises:
            TypeError, ValueError: no sequence is stored, all their priorities are 0, or ``out`` does not fit;
                nothing is drawn.
        """
        torch = output != "numpy" and wants_torch(output, out)
        batch = self._core.sample_sequences(batch_size, out, beta, self._stratified, self._scale)
        if not time_major:
            of_steps = batch.keys() - {"indexes", "weights"}
            batch = {name: x.swapaxes(0, 1) if name in of_steps else x for name, x in batch.items()}
        return as_torch(batch) if torch else batch

    def update_priorities(self, indexes: Any, priorities: Any, *, since: int | None = None) -> None:
        """Give sequences new priorities, by the rows where they begin; of one named twice, the last counts.

        Rows that have been overwritten since they were drawn, and begin no sequence now, are passed over.

        Args:
            indexes: integers [B], as ``sample`` returned them.
            priorities: float [B], finite and >= 0.
            since: :meth:`get_added_size` of before they were drawn: rows added since then are passed over.

        Raises:
            TypeError, ValueError, IndexError: a row that is not stored, a priority that will not do; nothing
                is changed.
        """
        super().update_priorities(indexes, priorities, since=since)

    def _config(self) -> dict[str, Any]:
        return {**super()._config(), "sequences": [self.length, self.stride, self.ends]}
