"""Action distributions: what a policy's output columns mean, and PPO's loss on them."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import categorical_mode, categorical_sample
from fastrl.networks import Network

Float32 = NDArray[np.float32]


class Distribution(Protocol):
    """What a policy needs of one; ``columns`` [N, columns] are outputs of the network."""

    columns: int
    """Outputs of the policy head."""
    free: tuple[tuple[str, int], ...]
    """Names and sizes of parameter vectors outside the network's layers."""
    dtype: type[np.generic]
    shape: tuple[int, ...]
    """Of one action."""

    def sample(
        self, network: Network, columns: Float32, seed: int, counter: int
    ) -> tuple[NDArray[Any], Float32]:
        """Drawn actions [N, *shape] and their log-probabilities [N]; a draw depends on (seed, counter,
        row).
        """
        ...

    def mode(self, columns: Float32) -> NDArray[Any]:
        """Most probable actions [N, *shape]."""
        ...

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment is given for an action."""
        ...

    def ppo_loss(self, network: Network, **coefficients: Any) -> Callable[..., None]:
        """PPO's loss as ``loss(y, dy, action, old_log_prob, advantage, return_, stats, old_value, mask,
        scale)``.

        It writes the gradient of the columns and the value to ``dy``, and adds that of free vectors to
        theirs.
        """
        ...


class Categorical:
    """One of n actions; the columns are logits.

    Args:
        space: ``Discrete(n)``.
    """

    dtype: type[np.generic] = np.int64
    shape: tuple[int, ...] = ()
    free: tuple[tuple[str, int], ...] = ()

    def __init__(self, space: spaces.Discrete) -> None:
        self.space = space
        self.columns = int(space.n)

    def sample(
        self, network: Network, columns: Float32, seed: int, counter: int
    ) -> tuple[NDArray[Any], Float32]:
        """Drawn actions [N] and their log-probabilities [N]; a draw depends on (seed, counter, row)."""
        return categorical_sample(columns, seed=seed, counter=counter)

    def mode(self, columns: Float32) -> NDArray[np.int64]:
        """Most probable actions [N]."""
        return categorical_mode(columns)

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment is given for an action."""
        return action + self.space.start if self.space.start else action

    def ppo_loss(self, network: Network, **coefficients: Any) -> Callable[..., None]:
        """PPO's loss on rows of logits, then the value; see ``fastrl.kernels.losses.ppo_categorical``."""
        return _core.PPOCategorical(**coefficients)


def distribution_for(space: spaces.Space[Any]) -> Distribution:
    """The distribution for an action space.

    Raises:
        ValueError: a space with none; the message names it and those that have one.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    raise ValueError(f"the action space {space} is not supported; Discrete is")
