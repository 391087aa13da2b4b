"""Whether the contestants of bench_envs.py give the same answers: no ratio is printed before."""

from collections.abc import Callable
from itertools import product
from typing import Any

import gymnasium
import numpy as np
from _windows import Trace, draw

from fastrl.envs import VectorEnv

Maker = Callable[[int], Any]


def arrays(result: Any) -> list[Any]:
    """What a step or reset returned, infos and tuples of observations taken apart."""
    if isinstance(result, dict):
        result = tuple(result.values())
    return [x for part in result for x in arrays(part)] if isinstance(result, tuple) else [np.asarray(result)]


def copied(result: Any) -> list[Any]:
    return [np.array(x) for x in arrays(result)]


def same_bytes(env_id: str, names: list[str], makers: dict[str, Maker], num_envs: int, steps: int) -> None:
    """Raises unless vector environments return the same bytes."""
    envs = [makers[name](num_envs) for name in names]
    results = [copied(env.reset(seed=0)) for env in envs]
    for step, actions in enumerate([None, *draw(envs[0].single_action_space, num_envs, steps)]):
        if actions is not None:
            results = [copied(env.step(actions)) for env in envs]
        for name, result in zip(names, results, strict=True):
            for x, y in zip(result, results[0], strict=True):
                if x.dtype != y.dtype or x.tobytes() != y.tobytes():
                    raise SystemExit(f"{env_id}, step {step}: {name} and {names[0]} differ; no ratios")
    for env in envs:
        env.close()


def same_bytes_alone(env_id: str, steps: int = 600) -> None:
    """Raises unless `gymnasium.make` of ours and of Gymnasium's give the same bytes."""
    envs = [gymnasium.make(name) for name in (f"fastrl/{env_id}", env_id)]
    results = [env.reset(seed=0) for env in envs]
    for step, action in enumerate(draw(envs[0].action_space, 1, steps)):
        results = [env.step(action[0]) for env in envs]
        a, b = map(arrays, results)
        if results[0][2] or results[0][3]:
            for both, env in zip((a, b), envs, strict=True):
                both += arrays(env.reset())
        for x, y in zip(a, b, strict=True):
            if x.tobytes() != y.tobytes():
                raise SystemExit(
                    f"{env_id}, step {step}: gymnasium.make of ours and its own differ; no ratios"
                )


def fast_is_close(env_id: str, fast: Maker, exact: Maker, num_envs: int = 1024, steps: int = 12) -> None:
    """Raises unless the first steps in fast mode are the exact ones but for rounding."""
    envs = fast(num_envs), exact(num_envs)
    for env in envs:
        env.reset(seed=0)
    for step, actions in enumerate(draw(envs[0].single_action_space, num_envs, steps)):
        for x, y in zip(*(env.step(actions)[:-1] for env in envs), strict=True):
            if x.dtype != y.dtype or np.abs(x.astype(float) - y).max() > 2e-4:
                raise SystemExit(f"{env_id}, step {step}: fast and exact mode differ; no ratios")


def cart_pole_vector_env(ours: Any, theirs: Any, steps: int = 600) -> None:
    """Raises unless ours and Gymnasium's CartPoleVectorEnv, which seeds otherwise, step alike from ours' states."""
    ours.reset(seed=0), theirs.reset(seed=0)
    for step, actions in enumerate(draw(ours.single_action_space, ours.num_envs, steps)):
        running = ~ours.core.needs_reset
        theirs.state, theirs.prev_done = ours.state.T, np.zeros(ours.num_envs, bool)
        a, b = ours.step(actions), theirs.step(actions)
        if a[0][running].tobytes() != b[0][running].tobytes() or (a[2] != b[2])[running].any():
            raise SystemExit(f"step {step}: fastrl and CartPoleVectorEnv differ; no ratios")


def difference(env_id: str, trace: Trace) -> str | None:
    """How transitions of a peer differ from Gymnasium's, each from its own observation; None: but for rounding."""
    limit = gymnasium.spec(env_id).max_episode_steps
    if trace["limit"] != limit:
        return f"episodes of {trace['limit']} steps, not {limit}"
    expected = outcomes(env_id) if env_id in TABULAR else None
    alone = gymnasium.make(env_id).unwrapped
    alone.reset(seed=0)
    columns = (trace[name] for name in ("obs", "action", "next_obs", "reward", "terminated"))
    for obs, action, next_obs, reward, terminated in zip(*columns, strict=True):
        if expected is not None:
            known = expected[state_of(env_id, obs), action]
            if (state_of(env_id, next_obs), reward, terminated) not in known:
                return f"{obs}, action {action}: {next_obs}, reward {reward}, {terminated} is no outcome"
            continue
        alone.state = state_of(env_id, np.array(obs))
        given = action if isinstance(action, int) else np.array(action, np.float32)
        wanted = alone.step(given)
        if env_id == "CartPole-v1":
            alone.steps_beyond_terminated = None
        got = np.array([*next_obs, reward])
        if np.abs(got - [*wanted[0], wanted[1]]).max() > TOLERANCE[env_id] or wanted[2] != terminated:
            return f"from {obs}, action {action}: {got} {terminated}, not {wanted[:3]}"
    return None


TABULAR = ("FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1", "Blackjack-v1")
TOLERANCE = {
    "CartPole-v1": 1e-6,
    "MountainCar-v0": 1e-6,
    "MountainCarContinuous-v0": 1e-6,
    "Acrobot-v1": 1e-4,
    "Pendulum-v1": 1e-4,
}
"""Of observations and rewards after a step from a float32 observation. Each velocity changes by more in a step."""


def state_of(env_id: str, obs: Any) -> Any:
    """The state that an observation shows."""
    if env_id == "Blackjack-v1":
        player, dealer, ace = obs
        return (player * 11 + dealer) * 2 + ace
    if env_id == "Acrobot-v1":
        return np.array([np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2]), obs[4], obs[5]])
    if env_id == "Pendulum-v1":
        return np.array([np.arctan2(obs[1], obs[0]), obs[2]])
    return obs


def outcomes(env_id: str) -> dict[tuple[int, int], set[tuple[int, float, bool]]]:
    """Next state, reward and end of every outcome, by state and action; tests compare this model with Gymnasium's."""
    mdp = VectorEnv(env_id).mdp()
    found: dict[tuple[int, int], set[tuple[int, float, bool]]] = {
        pair: set() for pair in product(range(mdp.num_states), range(mdp.num_actions))
    }
    columns = (mdp.state, mdp.action, mdp.next_state, mdp.reward, mdp.terminated)
    for state, action, *outcome in zip(*(column.tolist() for column in columns), strict=True):
        found[state, action].add(tuple(outcome))
    if (
        env_id == "Blackjack-v1"
    ):  # its observation does not tell a natural, states from 704 on, from a later 21
        for state, action in [pair for pair in found if pair[0] >= 704]:
            dealer = state - 704
            shown = (21 * 11 + dealer) * 2 + 1
            found[shown, action] |= {
                (shown if s == state else s, r, end) for s, r, end in found[state, action]
            }
    return found
