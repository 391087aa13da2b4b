"""Between lists of outcomes, Gymnasium's ``env.P`` among them, and an :class:`~fastrl.tabular.MDP`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
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
from fastrl.tabular._moments import likeliest, moments, sums

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
Columns = tuple[Any, Any, Any, Any, Any, Any, Any]


def of_outcomes(
    cls: "type[MDP]", columns: Columns, num_states: int | None, terminal: Any, initial: Any
) -> "MDP":
    """See ``MDP.from_outcomes``."""
    names = ("state", "action", "next_state", "reward", "probability", "terminated", "discount")
    if array_of(columns[0]).ndim != 1:
        raise TypeError(f"MDP: state must be integers [K], got {describe(columns[0])}")
    size = len(columns[0])
    given = dict(zip(names, columns, strict=True))
    for name, x in given.items():
        if x is not None and array_of(x).shape != (size,):
            raise ValueError(f"MDP: {name} must be [{size}] as state is, got {describe(x)}")
    state, action, next_state = (integers(name, given[name], size, "[K]") for name in names[:3])
    reward, probability = (floats(name, given[name], "[K]") for name in names[3:5])
    states = num_states
    if states is None:
        states = int(max(state.max(initial=-1), next_state.max(initial=-1))) + 1
    states = require_states(states)
    if size and (state.min() < 0 or state.max() >= states):
        raise ValueError(f"MDP: state must be in [0, {states}), got {state.min()} to {state.max()}")
    require_actions(states, state, terminal)
    ends = mask("terminal", terminal, states)
    factor = np.ones(size) if given["discount"] is None else floats("discount", given["discount"], "[K]")
    if given["terminated"] is not None:
        ended = array_of(given["terminated"])
        if ended.dtype.kind not in "fiub":
            raise TypeError(f"MDP: terminated must be bool [K], got {describe(given['terminated'])}")
        factor = np.where(ended, 0.0, factor)
    unread = np.zeros(size, np.bool_) if ends is None else ends[state]
    inside, unit = (next_state >= 0) & (next_state < states), (factor >= 0) & (factor <= 1)
    for name, holds, rule, values in (
        ("next states", inside, f"in [0, {states})", next_state),
        ("probabilities", (probability >= 0) | unread, ">= 0", probability),
        ("discounts", unit | unread, "in [0, 1]", factor),
    ):  # here, as outcomes of one next state could make up for each other
        if not holds.all():
            k = int(holds.argmin())
            of = f"of state {state[k]}, action {action[k]}"
            raise ValueError(f"MDP: {name} {of} must be {rule}, got {values[k]}")

    order = np.lexsort((next_state, action, state))
    state, action, next_state = state[order], action[order], next_state[order]
    reward, probability, factor = reward[order], probability[order], factor[order]
    new_pair = np.ones(size, np.bool_)
    new_pair[1:] = (np.diff(state) != 0) | (np.diff(action) != 0)
    new = new_pair.copy()
    new[1:] |= np.diff(next_state) != 0
    pair, entry = np.cumsum(new_pair) - 1, np.cumsum(new) - 1
    pairs, entries = int(new_pair.sum()), int(new.sum())
    renormalise(dtype_of(given["probability"]), probability, pair, pairs)

    total = sums(entry, probability, entries)
    by_outcome = _mean_of(reward, probability, entry, total)
    factor = _mean_of(factor, probability, entry, total)
    mean, variance = moments(pair, probability, reward, pairs)
    varied = bool((by_outcome != mean[pair[new]])[total > 0].any())
    offset = np.append(np.searchsorted(pair[new], np.arange(pairs)), entries).astype(np.int32)
    pair_offset = np.searchsorted(state[new_pair], np.arange(states + 1)).astype(np.int64)
    follows, action = next_state[new].astype(np.int32), action[new_pair]
    seal(pair_offset, action, total, offset, follows, mean, by_outcome, variance, factor)
    return cls(
        num_states=states,
        pair_offset=pair_offset,
        action=action,
        probability=total,
        offset=offset,
        next_state=follows,
        reward=mean,
        outcome_reward=by_outcome if varied else None,
        reward_variance=variance if varied or variance.any() else None,
        discount=None if (factor == 1).all() else factor,
        terminal=ends,
        initial=distribution(initial, states),
    )


def of_gymnasium(cls: "type[MDP]", env: Any, initial: Any) -> "MDP":
    """See ``MDP.from_gymnasium``."""
    inner = getattr(env, "unwrapped", env)
    if not isinstance(inner, Mapping) and not hasattr(inner, "P"):
        inner = _compiled(inner)
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


def _compiled(env: Any) -> Any:
    """Of one of Gymnasium's own environments the compiled one, which knows its model; else the same."""
    spec = getattr(env, "spec", None)
    ours = f"fastrl/{getattr(spec, 'id', None)}"
    if not type(env).__module__.startswith("gymnasium.envs.toy_text.") or spec is None:
        return env
    import gymnasium

    if ours not in gymnasium.registry:
        return env
    options = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    return gymnasium.make_vec(ours, num_envs=1, **options).unwrapped


