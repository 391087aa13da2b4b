"""Policies with a memory: their state from step to step, in rollouts, in predictions and in training.

Huang et al. 2022, LSTM details 2-5: episodes begin with a zero state; it is reset where they ended;
minibatches hold whole sequences of environments; training computes the states again, from those that the
batch began with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.minibatches import Samples, fields_of
from fastrl.policies import Act, ActorCritic, require_drawable
from fastrl.sequences import RecurrentNetwork, Sequences
from fastrl.sources import Rollout, RolloutBatch

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RecurrentBatch(RolloutBatch):
    """A rollout of a policy with a memory."""

    state: Float32
    """[N, state_size]: before the first step."""
    start: NDArray[np.bool_]
    """[T, N]: where an episode begins, before which the state is zero."""


class RecurrentPolicy(ActorCritic):
    """An actor-critic whose network has a memory; the state is its caller's to keep."""

    network: RecurrentNetwork

    def step(self, x: NDArray[Any], counter: int, state: Float32) -> tuple[Act, Float32]:
        """As :meth:`act` after ``state`` [N, state_size], and the state after x."""
        y, after = self.network.step(x, state)
        require_drawable(y)
        action, log_prob = self.distribution.sample(self.network, y[:, :-1], self.seed, counter)
        return Act(action, log_prob, y[:, -1].copy()), after

    def respond(
        self, x: NDArray[Any], counter: int | None, state: Any, start: NDArray[np.bool_] | None
    ) -> tuple[NDArray[Any], Float32]:
        """Actions [N, ...] for observed x, and the state after it, float32 [N, state_size].

        Without a ``counter`` actions are the most probable ones; without a ``state`` it is zero.

        Raises:
            ValueError: state or start have other shapes or dtypes.
        """
        shape = (len(x), self.network.state_size)
        before = np.zeros(shape, np.float32) if state is None else np.asarray(state)
        if before.shape != shape or before.dtype != np.float32:
            raise ValueError(
                f"predict: state must be float32 {list(shape)}, got {before.dtype} {list(before.shape)}"
            )
        if start is not None:
            start = np.asarray(start)
            if start.dtype != np.bool_ or start.shape not in ((), (len(x),)):
                raise ValueError(
                    f"predict: episode_start must be bool [{len(x)}], got {start.dtype} {list(start.shape)}"
                )
            before = np.where(start.reshape(-1, 1), np.float32(0), before)
        if counter is not None:
            act, after = self.step(x, counter, before)
            return act.action, after
        y, after = self.network.step(x, before)
        return self.distribution.mode(y[:, :-1]), after

    def value_after(self, x: NDArray[Any], state: Float32) -> Float32:
        """Values float32 [N] of observed x after ``state``."""
        return self.network.step(x, state)[0][:, -1].copy()


class RecurrentRollout(Rollout):
    """Rollouts that carry the policy's state along: from step to step, and from batch to batch."""

    policy: RecurrentPolicy

    def __init__(self, env: Any, policy: RecurrentPolicy, num_steps: int, seed: int, **options: Any) -> None:
        super().__init__(env, policy, num_steps, seed, **options)
        self._state: Float32 = np.zeros((env.num_envs, policy.network.state_size), np.float32)
        self._start = np.zeros((num_steps, env.num_envs), np.bool_)

    def next(self) -> RecurrentBatch:
        """As :meth:`Rollout.next`."""
        state = self._state.copy()  # zero where an episode begins with the batch
        batch = super().next()
        plain: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
        return RecurrentBatch(**plain, state=state, start=self._start)

    def state(self) -> dict[str, Any]:
        """As :meth:`Rollout.state`; the memory, where episodes go on."""
        memory = {"memory": self._state.copy()} if self.exact_resume else {}
        return super().state() | memory

    def load_state(self, state: Mapping[str, Any], *, with_env: bool = True) -> None:
        """As :meth:`Rollout.load_state`."""
        super().load_state(state, with_env=with_env)
        exact = self._is_exact(state, with_env)
        self._state = np.array(state["memory"]) if exact else np.zeros_like(self._state)

    def _act(self, x: NDArray[Any]) -> Act:
        act, self._state = self.policy.step(x, self.counter, self._state)
        return act

    def _value(self, x: NDArray[Any], env: int | None = None) -> Float32:
        return self.policy.value_after(x, self._state if env is None else self._state[env : env + 1])

    def _begin(self, t: int, started: NDArray[np.bool_]) -> None:
        self._state = np.where(started[:, None], np.float32(0), self._state)
        if t < self.num_steps:
            self._start[t] = started


class EnvironmentSequences(Samples):
    """Minibatches of whole environments, each the sequence of its steps; the last one takes what is left.

    Args:
        minibatch_size: samples of a minibatch, rounded down to whole environments.
        num_steps: T of the batches.

    Raises:
        ValueError: ``minibatch_size`` < ``num_steps``.
    """

    def __init__(self, minibatch_size: int, num_steps: int) -> None:
        if minibatch_size < num_steps:
            raise ValueError(
                f"minibatch_size must be >= num_steps = {num_steps} for a policy with a memory, which learns "
                f"from whole sequences, got {minibatch_size}"
            )
        super().__init__(minibatch_size, num_steps)
        self.envs = minibatch_size // num_steps

    def epoch(
        self, batch: RolloutBatch, advantage: Float32, return_: Float32, rng: np.random.Generator
    ) -> Iterator[list[Any]]:
        """As :meth:`Samples.epoch`, rows in the order of time; observations come as :class:`Sequences`."""
        assert isinstance(batch, RecurrentBatch)
        fields = fields_of(batch, advantage, return_)
        order = rng.permutation(len(batch.state))
        for begin in range(0, len(order), self.envs):
            envs = order[begin : begin + self.envs]
            obs, *others = (x.take(envs, 1) for x in fields)
            valid = None if batch.valid is None else batch.valid.take(envs, 1)
            rows = slice(None) if valid is None else valid.ravel()
            yield [
                Sequences(obs, batch.state[envs], batch.start.take(envs, 1), valid),
                *(x.reshape(-1, *x.shape[2:])[rows] for x in others),
            ]
