"""Action distributions: what a policy's output columns mean, and PPO's loss on them."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fastrl.kernels._dispatch import is_tensor
from fastrl.kernels.distributions import (
    categorical_mode,
    categorical_sample,
    gaussian_sample,
    multi_categorical_mode,
    multi_categorical_sample,
    squash,
)
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

    def compiled(self, network: Network) -> dict[str, Any]:
        """What compiled code is told of the columns: arguments of ``_core.act`` and of compiled rollouts."""
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

    def compiled(self, network: Network) -> dict[str, Any]:
        """What compiled code is told of the columns: nothing."""
        return {}

    def mode(self, columns: Float32) -> NDArray[np.int64]:
        """Most probable actions [N]."""
        return categorical_mode(columns)

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment is given for an action."""
        return action + self.space.start if self.space.start else action

    def ppo_loss(self, network: Network, **coefficients: Any) -> Callable[..., None]:
        """PPO's loss on rows of logits, then the value; see ``fastrl.kernels.losses.ppo_categorical``."""
        loss: Callable[..., None] = _losses(network).PPOCategorical(**coefficients)
        return loss


class MultiCategorical:
    """Several independent choices; the columns are the logits of one after the other.

    Args:
        space: ``MultiDiscrete`` or ``MultiBinary`` (choices of two).
    """

    dtype: type[np.generic] = np.int64
    free: tuple[tuple[str, int], ...] = ()

    def __init__(self, space: spaces.MultiDiscrete | spaces.MultiBinary) -> None:
        self.space = space
        if isinstance(space, spaces.MultiBinary):
            self.sizes: tuple[int, ...] = (2,) * int(np.prod(space.shape))
        else:
            self.sizes = tuple(int(n) for n in space.nvec.ravel())
        self.shape: tuple[int, ...] = (len(self.sizes),)
        self.columns = sum(self.sizes)

    def sample(
        self, network: Network, columns: Float32, seed: int, counter: int
    ) -> tuple[NDArray[Any], Float32]:
        """Drawn actions [N, K] and their log-probabilities [N]; a draw depends on (seed, counter, row)."""
        return multi_categorical_sample(columns, self.sizes, seed=seed, counter=counter)

    def compiled(self, network: Network) -> dict[str, Any]:
        """What compiled code is told of the columns: the numbers of choices."""
        return {"sizes": self.sizes}

    def mode(self, columns: Float32) -> NDArray[Any]:
        """Most probable actions [N, K]."""
        return multi_categorical_mode(columns, self.sizes)

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment is given for an action."""
        action = action.reshape(-1, *self.space.shape).astype(self.space.dtype)
        return action + self.space.start if isinstance(self.space, spaces.MultiDiscrete) else action

    def ppo_loss(self, network: Network, **coefficients: Any) -> Callable[..., None]:
        """PPO's loss on rows of logits, then the value."""
        loss: Callable[..., None] = _losses(network).PPOMultiCategorical(self.sizes, **coefficients)
        return loss


class DiagonalGaussian:
    """Independent normals; the columns are the means and, if the deviations depend on the state, their
    logarithms.

    Environments get the action clipped to their bounds, or squashed into them by tanh; batches and losses
    always hold the raw one. A ratio of squashed densities is that of the raw ones, so PPO's loss is the same
    for both; its entropy bonus is that of the raw Gaussian.

    Args:
        space: ``Box`` of floats.
        squash: squash by tanh instead of clipping.
        state_dependent_std: take the logarithms of the deviations from the network, not from a vector
        ``log_std``.

    Raises:
        ValueError: squashing into an unbounded space.
    """

    dtype: type[np.generic] = np.float32

    def __init__(self, space: spaces.Box, *, squash: bool = False, state_dependent_std: bool = False) -> None:
        self.space = space
        self.size = int(np.prod(space.shape))
        self.shape: tuple[int, ...] = (self.size,)
        self.squash = squash
        self.columns = self.size * (2 if state_dependent_std else 1)
        self.free: tuple[tuple[str, int], ...] = () if state_dependent_std else (("log_std", self.size),)
        self.low = np.ascontiguousarray(space.low.ravel(), np.float32)
        self.high = np.ascontiguousarray(space.high.ravel(), np.float32)
        if squash and not np.isfinite(self.high - self.low).all():
            raise ValueError(f"squash_actions needs finite bounds, got {space}")

    def log_std(self, network: Network) -> tuple[Float32, Float32] | tuple[None, None]:
        """Views of the vector of logarithms and of its gradient; None where the network gives them."""
        return network.free("log_std") if self.free else (None, None)

    def sample(
        self, network: Network, columns: Float32, seed: int, counter: int
    ) -> tuple[NDArray[Any], Float32]:
        """Drawn raw actions [N, A] and their log-densities [N]; a draw depends on (seed, counter, row)."""
        log_std, _ = self.log_std(network)
        return gaussian_sample(
            columns[:, : self.size],
            columns[:, self.size :] if log_std is None else log_std,
            seed=seed,
            counter=counter,
        )

    def compiled(self, network: Network) -> dict[str, Any]:
        """What compiled code is told of the columns: that they are Gaussian, and the vector ``log_std``."""
        return {"gaussian": True, "log_std": self.log_std(network)[0]}

    def mode(self, columns: Float32) -> NDArray[Any]:
        """Means [N, A]."""
        return columns[:, : self.size].copy()

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment is given for a raw action: in bounds, in the shape of its space."""
        bound = squash if self.squash else np.clip
        bounded = bound(action, self.low, self.high).reshape(-1, *self.space.shape)
        if self.space.dtype == np.float32:
            return bounded
        # float64 bounds are not float32 numbers: the nearest may lie outside of them
        return np.clip(bounded.astype(self.space.dtype), self.space.low, self.space.high)

    def ppo_loss(self, network: Network, **coefficients: Any) -> Callable[..., None]:
        """PPO's loss on rows of means (and logarithms of deviations), then the value."""
        kernel = _losses(network).PPOGaussian(**coefficients)
        log_std, d_log_std = self.log_std(network)

        def loss(
            y: Float32,
            dy: Float32,
            action: Float32,
            old_log_prob: Float32,
            advantage: Float32,
            return_: Float32,
            stats: NDArray[np.float64],
            old_value: Float32 | None,
            mask: None,
            scale: float,
        ) -> None:
            fields = (action, old_log_prob, advantage, return_, stats, old_value, scale)
            kernel(y, dy, log_std, d_log_std, *fields)

        return loss


def _losses(network: Network) -> Any:
    """The module whose classes take what this network gives: arrays, or tensors on a device."""
    return import_module("fastrl.kernels.losses." + ("triton" if is_tensor(network.params) else "cpp"))


def distribution_for(
    space: spaces.Space[Any], *, squash: bool = False, state_dependent_std: bool = False
) -> Distribution:
    """The distribution for an action space.

    Args:
        space: the single action space.
        squash: for Box: squash Gaussian actions by tanh.
        state_dependent_std: for Box: deviations from the network.

    Raises:
        ValueError: a space with none; the message names it and those that have one.
    """
    match space:
        case spaces.Discrete():
            return Categorical(space)
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            return MultiCategorical(space)
        case spaces.Box() if space.dtype.kind == "f":
            return DiagonalGaussian(space, squash=squash, state_dependent_std=state_dependent_std)
    raise ValueError(
        f"the action space {space} is not supported; Discrete, MultiDiscrete, MultiBinary and float Box are"
    )
