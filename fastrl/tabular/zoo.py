"""Finite MDPs of the textbooks and of planners' benchmarks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, isfinite

import numpy as np
from numpy.typing import NDArray

from fastrl.tabular._check import seal
from fastrl.tabular.layouts import DYNA_MAZE, maze_cells
from fastrl.tabular.mdp import MDP

UP, DOWN, RIGHT, LEFT = (-1, 0), (1, 0), (0, 1), (0, -1)
FOUR_MOVES = (UP, DOWN, RIGHT, LEFT)
KINGS_MOVES = (*FOUR_MOVES, (-1, 1), (-1, -1), (1, 1), (1, -1))


def gridworld() -> MDP:
    """The 4x4 gridworld of Sutton and Barto (2018), example 4.1: two terminal corners, -1 a step.

    Actions are up, down, right, left; one that leaves the grid stays.
    """
    return _grid((4, 4), FOUR_MOVES, terminal=[0, 15])


def gridworld_with_jumps() -> MDP:
    """The 5x5 gridworld of Sutton and Barto (2018), example 3.5: a continuing task.

    Leaving the grid costs 1; from (0, 1) every action jumps to (4, 1) for 10, from (0, 3) to (2, 3) for 5.
    """
    jumps = {1: (21, 10.0), 3: (13, 5.0)}

    def outcomes(s: int, a: int) -> list[tuple[float, int, float]]:
        if s in jumps:
            return [(1.0, *jumps[s])]
        target = _target(s, FOUR_MOVES[a], (5, 5))
        return [(1.0, target, -1.0 if target == s else 0.0)]

    return replace(MDP.from_functions(25, lambda _: range(4), outcomes), grid=(5, 5))


def maze(layout: Sequence[str] = DYNA_MAZE, *, step_reward: float = 0.0, goal_reward: float = 1.0) -> MDP:
    """A maze; the default is the one of Sutton and Barto (2018), example 8.1.

    Actions are up, down, right, left; one into a wall or off the grid stays. Walls are terminal states.

    Args:
        layout: rows of equal length: ``.`` free, ``#`` a wall, ``S`` where episodes start, ``G`` goals.
        step_reward: of a step that does not reach a goal.
        goal_reward: of one that does.

    Raises:
        ValueError: a layout that is not such.
    """
    text = maze_cells(layout)
    cells = np.array(list(text))
    return _grid(
        (len(layout), len(layout[0])),
        FOUR_MOVES,
        walls=cells == "#",
        terminal=np.flatnonzero((cells == "#") | (cells == "G")),
        reward=lambda s, target: goal_reward if text[target] == "G" else step_reward,
        initial=text.index("S"),
    )


def windy_gridworld(*, moves: int = 4, stochastic: bool = False) -> MDP:
    """The windy gridworld of Sutton and Barto (2018), example 6.5, exercises 6.9 and 6.10: -1 a step.

    Args:
        moves: 4; 8, the king's; or 9, the king's and none.
        stochastic: the wind, where it blows, is one stronger or weaker a third of the time each.

    Raises:
        ValueError: other moves.
    """
    if moves not in (4, 8, 9):
        raise ValueError(f"windy_gridworld: moves must be 4, 8 or 9, got {moves}")
    chosen = (*KINGS_MOVES, (0, 0))[:moves]
    wind = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)
    shape = (7, 10)

    def outcomes(s: int, a: int) -> list[tuple[float, int, float]]:
        strength = wind[s % shape[1]]
        blows = (strength - 1, strength, strength + 1) if stochastic and strength else (strength,)
        down, right = chosen[a]
        return [(1 / len(blows), _clipped(s, (down - blow, right), shape), -1.0) for blow in blows]

    goal = 3 * shape[1] + 7
    actions = _unless([goal], range(moves))
    return replace(MDP.from_functions(70, actions, outcomes, terminal=[goal], initial=30), grid=shape)


def random_walk(states: int = 19, *, left_reward: float = -1.0, right_reward: float = 1.0) -> MDP:
    """A walk left or right with even chances, one action, from the middle until an end.

    The default is the one of Sutton and Barto (2018), example 7.1; example 6.2 is
    ``random_walk(5, left_reward=0)``. States 1 to ``states`` are the walk's, the two ends terminal.

    Raises:
        ValueError: fewer than one state.
    """
    if states < 1:
        raise ValueError(f"random_walk: states must be >= 1, got {states}")
    rewards = {0: left_reward, states + 1: right_reward}
    return MDP.from_functions(
        states + 2,
        _unless([0, states + 1], [0]),
        lambda s, _: [(0.5, n, rewards.get(n, 0.0)) for n in (s - 1, s + 1)],
        terminal=[0, states + 1],
        initial=(states + 1) // 2,
    )


def gamblers_problem(heads: float = 0.4, *, goal: int = 100) -> MDP:
    """The gambler's problem of Sutton and Barto (2018), example 4.3: states are capitals, actions stakes.

    Stakes are 1 up to what is left or missing; reaching the goal gives 1.

    Raises:
        ValueError: ``heads``, the coin's probability, outside [0, 1]; a goal below 2.
    """
    if not 0 <= heads <= 1:
        raise ValueError(f"gamblers_problem: heads must be in [0, 1], got {heads}")
    if goal < 2:
        raise ValueError(f"gamblers_problem: goal must be >= 2, got {goal}")
    return MDP.from_functions(
        goal + 1,
        lambda s: range(1, min(s, goal - s) + 1),
        lambda s, stake: [(heads, s + stake, float(s + stake == goal)), (1 - heads, s - stake, 0.0)],
        terminal=[0, goal],
    )


def jacks_car_rental(
    *,
    max_cars: int = 20,
    max_moves: int = 5,
    rental: float = 10.0,
    move_cost: float = 2.0,
    requests: tuple[float, float] = (3.0, 4.0),
    returns: tuple[float, float] = (3.0, 2.0),
) -> MDP:
    """Jack's car rental of Sutton and Barto (2018), example 4.2, with whole Poisson distributions.

    A state is ``cars at the first location * (max_cars + 1) + cars at the second``, at the end of a day;
    action ``a`` moves ``a - max_moves`` cars from the first to the second overnight, as many as there are;
    ``action_names`` are these numbers of cars.
    Cars beyond ``max_cars`` leave the problem. A car returned can be rented the next day.

    Args:
        max_cars: at each location.
        max_moves: at most, a night.
        rental: earned by a car rented.
        move_cost: of a car moved.
        requests: mean of the requests at each location, a day.
        returns: mean of the returns.

    Raises:
        ValueError: fewer than no cars or moves; means that are negative or too large for float64, or not of
            two locations; ``rental`` or ``move_cost`` that is not finite.
    """
    if max_cars < 0 or max_moves < 0:
        raise ValueError(f"jacks_car_rental: max_cars, max_moves must be >= 0, got {max_cars}, {max_moves}")
    for name, means in (("requests", requests), ("returns", returns)):
        if len(means) != 2 or not all(0 <= mean <= 700 for mean in means):  # exp(-700) is above 0
            raise ValueError(f"jacks_car_rental: {name} must be two means in [0, 700], got {means}")
    if not (isfinite(rental) and isfinite(move_cost)):
        raise ValueError(f"jacks_car_rental: prices must be finite, got {rental}, {move_cost}")
    each = max_cars + 1
    days = [_rental_day(max_cars, *means) for means in zip(requests, returns, strict=True)]
    after, rented = zip(*days, strict=True)
    first, second = np.divmod(np.arange(each * each), each)
    moved = np.arange(-max_moves, max_moves + 1)
    allowed = (moved <= first[:, None]) & (-moved <= second[:, None])
    state, action = np.nonzero(allowed)
    one = np.minimum(first[state] - moved[action], max_cars)
    two = np.minimum(second[state] + moved[action], max_cars)
    probability = (after[0][one][:, :, None] * after[1][two][:, None, :]).reshape(len(state), each * each)
    reward = rental * (rented[0][one] + rented[1][two]) - move_cost * abs(moved[action])
    seal(probability, reward)
    mdp = MDP.from_pairs(probability, reward, state=state, action=action)
    called = tuple(f"{cars:+d}" if cars else "0" for cars in moved.tolist()[: mdp.num_actions])
    return replace(mdp, grid=(each, each), action_names=called)


def _rental_day(
    max_cars: int, request: float, returned: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A day at one location: probabilities [n, n'] of its cars, and [n] the expected number rented."""
    wanted, back = (_poisson(mean, max_cars) for mean in (request, returned))
    cars = np.arange(max_cars + 1)
    after = np.zeros((max_cars + 1, max_cars + 1))
    for n in cars:
        left = np.zeros(max_cars + 1)
        left[n - cars[:n]] = wanted[:n]
        left[0] += 1 - wanted[:n].sum()
        for remaining in cars[: n + 1]:
            after[n, remaining:max_cars] += left[remaining] * back[: max_cars - remaining]
            after[n, max_cars] += left[remaining] * (1 - back[: max_cars - remaining].sum())
    missed = np.array([((n - cars[:n]) * wanted[:n]).sum() for n in cars])
    return after, cars - missed


