"""What the learning scripts share: tasks and their budgets, evaluation by the harness, the training curve.

Each script in bench/peers wraps one library's public training call in a class with this interface and hands
it to `main`:

    VERSIONS               of the library and of what it stands on
    Class(env_id, seed)    builds the agent with the library's tuned settings for the environment
    learn(watch)           trains for TASKS[env_id].total_timesteps and calls watch(step, returns) after every
                           batch, with the returns of the last finished training episodes, oldest first
    act(obs)               deterministic actions [N, ...] for raw observations [N, ...], normalisation frozen
"""

import json
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version

import gymnasium
import numpy as np

WINDOW = 20  # finished training episodes that a point of the curve averages
POINTS = 20  # of the curve, evenly spaced over the budget
EVALUATION_SEED = 10_000  # environment i is seeded with EVALUATION_SEED + i


@dataclass(frozen=True)
class Task:
    total_timesteps: int
    seeds: int
    episodes: int = 100  # of the evaluation
    timeout: float = 1800.0  # seconds of one cell


TASKS = {
    "CartPole-v1": Task(100_000, seeds=10),
    "Acrobot-v1": Task(100_000, seeds=10),
    "Pendulum-v1": Task(100_000, seeds=10),
    "MountainCarContinuous-v0": Task(20_000, seeds=10),
    "InvertedPendulum-v5": Task(100_000, seeds=3, episodes=20),
    "LunarLander-v3": Task(300_000, seeds=3, episodes=20),
    "Hopper-v5": Task(300_000, seeds=3, episodes=20, timeout=3600.0),
}


def versions(*packages: str, **known: str) -> dict[str, str]:
    return known | {name: version(name) for name in packages}


class Curve:
    """Mean of the last WINDOW training returns when each POINTS-th of the budget has passed.

    None before the first episode has ended.
    """

    def __init__(self, total_timesteps: int) -> None:
        self.total_timesteps = total_timesteps
        self.points: list[float | None] = []

    def __call__(self, step: int, returns) -> None:
        passed = min(POINTS, step * POINTS // self.total_timesteps)
        if passed > len(self.points):
            last = [float(x) for x in returns][-WINDOW:]
            mean = sum(last) / len(last) if last else None
            self.points += [mean] * (passed - len(self.points))


def evaluate(act, env_id: str, episodes: int) -> list[float]:
    """Returns of the first episode of each of `episodes` of Gymnasium's own environments."""
    env = gymnasium.make_vec(env_id, episodes, vectorization_mode="sync")
    obs, _ = env.reset(seed=EVALUATION_SEED)
    total = np.zeros(episodes)
    running = np.ones(episodes, bool)
    while running.any():
        obs, reward, terminated, truncated, _ = env.step(np.asarray(act(obs), env.action_space.dtype))
        total += np.where(running, reward, 0.0)
        running &= ~(terminated | truncated)
    env.close()
    return total.tolist()


def main(library) -> None:
    """Run as `script ENV SEED`, with bench on PYTHONPATH; the result is the last line printed."""
    env_id, seed = sys.argv[1], int(sys.argv[2])
    task = TASKS[env_id]
    agent = library(env_id, seed)
    curve = Curve(task.total_timesteps)
    wall, cpu = time.perf_counter(), time.process_time()
    agent.learn(curve)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    returns = evaluate(agent.act, env_id, task.episodes)
    result = {
        "versions": library.VERSIONS,
        "return": float(np.mean(returns)),
        "worst": min(returns),
        "episodes": task.episodes,
        "steps": task.total_timesteps,
        "cpu_s": cpu,
        "wall_s": wall,
        "curve": curve.points,
    }
    print(json.dumps(result))
