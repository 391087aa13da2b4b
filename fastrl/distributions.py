"""Action distributions: what a policy's output columns mean, and PPO's loss on them."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributions import categorical_mode, categorical_sample

Float32 = NDArray[np.float32]


class Categorical:
    """One of n actions; the columns are logits.

    Args:
        space: ``Discrete(n)``.
    """

    dtype = np.int64
    shape: tuple[int, ...] = ()
    free = 0
    """Parameters of its own, outside the network's layers."""

    def __init__(self, space: spaces.Discrete) -> None:
        self.space = space
        self.columns = int(space.n)

    def sample(self, columns: Float32, *, seed: int, counter: int) -> tuple[NDArray[np.int64], Float32]:
        """Drawn actions [N] and their log-probabilities [N]; a draw depends on (seed, counter, row)."""
        return categorical_sample(columns, seed=seed, counter=counter)

    def mode(self, columns: Float32) -> NDArray[np.int64]:
        """Most probable actions [N]."""
        return categorical_mode(columns)

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment is given for an action."""
        return action + self.space.start if self.space.start else action

    def ppo_loss(self, **coefficients: Any) -> _core.PPOCategorical:
        """PPO's loss on rows of logits, then the value; see ``fastrl.kernels.losses.ppo_categorical``."""
        return _core.PPOCategorical(**coefficients)


def distribution_for(space: spaces.Space[Any]) -> Categorical:
    """The distribution for an action space.

    Raises:
        ValueError: a space with none; the message names it and those that have one.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    raise ValueError(f"the action space {space} is not supported; Discrete is")