def _poisson(mean: float, most: int) -> NDArray[np.float64]:
    """Probabilities of 0 to ``most``."""
    steps = np.concatenate([[exp(-mean)], mean / np.arange(1, most + 1)])
    return np.cumprod(steps)


def forest(states: int = 3, *, old: float = 4.0, cut: float = 2.0, fire: float = 0.1) -> MDP:
    """Forest management, the example of MDPToolbox (Chades et al. 2014): wait, or cut.

    A state is the forest's age. Waiting lets it grow unless it burns, with probability ``fire``, and earns
    ``old`` in the last state; cutting earns 0 in the first, ``cut`` in the last, and 1 between.

    Raises:
        ValueError: fewer than two states; ``fire`` outside [0, 1].
    """
    if states < 2:
        raise ValueError(f"forest: states must be >= 2, got {states}")
    if not 0 <= fire <= 1:
        raise ValueError(f"forest: fire must be in [0, 1], got {fire}")
    last = states - 1

    def outcomes(s: int, a: int) -> list[tuple[float, int, float]]:
        if a == 1:
            return [(1.0, 0, cut if s == last else float(s > 0))]
        reward = old if s == last else 0.0
        return [(fire, 0, reward), (1 - fire, min(s + 1, last), reward)]

    return MDP.from_functions(states, lambda _: range(2), outcomes)


