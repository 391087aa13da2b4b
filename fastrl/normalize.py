"""Running normalisation of observations and rewards, in float64, exact and mergeable."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe, require_positive, require_unit

_EPSILON = 1e-8


class RunningMeanStd:
    """Mean and population variance of all values seen, by column.

    Equal to ``np.mean`` and ``np.var`` over everything seen, up to rounding: no starting pseudo-count
    (Gymnasium and Stable-Baselines3 begin with 1e-4 observations of mean 0 and variance 1). Before the first
    batch the mean is 0 and the variance 1.

    Source: Chan, Golub & LeVeque, Updating formulae and a pairwise algorithm for computing sample variances,
    1979, equation 2.1.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """Statistics of columns of this shape, as ``observation_space.shape``."""
        self.shape = shape
        self.count = 0
        self.mean = np.zeros(shape)
        self.var = np.ones(shape)

    def update(self, batch: NDArray[Any]) -> None:
        """Take in a batch [..., *shape] of any leading axes; an empty one changes nothing.

        Raises:
            TypeError: not a numeric array.
            ValueError: another shape, or a value is NaN or infinite; nothing is changed.
        """
        if not isinstance(batch, np.ndarray) or batch.dtype.kind not in "biuf":
            raise TypeError(f"normalize: batch must be a numeric array, got {describe(batch)}")
        leading = batch.ndim - len(self.shape)
        if leading < 1 or batch.shape[leading:] != self.shape:
            raise ValueError(f"normalize: batch must be [..., {_dims(self.shape)}], got {describe(batch)}")
        rows = batch.reshape(-1, *self.shape)
        if len(rows) == 0:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            mean = rows.mean(axis=0, dtype=np.float64)
            var = np.square(rows - mean).mean(axis=0)
        if not np.isfinite(var).all():
            self._refuse(rows, var)
        self._merge(len(rows), mean, var)

    def merge(self, other: "RunningMeanStd") -> None:
        """Take in everything that another one has seen, as a worker's statistics.

        Raises:
            ValueError: another shape.
        """
        if other.shape != self.shape:
            raise ValueError(f"normalize: cannot merge shape {list(other.shape)} into {list(self.shape)}")
        if other.count:
            self._merge(other.count, other.mean, other.var)

    def normalize(self, x: NDArray[Any], *, clip: float = 10.0) -> NDArray[np.float32]:
        """(x - mean) / sqrt(var + 1e-8) of x [..., *shape], clipped to [-clip, clip], as float32."""
        z = (x - self.mean) / np.sqrt(self.var + _EPSILON)
        return np.clip(z, -clip, clip).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """The statistics, for a checkpoint; later updates do not change it."""
        return {"count": self.count, "mean": self.mean, "var": self.var}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            ValueError: the state is of another shape.
        """
        mean, var = np.array(state["mean"], dtype=np.float64), np.array(state["var"], dtype=np.float64)
        if mean.shape != self.shape or var.shape != self.shape:
            raise ValueError(f"normalize: state must be of shape {list(self.shape)}, got {list(mean.shape)}")
        self.count, self.mean, self.var = int(state["count"]), mean, var

    def _merge(self, count: int, mean: NDArray[np.float64], var: NDArray[np.float64]) -> None:
        total = self.count + count
        share = count / total
        delta = mean - self.mean
        if self.count == 0:
            self.count, self.mean, self.var = count, np.array(mean), np.array(var)
            return
        self.mean = self.mean + delta * share
        self.var = self.var * (1 - share) + var * share + np.square(delta) * share * (1 - share)
        self.count = total

    def _refuse(self, rows: NDArray[Any], var: NDArray[np.float64]) -> None:
        bad = np.argwhere(~np.isfinite(rows))
        if not len(bad):
            column = _index(np.argwhere(~np.isfinite(var))[0])
            raise ValueError(f"normalize: the variance of column {column} overflows float64")
        row, column = bad[0][0], bad[0][1:]
        where = f"column {_index(column)} of row {row}" if len(column) else f"row {row}"
        raise ValueError(f"normalize: batch must be finite, got {rows[tuple(bad[0])]} in {where}")


class ReturnNormalizer:
    """Scales rewards by the standard deviation of the running discounted return of each environment.

    R ← γ R + r; the statistics take in R; r̂ = clip(r / sqrt(var(R) + 1e-8)); R ← 0 where the episode ended,
    whether terminated or truncated. The mean is not subtracted: it would change the optimal policy.

    This is the order of Stable-Baselines3's VecNormalize: the last reward of an episode belongs to its
    return, and the next episode begins at 0. Gymnasium's NormalizeReward multiplies by 1 - terminated
    *before* it adds the reward, so that the last reward stands alone; unless autoreset is SAME_STEP it then
    carries over into the next episode, and so does the whole return after a truncation.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        """For ``num_envs`` environments side by side and the agent's discount ``gamma`` in [0, 1]."""
        require_positive("normalize", "num_envs", num_envs)
        require_unit("normalize", "gamma", gamma)
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.statistics = RunningMeanStd()

    def update(self, reward: NDArray[Any], done: NDArray[Any]) -> None:
        """Take in one step of every environment.

        Args:
            reward: [num_envs].
            done: terminated or truncated, bool [num_envs].

        Raises:
            ValueError: another shape, or a reward is NaN or infinite (naming the env); nothing is changed.
        """
        for name, array in (("reward", reward), ("done", done)):
            if array.shape != self.returns.shape:
                raise ValueError(f"normalize: {name} must be [{len(self.returns)}], got {describe(array)}")
        if not np.isfinite(reward).all():
            env = int(np.argmin(np.isfinite(reward)))
            raise ValueError(f"normalize: reward must be finite, got {reward[env]} from env {env}")
        returns = self.returns * self.gamma + reward
        self.statistics.update(returns)
        self.returns = np.where(done, 0.0, returns)

    def normalize(self, reward: NDArray[Any], *, clip: float = 10.0) -> NDArray[np.float32]:
        """reward / sqrt(var + 1e-8), clipped to [-clip, clip], as float32; call it after ``update``."""
        z = reward / np.sqrt(self.statistics.var + _EPSILON)
        return np.clip(z, -clip, clip).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Returns and statistics, for a checkpoint; later updates do not change it."""
        return {"returns": self.returns, "statistics": self.statistics.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            ValueError: the state is of another number of environments.
        """
        returns = np.array(state["returns"], dtype=np.float64)
        if returns.shape != self.returns.shape:
            raise ValueError(f"normalize: state must be of {len(self.returns)} envs, got {len(returns)}")
        self.statistics.load_state(state["statistics"])
        self.returns = returns


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _index(position: NDArray[Any]) -> str:
    return ", ".join(map(str, position))
