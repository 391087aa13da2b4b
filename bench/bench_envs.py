"""Env-steps a second of compiled environments against Gymnasium's, through the public ``VectorEnv.step``.

    python bench/bench_envs.py [--envs CartPole-v1 ...] [--num-envs 1 8 64 1024 8192] [--rounds 9]
                               [--json FILE]

One thread, NEXT_STEP autoreset, int64 or float32 actions drawn beforehand. A step reads the actions and
returns observations float32 or int64, rewards float64, two flag arrays and what infos the environment has:
fresh ones, unless the row says copy=False.
SyncVectorEnv and ours return the same bytes, which is checked before anything is timed; ``mode="fast"``
returns the same but for float32 rounding, which is checked over the first steps. CartPoleVectorEnv seeds all
envs from one generator, so it is checked a step at a time from our states; its rewards are float32. Gymnasium
has no other vectorised one of these.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import fastrl
from fastrl import _core

SYNC_CAP = 1024  # SyncVectorEnv is flat long before, and 8192 of its envs take minutes
Maker = Callable[[int], Any]
OURS, SYNC, NUMPY = "fastrl", "SyncVectorEnv", "CartPoleVectorEnv"
FAST = "fastrl fast"
TOY_TEXT = (
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    "Blackjack-v1",
)
IDS = ("CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1", *TOY_TEXT)


def makers(env_id: str) -> dict[str, Maker]:
    """The contestants."""

    def ours(**kwargs: Any) -> Maker:
        return lambda n: gymnasium.make_vec(f"fastrl/{env_id}", num_envs=n, **kwargs)

    def theirs(mode: str) -> Maker:
        return lambda n: gymnasium.make_vec(env_id, num_envs=n, vectorization_mode=mode)

    found = {OURS: ours(), f"{OURS} copy=False": ours(copy=False)}
    if env_id not in TOY_TEXT:  # they have no arithmetic to make faster
        found |= {FAST: ours(mode="fast"), f"{FAST} copy=False": ours(mode="fast", copy=False)}
    found[SYNC] = theirs("sync")
    return found | {NUMPY: theirs("vector_entry_point")} if env_id == "CartPole-v1" else found


def draw(env: Any, steps: int) -> list[np.ndarray]:
    """Random actions of every env, the same at each call."""
    random = np.random.default_rng(0)
    space = env.single_action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return list(random.integers(0, space.n, (steps, env.num_envs)))
    shape = (steps, env.num_envs, *space.shape)
    return list(random.uniform(space.low, space.high, shape).astype(space.dtype))


def arrays(result: Any) -> list[Any]:
    """What a step or reset returned, infos and tuples of observations taken apart."""
    if isinstance(result, dict):
        result = tuple(result.values())
    return [x for part in result for x in arrays(part)] if isinstance(result, tuple) else [result]


def check_sync(env_id: str, num_envs: int = 64, steps: int = 600) -> None:
    """Raises unless ours and SyncVectorEnv return the same bytes."""
    ours, theirs = makers(env_id)[OURS](num_envs), makers(env_id)[SYNC](num_envs)
    results = [(ours.reset(seed=0), theirs.reset(seed=0))]
    for actions in draw(ours, steps):
        results.append((ours.step(actions), theirs.step(actions)))
    for step, (a, b) in enumerate(results):
        for x, y in zip(arrays(a), arrays(b), strict=True):
            if x.dtype != y.dtype or x.tobytes() != y.tobytes():
                raise SystemExit(f"{env_id}, step {step}: fastrl and SyncVectorEnv differ; no ratios")


def check_fast(env_id: str, num_envs: int = 1024, steps: int = 12) -> None:
    """Raises unless the first steps in fast mode are the exact ones but for rounding."""
    fast, exact = makers(env_id)[FAST](num_envs), makers(env_id)[OURS](num_envs)
    fast.reset(seed=0), exact.reset(seed=0)
    for step, actions in enumerate(draw(fast, steps)):
        for x, y in zip(fast.step(actions)[:-1], exact.step(actions)[:-1], strict=True):
            if x.dtype != y.dtype or np.abs(x.astype(float) - y).max() > 2e-4:
                raise SystemExit(f"{env_id}, step {step}: fast and exact mode differ; no ratios")


def check_numpy(num_envs: int = 64, steps: int = 600) -> None:
    """Raises unless ours and CartPoleVectorEnv step from the same states to the same observations."""
    contestants = makers("CartPole-v1")
    ours, theirs = contestants[OURS](num_envs), contestants[NUMPY](num_envs)
    ours.reset(seed=0), theirs.reset(seed=0)
    for step, actions in enumerate(draw(ours, steps)):
        running = ~ours._core.needs_reset
        theirs.state, theirs.prev_done = ours.state.T, np.zeros(num_envs, bool)
        a, b = ours.step(actions), theirs.step(actions)
        if a[0][running].tobytes() != b[0][running].tobytes() or (a[2] != b[2])[running].any():
            raise SystemExit(f"step {step}: fastrl and CartPoleVectorEnv differ; no ratios")


def stepper(maker: Maker, num_envs: int) -> Callable[[], int]:
    """A function that takes 64 steps with fixed random actions and returns how many env-steps that was."""
    env = maker(num_envs)
    env.reset(seed=0)
    actions = draw(env, 64)
    step = env.step

    def run() -> int:
        for action in actions:
            step(action)
        return len(actions) * num_envs

    return run


def rate(run: Callable[[], int], seconds: float) -> float:
    """Env-steps a second over at least this long."""
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        count += run()
    return count / elapsed


def measure(env_id: str, num_envs: int, rounds: int, seconds: float = 0.05) -> dict[str, list[float]]:
    """Rates of every contestant, one a round, the contestants interleaved after a warm-up round."""
    contestants = makers(env_id)
    names = [name for name in contestants if name != SYNC or num_envs <= SYNC_CAP]
    runs = {name: stepper(contestants[name], num_envs) for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name in names:
            rates[name].append(rate(runs[name], seconds))
    return {name: values[1:] for name, values in rates.items()}


def versions() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "fastrl": fastrl.__version__,
        "isa": _core.isa(),
        "gymnasium": gymnasium.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores allowed",
        "threads": "1",
    }


def main() -> None:
    """Checks, measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--envs", nargs="+", default=IDS, choices=IDS)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 8, 64, 1024, 8192])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in versions().items()))
    for env_id in args.envs:
        check_sync(env_id)
        if env_id not in TOY_TEXT:
            check_fast(env_id)
    if "CartPole-v1" in args.envs:
        check_numpy()
    print("checked: SyncVectorEnv returns the same bytes, the others the same steps from the same states")
    print(
        "env-steps/s, median (best) of",
        args.rounds,
        "interleaved rounds; in brackets, ours / theirs by medians",
    )
    results: dict[str, Any] = {}
    for env_id in args.envs:
        results[env_id] = {}
        for num_envs in args.num_envs:
            rates = measure(env_id, num_envs, args.rounds)
            results[env_id][num_envs] = rates
            ours = statistics.median(rates[OURS])
            print(f"{env_id}, N = {num_envs}")
            for name, values in rates.items():
                middle = statistics.median(values)
                print(
                    f"  {name:<22} {middle / 1e6:9.3f} M ({max(values) / 1e6:.3f} M)  [{ours / middle:.2f}x]"
                )
    if args.json is not None:
        args.json.write_text(json.dumps({"versions": versions(), "env_steps_per_second": results}, indent=1))


if __name__ == "__main__":
    main()
