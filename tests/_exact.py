"""Values of finite MDPs in rational arithmetic: of the process that the float64 arrays say, nothing rounded."""

from fractions import Fraction

import numpy as np

ENOUGH = Fraction(1, 10**45)
"""Of the largest reward: what a value may lack of its Bellman equation."""


def _pairs(mdp):
    """Of each pair, its reward and {next state: weight}, terminal states left out."""
    ends = np.zeros(mdp.num_states, bool) if mdp.terminal is None else mdp.terminal
    pairs = []
    for pair, reward in enumerate(mdp.reward):
        if mdp.offset is None:
            entries = zip(range(mdp.num_states), mdp.weight[pair], strict=True)
        else:
            own = slice(mdp.offset[pair], mdp.offset[pair + 1])
            entries = zip(mdp.next_state[own].tolist(), mdp.weight[own], strict=True)
        row = {}
        for to, weight in entries:
            if weight and not ends[to]:
                row[to] = row.get(to, 0) + Fraction(float(weight))
        pairs.append((Fraction(float(reward)), row))
    return pairs


def _mixed(pairs, probabilities):
    """The pair that takes each of ``pairs`` with its probability."""
    reward, row = Fraction(0), {}
    for (own, to), p in zip(pairs, map(Fraction, probabilities), strict=True):
        reward += p * own
        for state, weight in to.items():
            row[state] = row.get(state, 0) + p * weight
    return reward, row


def _q(pair, value, gamma):
    reward, row = pair
    return reward + gamma * sum((w * value[to] for to, w in row.items()), Fraction(0))


def _solved(taken, gamma):
    """Values where each state does what ``taken`` says, and how far these can be off: float64 elimination,
    refined until what is left of the equations is next to nothing."""
    system = np.eye(len(taken))
    for s, (_, row) in enumerate(taken):
        for to, weight in row.items():
            system[s, to] -= float(gamma * weight)
    inverse = np.linalg.inv(system)
    scale = max(abs(reward) for reward, _ in taken) or Fraction(1)
    most = max((sum(row.values(), Fraction(0)) for _, row in taken), default=Fraction(0))
    value = [Fraction(0)] * len(taken)
    for _ in range(100):
        left = [_q(pair, value, gamma) - v for pair, v in zip(taken, value, strict=True)]
        worst = max(map(abs, left))
        if worst <= ENOUGH * scale:
            return value, worst / (1 - gamma * most)
        step = inverse @ np.array([float(x / worst) for x in left])
        value = [v + worst * Fraction(float(x)) for v, x in zip(value, step, strict=True)]
        value = [Fraction(round(v * 2**400 / scale), 2**400) * scale for v in value]
    raise AssertionError("refinement must converge")


NOTHING = (Fraction(0), {})


def policy_value(mdp, policy, gamma):
    """V of a policy [L] of probabilities, and how far it can be off."""
    pairs, taken = _pairs(mdp), []
    for s in range(mdp.num_states):
        own = slice(mdp.pair_offset[s], mdp.pair_offset[s + 1])
        ended = mdp.terminal is not None and mdp.terminal[s]
        taken.append(NOTHING if ended else _mixed(pairs[own], policy[own]))
    return _solved(taken, Fraction(gamma))


def optimal_value(mdp, gamma):
    """V*, by policy iteration, and how far it can be off."""
    pairs, gamma = _pairs(mdp), Fraction(gamma)
    alive = [s for s in range(mdp.num_states) if mdp.terminal is None or not mdp.terminal[s]]
    own = {s: pairs[mdp.pair_offset[s] : mdp.pair_offset[s + 1]] for s in alive}
    taken = [NOTHING] * mdp.num_states
    for s in alive:
        taken[s] = max(own[s], key=lambda pair: pair[0])
    while True:
        value, doubt = _solved(taken, gamma)
        switched = False
        for s in alive:
            best = max(own[s], key=lambda pair: _q(pair, value, gamma))
            if _q(best, value, gamma) > _q(taken[s], value, gamma) + 4 * doubt:
                taken[s], switched = best, True
        if not switched:
            most = max((sum(row.values()) for pairs_ in own.values() for _, row in pairs_), default=0)
            return value, doubt + 5 * doubt / (1 - gamma * most)


def assert_between(lower, exact, upper):
    """That the bounds hold, to the last bit."""
    value, doubt = exact
    for s, (low, v, high) in enumerate(zip(lower, value, upper, strict=True)):
        assert Fraction(float(low)) <= v + doubt, f"state {s}: {float(Fraction(float(low)) - v)} above"
        assert Fraction(float(high)) >= v - doubt, f"state {s}: {float(v - Fraction(float(high)))} below"


def distance(given, exact):
    """How far values are from the exact ones."""
    return max(abs(Fraction(float(x)) - v) for x, v in zip(given, exact[0], strict=True)) - exact[1]
