"""What all algorithms share: learning, prediction, saving."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray

from fastrl import checkpoint
from fastrl.algorithms.config import AlgorithmConfig as AlgorithmConfig
from fastrl.envs import make_training_env
from fastrl.envs.origin import Origin
from fastrl.observations import as_batch

EPISODE_WINDOW = 100
"""Finished training episodes that ``rollout/ep_rew_mean`` averages over."""
Metrics = Mapping[str, float]
Callback = Callable[["Algorithm", Metrics], bool | None]


class Algorithm(ABC):
    """An agent that learns. Subclasses say what it is made of and how a batch updates it.

    Args:
        env: id of an environment (compiled where fastrl has it), a function that makes one, or a vector
            environment, whose number of environments then replaces ``num_envs``; see
            ``fastrl.envs.make_training_env``.
        config: the configuration; default: that of the algorithm.
        policy: a torch module of your own instead of the configured network; see the algorithm for its
            output. With an attribute ``recurrent_state_size`` it is recurrent: see
            ``fastrl.torch_recurrent.RecurrentNetwork``.
        overrides: fields of the configuration to replace.

    Raises:
        ValueError: a field is out of its range. TypeError: an unknown field.
    """

    Config: ClassVar[type[AlgorithmConfig]]

    def __init__(
        self, env: Any, config: AlgorithmConfig | None = None, *, policy: Any = None, **overrides: Any
    ) -> None:
        known = {field.name for field in fields(self.Config)}
        for name in overrides:
            if name not in known:
                raise TypeError(
                    f"{self.name()}: unknown field {name!r}, not among {', '.join(sorted(known))}"
                )
        if isinstance(env, gymnasium.vector.VectorEnv):
            overrides["num_envs"] = env.num_envs
        self.config = config = replace(config or self.Config(), **overrides)
        self.env_id, self.env = make_training_env(env, config.num_envs, config.num_workers)
        self.origin = Origin.of(env, self.env_id, self.env)
        self.env_source = self.origin.source
        """What evaluation makes its environments from; None for vector environments that nothing known makes
        again.
        """
        self.num_timesteps = 0
        """Environment steps learned from so far."""
        self.seconds = 0.0
        """Wall-clock time that they took."""
        self.total_timesteps = self.config.total_timesteps
        """Where the schedules end."""
        self.intervals: dict[str, int | None] = {}
        """``eval_interval``, ``eval_episodes`` and ``checkpoint_interval`` of the last :meth:`learn`."""
        self.episodes: deque[tuple[float, int]] = deque(maxlen=EPISODE_WINDOW)
        """Return and length of the last finished training episodes."""
        self.best_evaluation: float | None = None
        """Mean return of the best evaluation so far."""
        self.module = policy
        self.setup()

    @classmethod
    def name(cls) -> str:
        """Name of the algorithm, as in checkpoints and messages."""
        return cls.__name__

    # ---- what an algorithm is ------------------------------------------------------------------------------

    source: Any
    """Gives the batches: has ``next()``, ``steps``, ``state()`` and ``load_state()``."""
    network: Any
    """What acts; its ``str`` says how it runs."""

    @abstractmethod
    def setup(self) -> None:
        """Build networks, optimiser and source from ``self.config`` and ``self.env``."""

    @abstractmethod
    def update(self, batch: Any) -> dict[str, float]:
        """Learn from one batch; the result is the diagnostics to log."""

    @abstractmethod
    def act(self, obs: Any, deterministic: bool) -> NDArray[Any]:
        """Actions [N] for observations [N, ...]."""

    def respond(
        self, obs: Any, state: Any, episode_start: NDArray[np.bool_] | None, deterministic: bool
    ) -> tuple[NDArray[Any], Any]:
        """As :meth:`act`, with the recurrent state; agents without one pass ``state`` through."""
        return self.act(obs, deterministic), state

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs beyond the configuration and the counters."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""

    # ---- what a user calls ---------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int | None = None,
        *,
        callback: Callback | None = None,
        progress: bool = False,
        log_dir: str | Path | None = None,
        eval_interval: int | None = None,
        eval_episodes: int = 20,
        checkpoint_interval: int | None = None,
    ) -> Self:
        """Train for ``total_timesteps`` further environment steps (default: what the configuration has left).

        Args:
            total_timesteps: rounded up to whole batches.
            callback: called as ``callback(agent, metrics)`` after every batch; returning False stops. If it
            has a
                method ``on_step(data)``, that is called at every vector step as well, which steps through
                Python.
            progress: whether to show a live display.
            log_dir: run folder for config.json, CSV and TensorBoard logs and checkpoints; None keeps nothing.
            eval_interval: steps between evaluations (default: ten in all, if ``log_dir`` is given and the
                environment is one that can be made again); the best agent's checkpoint is kept.
            eval_episodes: episodes of an evaluation.
            checkpoint_interval: steps between checkpoints (default: ten in all).

        Raises:
            ValueError: a number < 1, or an ``eval_interval`` where ``env_source`` is None.
            FloatingPointError: a reward, observation, loss or gradient is not finite; says which and where.
            KeyboardInterrupt: on SIGINT or SIGTERM, after the batch under way, its log row and a checkpoint.
        """
        from fastrl import loop

        if total_timesteps is not None:
            if total_timesteps < 1:
                raise ValueError(f"learn: total_timesteps must be >= 1, got {total_timesteps}")
            self.total_timesteps = self.num_timesteps + total_timesteps
        loop.train(
            self,
            callback=callback,
            progress=progress,
            log_dir=None if log_dir is None else Path(log_dir),
            eval_interval=eval_interval,
            eval_episodes=eval_episodes,
            checkpoint_interval=checkpoint_interval,
        )
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Action for one observation, or actions [N] for a batch of them, and the recurrent state (as in
        SB3).

        Args:
            observation: of the environment's single observation space, or a batch of such.
            state: recurrent state that the last call returned; None begins with zeros. Agents without a
                memory pass it through.
            episode_start: bool [N]: where an episode begins, so that a recurrent agent forgets its state.
            deterministic: whether to take the most probable action instead of drawing one.

        Raises:
            ValueError: the observation has neither shape, is not finite, or not in a discrete space.
        """
        batch, single = as_batch(self.env.single_observation_space, observation)
        action, state = self.respond(batch, state, episode_start, deterministic)
        return (action[0] if single else action), state

    def save(self, path: str | Path) -> Path:
        """Write the agent, optimiser and environments included, to a checkpoint folder; returns its path."""
        return checkpoint.save_folder(
            path, self.checkpoint_state(), algorithm=self.name(), step=self.num_timesteps
        )

    @classmethod
    def load(cls, path: str | Path, env: Any = None, *, policy: Any = None) -> Self:
        """The agent that :meth:`save`, or a run, wrote. ``env`` replaces its environment.

        It must be given where the agent's was made by a function, or is a vector environment that its id
        alone does not make; compiled ones without wrappers are made again with their options.

        ``policy`` must be a module like the agent's, if it was made with one of your own.

        Raises:
            CheckpointError: missing, truncated, corrupt, or of another algorithm.
            ValueError: ``env`` or ``policy`` must be given.
        """
        saved = checkpoint.read(Path(path), algorithm=cls.name())
        if policy is None and saved.state.get("own_module", False):
            raise ValueError("load: policy must be a module like the one the agent was made with, got None")
        config = cls.Config.from_mapping(saved.state["config"])
        made = Origin.again(saved.state, config.num_envs) if env is None else env
        agent = cls(made, config, policy=policy)
        agent.load_checkpoint_state(saved.state, with_source=env is None)
        return agent

    # ---- checkpoints ---------------------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Any]:
        """The whole agent as a tree of arrays and plain values."""
        return {
            "config": asdict(self.config),
            "env_id": self.env_id,
            **self.origin.state(),
            "own_module": self.module is not None,
            "num_timesteps": self.num_timesteps,
            "seconds": self.seconds,
            "total_timesteps": self.total_timesteps,
            "intervals": dict(self.intervals),
            "episodes": [list(episode) for episode in self.episodes],
            "best_evaluation": self.best_evaluation,
            "algorithm": self.state(),
            "source": self.source.state(),
        }

    def load_checkpoint_state(self, state: Mapping[str, Any], *, with_source: bool = True) -> None:
        """Restore what :meth:`checkpoint_state` gave; without the source's environments, which then begin
        new episodes.
        """
        self.num_timesteps = int(state["num_timesteps"])
        self.seconds = float(state.get("seconds", 0.0))
        self.total_timesteps = int(state["total_timesteps"])
        self.intervals = dict(state.get("intervals", {}))
        self.episodes.extend((ret, length) for ret, length in state["episodes"])
        self.best_evaluation = state["best_evaluation"]
        self.load_state(state["algorithm"])
        self.source.load_state(state["source"], with_env=with_source)
