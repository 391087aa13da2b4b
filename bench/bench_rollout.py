"""Time of rollouts and of running normalisation: ``python bench/bench_rollout.py``."""

import _harness

# isort: split
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.wrappers.utils import RunningMeanStd as GymnasiumStatistics

import fastrl
from fastrl.normalize import RunningMeanStd

NUM_ENVS, NUM_STEPS = 8, 128


def rollout(env_id: str, normalize: bool) -> dict[str, Any]:
    """A batch by one native call, and step by step through Python as with a callback at every step."""

    def source(stepwise: bool) -> Any:
        agent = fastrl.PPO(
            env_id,
            num_envs=NUM_ENVS,
            num_steps=NUM_STEPS,
            normalize_obs=normalize,
            normalize_reward=normalize,
        )
        agent.source.on_step = (lambda data: None) if stepwise else None
        return agent.source

    native, stepwise = source(False), source(True)
    arrays = ("obs", "action", "log_prob", "value", "next_value", "reward")

    def first_of(x: Any) -> list[Any]:
        batch = x.next()
        return [getattr(batch, name).copy() for name in arrays] if x.counter == NUM_STEPS else []

    return {
        "ours": lambda: first_of(native),
        "peers": {"ours, step by step": lambda: first_of(stepwise)},
        "agree": lambda a, b: all(map(np.array_equal, a, b)),
    }


def statistics(rows: int, columns: int) -> dict[str, Any]:
    """A batch taken into running statistics, then normalised by them."""
    x = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    ours, theirs = RunningMeanStd((columns,)), GymnasiumStatistics(shape=(columns,))

    def by_ours() -> Any:
        ours.update(x)
        return ours.normalize(x)

    def by_gymnasium() -> Any:
        theirs.update(x)
        z = (x - theirs.mean) / np.sqrt(theirs.var + 1e-8)
        return np.clip(z, -10, 10).astype(np.float32)

    return {
        "ours": by_ours,
        "peers": {"gymnasium RunningMeanStd": by_gymnasium},
        "agree": lambda a, b: np.allclose(a, b, atol=1e-3),  # theirs begins with 1e-4 rows of mean 0
        "bytes": 3 * x.nbytes,
    }


def cases() -> Iterator[_harness.Case]:
    for env_id in ("CartPole-v1", "Pendulum-v1"):
        for normalize in (False, True):
            name = f"rollout, {env_id}, {NUM_STEPS} steps of {NUM_ENVS}{', normalised' * normalize}"
            yield _harness.Case(name=name, **rollout(env_id, normalize))
    for rows, columns in [(8, 3), (1024, 4), (64, 376)]:
        yield _harness.Case(name=f"running normalisation, {rows} x {columns}", **statistics(rows, columns))


if __name__ == "__main__":
    _harness.main("rollout", cases, ["gymnasium"])
