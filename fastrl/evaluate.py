"""Evaluation: what a policy earns, measured apart from training."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import flatdim
from numpy.typing import NDArray

from fastrl.envs import make_evaluation_env

if TYPE_CHECKING:
    from fastrl.algorithms.base import Algorithm


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Returns and lengths of the episodes of one evaluation."""

    episode_return: NDArray[np.float64]
    """[episodes], undiscounted."""
    episode_length: NDArray[np.int64]
    """[episodes], steps."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.episode_return.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.episode_return.std())


def evaluate(
    agent: "Algorithm",
    episodes: int = 100,
    *,
    env: Any = None,
    seed: int = 1_000_000,
    deterministic: bool = True,
    max_steps: int = 100_000,
) -> Evaluation:
    """Play ``episodes`` episodes, one in each of as many environments.

    Protocol: environment i is seeded with ``seed + i`` and plays exactly its first episode, so that short
    episodes count no more than long ones. Training's environments and random streams are not touched when
    ``deterministic``. Atari games are played to their end, and their rewards are not clipped.

    Args:
        agent: what acts.
        episodes: how many.
        env: id of the environment, or a function that makes one; default: what the agent was made with.
        seed: of the environments; keep it away from training seeds.
        deterministic: whether to take the most probable actions.
        max_steps: where episodes are cut that go on, as those without a time limit may for ever; a
            RuntimeWarning says how many. Their returns are those so far.

    Raises:
        TypeError: ``env`` is a vector environment.
        ValueError: ``episodes`` or ``max_steps`` < 1, observations of another space than the agent's, or no
            ``env`` for an agent made with a vector environment that nothing known makes again.
    """
    if episodes < 1:
        raise ValueError(f"evaluate: episodes must be >= 1, got {episodes}")
    if max_steps < 1:
        raise ValueError(f"evaluate: max_steps must be >= 1, got {max_steps}")
    env = agent.env_source if env is None else env
    if env is None:
        raise ValueError(
            f"evaluate: env must be given: the id {agent.env_id} alone does not make the agent's"
        )
    envs = make_evaluation_env(env, episodes)
    wanted, got = agent.env.single_observation_space, envs.single_observation_space
    if type(wanted) is not type(got) or wanted.shape != got.shape or flatdim(wanted) != flatdim(got):
        envs.close()
        raise ValueError(f"evaluate: env must give observations of {wanted}, got {got}")
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    running = np.ones(episodes, bool)
    state = None
    try:
        obs, _ = envs.reset(seed=seed)
        while running.any() and lengths.max() < max_steps:
            action, state = agent.respond(obs, state, None, deterministic)
            obs, reward, terminated, truncated, _ = envs.step(action)
            returns += np.where(running, reward, 0.0)
            lengths += running
            running &= ~(terminated | truncated)
    finally:
        envs.close()
    if running.any():
        cut = f"{running.sum()} of {episodes} episodes did not end in {max_steps} steps"
        warnings.warn(f"evaluate: {cut}, and count as they are", RuntimeWarning, stacklevel=2)
    return Evaluation(returns, lengths)
