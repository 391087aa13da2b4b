"""What the PPO scripts share: the settings, the two clocks, the learning result, the JSON line.

Each script in bench/peers wraps one library's public training call in a class with this interface and hands
it to `main`:

    VERSIONS               of the library and of what it stands on
    Class(setting, seed)   builds the agent
    warm_up()              once, untimed: JIT compilation, lazy imports, first calls
    learn(stop=None)       trains for setting.total_timesteps, or until stop(returns) says so at a point
                           where the library lets a user look (its callback)
    returns()              of the last finished training episodes, at least 20 of them, oldest first
    act(obs)               greedy actions [N] for float32 observations [N, 4]
"""

import json
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version

WINDOW = 20  # finished training episodes that a learning result averages
SOLVED = 475.0


@dataclass(frozen=True)
class Setting:
    """PPO on CartPole-v1: separate tanh networks 64x64 for policy and value, advantages normalised by
    minibatch, gradients clipped to norm 0.5, constant learning rate, no value clipping.
    """

    num_envs: int
    minibatch_size: int
    total_timesteps: int
    num_steps: int = 128
    update_epochs: int = 4
    learning_rate: float = 1e-3
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    max_grad_norm: float = 0.5

    @property
    def batch_size(self) -> int:
        return self.num_envs * self.num_steps


SETTINGS = {
    "A": Setting(num_envs=8, minibatch_size=256, total_timesteps=204_800),
    "B": Setting(num_envs=1024, minibatch_size=32_768, total_timesteps=10_485_760),
    "C": Setting(num_envs=8, minibatch_size=256, total_timesteps=512_000),  # at most
}


def versions(*packages: str, **known: str) -> dict[str, str]:
    return known | {name: version(name) for name in packages}


def mean_of_last(returns) -> float | None:
    """Mean of the last WINDOW returns, None while there are fewer."""
    last = [float(x) for x in returns][-WINDOW:]
    return sum(last) / WINDOW if len(last) == WINDOW else None


def throughput(library, setting, seed):
    agent = library(setting, seed)
    start = time.perf_counter()
    agent.warm_up()
    warm_up = time.perf_counter() - start
    wall, cpu = time.perf_counter(), time.process_time()
    agent.learn()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "warm_up_s": warm_up,
        "wall_s": wall,
        "cpu_s": cpu,
        "steps": setting.total_timesteps,
        "last20": mean_of_last(agent.returns()),
        "greedy100": greedy_return(agent.act),
    }


def time_to_solved(library, setting, seed, started):
    """Seconds from `started`, the parent's monotonic clock just before this process began."""
    agent = library(setting, seed)
    reached = None

    def stop(returns) -> bool:
        nonlocal reached
        mean = mean_of_last(returns)
        if reached is None and mean is not None and mean >= SOLVED:
            reached = {"wall_s": time.monotonic() - started, "cpu_s": time.process_time(), "last20": mean}
        return reached is not None

    agent.learn(stop)
    return reached or {"wall_s": None, "cpu_s": None, "last20": mean_of_last(agent.returns())}


def greedy_return(act, episodes: int = 100) -> float:
    """Mean return of the greedy policy over the first episode of each of `episodes` environments."""
    import gymnasium
    import numpy as np

    env = gymnasium.make_vec("CartPole-v1", episodes, vectorization_mode="sync")
    obs, _ = env.reset(seed=10_000)
    total = np.zeros(episodes)
    running = np.ones(episodes, bool)
    while running.any():
        obs, reward, terminated, truncated, _ = env.step(np.asarray(act(obs), dtype=np.int64))
        total += reward * running
        running &= ~(terminated | truncated)
    return float(total.mean())


def main(library) -> None:
    """Run as `script SETTING SEED STARTED`, with bench on PYTHONPATH; the result is the last line printed."""
    name, seed, started = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if name == "C":
        result = time_to_solved(library, SETTINGS[name], seed, started)
    else:
        result = throughput(library, SETTINGS[name], seed)
    print(json.dumps({"versions": library.VERSIONS, **result}))
