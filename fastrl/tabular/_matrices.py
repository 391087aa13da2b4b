"""From matrices, sparse or dense, to the arrays of an :class:`~fastrl.tabular.MDP`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.tabular._check import distribution, integers, mask, require_actions, require_states
from fastrl.tabular._moments import moments, moments_dense
from fastrl.tabular._outcomes import of_outcomes

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]


def require_shape(name: str, x: Any, shape: tuple[int, ...]) -> None:
    """Raise unless ``x`` is a float64 array of this shape."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float64:
        raise TypeError(f"MDP: {name} must be float64 {list(shape)}, got {describe(x)}")
    if x.shape != shape:
        raise ValueError(f"MDP: {name} must be float64 {list(shape)}, got {describe(x)}")


def require_dense(probability: Any) -> None:
    """Raise unless ``probability`` is float64 [S, A, S]."""
    if not isinstance(probability, np.ndarray) or probability.dtype != np.float64:
        raise TypeError(f"MDP: probability must be float64 [S, A, S], got {describe(probability)}")
    if probability.ndim != 3 or probability.shape[0] != probability.shape[2] or not probability.size:
        raise ValueError(f"MDP: probability must be float64 [S, A, S], got {describe(probability)}")


def dense_reward(
    reward: Any, probability: Floats, shape: tuple[int, int]
) -> tuple[Floats, Floats | None, Floats | None]:
    """Mean [L], by outcome [L, S], and variance [L] of rewards over all states and actions."""
    states, actions = shape
    if not isinstance(reward, np.ndarray) or reward.dtype != np.float64:
        raise TypeError(f"MDP: reward must be float64 [S], [S, A] or [S, A, S], got {describe(reward)}")
    if reward.shape == (states,):
        return np.repeat(reward, actions), None, None
    if reward.shape == shape:
        return np.ascontiguousarray(reward).reshape(-1), None, None
    if reward.shape == (states, actions, states):
        by_outcome = np.ascontiguousarray(reward).reshape(probability.shape)
        return moments_dense(probability, by_outcome)
    wanted = f"[{states}], [{states}, {actions}] or [{states}, {actions}, {states}]"
    raise ValueError(f"MDP: reward must be float64 {wanted}, got {describe(reward)}")


@dataclass(frozen=True)
class Rows:
    """Compressed rows, as far as SciPy's are used here."""

    data: Floats
    indices: NDArray[np.integer[Any]]
    indptr: NDArray[np.integer[Any]]
    shape: tuple[int, int]
    has_canonical_format = True  # as far as anyone cares: no one looks for an entry

    def tocsr(self) -> "Rows":
        """Itself."""
        return self


def require_matrix(given: Any, num_states: int | None) -> Any:
    """A matrix [L, S], sparse or dense, or Rows from three arrays; anything else raises."""
    if isinstance(given, tuple):
        return _rows(given, num_states)
    if num_states is not None:
        raise ValueError("MDP: num_states must be None where probability is a matrix, which tells it")
    if not _is_sparse(given) and not isinstance(given, np.ndarray):
        raise TypeError(f"MDP: probability must be a sparse or float64 matrix [L, S], got {describe(given)}")
    if given.ndim != 2:
        raise ValueError(f"MDP: probability must be a matrix [L, S], got {describe(given)}")
    return given


def _rows(given: tuple[Any, ...], num_states: int | None) -> Rows:
    if len(given) != 3 or not all(isinstance(x, np.ndarray) and x.ndim == 1 for x in given):
        kinds = ", ".join(describe(x) for x in given)
        raise TypeError(f"MDP: probability must be arrays (data, indices, indptr), got ({kinds})")
    if num_states is None:
        raise ValueError("MDP: num_states must be >= 1 where probability is three arrays, got None")
    num_states = require_states(num_states)
    data, indices, indptr = given
    require_shape("data", data, (len(indices),))
    for name, x in (("indices", indices), ("indptr", indptr)):
        if x.dtype not in (np.int32, np.int64) or x.dtype != indices.dtype:
            raise TypeError(f"MDP: {name} must be int32 or int64, both alike, got {describe(x)}")
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        raise ValueError(f"MDP: indptr must not decrease, from 0 to {len(data)}")
    arrays = [np.ascontiguousarray(x) for x in given]
    return Rows(arrays[0], arrays[1], arrays[2], (len(indptr) - 1, num_states))


