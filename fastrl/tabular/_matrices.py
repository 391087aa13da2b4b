"""From matrices, sparse or dense, to the arrays of an :class:`~fastrl.tabular.MDP`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.tabular._check import (
    array_of,
    distribution,
    dtype_of,
    floats,
    integers,
    mask,
    renormalise,
    require_actions,
    require_states,
    seal,
)
from fastrl.tabular._moments import moments, moments_dense
from fastrl.tabular._outcomes import of_outcomes

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]


def shaped(name: str, x: Any, shape: tuple[int, ...]) -> Floats:
    """float64 without gaps, of this shape or an error."""
    array = floats(name, x, str(list(shape)))
    if array.shape != shape:
        raise ValueError(f"MDP: {name} must be float64 {list(shape)}, got {describe(array)}")
    return np.ascontiguousarray(array)


def of_dense(
    cls: "type[MDP]", probability: Any, reward: Any, terminal: Any, discount: Any, initial: Any
) -> "MDP":
    """See ``MDP.from_dense``."""
    cube = floats("probability", probability, "[S, A, S]")
    if cube.ndim != 3 or cube.shape[0] != cube.shape[2] or not cube.size:
        raise ValueError(f"MDP: probability must be float64 [S, A, S], got {describe(cube)}")
    states, actions = cube.shape[:2]
    rows = np.ascontiguousarray(cube).reshape(states * actions, states)
    renormalise(dtype_of(probability), rows, None, len(rows))
    if discount is not None:
        discount = shaped("discount", discount, cube.shape).reshape(rows.shape)
    mean, by_outcome, variance = _dense_reward(reward, rows, (states, actions))
    pair_offset = np.arange(states + 1, dtype=np.int64) * actions
    action = np.tile(np.arange(actions, dtype=np.int64), states)
    if by_outcome is None and np.ndim(reward) == 2 and (mean == -np.inf).any():
        had = mean != -np.inf
        rows, mean, action = rows[had], mean[had], action[had]
        discount = discount if discount is None else discount[had]
        pair_offset = np.append(0, np.cumsum(had.reshape(states, actions).sum(axis=1)))
    seal(pair_offset, action)
    return cls(
        num_states=states,
        pair_offset=pair_offset,
        action=action,
        probability=rows,
        reward=mean,
        outcome_reward=by_outcome,
        reward_variance=variance,
        discount=discount,
        terminal=mask("terminal", terminal, states),
        initial=distribution(initial, states),
    )


def _dense_reward(
    reward: Any, probability: Floats, shape: tuple[int, int]
) -> tuple[Floats, Floats | None, Floats | None]:
    """Mean [L], by outcome [L, S], and variance [L] of rewards over all states and actions."""
    states, actions = shape
    table = floats("reward", reward, "[S], [S, A] or [S, A, S]")
    if table.shape == (states,):
        return np.repeat(table, actions), None, None
    if table.shape == shape:
        return np.ascontiguousarray(table).reshape(-1), None, None
    if table.shape == (states, actions, states):
        by_outcome = np.ascontiguousarray(table).reshape(probability.shape)
        return moments_dense(probability, by_outcome)
    wanted = f"[{states}], [{states}, {actions}] or [{states}, {actions}, {states}]"
    raise ValueError(f"MDP: reward must be float64 {wanted}, got {describe(table)}")


@dataclass(frozen=True)
class Rows:
    """Compressed rows, as far as SciPy's are used here."""

    data: Floats
    indices: NDArray[np.integer[Any]]
    indptr: NDArray[np.integer[Any]]
    dtype: np.dtype[Any]
    """Of the data that were given."""
    shape: tuple[int, int]
    has_canonical_format = True  # as far as anyone cares: no one looks for an entry

    def tocsr(self) -> "Rows":
        """Itself."""
        return self


def require_matrix(given: Any, num_states: int | None) -> Any:
    """A matrix [L, S], sparse or dense, or Rows from three arrays; anything else raises."""
    if isinstance(given, tuple):
        return _rows("probability", given, num_states)
    if num_states is not None:
        raise ValueError("MDP: num_states must be None where probability is a matrix, which tells it")
    matrix = given if _is_sparse(given) else array_of(given)
    if not _is_sparse(given) and matrix.dtype.kind not in "fiub":
        raise TypeError(f"MDP: probability must be a sparse or float64 matrix [L, S], got {describe(given)}")
    if matrix.ndim != 2:
        raise ValueError(f"MDP: probability must be a matrix [L, S], got {describe(given)}")
    return matrix


