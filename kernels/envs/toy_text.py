"""The models of Gymnasium's toy text environments: their arguments checked, their transitions as arrays.

Numbers, order and duplicates of the outcomes are those of Gymnasium's ``env.P``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels.envs.model import TabularModel

Arguments = dict[str, Any]


def frozen_lake_arguments(env_id: str, given: Mapping[str, Any]) -> Arguments:
    """FrozenLake's arguments, the map among them as a tuple of strings.

    Without ``desc`` it is the one called ``map_name``; without that too, a random one as Gymnasium draws it.
    """
    # imported late: the module is needed for its maps alone
    from gymnasium.envs.toy_text.frozen_lake import MAPS, generate_random_map

    desc, name = given["desc"], given["map_name"]
    if desc is None and name is not None and name not in MAPS:
        raise ValueError(f"{env_id}: map_name must be one of {', '.join(MAPS)} or None, got {name!r}")
    if desc is None:
        desc = generate_random_map() if name is None else MAPS[name]
    rewards = given["reward_schedule"]
    try:
        schedule = tuple(float(reward) for reward in rewards)
    except (TypeError, ValueError):
        schedule = ()
    if len(schedule) != 3 or not np.isfinite(schedule).all():
        raise ValueError(
            f"{env_id}: reward_schedule must be three finite numbers, for goal, hole and ice, got {rewards!r}"
        )
    return {
        "desc": _checked_map(env_id, desc),
        "map_name": name,
        "is_slippery": bool(given["is_slippery"]),
        "success_rate": _probability(env_id, "success_rate", given["success_rate"]),
        "reward_schedule": schedule,
    }


def frozen_lake(
    desc: tuple[str, ...],
    map_name: str | None,
    is_slippery: bool,
    success_rate: float,
    reward_schedule: tuple[float, float, float],
) -> TabularModel:
    """FrozenLake on the map ``desc``: left, down, right, up; slippery ice moves aside too."""
    tile = np.array([list(row) for row in desc])
    target = _moves(tile.shape, ((0, -1), (1, 0), (0, 1), (-1, 0)))
    tile = tile.ravel()
    slips = _slips(4) if is_slippery else np.arange(4)[:, None]
    next_state = target[:, slips]
    landed = tile[next_state]
    goal, hole, ice = reward_schedule
    fail = (1.0 - success_rate) / 2.0
    probability = np.where(slips == np.arange(4)[:, None], success_rate if is_slippery else 1.0, fail)
    kept = np.ones(next_state.shape, np.bool_)
    reward = np.where(landed == "G", goal, np.where(landed == "H", hole, ice))
    terminated = (landed == "G") | (landed == "H")
    probability = np.broadcast_to(probability, next_state.shape).copy()
    over = np.flatnonzero((tile == "G") | (tile == "H"))  # stays there, for nothing
    kept[over, :, 1:] = False
    next_state[over], reward[over], probability[over], terminated[over] = over[:, None, None], 0.0, 1.0, True
    initial = (tile == "S").astype(np.float64)
    return _process(next_state, reward, probability, terminated, kept, initial / initial.sum())


def cliff_walking_arguments(env_id: str, given: Mapping[str, Any]) -> Arguments:
    """CliffWalking's argument."""
    return {"is_slippery": bool(given["is_slippery"])}


def cliff_walking(is_slippery: bool) -> TabularModel:
    """CliffWalking: up, right, down, left on 4 x 12 tiles; the cliff sends back to the start."""
    shape, start, goal = (4, 12), 36, 47
    target = _moves(shape, ((-1, 0), (0, 1), (1, 0), (0, -1)))
    next_state = target[:, _slips(4) if is_slippery else np.arange(4)[:, None]]
    fell = (next_state > start) & (next_state < goal)
    return _process(
        np.where(fell, start, next_state),
        np.where(fell, -100.0, -1.0),
        np.full(next_state.shape, 1 / next_state.shape[2]),
        next_state == goal,
        np.ones(next_state.shape, np.bool_),
        np.eye(48)[start],
    )


_TAXI_STOPS = ((0, 0), (0, 4), (4, 0), (4, 3))
_WALLS_EAST_OF = ((0, 1), (1, 1), (3, 0), (3, 2), (4, 0), (4, 2))


def taxi_arguments(env_id: str, given: Mapping[str, Any]) -> Arguments:
    """Taxi's arguments."""
    return {
        "is_rainy": bool(given["is_rainy"]),
        "rainy_probability": _probability(env_id, "rainy_probability", given["rainy_probability"]),
        "fickle_passenger": bool(given["fickle_passenger"]),
        "fickle_probability": _probability(env_id, "fickle_probability", given["fickle_probability"]),
    }


def taxi(
    is_rainy: bool, rainy_probability: float, fickle_passenger: bool = False, fickle_probability: float = 0.0
) -> TabularModel:
    """Taxi with a passenger who keeps the destination: south, north, east, west, pick up, drop off.

    A state is ((row * 5 + column) * 5 + passenger) * 4 + destination.

    Raises:
        NotImplementedError: a fickle passenger, whose mood is no part of the state.
    """
    if fickle_passenger:
        raise NotImplementedError(
            "Taxi-v4 mdp: with fickle_passenger=True the observation is no Markov state: whether the "
            "passenger will change the destination is hidden"
        )
    return taxi_moves(is_rainy, rainy_probability)


