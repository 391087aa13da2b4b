"""Env-steps a second of compiled environments with one thread and with several, also beside a busy process.

    python bench/bench_threads.py [--env CartPole-v1] [--threads 2] [--num-envs 1024 4096 16384 65536]
                                  [--busy 1]

`--busy` processes spin, each pinned to a core, while the second half is measured. Results are compared to the
bit before anything is timed. Wall-clock time, so it says something about the pool only on an otherwise quiet
machine; the best round is printed beside the median.
"""

import argparse
import multiprocessing
import os
import statistics
import time

import numpy as np

from fastrl.envs import VectorEnv


def spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


def check(env_id: str, mode: str, threads: int) -> None:
    """Raises unless the number of threads leaves every bit as it is."""
    states = []
    for num_threads in (1, threads):
        env = VectorEnv(env_id, 30_001, mode=mode, num_threads=num_threads)
        env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(10):
            env.step(env.action_space.sample())
        states.append(env.get_state().tobytes())
    if states[0] != states[1]:
        raise SystemExit(f"{env_id} {mode}: results depend on the number of threads; no figures")


def rate(env: VectorEnv, actions: np.ndarray, seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for _ in range(8):
            env.step(actions)
        count += 8 * env.num_envs
    return count / elapsed


def measure(args: argparse.Namespace, mode: str, what: str) -> None:
    for num_envs in args.num_envs:
        envs = {n: VectorEnv(args.env, num_envs, mode=mode, num_threads=n) for n in (1, args.threads)}
        rates: dict[int, list[float]] = {n: [] for n in envs}
        for env in envs.values():
            env.reset(seed=0)
        envs[1].action_space.seed(0)
        actions = envs[1].action_space.sample()
        for _ in range(args.rounds + 1):
            for n, env in envs.items():
                rates[n].append(rate(env, actions, 0.05))
        best = {n: max(values[1:]) / 1e6 for n, values in rates.items()}
        middle = {n: statistics.median(values[1:]) / 1e6 for n, values in rates.items()}
        print(f"{args.env} {mode:5} N = {num_envs:7} {what:5}", end="")
        for n in envs:
            print(f"  {n} threads: {middle[n]:7.1f} M/s (best {best[n]:7.1f})", end="")
        print(f"  [{middle[args.threads] / middle[1]:.2f}x, best {best[args.threads] / best[1]:.2f}x]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--busy", type=int, default=1)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for mode in ("exact", "fast"):
        check(args.env, mode, args.threads)
        measure(args, mode, "idle")
    cores = sorted(os.sched_getaffinity(0), reverse=True)[: args.busy]
    others = [multiprocessing.Process(target=spin, args=(core,), daemon=True) for core in cores]
    for other in others:
        other.start()
    for mode in ("exact", "fast"):
        measure(args, mode, "busy")
    for other in others:
        other.kill()


if __name__ == "__main__":
    main()
