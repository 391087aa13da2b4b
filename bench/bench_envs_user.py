"""Env-steps a second of an environment written with `fastrl.envs.compiled`, through `VectorEnv.step`.

    python bench/bench_envs_user.py [--num-envs 1 64 1024 8192] [--rounds 9] [--json FILE]

CartPole, written as a user would, against the same functions in plain Python under SyncVectorEnv and against
the built-in CartPole in C++. Before anything is timed, the steps of all are compared: those of the Python
functions over 600 steps, those of the built-in one from the same states. The time to compile stands apart.
"""

import _harness  # isort: skip  # before numpy
import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from _windows import Stepper, draw
from gymnasium.spaces import Box, Discrete

from fastrl.envs import VectorEnv, compiled
from fastrl.kernels.envs.random import Random

MAX_ANGLE = 12 * 2 * math.pi / 360
SYNC_CAP = 1024  # SyncVectorEnv is flat long before, and 8192 of its envs take minutes to make


@compiled(
    observation_space=Box(-np.inf, np.inf, (4,), np.float32), action_space=Discrete(2), max_episode_steps=500
)
class CartPole:
    def reset(rng):
        return (
            0.1 * rng.random() - 0.05,
            0.1 * rng.random() - 0.05,
            0.1 * rng.random() - 0.05,
            0.1 * rng.random() - 0.05,
        )

    def step(state, action, rng):
        x, x_dot, theta, theta_dot = state
        force = 10.0 if action == 1 else -10.0
        cos, sin = math.cos(theta), math.sin(theta)
        temp = (force + 0.05 * (theta_dot * theta_dot) * sin) / 1.1
        theta_acc = (9.8 * sin - cos * temp) / (0.5 * (4.0 / 3.0 - 0.1 * (cos * cos) / 1.1))
        x_acc = temp - 0.05 * theta_acc * cos / 1.1
        x, x_dot = x + 0.02 * x_dot, x_dot + 0.02 * x_acc
        theta, theta_dot = theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc
        return (x, x_dot, theta, theta_dot), 1.0, abs(x) > 2.4 or abs(theta) > MAX_ANGLE


class PythonCartPole(gymnasium.Env[np.ndarray, int]):
    """The same functions in Python, seeded alike."""

    observation_space, action_space = CartPole.observation_space, CartPole.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.rng = Random(int(self.np_random.integers(2**64, dtype=np.uint64)))
        self.state = CartPole.reset(self.rng)
        return np.array(self.state, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.state, reward, terminated = CartPole.step(self.state, action, self.rng)
        return np.array(self.state, np.float32), reward, terminated, False, {}


def python(num_envs: int) -> gymnasium.vector.SyncVectorEnv:
    def make() -> gymnasium.Env[np.ndarray, int]:
        return gymnasium.wrappers.TimeLimit(PythonCartPole(), 500)

    return gymnasium.vector.SyncVectorEnv([make] * num_envs)


MAKERS = {
    "compiled": CartPole,
    "the same in Python": python,
    "built in, exact": lambda n: VectorEnv("CartPole-v1", n),
    "built in, fast": lambda n: VectorEnv("CartPole-v1", n, mode="fast"),
}


def check(num_envs: int = 64, steps: int = 600) -> None:
    """Raises unless all step alike."""
    ours, theirs, exact = (MAKERS[name](num_envs) for name in list(MAKERS)[:3])
    results = [(ours.reset(seed=0), theirs.reset(seed=0))]
    exact.reset(seed=0)
    for actions in draw(ours.single_action_space, num_envs, steps):
        running = ~ours.core.needs_reset
        exact.core.state[:, :num_envs] = np.stack(ours.state)
        exact.core.needs_reset[:] = False
        results.append((ours.step(actions), theirs.step(actions)))
        if exact.step(actions)[0][running].tobytes() != results[-1][0][0][running].tobytes():
            raise SystemExit("the built-in CartPole steps otherwise; no ratios")
    for step, (a, b) in enumerate(results):
        if any(x.tobytes() != y.tobytes() for x, y in zip(a[:-1], b[:-1], strict=True)):
            raise SystemExit(f"step {step}: compiled and Python differ; no ratios")


def stepper(name: str, num_envs: int) -> Stepper:
    env = MAKERS[name](num_envs)
    env.reset(seed=0)
    actions = draw(env.single_action_space, num_envs, 64)
    return Stepper(env.step, actions, num_envs, sorted(os.sched_getaffinity(0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 64, 1024, 8192])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    facts = _harness.context(["fastrl-engine", "gymnasium", "numpy", "numba"])
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    import numba  # noqa: F401  # not a part of the compile time

    start = time.process_time()
    CartPole.compile()
    compile_seconds = time.process_time() - start
    print(f"compiled in {compile_seconds:.2f} CPU seconds")
    check()
    results: dict[int, dict[str, list[float]]] = {}
    for num_envs in args.num_envs:
        names = [name for name in MAKERS if name != "the same in Python" or num_envs <= SYNC_CAP]
        steppers = {name: stepper(name, num_envs) for name in names}
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(args.rounds + 1):
            for name in names:
                rates[name].append(steppers[name].window(0.05)[0])
        results[num_envs] = {name: values[1:] for name, values in rates.items()}
        ours = statistics.median(results[num_envs]["compiled"])
        print(f"N = {num_envs}")
        for name, values in results[num_envs].items():
            middle = statistics.median(values)
            print(f"  {name:<22} {middle / 1e6:9.3f} M ({max(values) / 1e6:.3f} M)  [{ours / middle:.2f}x]")
    if args.json is not None:
        facts |= {"compile_cpu_seconds": compile_seconds}
        args.json.write_text(json.dumps(facts | {"env_steps_per_second": results}, indent=1))


if __name__ == "__main__":
    main()
