"""Between lists of outcomes, Gymnasium's ``env.P`` among them, and an :class:`~fastrl.tabular.MDP`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import describe
from fastrl.tabular._check import distribution, integers, mask, require_actions, require_states
from fastrl.tabular._moments import moments, sums

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
Columns = tuple[Any, Any, Any, Any, Any, Any, Any]


def of_outcomes(
    cls: "type[MDP]", columns: Columns, num_states: int | None, terminal: Any, initial: Any
) -> "MDP":
    """See ``MDP.from_outcomes``."""
    names = ("state", "action", "next_state", "reward", "probability", "terminated", "discount")
    given = dict(zip(names, columns, strict=True))
    for name in names[:5]:
        if np.ndim(given[name]) != 1:
            raise TypeError(f"MDP: {name} must be an array [K], got {describe(given[name])}")
    size = len(given["state"])
    for name, x in given.items():
        if x is not None and np.shape(x) != (size,):
            raise ValueError(f"MDP: {name} must be [{size}] as state is, got {describe(x)}")
    state, action, next_state = (integers(name, given[name], size, "[K]") for name in names[:3])
    reward, probability = (_reals(name, given[name]) for name in names[3:5])
    states = num_states
    if states is None:
        states = int(max(state.max(initial=-1), next_state.max(initial=-1))) + 1
    states = require_states(states)
    if size and (state.min() < 0 or state.max() >= states):
        raise ValueError(f"MDP: state must be in [0, {states}), got {state.min()} to {state.max()}")
    outside = (next_state < 0) | (next_state >= states)
    if outside.any():
        raise ValueError(f"MDP: next states {_at(outside, state, action, next_state, f'in [0, {states})')}")
    if (probability < 0).any():
        raise ValueError(f"MDP: probabilities {_at(probability < 0, state, action, probability, '>= 0')}")
    require_actions(states, state, terminal)
    factor = np.ones(size) if given["discount"] is None else _reals("discount", given["discount"])
    if given["terminated"] is not None:
        factor = np.where(given["terminated"], 0.0, factor)

    order = np.lexsort((next_state, action, state))
    state, action, next_state = state[order], action[order], next_state[order]
    reward, probability, factor = reward[order], probability[order], factor[order]
    new_pair = np.ones(size, np.bool_)
    new_pair[1:] = (np.diff(state) != 0) | (np.diff(action) != 0)
    new = new_pair.copy()
    new[1:] |= np.diff(next_state) != 0
    pair, entry = np.cumsum(new_pair) - 1, np.cumsum(new) - 1
    pairs, entries = int(new_pair.sum()), int(new.sum())

    total = sums(entry, probability, entries)
    by_outcome = _mean_of(reward, probability, entry, total)
    factor = _mean_of(factor, probability, entry, total)
    mean, variance = moments(pair, probability, reward, pairs)
    varied = bool((by_outcome != mean[pair[new]]).any())
    return cls(
        num_states=states,
        pair_offset=np.searchsorted(state[new_pair], np.arange(states + 1)).astype(np.int64),
        action=action[new_pair],
        probability=total,
        offset=np.append(np.searchsorted(pair[new], np.arange(pairs)), entries).astype(np.int32),
        next_state=next_state[new].astype(np.int32),
        reward=mean,
        outcome_reward=by_outcome if varied else None,
        reward_variance=variance if varied or variance.any() else None,
        discount=None if (factor == 1).all() else factor,
        terminal=mask("terminal", terminal, states),
        initial=distribution(initial, states),
    )


def _reals(name: str, x: Any) -> Floats:
    array = np.asarray(x)
    if array.dtype.kind not in "fiubO":
        raise TypeError(f"MDP: {name} must be real numbers [K], got {describe(x)}")
    return array.astype(np.float64, copy=False)


def _at(bad: NDArray[np.bool_], state: Any, action: Any, values: Any, rule: str) -> str:
    k = int(bad.argmax())
    return f"of state {state[k]}, action {action[k]} must be {rule}, got {values[k]}"


def of_gymnasium(cls: "type[MDP]", env: Any, initial: Any) -> "MDP":
    """See ``MDP.from_gymnasium``."""
    inner = getattr(env, "unwrapped", env)
    if callable(getattr(inner, "mdp", None)):
        model = inner.mdp()
        columns = (model.state, model.action, model.next_state, model.reward, model.probability)
        start = model.initial if initial is None else initial
        mdp = of_outcomes(cls, (*columns, model.terminated, None), model.num_states, None, start)
        return replace(mdp, grid=_grid_of(inner, mdp.num_states))
    table = inner if isinstance(inner, Mapping) else getattr(inner, "P", None)
    if not isinstance(table, Mapping):
        raise TypeError(f"MDP: env must be P, or have P or mdp(), got {describe(env)}")
    if initial is None:
        initial = getattr(inner, "initial_state_distrib", None)
    for s, acts in table.items():
        if not isinstance(acts, Mapping):
            raise TypeError(f"MDP: P must map actions of state {s} to outcomes, got {describe(acts)}")
    rows = rows_of((s, a, outcomes) for s, acts in table.items() for a, outcomes in acts.items())
    mdp = of_outcomes(cls, columns_of(rows), len(table), None, initial)
    return replace(mdp, grid=_grid_of(inner, mdp.num_states))


def _grid_of(env: Any, states: int) -> tuple[int, int] | None:
    """The shape of a FrozenLake's map, of CliffWalking's grid, if its cells are the states."""
    desc = getattr(env, "desc", None)
    if desc is None:
        desc = getattr(env, "options", {}).get("desc")
    shape = getattr(env, "shape", None) if desc is None else (len(desc), len(desc[0]))
    if shape is None or len(shape) != 2 or shape[0] * shape[1] != states:
        return None
    return int(shape[0]), int(shape[1])


def rows_of(outcomes: Iterable[tuple[Any, Any, Any]]) -> list[tuple[Any, ...]]:
    """Of states, actions and lists of their outcomes the rows of ``columns_of``."""
    rows: list[tuple[Any, ...]] = []
    for s, a, found in outcomes:
        if not isinstance(found, Iterable):
            raise TypeError(f"MDP: outcomes of state {s}, action {a} must be a list, got {describe(found)}")
        for outcome in found:
            if not isinstance(outcome, Sequence) or len(outcome) not in (3, 4):
                raise ValueError(
                    f"MDP: outcomes of state {s}, action {a} must be (probability, next state, reward), or "
                    f"with whether it ends, got {outcome!r}"
                )
            rows.append((s, a, *outcome))
    return rows


def columns_of(rows: Iterable[tuple[Any, ...]]) -> Columns:
    """Of (state, action, probability, next state, reward[, terminated]) the columns of ``of_outcomes``."""
    full = [row if len(row) == 6 else (*row, False) for row in rows]
    columns = [np.array(column) for column in zip(*full, strict=True)] or [np.zeros(0, np.int64)] * 6
    state, action, probability, next_state, reward, terminated = columns
    return (
        state,
        action,
        next_state,
        reward,
        probability,
        terminated.astype(np.bool_),
        None,
    )


def to_transitions(mdp: "MDP") -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
    """See ``MDP.to_transitions``."""
    if mdp.discount is not None and not np.isin(mdp.discount, (0.0, 1.0)).all():
        raise ValueError("MDP to_transitions: discounts must be 0 or 1, as Gymnasium has no others")
    table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {s: {} for s in range(mdp.num_states)}
    for pair, (s, a) in enumerate(zip(mdp.state.tolist(), mdp.action.tolist(), strict=True)):
        at: Any = pair if mdp.offset is None else slice(mdp.offset[pair], mdp.offset[pair + 1])
        probability = mdp.probability[at]
        kept = np.flatnonzero(probability)
        next_state = kept if mdp.next_state is None else mdp.next_state[at][kept]
        reward = (
            np.full(kept.size, mdp.reward[pair])
            if mdp.outcome_reward is None
            else mdp.outcome_reward[at][kept]
        )
        ended = np.zeros(kept.size, np.bool_) if mdp.discount is None else mdp.discount[at][kept] == 0
        if mdp.terminal is not None:
            ended = ended | mdp.terminal[next_state]
        columns = (probability[kept], next_state, reward, ended)
        table[s][a] = list(zip(*(column.tolist() for column in columns), strict=True))
    return table


def _mean_of(x: Floats, probability: Floats, entry: NDArray[np.int64], total: Floats) -> Floats:
    """Mean of ``x`` over the outcomes that make up each entry; of one, or of equals, it is exact."""
    first = x[np.searchsorted(entry, np.arange(len(total)))]
    with np.errstate(invalid="ignore"):  # of infinities, which are refused later
        spread = sums(entry, probability * np.where(x == first[entry], 0.0, x - first[entry]), len(total))
    return first + np.divide(spread, total, out=np.zeros_like(total), where=total > 0)
