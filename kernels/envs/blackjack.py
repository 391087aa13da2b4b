"""The exact model of Blackjack with an infinite deck, by enumeration."""

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from fastrl.kernels.envs.model import TabularModel

OBSERVATION = (32, 11, 2)
"""The player's sum, the dealer's card, whether the player holds a usable ace."""
_NATURALS = 32 * 11 * 2
_CARDS = {card: Fraction(4 if card == 10 else 1, 13) for card in range(1, 11)}
_Row = dict[tuple[int, float], Fraction]  # probabilities by next state and reward
_Ends = dict[tuple[int, bool], Fraction]  # by score, 0 if bust, and whether it is a natural


def blackjack_arguments(_env_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Blackjack's arguments."""
    return {name: bool(given[name]) for name in ("natural", "sab")}


def blackjack(natural: bool, sab: bool) -> TabularModel:
    """Blackjack as Gymnasium plays it: action 0 sticks, 1 hits.

    The state of observation (player, dealer, ace) is (player * 11 + dealer) * 2 + ace, [0, 704). State
    704 + dealer is a natural, an ace and a ten at once: its observation is that of a later 21 with an ace,
    (21, dealer, 1), yet ``natural`` and ``sab`` pay it otherwise. Sticking leads to the same state, as the
    observation stays. States that cannot occur end at once for nothing.

    Probabilities are exact fractions, rounded once.
    """
    initial = np.zeros(_NATURALS + 11)
    rows: dict[tuple[int, int], _Row] = {}
    for dealer, p in _CARDS.items():
        ends = _dealer_ends(dealer)
        for first, p_first in _CARDS.items():
            for second, p_second in _CARDS.items():
                start = _state(first + second, 1 in (first, second), dealer, {first, second} == {1, 10})
                initial[start] += float(p * p_first * p_second)
        for ace, least in ((False, 4), (True, 2)):
            for total in range(least, 22):
                state = _state(total, ace, dealer)
                rows[state, 0] = _stick(state, _best(total, ace), ends)
                rows[state, 1] = _hit(total, ace, dealer)
        state = _state(11, True, dealer, True)
        rows[state, 0] = _stick(state, 21, ends, 1.0 if sab else 1.5 if natural else None, sab)
        rows[state, 1] = _hit(11, True, dealer)
    return _process(rows, initial)


def _state(total: int, ace: bool, dealer: int, natural: bool = False) -> int:
    usable = ace and total <= 11
    return _NATURALS + dealer if natural else (_best(total, ace) * 11 + dealer) * 2 + usable


def _best(total: int, ace: bool) -> int:
    return total + 10 if ace and total <= 11 else total


def _hit(total: int, ace: bool, dealer: int) -> _Row:
    return {
        (_state(total + card, ace or card == 1, dealer), -1.0 if total + card > 21 else 0.0): p
        for card, p in _CARDS.items()
    }


def _stick(state: int, player: int, ends: _Ends, bonus: float | None = None, always: bool = False) -> _Row:
    """``bonus`` pays a natural that wins, or ``always`` unless the dealer has one."""
    row: _Row = {}
    for (dealer, dealer_natural), p in ends.items():
        reward = float(player > dealer) - float(player < dealer)
        if bonus is not None and (reward == 1.0 or (always and not dealer_natural)):
            reward = bonus
        row[state, reward] = row.get((state, reward), Fraction(0)) + p
    return row


def _dealer_ends(shown: int) -> _Ends:
    """How the dealer ends, given the card shown."""
    ends: _Ends = {}
    for hidden, p in _CARDS.items():
        natural = {shown, hidden} == {1, 10}
        for score, q in _dealer_draws(shown + hidden, 1 in (shown, hidden)).items():
            ends[score, natural] = ends.get((score, natural), Fraction(0)) + p * q
    return ends


@cache
def _dealer_draws(total: int, ace: bool) -> dict[int, Fraction]:
    if _best(total, ace) >= 17:
        return {0 if total > 21 else _best(total, ace): Fraction(1)}
    scores: dict[int, Fraction] = {}
    for card, p in _CARDS.items():
        for score, q in _dealer_draws(total + card, ace or card == 1).items():
            scores[score] = scores.get(score, Fraction(0)) + p * q
    return scores


def _process(rows: Mapping[tuple[int, int], _Row], initial: Any) -> TabularModel:
    """Sticking and busting end the episode."""
    listed = [
        list(rows.get((state, action), {(state, 0.0): Fraction(1)}).items())
        for state in range(len(initial))
        for action in range(2)
    ]
    outcomes = [outcome for row in listed for outcome in row]
    next_state = np.array([state for (state, _), _ in outcomes], np.int64)
    counts = [len(row) for row in listed]
    pair = np.repeat(np.arange(len(listed)), counts)
    impossible = np.array([(int(k) // 2, int(k) % 2) not in rows for k in pair])
    bust = (next_state < _NATURALS) & (next_state // 22 > 21)
    return TabularModel(
        num_actions=2,
        offset=np.cumsum([0, *counts], dtype=np.int64),
        next_state=next_state,
        reward=np.array([reward for (_, reward), _ in outcomes], np.float64),
        probability=np.array([float(p) for _, p in outcomes], np.float64),
        terminated=(pair % 2 == 0) | bust | impossible,
        initial=initial,
    )
