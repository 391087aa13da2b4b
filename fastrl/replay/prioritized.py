"""Prioritized experience replay."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrl.kernels._check import require_choice
from fastrl.replay.buffer import ReplayBuffer, as_torch, wants_torch
from fastrl.replay.fields import number

_SCALES = ("batch", "buffer", None)  # WeightScale of csrc/replay.h


class PrioritizedReplayBuffer(ReplayBuffer):
    """The last transitions, to be drawn in proportion to a power of their priorities.

    ::

        P(i) = (p_i + ε)^α / Σ_j (p_j + ε)^α,    w_i = (P(i) / min_j P(j))^-β

    the minimum over the batch, or as ``normalize`` says. A row's priority p is given when it is added, or is
    the largest so far, and changes by :meth:`update_priorities`, usually to the absolute TD error. α is
    applied once, when p is stored. A row of (p + ε)^α = 0, as of p = ε = 0, is never drawn.

    Source: Schaul et al. 2016, Prioritized experience replay, equation 1 and section 3.4.
    """

    def __init__(
        self,
        size: int,
        env_dict: Mapping[str, Mapping[str, Any]],
        *,
        alpha: float = 0.6,
        eps: float = 1e-4,
        num_envs: int = 1,
        Nstep: Mapping[str, Any] | None = None,
        next_of: str | Sequence[str] | None = None,
        stack_compress: str | Sequence[str] | None = None,
        default_dtype: DTypeLike = np.float32,
        seed: int | None = None,
        stratified: bool = True,
        normalize: str | None = "batch",
        new_priority: str = "ever",
    ) -> None:
        """An empty buffer; see :class:`ReplayBuffer` for what is not said here.

        Args:
            size: rows.
            env_dict: fields.
            alpha: exponent α of priorities, >= 0; 0: uniform.
            eps: ε >= 0, added to priorities.
            num_envs: environments that are stepped together.
            Nstep: n-step returns.
            next_of: fields that come with the next ones.
            stack_compress: fields that are stacks of frames.
            default_dtype: of fields that name none.
            seed: of the draws.
            stratified: draw one row from each of batch_size equal parts of the total; False: independently.
            normalize: which weight is 1: the largest of the ``"batch"`` or of the ``"buffer"``; None: the one
                of a row as likely as in a uniform draw, w = (N · P)^-β.
            new_priority: of a row that is added without one: the largest ``"ever"`` given, at least 1, or the
                largest ``"stored"``, which forgets (1 if all are 0).

        Raises:
            TypeError, ValueError: an argument that will not do.
            MemoryError: the buffer does not fit in memory.
        """
        self._prioritize(alpha, eps, stratified, normalize, new_priority)
        super().__init__(
            size,
            env_dict,
            num_envs=num_envs,
            Nstep=Nstep,
            next_of=next_of,
            stack_compress=stack_compress,
            default_dtype=default_dtype,
            seed=seed,
        )

    def _prioritize(
        self, alpha: float, eps: float, stratified: bool, normalize: str | None, new_priority: str
    ) -> None:
        for name, value in (("alpha", alpha), ("eps", eps)):
            if not 0 <= number(name, value) < math.inf:
                raise ValueError(f"replay: {name} must be finite and >= 0, got {value}")
        require_choice("replay", "normalize", normalize, _SCALES)
        require_choice("replay", "new_priority", new_priority, ("ever", "stored"))
        self.alpha, self.eps = float(alpha), float(eps)
        self._stratified, self._scale = bool(stratified), _SCALES.index(normalize)
        self._new_priority = new_priority
        self._priorities = (self.alpha, self.eps, new_priority == "stored")

    def add(self, /, *, priorities: Any = None, **fields: Any) -> int:
        """Store transitions; the row of the first. See :meth:`ReplayBuffer.add`.

        Args:
            priorities: float [n], finite and >= 0; None: the largest so far.
            fields: of each transition.

        Raises:
            TypeError, ValueError: a field or priority that will not do; nothing is stored.
        """
        return self._core.add(fields, priorities)

    def sample(  # type: ignore[override]
        self, batch_size: int, beta: float = 0.4, *, out: dict[str, Any] | None = None, output: str = "numpy"
    ) -> dict[str, Any]:
        """Rows drawn by priority: each field, ``indexes`` int64 and ``weights`` float32 [batch_size].

        With ``Nstep`` also ``discount`` float32.

        Args:
            batch_size: how many, >= 0.
            beta: exponent β >= 0 of the weights: 0: all 1; 1: they undo the priorities.
            out: arrays or CPU tensors, pinned or not, of the names, dtypes and shapes returned, C-contiguous:
                to be written and returned.
            output: ``"numpy"`` or ``"torch"``, without ``out``.

        Raises:
            TypeError, ValueError: the buffer is empty, all its priorities are 0, or ``out`` does not fit;
                nothing is drawn.
        """
        torch = output != "numpy" and wants_torch(output, out)
        batch = self._core.sample_prioritized(batch_size, out, beta, self._stratified, self._scale)
        return as_torch(batch) if torch else batch

    def update_priorities(self, indexes: Any, priorities: Any, *, since: int | None = None) -> None:
        """Give rows new priorities; of a row named twice, the last counts.

        Rows are told by number: one that was added since over one that was drawn gets the priority, unless
        ``since`` says when that was.

        Args:
            indexes: integers [B], as ``sample`` returned them.
            priorities: float [B], finite and >= 0.
            since: :meth:`get_added_size` of before they were drawn: rows added since then are passed over.

        Raises:
            TypeError, ValueError, IndexError: a row that is not stored, a priority that will not do; nothing
                is changed.
        """
        self._core.update_priorities(indexes, priorities, since)

    def get_max_priority(self) -> float:
        """The largest priority ever given, at least 1."""
        return self._core.max_priority

    def _config(self) -> dict[str, Any]:
        return {
            **super()._config(),
            "alpha": self.alpha,
            "eps": self.eps,
            "stratified": self._stratified,
            "normalize": _SCALES[self._scale],
            "new_priority": self._new_priority,
        }