def _grid_of(env: Any, states: int) -> tuple[int, int] | None:
    """The shape of a FrozenLake's map, of CliffWalking's grid, if its cells are the states."""
    desc = getattr(env, "desc", None)
    if desc is None:
        desc = getattr(env, "options", {}).get("desc")
    shape: Any = getattr(env, "shape", None) if desc is None else (len(desc), len(desc[0]))
    if np.ndim(shape) != 1 or len(shape) != 2 or shape[0] * shape[1] != states:
        return None
    return int(shape[0]), int(shape[1])


def of_functions(
    cls: "type[MDP]", num_states: int, actions: Any, outcomes: Any, terminal: Any, initial: Any
) -> "MDP":
    """See ``MDP.from_functions``."""
    states = range(require_states(num_states))
    acting = ((s, a) for s in states for a in _listed(f"actions of state {s}", actions(s)))
    rows = rows_of((s, a, outcomes(s, a)) for s, a in acting)
    return of_outcomes(cls, columns_of(rows), num_states, terminal, initial)


def rows_of(outcomes: Iterable[tuple[Any, Any, Any]]) -> list[tuple[Any, ...]]:
    """Of states, actions and lists of their outcomes the rows of ``columns_of``."""
    rows: list[tuple[Any, ...]] = []
    for s, a, found in outcomes:
        name = f"outcomes of state {s}, action {a}"
        for outcome in _listed(name, found):
            row = (s, a, *outcome) if hasattr(outcome, "__iter__") else ()
            if len(row) not in (5, 6):
                wanted = "(probability, next state, reward), or with whether it ends"
                raise ValueError(f"MDP: {name} must be {wanted}, got {outcome!r}")
            rows.append(row)
    return rows


def _listed(name: str, x: Any) -> Iterable[Any]:
    if not isinstance(x, Iterable):
        raise TypeError(f"MDP: {name} must be a list, got {describe(x)}")
    return x


def columns_of(rows: Iterable[tuple[Any, ...]]) -> Columns:
    """Of (state, action, probability, next state, reward[, terminated]) the columns of ``of_outcomes``."""
    full = [row if len(row) == 6 else (*row, False) for row in rows]
    columns = [array_of(column) for column in zip(*full, strict=True)] or [np.zeros(0, np.int64)] * 6
    state, action, probability, next_state, reward, terminated = columns
    return state, action, next_state, _numbers(reward), _numbers(probability), terminated, None


def _numbers(x: NDArray[Any]) -> NDArray[Any]:
    """float64 of objects, as fractions, where they are numbers."""
    if x.dtype != np.dtype(object):
        return x
    try:
        return x.astype(np.float64)
    except (TypeError, ValueError):
        return x


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
    first = likeliest(entry, probability, x, len(total))
    with np.errstate(invalid="ignore"):  # of infinities, which are refused later
        beyond = np.where((probability > 0) & (x != first[entry]), x - first[entry], 0.0)
        spread = sums(entry, probability * beyond, len(total))
    return first + np.divide(spread, total, out=np.zeros_like(total), where=total > 0)