def taxi_moves(is_rainy: bool, rainy_probability: float) -> TabularModel:
    """What Taxi's table says, whether or not the passenger is fickle."""
    _, _, passenger, destination = np.indices((5, 5, 5, 4)).reshape(4, -1)
    state = np.arange(500)
    can_move, place, moved = _taxi_map()
    moved = (moved * 5 + passenger[:, None]) * 4 + destination[:, None]  # [500, 4]
    width = 3 if is_rainy else 1
    next_state = np.repeat(state, 6 * width).reshape(500, 6, width)
    next_state[:, :4, 0] = moved
    reward = np.full(next_state.shape, -1.0)
    probability = np.ones(next_state.shape)
    terminated, kept = np.zeros(next_state.shape, np.bool_), np.ones(next_state.shape, np.bool_)
    if is_rainy:
        left, right = [2, 3, 1, 0], [3, 2, 0, 1]
        next_state[:, :4, 1] = np.where(can_move, moved[:, left], state[:, None])
        next_state[:, :4, 2] = np.where(can_move, moved[:, right], state[:, None])
        probability[:, :4] = [rainy_probability, *[(1.0 - rainy_probability) / 2.0] * 2]
        kept[:, 4:, 1:] = False
    waits = place == passenger
    next_state[waits, 4, 0] += (4 - passenger[waits]) * 4
    reward[~waits, 4] = -10.0
    alights = (passenger == 4) & (place >= 0)
    arrives = alights & (place == destination)
    next_state[alights, 5, 0] += (place[alights] - 4) * 4
    reward[~alights, 5], reward[arrives, 5] = -10.0, 20.0
    terminated[arrives, 5] = True
    initial = ((passenger < 4) & (passenger != destination)).astype(np.float64)
    return _process(next_state, reward, probability, terminated, kept, initial / initial.sum())


def taxi_action_mask() -> NDArray[np.int8]:
    """int8 [500, 6]: the actions that change the state."""
    passenger = np.indices((5, 5, 5, 4)).reshape(4, -1)[2]
    can_move, place, _ = _taxi_map()
    pick_up, drop_off = place == passenger, (passenger == 4) & (place >= 0)
    return np.column_stack([can_move, pick_up, drop_off]).astype(np.int8)


def _taxi_map() -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """By state: whether each of the four moves is open, the stop there or -1, and where each move leads."""
    row, column, _, _ = np.indices((5, 5, 5, 4)).reshape(4, -1)
    walled = np.zeros((5, 6), np.bool_)  # west of each column
    walled[:, [0, 5]] = True
    for y, x in _WALLS_EAST_OF:
        walled[y, x + 1] = True
    can_move = np.column_stack([row < 4, row > 0, ~walled[row, column + 1], ~walled[row, column]])
    moved = _moves((5, 5), ((1, 0), (-1, 0), (0, 1), (0, -1)))[row * 5 + column]
    stop = np.full((5, 5), -1)
    for k, place in enumerate(_TAXI_STOPS):
        stop[place] = k
    return can_move, stop[row, column], np.where(can_move, moved, (row * 5 + column)[:, None])


def _moves(shape: tuple[int, ...], directions: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """[cells, directions]: where each step leads, which the borders stop."""
    rows, columns = shape
    row, column = np.indices(shape).reshape(2, -1, 1)
    down, right = np.array(directions).T
    to_row, to_column = np.clip(row + down, 0, rows - 1), np.clip(column + right, 0, columns - 1)
    target: NDArray[np.int64] = to_row * columns + to_column
    return target


def _slips(directions: int) -> NDArray[np.int64]:
    """[directions, 3]: the ways that a slippery move may go."""
    return (np.arange(directions)[:, None] + np.arange(-1, 2)) % directions


def _process(
    next_state: NDArray[np.int64],
    reward: NDArray[np.float64],
    probability: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    initial: NDArray[np.float64],
) -> TabularModel:
    """The process of outcomes [S, A, W], of which there are those ``kept``."""
    return TabularModel(
        num_actions=kept.shape[1],
        offset=np.concatenate([[0], np.cumsum(kept.sum(-1))]),
        next_state=next_state[kept],
        reward=reward[kept],
        probability=probability[kept],
        terminated=terminated[kept],
        initial=initial,
    )


def _checked_map(env_id: str, desc: Any) -> tuple[str, ...]:
    wanted = f"{env_id}: desc must be rows of two or more of the letters S, F, H, G, equally many, with an S"
    try:
        tiles = np.asarray(desc, dtype="c")
    except (ValueError, TypeError, UnicodeError):
        raise ValueError(f"{wanted}, got {desc!r}") from None
    if tiles.ndim != 2 or not np.isin(tiles, [b"S", b"F", b"H", b"G"]).all() or not (tiles == b"S").any():
        raise ValueError(f"{wanted}, got {desc!r}")
    return tuple("".join(tile.decode() for tile in row) for row in tiles)


def _probability(env_id: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise ValueError(f"{env_id}: {name} must be in [0, 1], got {value!r}")
    return number