def of_pairs(
    cls: "type[MDP]",
    probability: Any,
    reward: Any,
    state: Any,
    action: Any,
    terminal: Any,
    discount: Any,
    initial: Any,
) -> "MDP":
    """See ``MDP.from_pairs``."""
    pairs, states = probability.shape
    state, action = (integers(name, x, pairs, "[L]") for name, x in (("state", state), ("action", action)))
    if pairs and (state[0] < 0 or state[-1] >= states or (np.diff(state) < 0).any()):
        raise ValueError(f"MDP: state must be in [0, {states}) and not decrease")
    require_actions(require_states(states), state, terminal)
    parts: dict[str, Any]
    if _is_sparse(probability):
        matrix = _canonical(probability)
        parts = {"probability": matrix.data, "offset": matrix.indptr, "next_state": matrix.indices}
        values = [_aligned(name, x, matrix) for name, x in (("reward", reward), ("discount", discount))]
        entries = np.diff(matrix.indptr)
    else:
        require_shape("probability", probability, (pairs, states))
        parts = {"probability": np.ascontiguousarray(probability)}
        for name, x in (("reward", reward), ("discount", discount)):
            if x is not None and np.ndim(x) != 1:
                require_shape(name, x, (pairs, states))
        values = [
            None if x is None or np.ndim(x) == 1 else np.ascontiguousarray(x) for x in (reward, discount)
        ]
        entries = None
    by_outcome = values[0]
    if by_outcome is None:
        require_shape("reward", reward, (pairs,))
        mean, variance = reward, None
    elif entries is None:
        mean, by_outcome, variance = moments_dense(parts["probability"], by_outcome)
    else:
        pair = np.repeat(np.arange(pairs), entries)
        mean, variance = moments(pair, parts["probability"], by_outcome, pairs)
    return cls(
        num_states=states,
        pair_offset=np.searchsorted(state, np.arange(states + 1)).astype(np.int64),
        action=action,
        **parts,
        reward=mean,
        outcome_reward=by_outcome,
        reward_variance=variance,
        discount=values[1],
        terminal=mask("terminal", terminal, states),
        initial=distribution(initial, states),
    )


def of_matrices(
    cls: "type[MDP]", probabilities: Sequence[Any], reward: Any, terminal: Any, initial: Any
) -> "MDP":
    """See ``MDP.from_matrices``."""
    if _is_sparse(probabilities) or not hasattr(probabilities, "__len__"):
        raise TypeError(
            f"MDP: probabilities must be a list of a matrix for each action, got {describe(probabilities)}"
        )
    if not len(probabilities):
        raise ValueError("MDP: probabilities must hold a matrix for each action, got none")
    _require_matrices("probabilities", probabilities)
    states = probabilities[0].shape[0] if probabilities[0].ndim else 0
    for a, matrix in enumerate(probabilities):
        if matrix.shape != (states, states):
            raise ValueError(
                f"MDP: probabilities must be matrices [{states}, {states}], "
                f"got {list(matrix.shape)} of action {a}"
            )
    coordinates = [_coordinates(matrix) for matrix in probabilities]
    sizes = [len(row) for row, _, _ in coordinates]
    state, next_state, probability = (np.concatenate(x) for x in zip(*coordinates, strict=True))
    action = np.repeat(np.arange(len(probabilities)), sizes)
    if isinstance(reward, np.ndarray) and reward.ndim <= 2:
        table = reward[:, None] if reward.ndim == 1 else reward
        require_shape(
            "reward", table, (states, table.shape[1] if table.shape[1] == 1 else len(probabilities))
        )
        each = np.broadcast_to(table, (states, len(probabilities)))[state, action]
    elif not hasattr(reward, "__len__") and not _is_sparse(reward):
        raise TypeError(f"MDP: reward must be float64 [S], [S, A] or matrices [S, S], got {describe(reward)}")
    elif not _is_sparse(reward) and len(reward) == len(probabilities):
        _require_matrices("reward", reward)
        for a, matrix in enumerate(reward):
            if matrix.shape != (states, states):
                wanted, got = f"matrices [{states}, {states}]", f"{list(matrix.shape)} of action {a}"
                raise ValueError(f"MDP: reward must be {wanted}, got {got}")
        parts = [
            _at(matrix, row, column) for matrix, (row, column, _) in zip(reward, coordinates, strict=True)
        ]
        each = np.concatenate(parts)
    else:
        held = 1 if _is_sparse(reward) else len(reward)
        raise ValueError(f"MDP: reward must hold {len(probabilities)} matrices, got {held}")
    columns = (state, action, next_state, each, probability, None, None)
    return of_outcomes(cls, columns, states, terminal, initial)


