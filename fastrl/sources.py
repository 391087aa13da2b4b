"""Where batches come from. A source has ``next() -> batch`` and can save and restore its state."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector import VectorEnv as GymVectorEnv
from numpy.typing import NDArray

from fastrl import _core
from fastrl.envs import VectorEnv
from fastrl.policies import CategoricalPolicy

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """T steps of N environments, time-major, and the episodes that ended in them.

    The arrays are the source's own: the next batch overwrites them.
    """

    obs: Float32
    """[T, N, D]: what the policy saw."""
    action: NDArray[np.int64]
    """[T, N]"""
    log_prob: Float32
    """[T, N]: log-probability of the action when it was drawn."""
    value: Float32
    """[T, N]: value of ``obs``."""
    next_value: Float32
    """[T, N]: value of the true next observation, also where an episode was truncated."""
    reward: Float32
    """[T, N]"""
    terminated: NDArray[np.bool_]
    """[T, N]"""
    truncated: NDArray[np.bool_]
    """[T, N]"""
    episode_return: NDArray[np.float64]
    """Undiscounted returns of the episodes that ended, in the order of their ends."""
    episode_length: NDArray[np.int64]
    """Their lengths in steps."""
    seconds: Mapping[str, float]
    """Time spent in ``env`` and in ``policy``."""


class Rollout:
    """On-policy rollouts of fixed length; episodes go on from one batch to the next.

    With a compiled environment a whole batch is one native call. Otherwise, or when ``on_step`` is set, steps
    go through Python one by one; both ways give identical batches.

    Args:
        env: vector environment in SAME_STEP autoreset mode, with flat float32 observations and discrete
        actions.
        policy: what acts.
        num_steps: T, steps of each environment in a batch.
        seed: of the environments' first reset.

    Raises:
        ValueError: ``num_steps`` < 1, or an environment in another autoreset mode.
    """

    def __init__(
        self, env: GymVectorEnv[Any, Any, Any], policy: CategoricalPolicy, num_steps: int, seed: int
    ) -> None:
        if num_steps < 1:
            raise ValueError(f"Rollout: num_steps must be >= 1, got {num_steps}")
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"Rollout: the environment's autoreset mode must be SAME_STEP, got {mode}")
        self.env = env
        self.policy = policy
        self.num_steps = num_steps
        self.on_step: Callable[[Mapping[str, Any]], None] | None = None
        self.counter = 0
        """Vector steps taken so far; also the counter of the policy's random draws."""
        n, d = env.num_envs, policy.network.spec.inputs
        self._arrays: dict[str, Any] = {"obs": np.empty((num_steps, n, d), np.float32)}
        for name, dtype in (
            ("action", np.int64),
            ("log_prob", np.float32),
            ("value", np.float32),
            ("next_value", np.float32),
            ("reward", np.float32),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
        ):
            self._arrays[name] = np.zeros((num_steps, n), dtype)
        obs, _ = env.reset(seed=seed)
        self._native: _core.Rollout | None = None
        if isinstance(env, VectorEnv):
            self._native = _core.Rollout(env.core, policy.network.plan.core, **self._arrays)
        self._obs: Float32 = self._as_rows(obs)
        self._running_return = np.zeros(n)
        self._running_length = np.zeros(n, np.int64)

    @property
    def steps(self) -> int:
        """Environment steps in a batch: T * N."""
        return self.num_steps * self.env.num_envs

    @property
    def exact_resume(self) -> bool:
        """Whether the environments' state is part of :meth:`state`; else their episodes restart on a
        resume.
        """
        return self._native is not None

    def next(self) -> RolloutBatch:
        """The next T steps.

        Raises:
            FloatingPointError: an observation, a reward or a logit is not finite; names step and environment.
        """
        if self._native is not None and self.on_step is None:
            returns, lengths, env, policy = self._native.collect(
                self.policy.network.params, self.policy.seed, self.counter
            )
            self.counter += self.num_steps
            seconds = {"env": env, "policy": policy}
        else:
            returns, lengths, seconds = self._collect()
        return RolloutBatch(**self._arrays, episode_return=returns, episode_length=lengths, seconds=seconds)

    def state(self) -> dict[str, Any]:
        """Counter and, for compiled environments, everything in them."""
        state: dict[str, Any] = {"counter": self.counter}
        if isinstance(self.env, VectorEnv):
            state["env"] = self.env.get_state()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.counter = int(state["counter"])
        if isinstance(self.env, VectorEnv):
            self.env.set_state(state["env"])

    def _as_rows(self, obs: Any) -> Float32:
        return np.ascontiguousarray(obs, np.float32).reshape(self.env.num_envs, -1)

    def _collect(self) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[str, float]]:
        arrays, policy = self._arrays, self.policy
        seconds = {"env": 0.0, "policy": 0.0}
        returns: list[float] = []
        lengths: list[int] = []
        finals: list[tuple[int, int, Float32]] = []
        if isinstance(self.env, VectorEnv):
            self._obs = np.array(self.env.core.obs)
        for t in range(self.num_steps):
            start = time.perf_counter()
            arrays["obs"][t] = self._obs
            act = policy.act(arrays["obs"][t], self.counter)
            arrays["action"][t], arrays["log_prob"][t], arrays["value"][t] = act
            acted = time.perf_counter()
            obs, reward, terminated, truncated, info = self.env.step(act.action)
            self._obs = self._as_rows(obs)
            seconds["policy"] += acted - start
            seconds["env"] += time.perf_counter() - acted
            arrays["reward"][t] = reward
            arrays["terminated"][t], arrays["truncated"][t] = terminated, truncated
            self._require_finite("the reward", arrays["reward"][t])
            self._require_finite("the observation", self._obs)
            self._running_return += reward
            self._running_length += 1
            for n in np.flatnonzero(terminated | truncated):
                returns.append(float(self._running_return[n]))
                lengths.append(int(self._running_length[n]))
                self._running_return[n] = self._running_length[n] = 0
                if not terminated[n]:
                    final = np.asarray(info["final_obs"][n], np.float32).reshape(1, -1)
                    self._require_finite("the final observation", final, int(n))
                    finals.append((t, int(n), final))
            self.counter += 1
            if self.on_step is not None:
                self.on_step(
                    {"obs": arrays["obs"][t], "action": act.action, "reward": reward,
                     "terminated": terminated, "truncated": truncated, "info": info}
                )  # fmt: skip
        start = time.perf_counter()
        arrays["next_value"][:-1] = arrays["value"][1:]
        arrays["next_value"][-1] = policy.value(self._obs)
        for t, env, final in finals:
            arrays["next_value"][t, env] = policy.value(final)[0]
        seconds["policy"] += time.perf_counter() - start
        return np.array(returns, np.float64), np.array(lengths, np.int64), seconds

    def _require_finite(self, what: str, x: Float32, env: int | None = None) -> None:
        if np.isfinite(x).all():
            return
        if env is None:
            env = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[0])
        raise FloatingPointError(f"{what} is not finite at step {self.counter}, env {env}")
