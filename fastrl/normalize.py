"""Running normalisation of observations and rewards, in float64, exact and mergeable."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels._check import describe, require_positive, require_unit


class RunningMeanStd:
    """Mean and population variance of all values seen, by column.

    Equal to ``np.mean`` and ``np.var`` over everything seen, up to rounding: no starting pseudo-count
    (Gymnasium and Stable-Baselines3 begin with 1e-4 observations of mean 0 and variance 1). Before the first
    batch the mean is 0 and the variance 1. ``mean`` and ``var`` are changed in place.

    Source: Chan, Golub & LeVeque, Updating formulae and a pairwise algorithm for computing sample variances,
    1979, equation 2.1.
    """

    def __init__(self, shape: tuple[int, ...] = (), *, clip: float = 10.0) -> None:
        """Statistics of columns of this shape, as ``observation_space.shape``.

        Args:
            shape: of one row.
            clip: what :meth:`normalize` clips to, > 0.
        """
        require_positive("normalize", "clip", clip)
        self.shape = shape
        self.clip = clip
        self.mean = np.zeros(shape)
        self.var = np.ones(shape)
        self._count = np.zeros(1, np.int64)

    @property
    def count(self) -> int:
        """Rows seen."""
        return int(self._count[0])

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Count [1], mean and variance [columns], as the kernels take them: views."""
        return self._count, self.mean.reshape(-1), self.var.reshape(-1)

    @property
    def core(self) -> _core.RunningMeanStd:
        """The kernels over these statistics."""
        return _core.RunningMeanStd(*self.arrays, self.clip)

    def update(self, batch: NDArray[Any]) -> None:
        """Take in a batch [..., *shape] of any leading axes; an empty one changes nothing.

        Raises:
            TypeError: not a numeric array.
            ValueError: another shape, or a value is NaN or infinite; nothing is changed.
        """
        if not isinstance(batch, np.ndarray) or batch.dtype.kind not in "biuf":
            raise TypeError(f"normalize: batch must be a numeric array, got {describe(batch)}")
        rows = self._rows("batch", batch)
        column = self.core.update(rows)
        if column >= 0:
            self._refuse(batch.reshape(-1, *self.shape), column)

    def merge(self, other: "RunningMeanStd") -> None:
        """Take in everything that another one has seen, as a worker's statistics.

        Raises:
            ValueError: another shape.
        """
        if other.shape != self.shape:
            raise ValueError(f"normalize: cannot merge shape {list(other.shape)} into {list(self.shape)}")
        if other.count:
            self.core.merge(other.count, *other.arrays[1:])

    def normalize(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """(x - mean) / sqrt(var + 1e-8) of x [..., *shape], clipped to [-clip, clip], as float32.

        Raises:
            ValueError: another shape.
        """
        rows = self._rows("x", x)
        out = np.empty(rows.shape, np.float32)
        self.core.normalize(rows, out)
        return out.reshape(x.shape)

    def state(self) -> dict[str, Any]:
        """The statistics, for a checkpoint; later updates do not change it."""
        return {"count": self.count, "mean": self.mean.copy(), "var": self.var.copy()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            ValueError: the state is of another shape.
        """
        mean, var = np.array(state["mean"], dtype=np.float64), np.array(state["var"], dtype=np.float64)
        if mean.shape != self.shape or var.shape != self.shape:
            raise ValueError(f"normalize: state must be of shape {list(self.shape)}, got {list(mean.shape)}")
        self._count[0] = int(state["count"])
        self.mean[...], self.var[...] = mean, var

    def _rows(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        """Float32 or float64 [rows, columns], C-contiguous."""
        leading = x.ndim - len(self.shape)
        if leading < 1 or x.shape[leading:] != self.shape:
            raise ValueError(f"normalize: {name} must be [..., {_dims(self.shape)}], got {describe(x)}")
        dtype = np.float32 if x.dtype == np.float32 else np.float64
        return np.require(x.reshape(-1, self.mean.size), dtype, ["C", "A"])

    def _refuse(self, rows: NDArray[Any], column: int) -> None:
        bad = np.argwhere(~np.isfinite(rows))
        if not len(bad):
            place = np.argwhere(np.arange(self.mean.size).reshape(self.shape) == column)[0]
            raise ValueError(f"normalize: the variance of column {_index(place)} overflows float64")
        row, place = bad[0][0], bad[0][1:]
        where = f"column {_index(place)} of row {row}" if len(place) else f"row {row}"
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

    def __init__(self, num_envs: int, gamma: float, *, clip: float = 10.0) -> None:
        """For ``num_envs`` environments side by side.

        Args:
            num_envs: their number.
            gamma: the agent's discount, in [0, 1].
            clip: what :meth:`normalize` clips to, > 0.
        """
        require_positive("normalize", "num_envs", num_envs)
        require_unit("normalize", "gamma", gamma)
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.statistics = RunningMeanStd(clip=clip)

    @property
    def core(self) -> _core.ReturnNormalizer:
        """The kernels over these returns and statistics."""
        return _core.ReturnNormalizer(self.returns, self.gamma, *self.statistics.arrays, self.statistics.clip)

    def update(
        self, reward: NDArray[Any], done: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
    ) -> None:
        """Take in one step of every environment.

        Args:
            reward: [num_envs].
            done: terminated or truncated, bool [num_envs].
            valid: bool [num_envs]: False where a NEXT_STEP environment only reset itself, which is no step;
                None: all are.

        Raises:
            ValueError: another shape, or a reward is NaN or infinite (naming the env); nothing is changed.
        """
        for name, array in (("reward", reward), ("done", done), ("valid", valid)):
            if array is not None and array.shape != self.returns.shape:
                raise ValueError(f"normalize: {name} must be [{len(self.returns)}], got {describe(array)}")
        if not np.isfinite(reward).all():
            env = int(np.argmin(np.isfinite(reward)))
            raise ValueError(f"normalize: reward must be finite, got {reward[env]} from env {env}")
        flags = (None if x is None else np.require(x, np.bool_, ["C", "A"]) for x in (done, valid))
        if not self.core.update(np.require(reward, np.float64, ["C", "A"]), *flags):
            raise ValueError("normalize: the variance of the returns overflows float64")

    def normalize(self, reward: NDArray[Any]) -> NDArray[np.float32]:
        """reward / sqrt(var + 1e-8), clipped to [-clip, clip], as float32; call it after ``update``."""
        rewards = np.require(reward, np.float64, ["C", "A"]).reshape(-1)
        out = np.empty(rewards.shape, np.float32)
        self.core.normalize(rewards, out)
        return out.reshape(reward.shape)

    def state(self) -> dict[str, Any]:
        """Returns and statistics, for a checkpoint; later updates do not change it."""
        return {"returns": self.returns.copy(), "statistics": self.statistics.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            ValueError: the state is of another number of environments.
        """
        returns = np.array(state["returns"], dtype=np.float64)
        if returns.shape != self.returns.shape:
            raise ValueError(f"normalize: state must be of {len(self.returns)} envs, got {len(returns)}")
        self.statistics.load_state(state["statistics"])
        self.returns[...] = returns


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _index(position: NDArray[Any]) -> str:
    return ", ".join(map(str, position))
