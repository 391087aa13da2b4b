"""Environments written in Python, several in each of several processes."""

import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from fastrl.envs.seeding import Seed, seed_list
from fastrl.envs.workers import channel as ops
from fastrl.envs.workers.pool import CLOSE_SECONDS, WorkerError, WorkerPool
from fastrl.envs.workers.shared import anonymous_file, require_arrays, shared_buffers, tree_map
from fastrl.kernels._check import describe

Step = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
OP = "WorkerVectorEnv"


class WorkerVectorEnv(gymnasium.vector.VectorEnv[Any, Any, NDArray[Any]]):
    """N environments shared out among M processes, each of which steps its own in turn.

    It returns what ``gymnasium.vector.SyncVectorEnv`` over the same environments returns, bit for bit, in
    every autoreset mode. Observations, actions, rewards and flags are in memory that the processes share;
    infos are sent where they are not empty.

    Workers are fresh interpreters: a script needs no ``if __name__ == "__main__"``, and environments that it
    registered with Gymnasium are known to them. Numerical libraries in them start one thread, unless
    OMP_NUM_THREADS, OPENBLAS_NUM_THREADS or MKL_NUM_THREADS say otherwise.

    **Errors.** An environment that raises an exception, in whatever call, gives a :class:`WorkerError` that
    names env, worker and step, with the exception as its cause and the worker's traceback in its message;
    after one in ``step`` or ``reset``, as after Ctrl-C, ``step`` asks for a ``reset`` of all envs. When a
    worker dies, the error says so and everything is closed. Nothing waits for a dead worker; ``timeout``
    bounds the wait for a live one. Workers end with this object and with this process, however it ends, and
    the memory has no name that could stay behind.

    Args:
        env_fns: a function that makes it for each environment; it may be a lambda or any other function
            that ``cloudpickle`` can send.
        num_workers: M, at most N; None: as many as there are processors to run on, which is right for
            environments that compute; ones that wait for something want a worker each. Environments are
            shared out in order and evenly.
        autoreset_mode: ``AutoresetMode`` or its value; DISABLED leaves resets to ``options["reset_mask"]``.
        copy: return fresh observations; False returns the same arrays at every step, overwritten by the next.
        timeout: seconds that a reset, step or call may take before everything is closed; None: no limit.

    Raises:
        ValueError, TypeError: an argument that cannot be, environments whose spaces differ, or a space that
            is not Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.
        WorkerError: an environment could not be made.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]],
        num_workers: int | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        timeout: float | None = None,
    ) -> None:
        env_fns = list(env_fns)
        self.num_envs = len(env_fns)
        if not env_fns:
            raise ValueError(f"{OP}: env_fns must have at least one item, got none")
        if num_workers is None:
            num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        elif num_workers < 1:
            raise ValueError(f"{OP}: num_workers must be >= 1, got {num_workers}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"{OP}: timeout must be > 0 or None, got {timeout}")
        mode = AutoresetMode(autoreset_mode)
        self.copy = copy
        self.timeout = timeout
        bounds = np.linspace(0, self.num_envs, min(num_workers or 1, self.num_envs) + 1).round().astype(int)
        self._parts = list(zip(bounds.tolist(), bounds[1:].tolist(), strict=False))
        self._steps = 0
        self._resettable = False  # whether a reset may leave envs out
        self._pending = False
        makers = [_pickled(env_fns[first:end], first) for first, end in self._parts]
        memory = anonymous_file()
        try:
            self._pool = WorkerPool(OP, self._parts, memory)
            specs = _registered()
            self._pool.ask(
                "start",
                ops.BUILD,
                [
                    pickle.dumps({"makers": sent, "first": first, "mode": mode, "specs": specs})
                    for sent, (first, _) in zip(makers, self._parts, strict=True)
                ],
            )
            facts = self._pool.replies()
            self._describe(facts, mode)
            spaces = self.single_observation_space, self.single_action_space
            self._shared = shared_buffers(memory, *spaces, self.num_envs, create=True)
            request = pickle.dumps((self.num_envs, *spaces))
            self._pool.ask("start", ops.MAP, [request] * len(self._parts))
            self._pool.replies()
        except BaseException:
            if hasattr(self, "_pool"):
                self._pool.close(0.0)
            self.closed = True
            raise
        finally:
            os.close(memory)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._pool.pids

    def reset(
        self, *, seed: Seed = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every env, or in those of a mask.

        Args:
            seed: int: env i is seeded with ``seed + i``; a sequence: one int or None an env; None continues
                the envs' generators.
            options: given to every env, but ``reset_mask``, bool [N] with a True, which names the envs to
                reset; the others keep all they had. Never modified.

        Raises:
            TypeError, ValueError: a bad seed or mask; nothing changed.
            ResetNeeded: a mask before the first reset, or after an error.
            WorkerError: see the class.
            ClosedEnvironmentError: after ``close``.
        """
        self._require_open("reset")
        mask = None
        if options is not None and "reset_mask" in options:
            mask = self._mask(options["reset_mask"])
            options = {key: value for key, value in options.items() if key != "reset_mask"}
        seeds = seed_list(f"{OP} reset", seed, self.num_envs) or [None] * self.num_envs
        requests = [
            cloudpickle.dumps((seeds[a:b], options, None if mask is None else mask[a:b]))
            for a, b in self._parts
        ]
        self._resettable = self._pending = False
        self._ask("reset", ops.RESET, requests)
        infos = self._merged(self._replies())
        self._resettable = True
        return self._observation(), infos

    def step(self, actions: Any) -> Step:
        """One step of every env: observation, reward, terminated, truncated, infos.

        Args:
            actions: a batch of the action space; arrays of its very dtypes go the fast way, any others
                reach the environments as they are.

        Raises:
            ValueError: not one action an env; nothing changed.
            ResetNeeded: before the first reset, after an error, with DISABLED an env whose episode is over.
            WorkerError: see the class.
            ClosedEnvironmentError: after ``close``.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """Starts a step; :meth:`step_wait` gives its results."""
        self._require_open("step")
        if self._pending:
            raise RuntimeError(f"{OP} step: the last step is not finished; call step_wait first")
        if not self._resettable:
            raise ResetNeeded(f"{OP} step: call reset first")
        if self._mode is AutoresetMode.DISABLED:
            over = np.flatnonzero(self._shared.terminated | self._shared.truncated)
            if over.size:
                raise ResetNeeded(
                    f"{OP} step: env {over[0]}: the episode is over; reset it with a reset_mask"
                )
        requests, operation = None, ops.STEP
        if not _copy_into(self._shared.actions, actions):
            requests, operation = self._pickled_actions(actions), ops.STEP_GIVEN
        self._resettable = False
        self._steps += 1
        self._ask(f"step {self._steps}", operation, requests)
        self._pending = True

    def step_wait(self) -> Step:
        """Results of the step that :meth:`step_async` started."""
        self._require_open("step")
        if not self._pending:
            raise RuntimeError(f"{OP} step_wait: call step_async first")
        self._pending = False
        infos = self._merged(self._replies())
        self._resettable = True
        shared = self._shared
        return (
            self._observation(),
            shared.reward.copy(),
            shared.terminated.copy(),
            shared.truncated.copy(),
            infos,
        )

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Attribute or result of method ``name`` of every env, wrappers included.

        Raises:
            Exception: what an env raised, as AttributeError where it has no such attribute, with a note that
                says which env.
        """
        request = cloudpickle.dumps((name, args, kwargs))
        results = self._called(f"call of {name}", ops.CALL, [request] * len(self._parts))
        return tuple(result for part in results for result in part)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Attribute ``name`` of every env."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every env: one value for all, or a list or tuple of one an env."""
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(f"{OP} set_attr: values must be {self.num_envs}, one an env, got {len(values)}")
        requests = [cloudpickle.dumps((name, values[a:b])) for a, b in self._parts]
        self._called(f"set_attr of {name}", ops.SET, requests)

    def render(self) -> tuple[Any, ...]:
        """A frame of every env."""
        return self.call("render")

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Copies of the envs' generators."""
        return self.call("np_random")

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each env."""
        return self.call("np_random_seed")

    def close_extras(self, timeout: float | None = CLOSE_SECONDS, terminate: bool = False) -> None:
        """Ends the workers, which close their environments.

        Args:
            timeout: seconds until those that have not ended are killed; None: the default.
            terminate: kill them at once.
        """
        self._pool.close(0.0 if terminate else CLOSE_SECONDS if timeout is None else timeout)

    def _describe(self, facts: list[dict[str, Any]], mode: AutoresetMode) -> None:
        for name in ("observation_space", "action_space"):
            for (first, _), its in zip(self._parts, facts, strict=True):
                if its[name] != facts[0][name]:
                    wanted = f"every env must have the same {name}, {facts[0][name]}"
                    raise ValueError(f"{OP}: {wanted}, got {its[name]} of env {first}")
        self.env_name: str = facts[0]["name"]
        """Id of the first environment, or the name of its class."""
        self._mode = mode
        self.metadata = {**facts[0]["metadata"], "autoreset_mode": mode}
        self.render_mode = facts[0]["render_mode"]
        self.single_observation_space = facts[0]["observation_space"]
        self.single_action_space = facts[0]["action_space"]
        require_arrays("observation space", self.single_observation_space)
        require_arrays("action space", self.single_action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _require_open(self, what: str) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{OP}: {what} after close")

    def _called(self, what: str, operation: bytes, requests: Sequence[bytes]) -> list[Any]:
        self._require_open(what)
        if self._pending:
            raise RuntimeError(f"{OP} {what}: a step is not finished; call step_wait first")
        self._ask(what, operation, requests)
        try:
            return self._replies()
        except WorkerError as error:
            if error.__cause__ is None:
                raise
            error.__cause__.add_note(str(error))
            raise error.__cause__ from None

    def _ask(self, what: str, operation: bytes, requests: Sequence[bytes] | None) -> None:
        try:
            self._pool.ask(what, operation, requests)
        finally:
            self.closed = self._pool.closed

    def _replies(self) -> list[Any]:
        try:
            return self._pool.replies(self.timeout)
        finally:
            self.closed = self._pool.closed

    def _merged(self, replies: list[Any]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for part in replies:
            for env, info in part or ():
                infos = self._add_info(infos, info, env)
        return infos

    def _observation(self) -> Any:
        return tree_map(np.copy, self._shared.obs) if self.copy else self._shared.obs

    def _mask(self, mask: object) -> NDArray[np.bool_]:
        wanted = f"{OP} reset: reset_mask must be bool [{self.num_envs}]"
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"{wanted}, got {describe(mask)}")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"{wanted}, got {describe(mask)}")
        if not mask.any():
            raise ValueError(f"{wanted} with at least one True, got none")
        if not self._resettable:
            raise ResetNeeded(f"{OP} reset: the first reset, and one after an error, takes no reset_mask")
        return mask

    def _pickled_actions(self, actions: Any) -> list[bytes]:
        given = list(iterate(self.action_space, actions))
        if len(given) != self.num_envs:
            raise ValueError(f"{OP} step: actions must be {self.num_envs}, one an env, got {len(given)}")
        return [cloudpickle.dumps(given[first:end]) for first, end in self._parts]


def _pickled(makers: list[Callable[[], Any]], first: int) -> bytes:
    try:
        return bytes(cloudpickle.dumps(makers))
    except Exception as error:
        last = first + len(makers) - 1
        raise TypeError(
            f"{OP}: env_fns {first} to {last} must be functions that can be sent to a process, got {error}"
        ) from error


def _registered() -> list[bytes]:
    """Registrations that a fresh interpreter might not have, those that can be sent."""
    sent = []
    for spec in gymnasium.registry.values():
        if str(spec.entry_point).startswith(("gymnasium.", "fastrl.")):
            continue
        try:
            sent.append(bytes(cloudpickle.dumps(spec)))
        except Exception:  # an entry point of its own kind; gymnasium.make says in the worker what is missing
            continue
    return sent


def _copy_into(shared: Any, given: Any) -> bool:
    """Copies arrays into those of the shared memory, unless structure, dtype or shape differ."""
    if isinstance(shared, dict):
        return (
            isinstance(given, dict)
            and given.keys() == shared.keys()
            and all([_copy_into(shared[key], given[key]) for key in shared])
        )
    if isinstance(shared, tuple):
        return (
            isinstance(given, tuple)
            and len(given) == len(shared)
            and all([_copy_into(a, b) for a, b in zip(shared, given, strict=True)])
        )
    if not isinstance(given, np.ndarray) or given.dtype != shared.dtype or given.shape != shared.shape:
        return False
    shared[...] = given
    return True
