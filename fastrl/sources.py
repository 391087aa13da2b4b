"""Where batches come from. A source has ``next() -> batch`` and can save and restore its state."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector import VectorEnv as GymVectorEnv
from numpy.typing import NDArray

from fastrl import _core
from fastrl.distributions import DiagonalGaussian
from fastrl.envs import VectorEnv
from fastrl.networks import NativeNetwork
from fastrl.normalize import ReturnNormalizer
from fastrl.observations import one_of
from fastrl.policies import Act, ActorCritic

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """T steps of N environments, time-major, and the episodes that ended in them.

    The arrays are the source's own: the next batch overwrites them.
    """

    obs: NDArray[Any]
    """[T, N, ...]: what the policy saw, encoded."""
    action: NDArray[Any]
    """[T, N, ...]"""
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
    valid: NDArray[np.bool_] | None
    """[T, N]: False where a NEXT_STEP environment only reset itself; None: all are."""
    episode_return: NDArray[np.float64]
    """Undiscounted returns of the episodes that ended, in the order of their ends."""
    episode_length: NDArray[np.int64]
    """Their lengths in steps."""
    seconds: Mapping[str, float]
    """Time spent in ``env`` and in ``policy``."""

    @property
    def samples(self) -> int:
        """Valid steps."""
        return prod(self.value.shape) if self.valid is None else int(self.valid.sum())


class Rollout:
    """On-policy rollouts of fixed length; episodes go on from one batch to the next.

    With a compiled environment and a native network a whole batch is one native call. Otherwise, or when
    ``on_step`` is set, steps go through Python one by one; both ways give identical batches.

    Environments of any autoreset mode are taken: SAME_STEP as it is; with NEXT_STEP, the step in which an
    environment resets itself is marked invalid; with DISABLED, finished environments are reset by mask.

    Args:
        env: vector environment.
        policy: what acts.
        num_steps: T, steps of each environment in a batch.
        seed: of the environments' first reset; a load that cannot go on exactly resets them by one drawn from
            it and the vector steps so far.
        reward_normalizer: scales the rewards of the batches (not the episodes' returns).

    Raises:
        ValueError: ``num_steps`` < 1, or an environment that does not say its autoreset mode.
    """

    def __init__(
        self,
        env: GymVectorEnv[Any, Any, Any],
        policy: ActorCritic,
        num_steps: int,
        seed: int,
        *,
        reward_normalizer: ReturnNormalizer | None = None,
    ) -> None:
        if num_steps < 1:
            raise ValueError(f"Rollout: num_steps must be >= 1, got {num_steps}")
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(f"Rollout: the environment's metadata must say its AutoresetMode, got {mode!r}")
        self.env = env
        self.mode = mode
        self.policy = policy
        self.num_steps = num_steps
        self.reward_normalizer = reward_normalizer
        self.on_step: Callable[[Mapping[str, Any]], None] | None = None
        self.counter = 0
        """Vector steps taken so far; also the counter of the policy's random draws."""
        n, encoder, distribution = env.num_envs, policy.encoder, policy.distribution
        self._arrays: dict[str, Any] = {
            "obs": np.zeros((num_steps, n, *encoder.shape), encoder.dtype),
            "action": np.zeros((num_steps, n, *distribution.shape), distribution.dtype),
        }
        for name in ("log_prob", "value", "next_value", "reward"):
            self._arrays[name] = np.zeros((num_steps, n), np.float32)
        for name in ("terminated", "truncated"):
            self._arrays[name] = np.zeros((num_steps, n), np.bool_)
        self._valid = np.ones((num_steps, n), np.bool_) if mode is AutoresetMode.NEXT_STEP else None
        self._seed = seed
        self._native: _core.Rollout | None = None
        if isinstance(env, VectorEnv) and mode is AutoresetMode.SAME_STEP and policy.native:
            assert isinstance(policy.network, NativeNetwork)
            self._network = policy.network
            bounds: dict[str, Any] = {}
            if isinstance(distribution, DiagonalGaussian):
                bounds = {"low": distribution.low, "high": distribution.high, "squash": distribution.squash}
            self._native = _core.Rollout(env.core, policy.network.plan.core, **self._arrays, **bounds)
        self._restart()
        policy.update_statistics(self._obs)
        self._reports = getattr(env, "reports_episodes", False)  # of whole games, where lives are episodes

    @property
    def steps(self) -> int:
        """Environment steps in a batch: T * N."""
        return self.num_steps * self.env.num_envs

    @property
    def exact_resume(self) -> bool:
        """Whether the environments' state is part of :meth:`state`; else new episodes begin on a resume."""
        return isinstance(self.env, VectorEnv)

    def next(self) -> RolloutBatch:
        """The next T steps.

        Raises:
            FloatingPointError: an observation, a reward or a logit is not finite; names step and environment.
            ValueError: an observation has another shape than the space says.
        """
        if self._native is not None and self.on_step is None:
            policy, normalizer, rewards = self.policy, self.policy.normalizer, self.reward_normalizer
            returns, lengths, in_env, in_policy = self._native.collect(
                self._network.layer_params,
                policy.seed,
                self.counter,
                **policy.distribution.compiled(self._network),
                obs_normalizer=None if normalizer is None else normalizer.core,
                reward_normalizer=None if rewards is None else rewards.core,
            )
            self.counter += self.num_steps
            seconds = {"env": in_env, "policy": in_policy}
        else:
            returns, lengths, seconds = self._collect()
        return RolloutBatch(
            obs=self._arrays["obs"],
            action=self._arrays["action"],
            log_prob=self._arrays["log_prob"],
            value=self._arrays["value"],
            next_value=self._arrays["next_value"],
            reward=self._arrays["reward"],
            terminated=self._arrays["terminated"],
            truncated=self._arrays["truncated"],
            valid=self._valid,
            episode_return=returns,
            episode_length=lengths,
            seconds=seconds,
        )

    def state(self) -> dict[str, Any]:
        """Counter and, for compiled environments, everything in them."""
        state: dict[str, Any] = {"counter": self.counter}
        if isinstance(self.env, VectorEnv):
            state["env"] = self.env.get_state()
        if self.reward_normalizer is not None:
            state["reward_normalizer"] = self.reward_normalizer.state()
        return state

    def load_state(self, state: Mapping[str, Any], *, with_env: bool = True) -> None:
        """Restore what :meth:`state` gave; without the environments' state they begin new episodes, as those
        do that have none: the same ones after each load of it, but not those that the run began with.
        """
        self.counter = int(state["counter"])
        exact = self._is_exact(state, with_env)
        if exact:
            self.env.set_state(state["env"])  # type: ignore[attr-defined]
        else:
            self._restart()
        if self.reward_normalizer is not None:
            kept = state["reward_normalizer"]
            if exact:
                self.reward_normalizer.load_state(kept)
            else:  # the returns so far were of the episodes left behind
                self.reward_normalizer.statistics.load_state(kept["statistics"])
                self.reward_normalizer.returns[:] = 0.0

    def _restart(self) -> None:
        """Begin new episodes, whose seeds depend on how far the run has come."""
        n, seed = self.env.num_envs, self._seed
        if self.counter:  # 30 bits, as some environments take no more than 31
            seed = int(np.random.SeedSequence([seed, self.counter]).generate_state(1)[0] >> 2)
        obs, _ = self.env.reset(seed=seed)
        self._obs = self.policy.encoder.encode(obs)
        self._ended = np.zeros(n, np.bool_)  # in the last step
        self._running_return = np.zeros(n)  # of environments that do not count it themselves
        self._running_length = np.zeros(n, np.int64)

    def _is_exact(self, state: Mapping[str, Any], with_env: bool) -> bool:
        return with_env and self.exact_resume and "env" in state

    def _collect(self) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[str, float]]:
        arrays, policy = self._arrays, self.policy
        seconds = {"env": 0.0, "policy": 0.0}
        returns: list[float] = []
        lengths: list[int] = []
        finals: list[tuple[int, int, np.float32]] = []
        if isinstance(self.env, VectorEnv):  # the native path, or a loaded state, may have moved it since
            self._obs = policy.encoder.encode(self.env.observation)
            self._ended = np.array(self.env.core.needs_reset)
        for t in range(self.num_steps):
            start = time.perf_counter()
            arrays["obs"][t] = policy.normalize(self._obs)
            act = self._act(arrays["obs"][t])
            arrays["action"][t], arrays["log_prob"][t], arrays["value"][t] = act
            self._require_finite("the policy's output", arrays["log_prob"][t])
            acted = time.perf_counter()
            obs, reward, terminated, truncated, info = self.env.step(
                policy.distribution.to_env(arrays["action"][t])
            )
            # an environment may hand out its own arrays, which a reset changes
            reward, terminated, truncated = map(np.array, (reward, terminated, truncated))
            ended = terminated | truncated
            valid = None
            if self._valid is not None:  # the reset of an ended environment belongs to no episode
                valid = self._valid[t]
                valid[:] = ~self._ended
                ended = ended & valid
            last = None
            if self.mode is AutoresetMode.DISABLED and ended.any():
                last = np.array(policy.encoder.encode(obs))
                obs, _ = self.env.reset(options={"reset_mask": ended})
            self._obs = policy.encoder.encode(obs)
            self._require_finite("the observation", self._obs)
            # final observations are not acted on: they belong to the statistics in no autoreset mode
            policy.update_statistics(self._obs if valid is None else self._obs[~ended])
            seconds["policy"] += acted - start
            seconds["env"] += time.perf_counter() - acted
            self._require_finite("the reward", reward)
            arrays["reward"][t] = reward
            if self.reward_normalizer is not None:
                self.reward_normalizer.update(reward, ended, valid)
                arrays["reward"][t] = self.reward_normalizer.normalize(reward)
            arrays["terminated"][t], arrays["truncated"][t] = terminated, truncated
            counted = self._count(reward, ended, valid, info)
            returns += counted[0]
            lengths += counted[1]
            if valid is not None:  # the next row holds the final observation, and its value
                arrays["truncated"][t] |= self._ended
                self._ended = ended
            else:
                for n in map(int, np.flatnonzero(ended & ~terminated)):
                    if last is not None:
                        final = last[n : n + 1]
                    else:
                        final = policy.encoder.encode(one_of(policy.encoder.space, info["final_obs"], n))
                    self._require_finite("the final observation", final, n)
                    finals.append((t, n, self._value(policy.normalize(final), n)[0]))
            self._begin(t + 1, ended if valid is None else ~valid)
            self.counter += 1
            if self.on_step is not None:
                self.on_step(
                    {"obs": arrays["obs"][t], "action": act.action, "reward": reward,
                     "terminated": terminated, "truncated": truncated, "info": info}
                )  # fmt: skip
        start = time.perf_counter()
        arrays["next_value"][:-1] = arrays["value"][1:]
        arrays["next_value"][-1] = self._value(policy.normalize(self._obs))
        for t, env, value in finals:
            arrays["next_value"][t, env] = value
        seconds["policy"] += time.perf_counter() - start
        return np.array(returns, np.float64), np.array(lengths, np.int64), seconds

    def _count(
        self,
        reward: NDArray[Any],
        ended: NDArray[np.bool_],
        valid: NDArray[np.bool_] | None,
        info: Mapping[str, Any],
    ) -> tuple[list[float], list[int]]:
        """Returns and lengths of the episodes that ended with this step."""
        if self._reports:
            episode, over = info["episode"], info["_episode"]
            return episode["r"][over].tolist(), episode["l"][over].tolist()
        if isinstance(self.env, VectorEnv):  # counts them itself, whichever path steps it
            return self.env.episode_return[ended].tolist(), self.env.episode_length[ended].tolist()
        self._running_return += reward if valid is None else np.where(valid, reward, 0.0)
        self._running_length += 1 if valid is None else valid
        counted = self._running_return[ended].tolist(), self._running_length[ended].tolist()
        self._running_return[ended] = 0.0
        self._running_length[ended] = 0
        return counted

    # What a policy with a memory does otherwise (fastrl.recurrent):

    def _act(self, x: NDArray[Any]) -> Act:
        return self.policy.act(x, self.counter)

    def _value(self, x: NDArray[Any], env: int | None = None) -> Float32:
        """Values of observed x: of every environment, or of one."""
        return self.policy.value(x)

    def _begin(self, t: int, started: NDArray[np.bool_]) -> None:
        """Row t, which may be the next batch's first, begins an episode in these environments."""

    def _require_finite(self, what: str, x: NDArray[Any], env: int | None = None) -> None:
        if x.dtype == np.uint8 or np.isfinite(x).all():
            return
        if env is None:
            env = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[0])
        raise FloatingPointError(f"{what} is not finite at step {self.counter}, env {env}")
