"""Env-steps a second of Python environments in processes: WorkerVectorEnv, AsyncVectorEnv, SyncVectorEnv.

    python bench/bench_workers.py [--rounds 9] [--only CartPole] [--json FILE]

Each contestant steps the same environments with the same actions, NEXT_STEP autoreset, copies returned. All
return the same bytes, which is checked before anything is timed. Rounds of the contestants are interleaved;
figures are medians of wall time, ratios those of the medians. ``cpu`` is processor time of this process and
the workers together, in microseconds an env-step: what a busy machine pays.
"""

import _harness  # isort: skip  # before numpy
import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from _windows import draw
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from fastrl.envs import WorkerVectorEnv

SECONDS = 0.25  # of a round


class Slow(gymnasium.Env[Any, Any]):
    """Takes a millisecond a step, asleep as one waiting for a simulator, or computing."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, busy: bool) -> None:
        self.busy = busy

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.random(4, np.float32), {}

    def step(self, action: Any) -> Any:
        if self.busy:
            end = time.thread_time() + 1e-3
            while time.thread_time() < end:
                pass
        else:
            time.sleep(1e-3)
        return self.np_random.random(4, np.float32), float(action), False, False, {}


@dataclass(frozen=True)
class Case:
    """Environments and how many of them, and of workers."""

    name: str
    make: Callable[[], Any]
    num_envs: int
    num_workers: int


CASES = [
    Case("CartPole-v1", partial(gymnasium.make, "CartPole-v1"), 64, 2),
    Case("CartPole-v1", partial(gymnasium.make, "CartPole-v1"), 8, 2),
    Case("FrozenLake-v1, an info a step", partial(gymnasium.make, "FrozenLake-v1"), 64, 2),
    Case("1 ms of computing", partial(Slow, True), 16, 2),
    Case("1 ms of computing", partial(Slow, True), 16, 16),
    Case("1 ms of sleep", partial(Slow, False), 16, 2),
    Case("1 ms of sleep", partial(Slow, False), 16, 16),
]


def contestants(case: Case) -> dict[str, Any]:
    """Vector environments, made and reset."""
    makers = [case.make] * case.num_envs
    made = {
        "WorkerVectorEnv": WorkerVectorEnv(makers, case.num_workers),
        "AsyncVectorEnv": AsyncVectorEnv(makers),
        "SyncVectorEnv": SyncVectorEnv(makers),
    }
    results = {name: env.reset(seed=0) for name, env in made.items()}
    for actions in [None, *draw(made["SyncVectorEnv"].single_action_space, case.num_envs, 30)]:
        if actions is not None:
            results = {name: env.step(actions) for name, env in made.items()}
        expected = results["SyncVectorEnv"]
        for name, result in results.items():
            for a, b in zip(result[:-1], expected[:-1], strict=True):
                if a.tobytes() != b.tobytes():
                    raise SystemExit(f"{case.name}: {name} and SyncVectorEnv differ; no ratios")
    return made


def pids(env: Any) -> list[int]:
    """Of the processes that step it."""
    workers = env.pids if isinstance(env, WorkerVectorEnv) else [p.pid for p in getattr(env, "processes", ())]
    return [os.getpid(), *workers]


def processor_seconds(processes: list[int]) -> float:
    """That they have had."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in processes) / 1e9


def rate(env: Any, actions: list[np.ndarray]) -> tuple[float, float]:
    """Env-steps a second and processor seconds an env-step."""
    processes = pids(env)
    count, cpu, start = 0, processor_seconds(processes), time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        env.step(actions[count % len(actions)])
        count += 1
    cpu = processor_seconds(processes) - cpu
    return count * env.num_envs / elapsed, cpu / (count * env.num_envs)


def measure(case: Case, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Rates of every contestant, one a round after a warm-up."""
    made = contestants(case)
    actions = draw(made["SyncVectorEnv"].single_action_space, case.num_envs, 64)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for _ in range(rounds + 1):
        for name, env in made.items():
            rates[name].append(rate(env, actions))
    for env in made.values():
        env.close()
    return {name: values[1:] for name, values in rates.items()}


def main() -> None:
    """Checks, measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the harness keeps to one
    cores = os.sched_getaffinity(0)
    facts = {**_harness.context(["gymnasium", "numpy"]), "threads": len(cores)}
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), f"\nload: {os.getloadavg()[0]:.1f}")
    results = []
    for case in CASES:
        if args.only not in case.name:
            continue
        rates = measure(case, args.rounds)
        ours = statistics.median(speed for speed, _ in rates["WorkerVectorEnv"])
        print(f"{case.name}: {case.num_envs} envs, {case.num_workers} workers")
        for name, values in rates.items():
            middle, cpu = (statistics.median(column) for column in zip(*values, strict=True))
            print(
                f"  {name:<16} {middle:10,.0f} env-steps/s  cpu {cpu * 1e6:7.1f} us  [{ours / middle:.2f}x]"
            )
        medians = {name: statistics.median(speed for speed, _ in values) for name, values in rates.items()}
        cpu_us = {name: 1e6 * statistics.median(cpu for _, cpu in values) for name, values in rates.items()}
        ratio = ours / medians["AsyncVectorEnv"]
        title = f"{case.name}: {case.num_envs} environments, {case.num_workers} workers"
        results.append({"name": title, "rates": medians, "cpu_us": cpu_us, "ratio": ratio})
    if args.json is not None:
        table = {
            "unit": "env-steps/s (CPU us an env-step)",
            "contestants": list(results[0]["rates"]),
            "rounds": args.rounds,
        }
        args.json.write_text(json.dumps({**facts, **table, "cases": results}, indent=1))


if __name__ == "__main__":
    main()
