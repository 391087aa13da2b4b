"""What the scripts of bench/simulators.py share: the cases, the clocks, the JSON line.

A script wraps one library's public training call in a class with this interface and hands it to `main`:

    VERSIONS                        of the library and of what it stands on
    Class(case, variant, seed)      builds the agent
    learn(steps)                    trains
    scores()                        of the last finished training episodes, oldest first, unclipped
    simulator                       the vector environment, whose `step` is timed; its attribute `method`
"""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass

from _protocol import mean_of_last


@dataclass(frozen=True)
class Case:
    """One environment, PPO's settings in it, and on how many cores and threads all libraries run."""

    title: str
    env_id: str
    variants: tuple[str, ...]
    steps: int
    threads: int = 1
    num_envs: int = 8
    num_steps: int = 128
    minibatch_size: int = 256
    update_epochs: int = 4
    learning_rate: float = 2.5e-4
    clip_coef: float = 0.1
    ent_coef: float = 0.01
    gae_lambda: float = 0.95
    normalize: bool = False


ATARI = {
    "env_id": "ALE/Breakout-v5",
    "variants": ("fastrl", "fastrl bf16", "sb3"),
    "steps": 10_240,
}
CASES = {
    "breakout": Case(title="Breakout, NatureCNN, 8 environments, minibatches of 256", **ATARI),
    "breakout-2": Case(
        title="Breakout, NatureCNN, 8 environments, minibatches of 256, 2 threads", threads=2, **ATARI
    ),
    "halfcheetah": Case(
        title="HalfCheetah-v5, 64x64, 1 environment x 2048 steps, 10 epochs, minibatches of 64",
        env_id="HalfCheetah-v5",
        variants=("fastrl", "sb3"),
        steps=49_152,
        num_envs=1,
        num_steps=2048,
        minibatch_size=64,
        update_epochs=10,
        learning_rate=3e-4,
        clip_coef=0.2,
        ent_coef=0.0,
        normalize=True,
    ),
    "cartpole": Case(
        title="CartPole-v1, 64x64, through torch, 8 environments, minibatches of 256",
        env_id="CartPole-v1",
        variants=("fastrl eager", "fastrl compiled", "sb3"),
        steps=102_400,
        learning_rate=1e-3,
        clip_coef=0.2,
    ),
}


def main(library) -> None:
    """Run as `script CASE VARIANT SEED`, with bench on PYTHONPATH; the result is the last line printed."""
    import torch

    name, variant, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    case = CASES[name]
    torch.set_num_threads(case.threads)
    agent = library(case, variant, seed)
    simulated = 0.0

    def timed(step):
        def call(*args):
            nonlocal simulated
            start = time.perf_counter()
            result = step(*args)
            simulated += time.perf_counter() - start
            return result

        return call

    simulator, method = agent.simulator, library.method
    setattr(simulator, method, timed(getattr(simulator, method)))
    start = time.perf_counter()
    agent.learn(case.num_envs * case.num_steps)  # lazy imports, first calls, compilation
    warm_up, simulated = time.perf_counter() - start, 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    agent.learn(case.steps)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {
        "steps_per_cpu_s": case.steps / cpu,
        "steps_per_s": case.steps / wall,
        "simulator_share": simulated / wall,
        "warm_up_s": warm_up,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "last20": mean_of_last(agent.scores()),
    }
    print(json.dumps({"versions": library.VERSIONS, **result}), flush=True)
    os._exit(0)  # the threads of some environments outlive them