def garnet(states: int, actions: int, branching: int, *, seed: int = 0) -> MDP:
    """A random MDP: Garnet of Archibald, McKinnon and Thomas (1995).

    From each pair ``branching`` different states follow, with probabilities from cutting [0, 1] at random;
    rewards r(s, a) are standard normal.

    Raises:
        ValueError: sizes below 1, or more branches than states.
    """
    if min(states, actions, branching) < 1 or branching > states:
        raise ValueError(
            "garnet: states, actions and branching must be >= 1, and branching <= states, got "
            f"{states}, {actions}, {branching}"
        )
    rng = np.random.default_rng(seed)
    pairs = states * actions
    followers = rng.integers(states, size=(pairs, branching))
    followers.sort(axis=1)
    while (repeated := np.flatnonzero((np.diff(followers) == 0).any(axis=1))).size:
        if branching * branching > states:  # so dense that redrawing would not end
            followers[repeated] = np.argsort(rng.random((repeated.size, states)))[:, :branching]
        else:
            followers[repeated] = rng.integers(states, size=(repeated.size, branching))
        followers[repeated] = np.sort(followers[repeated])
    cuts = np.sort(rng.random((pairs, branching - 1)))
    probability = np.diff(cuts, prepend=0.0, append=1.0)
    index = np.int32 if pairs * branching < 2**31 else np.int64
    offset = np.arange(0, pairs * branching + 1, branching, dtype=index)
    arrays = (probability.ravel(), followers.astype(index).ravel(), offset)
    reward = rng.normal(size=pairs)
    seal(*arrays, reward)
    return MDP.from_pairs(
        arrays,
        reward,
        num_states=states,
        state=np.repeat(np.arange(states), actions),
        action=np.tile(np.arange(actions), states),
    )


def _grid(
    shape: tuple[int, int],
    moves: Sequence[tuple[int, int]],
    *,
    terminal: Sequence[int] | NDArray[np.int64],
    walls: NDArray[np.bool_] | None = None,
    reward: Callable[[int, int], float] = lambda _, target: -1.0,
    initial: int | None = None,
) -> MDP:
    def outcomes(s: int, a: int) -> list[tuple[float, int, float]]:
        target = _target(s, moves[a], shape)
        if walls is not None and walls[target]:
            target = s
        return [(1.0, target, reward(s, target))]

    actions = _unless(terminal, range(len(moves)))
    size = shape[0] * shape[1]
    mdp = MDP.from_functions(size, actions, outcomes, terminal=terminal, initial=initial)
    return replace(mdp, grid=shape)


def _unless(
    terminal: Sequence[int] | NDArray[np.int64], actions: Sequence[int]
) -> Callable[[int], Sequence[int]]:
    ended = {int(s) for s in terminal}
    return lambda s: () if s in ended else actions


def _target(s: int, move: tuple[int, int], shape: tuple[int, int]) -> int:
    """The cell that a move leads to: the same one if that is off the grid."""
    row, column = s // shape[1] + move[0], s % shape[1] + move[1]
    return row * shape[1] + column if 0 <= row < shape[0] and 0 <= column < shape[1] else s


def _clipped(s: int, move: tuple[int, int], shape: tuple[int, int]) -> int:
    """The cell that a move leads to, each coordinate as far as the grid goes."""
    row = min(max(s // shape[1] + move[0], 0), shape[0] - 1)
    return row * shape[1] + min(max(s % shape[1] + move[1], 0), shape[1] - 1)
