"""Total reward without discount: where one can stay for ever, and what that is worth."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.tabular import bellman
from fastrl.tabular._check import row_sums
from fastrl.tabular._process import Process, of_pairs

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
MOST_SWEEPS = 100_000
"""Of those that tell whether staying somewhere for ever gains or loses."""


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A process in which one may stay for ever only at a loss.

    States that a policy can go round in for ever, rewarded by 0 all the time, are one state: it has the pairs
    that leave them, and one more, to stay, which ends with 0.
    """

    process: Union[Process, "MDP"]
    state: Ints
    """[S]: what each state is part of."""
    pair: Ints
    """Of each pair of the process the original one, -1 to stay."""
    inside: NDArray[np.uint8]
    """[L]: pairs that go round."""
    lasting: Mask
    """Pairs of the process that do not end an episode."""

    def first(self, states: Mask) -> int:
        """The first original state of some."""
        return int(states[self.state].argmax())


def lasting_pairs(mdp: "MDP") -> Mask:
    """[L]: pairs that never end an episode, unless they lead to a terminal state."""
    if mdp.discount is None:
        return np.ones(mdp.num_pairs, np.bool_)
    never: Mask = row_sums(mdp, mdp.probability - mdp.weight) == 0
    return never


def fold(mdp: "MDP") -> Folded:
    """Make one state of each maximal end component of the pairs without reward.

    Source: Haddad and Monmege 2018, Interval iteration algorithm for MDPs and IMDPs; Baier, Klein, Leuschner,
    Parker and Wunderlich 2017, Ensuring the reliability of your model checker, section 4.
    """
    lasting = lasting_pairs(mdp)
    inside = (lasting & (mdp.reward == 0)).astype(np.uint8)
    part = bellman(mdp).end_components(inside)
    if part.max() < 0:
        return Folded(
            process=mdp,
            state=np.arange(mdp.num_states),
            pair=np.arange(mdp.num_pairs),
            inside=inside,
            lasting=lasting,
        )
    members = np.flatnonzero(part >= 0)
    _, at = np.unique(part[members], return_index=True)
    head = np.arange(mdp.num_states)
    head[members] = members[at][part[members]]
    heads, state = np.unique(head, return_inverse=True)
    kept = np.flatnonzero(inside == 0)
    owner = np.concatenate([state[mdp.state[kept]], state[members[at]]])
    order = np.argsort(owner, kind="stable")
    pair = np.concatenate([kept, np.full(len(at), -1)])[order]
    offset, next_state, weight = _rows(mdp, pair)
    return Folded(
        process=Process(
            len(heads),
            np.searchsorted(owner[order], np.arange(len(heads) + 1)).astype(np.int64),
            offset,
            state[next_state].astype(offset.dtype),
            weight,
            np.where(pair >= 0, mdp.reward[pair], 0.0),
            None if mdp.terminal is None else mdp.terminal[heads],
        ),
        state=state,
        pair=pair,
        inside=inside,
        lasting=(pair >= 0) & lasting[pair],
    )


def _rows(mdp: "MDP", pair: Ints) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """Rows of some pairs, compressed: offsets, next states, weights; nothing of pair -1."""
    if mdp.offset is None or mdp.next_state is None:
        first: NDArray[Any]
        entries: NDArray[Any]
        rows, columns = np.nonzero(mdp.weight)
        first = np.searchsorted(rows, np.arange(mdp.num_pairs + 1)).astype(np.int64)
        entries, weights = columns, mdp.weight[rows, columns]
    else:
        first, entries, weights = mdp.offset, mdp.next_state, mdp.weight
    sizes = np.where(pair >= 0, first[pair + 1] - first[pair], 0)
    offset = np.concatenate([[0], np.cumsum(sizes)]).astype(first.dtype)
    taken = np.repeat(first[pair] - offset[:-1], sizes) + np.arange(offset[-1])
    return offset, entries[taken], weights[taken]


def require_finite(folded: Folded) -> None:
    """Raise unless the best total rewards of all states are finite numbers.

    Raises:
        ValueError: names a state where they are not.
    """
    process = folded.process
    of, state = bellman(process), process.state
    ends = np.zeros(process.num_states, np.bool_) if process.terminal is None else process.terminal.copy()
    staying = (folded.lasting & ~ends[state]).astype(np.uint8)
    ends[state[~folded.lasting]] = True
    lost = ~ends & (of.toward(ends, np.ones(len(state), np.bool_)) < 0)
    if lost.any():
        s = folded.first(lost)
        raise ValueError(
            f"solve: gamma must be < 1: from state {s} no policy ends, and rewards go on for ever"
        )
    part = of.end_components(staying)
    inside = staying.astype(np.bool_)
    if not inside.any():
        return
    least, most = np.full(part.max() + 1, np.inf), np.full(part.max() + 1, -np.inf)
    np.minimum.at(least, part[state[inside]], process.reward[inside])
    np.maximum.at(most, part[state[inside]], process.reward[inside])
    gain = np.where(most <= 0, -1, np.where(least >= 0, 1, 0))
    if (gain == 0).any():
        mixed = (part >= 0) & (gain[part] == 0)
        some = of_pairs(process, inside & mixed[state], process.reward)
        gain[gain == 0] = _signs(some, mixed, part, np.maximum(-least, most))[gain == 0]
    for sign, what in (
        (1, "add up to infinity"),
        (0, "go round and add up to 0, so that totals do not settle"),
    ):
        if (gain == sign).any():
            s = folded.first((part >= 0) & (gain[part] == sign))
            raise ValueError(f"solve: gamma must be < 1: rewards around state {s} {what}")


def _signs(process: Process, states: Mask, part: NDArray[np.int32], scale: Floats) -> NDArray[np.int64]:
    """Of each end component the sign of the greatest reward a step, its gain; -1 if that cannot be told.

    Source: Puterman 1994, theorem 8.5.5: the changes of a sweep are bounds on the gain.
    """
    of = bellman(replace(process, terminal=~states))
    value, next_value = np.zeros(process.num_states), np.empty(process.num_states)
    choice = np.full(process.num_states, -1, np.int32)
    own = part[states]
    for _ in range(MOST_SWEEPS):
        of.backup(value, 1.0, next_value, choice, None)
        change = (next_value - value)[states]
        low, high = np.full(len(scale), np.inf), np.full(len(scale), -np.inf)
        np.minimum.at(low, own, change)
        np.maximum.at(high, own, change)
        near = high - low <= 1e-9 * scale
        sign = np.where(low > 1e-9 * scale, 1, np.where(high < -1e-9 * scale, -1, 0))
        if (near | (sign != 0))[own].all():
            return sign
        value += np.where(states, 0.5 * (next_value - value), 0.0)  # halved, as it may go round in step
    return np.where(sign == 0, -1, sign)