def _require_matrices(name: str, given: Sequence[Any]) -> None:
    for a, matrix in enumerate(given):
        if not _is_sparse(matrix) and not isinstance(matrix, np.ndarray):
            raise TypeError(
                f"MDP: {name} must be sparse or float64 matrices, got {describe(matrix)} of action {a}"
            )


def _is_sparse(x: Any) -> bool:
    return hasattr(x, "tocsr")


def _canonical(matrix: Any) -> Any:
    """As CSR with sorted columns, each once, float64: the matrix's own arrays if it is."""
    csr = matrix.tocsr()
    if csr.data.dtype.kind not in "fiub":
        raise TypeError(f"MDP: a matrix must be of real numbers, got {csr.data.dtype}")
    if csr.data.dtype != np.float64:
        csr = csr.astype(np.float64)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _aligned(name: str, x: Any, matrix: Any) -> Floats | None:
    """Values of a sparse ``x`` at the entries of ``matrix``; None if it is none."""
    if not _is_sparse(x):
        if x is not None and np.ndim(x) != 1:
            raise TypeError(f"MDP: {name} must be sparse as probability is, or [L], got {describe(x)}")
        if x is not None and name == "discount":
            raise TypeError(f"MDP: discount must be sparse as probability is, got {describe(x)}")
        return None
    if x.shape != matrix.shape:
        raise ValueError(f"MDP: {name} must be {list(matrix.shape)}, got {list(x.shape)}")
    other = _canonical(x)
    if np.array_equal(other.indptr, matrix.indptr) and np.array_equal(other.indices, matrix.indices):
        values: Floats = other.data
        return values
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return _at(other, row, matrix.indices)


def _at(matrix: Any, row: Any, column: Any) -> Floats:
    """Elements of a matrix, 0 where a sparse one has none."""
    if not _is_sparse(matrix):
        dense: Floats = np.asarray(matrix, np.float64)[row, column]
        return dense
    csr = _canonical(matrix)
    width = csr.shape[1]
    keys = np.repeat(np.arange(csr.shape[0], dtype=np.int64), np.diff(csr.indptr)) * width + csr.indices
    wanted = row.astype(np.int64) * width + column
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(len(wanted))
    return np.where(keys[place] == wanted, csr.data[place], 0.0)


def _coordinates(matrix: Any) -> tuple[Any, Any, Any]:
    if _is_sparse(matrix):
        coo = matrix.tocoo()
        kept = coo.data != 0
        return coo.row[kept], coo.col[kept], coo.data[kept].astype(np.float64)
    row, column = np.nonzero(matrix)
    return row, column, np.asarray(matrix, np.float64)[row, column]