def _rows(name: str, given: tuple[Any, ...], num_states: int | None) -> Rows:
    if len(given) != 3 or not all(isinstance(x, np.ndarray) and x.ndim == 1 for x in given):
        raise TypeError(f"MDP: {name} must be (data, indices, indptr), got {len(given)} items")
    if num_states is None:
        raise ValueError("MDP: num_states must be >= 1 where probability is three arrays, got None")
    data, indices, indptr = given
    for part, x in (("indices", indices), ("indptr", indptr)):
        if x.dtype not in (np.int32, np.int64) or x.dtype != indices.dtype:
            raise TypeError(f"MDP: {part} must be int32 or int64, both alike, got {describe(x)}")
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        raise ValueError(f"MDP: indptr must not decrease, from 0 to {len(data)}")
    shape = (len(indptr) - 1, require_states(num_states))
    values = shaped("data", data, (len(indices),))
    return Rows(values, np.ascontiguousarray(indices), np.ascontiguousarray(indptr), data.dtype, shape)


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
    pairs, states = probability.shape[0], require_states(probability.shape[1])
    state, action = (integers(name, x, pairs, "[L]") for name, x in (("state", state), ("action", action)))
    if pairs and (state[0] < 0 or state[-1] >= states or (np.diff(state) < 0).any()):
        raise ValueError(f"MDP: state must be in [0, {states}) and not decrease")
    require_actions(states, state, terminal)
    parts: dict[str, Any]
    by_outcome: Floats | None
    pair: Any = None
    if _is_sparse(probability):
        matrix = _canonical("probability", probability)
        names = {"probability": "data", "offset": "indptr", "next_state": "indices"}
        parts = {name: np.ascontiguousarray(getattr(matrix, of)) for name, of in names.items()}
        by_outcome, factor = (_aligned(*x, matrix) for x in (("reward", reward), ("discount", discount)))
        if by_outcome is not None or probability.dtype != np.float64:
            pair = np.repeat(np.arange(pairs), np.diff(matrix.indptr))
    else:
        parts = {"probability": shaped("probability", probability, (pairs, states))}
        by_outcome, factor = (
            None if x is None or array_of(x).ndim == 1 else shaped(name, x, (pairs, states))
            for name, x in (("reward", reward), ("discount", discount))
        )
        if discount is not None and factor is None:
            raise TypeError(f"MDP: discount must be float64 [L, S], got {describe(discount)}")
    renormalise(probability.dtype, parts["probability"], pair, pairs)
    pair_offset = np.searchsorted(state, np.arange(states + 1)).astype(np.int64)
    seal(pair_offset)
    if by_outcome is None:
        mean, variance = shaped("reward", reward, (pairs,)), None
    elif "offset" not in parts:
        mean, by_outcome, variance = moments_dense(parts["probability"], by_outcome)
    else:
        mean, variance = moments(pair, parts["probability"], by_outcome, pairs)
    return cls(
        num_states=states,
        pair_offset=pair_offset,
        action=action,
        **parts,
        reward=mean,
        outcome_reward=by_outcome,
        reward_variance=variance,
        discount=factor,
        terminal=mask("terminal", terminal, states),
        initial=distribution(initial, states),
    )


def of_matrices(
    cls: "type[MDP]", probabilities: Sequence[Any], reward: Any, terminal: Any, initial: Any
) -> "MDP":
    """See ``MDP.from_matrices``."""
    if not _is_list(probabilities):
        given = describe(probabilities)
        raise TypeError(f"MDP: probabilities must hold a matrix for each action, got {given}")
    if not len(probabilities):
        raise ValueError("MDP: probabilities must hold a matrix for each action, got none")
    matrices = [_square("probabilities", matrix) for matrix in probabilities]
    states = matrices[0].shape[0]
    for a, matrix in enumerate(matrices):
        if matrix.shape != (states, states):
            raise ValueError(
                f"MDP: probabilities must be matrices [{states}, {states}], "
                f"got {list(matrix.shape)} of action {a}"
            )
    require_states(states)
    if all(map(_is_sparse, matrices)) and sum(matrix.nnz for matrix in matrices) < states:
        acting = np.concatenate([matrix.tocoo().row for matrix in matrices])
        require_actions(states, acting, terminal)  # compressed rows would be [S + 1]
    coordinates = [_coordinates(matrix) for matrix in matrices]
    sizes = [len(row) for row, _, _ in coordinates]
    state, next_state, probability = (np.concatenate(x) for x in zip(*coordinates, strict=True))
    action = np.repeat(np.arange(len(matrices)), sizes)
    if not _holds_matrices(reward):
        each = _table(reward, states, len(matrices))[state, action]
    elif len(reward) == len(matrices):
        parts = []
        for a, (row, column, _) in enumerate(coordinates):
            matrix = _square("reward", reward[a])
            if matrix.shape != (states, states):
                raise ValueError(
                    f"MDP: reward must be matrices [{states}, {states}], "
                    f"got {list(matrix.shape)} of action {a}"
                )
            parts.append(_at("reward", matrix, row, column))
        each = np.concatenate(parts)
    else:
        raise ValueError(f"MDP: reward must hold {len(matrices)} matrices, got {len(reward)}")
    columns = (state, action, next_state, each, probability, None, None)
    return of_outcomes(cls, columns, states, terminal, initial)


