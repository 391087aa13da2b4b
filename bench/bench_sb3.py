"""What compiled environments bring a Stable-Baselines3 user: only the environment of an SB3 run is swapped.

    python bench/bench_sb3.py [--num-envs 8 64] [--rounds 9] [--only PPO] [--json FILE]

CartPole-v1 on SB3's ``make_vec_env`` (DummyVecEnv over Gymnasium's CartPole in SB3's Monitor) and on ours:
steps alone, with random actions; PPO with batches of 128 steps, once with four epochs of four minibatches, as
in CleanRL, once with SB3's ten epochs and minibatches of 256; A2C with its defaults. Both train the same
parameters from the same seed, bit for bit, which is checked before anything is timed. Figures are medians of
interleaved rounds in processor seconds, one thread.
"""

import _harness  # isort: skip  # before numpy
import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env

from fastrl.integrations.sb3 import make_vec_env

MAKERS: dict[str, Callable[..., Any]] = {"fastrl": make_vec_env, "SB3": sb3_make_vec_env}
ALGORITHMS = ("PPO, 4 epochs of 4 minibatches", "PPO, 10 epochs of 256", "A2C")
VERSIONS = ["fastrl-engine", "stable-baselines3", "torch", "gymnasium", "numpy"]


def agent(maker: Callable[..., Any], num_envs: int, algorithm: str) -> Any:
    """An SB3 agent on environments of a maker."""
    env = maker("CartPole-v1", num_envs, seed=0)
    if algorithm == "A2C":
        return A2C("MlpPolicy", env, seed=0, device="cpu")
    batch = 128 * num_envs
    small = (
        {"n_epochs": 10, "batch_size": 256}
        if "10" in algorithm
        else {"n_epochs": 4, "batch_size": batch // 4}
    )
    return PPO("MlpPolicy", env, n_steps=128, seed=0, device="cpu", **small)


def check(num_envs: int, algorithm: str) -> None:
    """Raises unless one seed trains the same parameters on both."""
    ours, theirs = (
        agent(maker, num_envs, algorithm).learn(256 * num_envs).policy.state_dict()
        for maker in MAKERS.values()
    )
    if any(not torch.equal(ours[name], theirs[name]) for name in theirs):
        raise SystemExit(f"{algorithm}, {num_envs} envs: training on ours and on SB3's differs; no ratios")


def training(maker: Callable[..., Any], num_envs: int, algorithm: str, timesteps: int) -> Callable[[], float]:
    """A function that trains on and returns timesteps a processor second."""
    model = agent(maker, num_envs, algorithm)
    model.learn(128 * num_envs)

    def run() -> float:
        before, start = model.num_timesteps, time.process_time()
        model.learn(timesteps, reset_num_timesteps=False)
        return (model.num_timesteps - before) / (time.process_time() - start)

    return run


def stepping(maker: Callable[..., Any], num_envs: int) -> Callable[[], float]:
    """A function that only steps and returns env-steps a processor second."""
    env = maker("CartPole-v1", num_envs, seed=0)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 2, (64, num_envs))

    def run() -> float:
        count, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < 0.1:
            env.step(actions[count % 64])
            count += 1
        return count * num_envs / elapsed

    return run


def main() -> None:
    """Checks, measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num-envs", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--timesteps", type=int, default=16_384)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    facts = _harness.context(VERSIONS)
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    results = []
    for num_envs in args.num_envs:
        for name in ("env.step", *ALGORITHMS):
            if args.only not in name:
                continue
            runs = {}
            for who, maker in MAKERS.items():
                if name == "env.step":
                    runs[who] = stepping(maker, num_envs)
                else:
                    runs[who] = training(maker, num_envs, name, args.timesteps)
            if name != "env.step":
                check(num_envs, name)
            rates: dict[str, list[float]] = {who: [] for who in MAKERS}
            for _ in range(args.rounds):
                for who, run in runs.items():
                    rates[who].append(run())
            ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
            medians = {who: statistics.median(values) for who, values in rates.items()}
            ours, theirs = medians.values()
            print(f"{name}, {num_envs} envs: {ours:,.0f} against {theirs:,.0f} a CPU second, {ratio:.2f}x")
            results.append({"name": f"{name}, {num_envs} environments", "rates": medians, "ratio": ratio})
    if args.json is not None:
        table = {"unit": "steps a CPU second", "contestants": list(MAKERS), "rounds": args.rounds}
        args.json.write_text(json.dumps({**facts, **table, "cases": results}, indent=1))


if __name__ == "__main__":
    main()
