"""Dynamic programming in float64 NumPy: the definition, written for reading, for small processes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def matrix(process: Any) -> Floats:
    """[L, S]: the weights, dense."""
    if process.offset is None:
        dense: Floats = process.weight
        return dense
    dense = np.zeros((len(process.reward), process.num_states))
    pairs = np.repeat(np.arange(len(process.reward)), np.diff(process.offset))
    np.add.at(dense, (pairs, process.next_state), process.weight)
    return dense


def terminal(process: Any) -> NDArray[np.bool_]:
    """[S]: the mask, where none is given of no state."""
    if process.terminal is None:
        return np.zeros(process.num_states, np.bool_)
    mask: NDArray[np.bool_] = process.terminal
    return mask


def backup(process: Any, value: Floats, gamma: float) -> tuple[Floats, NDArray[np.int32], Floats]:
    """T v, the first greedy choice of each state (-1 in terminal ones), and q."""
    ends = terminal(process)
    q = process.reward + gamma * matrix(process) @ value
    next_value = np.zeros(process.num_states)
    choice = np.full(process.num_states, -1, np.int32)
    for s in np.flatnonzero(~ends):
        own = q[process.pair_offset[s] : process.pair_offset[s + 1]]
        choice[s] = own.argmax()
        next_value[s] = own.max()
    return next_value, choice, np.where(ends[_state(process)], 0, q)


def policy_value(process: Any, policy: Floats, gamma: float) -> Floats:
    """V of a policy, the solution of V = r_π + γ P_π V; ``policy`` [L] has each pair's probability."""
    ends = terminal(process)
    state = _state(process)
    system = np.eye(process.num_states)
    reward = np.zeros(process.num_states)
    for pair, row in enumerate(matrix(process)):
        if not ends[state[pair]]:
            system[state[pair]] -= gamma * policy[pair] * row
            reward[state[pair]] += policy[pair] * process.reward[pair]
    system[:, ends] = 0
    system[ends, ends] = 1
    return np.linalg.solve(system, reward).astype(np.float64)


def policy_iteration(process: Any, gamma: float) -> Floats:
    """V*, by Howard's policy iteration."""
    choice = backup(process, np.zeros(process.num_states), gamma)[1]
    while True:
        policy = np.zeros(len(process.reward))
        alive = np.flatnonzero(choice >= 0)
        policy[process.pair_offset[alive] + choice[alive]] = 1
        value = policy_value(process, policy, gamma)
        q = backup(process, value, gamma)[2]
        kept = q[process.pair_offset[alive] + choice[alive]]
        better = np.array(
            [q[process.pair_offset[s] : process.pair_offset[s + 1]].argmax() for s in alive], int
        )
        gain = q[process.pair_offset[alive] + better] - kept
        switch = gain > 1e-10 * (1 + np.abs(kept))
        if not switch.any():
            return value
        choice[alive[switch]] = better[switch]


def _state(process: Any) -> NDArray[np.int64]:
    return np.repeat(np.arange(process.num_states), np.diff(process.pair_offset))