def _is_sparse(x: Any) -> bool:
    return hasattr(x, "tocsr")


def _holds_matrices(reward: Any) -> bool:
    """Whether rewards are a matrix an action, not an array [S] or [S, A]."""
    if not _is_list(reward) or not len(reward):
        return False
    return _is_sparse(reward[0]) or array_of(reward[0]).ndim == 2


def _is_list(x: Any) -> bool:
    return isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.ndim > 0)


def _square(name: str, matrix: Any) -> Any:
    """A sparse matrix, or an array of numbers."""
    if _is_sparse(matrix):
        return matrix
    array = array_of(matrix)
    if array.dtype.kind not in "fiub" or array.ndim != 2:
        raise TypeError(
            f"MDP: {name} must be sparse or float64 [S, S] of each action, got {describe(matrix)}"
        )
    return array


def _table(reward: Any, states: int, actions: int) -> Floats:
    """Rewards [S] or [S, A] as [S, A]."""
    table = floats("reward", reward.toarray() if _is_sparse(reward) else reward, "[S], [S, A] or [A, S, S]")
    table = table[:, None] if table.ndim == 1 else table
    wide = 1 if table.ndim == 2 and table.shape[1] == 1 else actions
    return np.broadcast_to(shaped("reward", table, (states, wide)), (states, actions))


def _canonical(name: str, matrix: Any) -> Any:
    """As CSR with sorted columns, each once, float64: the matrix's own arrays if it is."""
    csr = matrix.tocsr()
    if csr.data.dtype != np.float64:
        if csr.data.dtype.kind not in "fiub":
            raise TypeError(f"MDP: {name} must be float64, got {describe(matrix)}")
        csr = csr.astype(np.float64)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _once(name: str, matrix: Any) -> Any:
    """The canonical form of a matrix that has each entry once: twice the same reward is not their sum."""
    csr = _canonical(name, matrix)
    if csr.nnz < matrix.nnz:
        raise ValueError(
            f"MDP: {name} must have each entry once, got {matrix.nnz - csr.nnz} again: "
            "from_outcomes takes lists with repetitions"
        )
    return csr


def _aligned(name: str, x: Any, matrix: Any) -> Floats | None:
    """Values of a sparse ``x`` at the entries of ``matrix``; None if it is none."""
    if isinstance(x, tuple):
        x = _rows(name, x, matrix.shape[1])
    if not _is_sparse(x):
        if x is not None and array_of(x).ndim != 1:
            raise TypeError(f"MDP: {name} must be sparse as probability is, or [L], got {describe(x)}")
        if x is not None and name == "discount":
            raise TypeError(f"MDP: discount must be sparse as probability is, got {describe(x)}")
        return None
    if x.shape != matrix.shape:
        raise ValueError(f"MDP: {name} must be {list(matrix.shape)}, got {list(x.shape)}")
    other = x if isinstance(x, Rows) else _once(name, x)
    if np.array_equal(other.indptr, matrix.indptr) and np.array_equal(other.indices, matrix.indices):
        values: Floats = np.ascontiguousarray(other.data)
        return values
    if isinstance(x, Rows):
        raise ValueError(
            f"MDP: {name} must have the indices and indptr of probability where it is three arrays"
        )
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return _at(name, other, row, matrix.indices)


def _at(name: str, matrix: Any, row: Any, column: Any) -> Floats:
    """Elements of a matrix, 0 where a sparse one has none."""
    if not _is_sparse(matrix):
        dense: Floats = np.asarray(matrix, np.float64)[row, column]
        return dense
    csr = _once(name, matrix)
    width = csr.shape[1]
    keys = np.repeat(np.arange(csr.shape[0], dtype=np.int64), np.diff(csr.indptr)) * width + csr.indices
    wanted = row.astype(np.int64) * width + column
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(len(wanted))
    return np.where(keys[place] == wanted, csr.data[place], 0.0)


def _coordinates(matrix: Any) -> tuple[Any, Any, Floats]:
    if _is_sparse(matrix):
        coo = _canonical("probabilities", matrix).tocoo()
        kept = coo.data != 0
        row, column, data = coo.row[kept], coo.col[kept], coo.data[kept]
    else:
        row, column = np.nonzero(matrix)
        data = matrix[row, column].astype(np.float64)
    renormalise(matrix.dtype, data, row, matrix.shape[0])
    return row, column, data
