"""What compiled replay brings a Stable-Baselines3 user, in gradient updates a second of processor time.

    python bench/bench_sb3_replay.py [--rounds 9] [--only PERDQN] [--json FILE]

SB3's DQN (and sb3-contrib's QR-DQN) on vectors and on stacks of frames as they are, with our uniform buffer
in place of SB3's, and with prioritized replay, on one thread. Each contestant trains from a filled buffer: an
update draws a batch, trains the network on it, and with priorities renews them. First the uniform buffers
must train the same parameters, bit for bit. Figures are medians of interleaved rounds.
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
from gymnasium import Env, spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger

from fastrl.integrations.sb3 import PERDQN, PERQRDQN, ReplayBuffer

VERSIONS = ["fastrl-engine", "stable-baselines3", "sb3-contrib", "torch", "gymnasium", "numpy"]
VECTOR = spaces.Box(-1, 1, (8,), np.float32)
FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
STORED = {"vectors": 50_000, "frames": 5_000}
Make = tuple[type[Any], type[ReplayBuffer] | None]
CASES: dict[str, tuple[str, int, dict[str, Make]]] = {
    "DQN, vectors, batches of 32": (
        "vectors",
        32,
        {"SB3": (DQN, None), "ours, uniform": (DQN, ReplayBuffer), "PERDQN": (PERDQN, None)},
    ),
    "DQN, vectors, batches of 256": (
        "vectors",
        256,
        {"SB3": (DQN, None), "ours, uniform": (DQN, ReplayBuffer), "PERDQN": (PERDQN, None)},
    ),
    "QR-DQN, vectors, batches of 32": (
        "vectors",
        32,
        {"SB3": (QRDQN, None), "ours, uniform": (QRDQN, ReplayBuffer), "PERQRDQN": (PERQRDQN, None)},
    ),
    "DQN, frames, batches of 32": (
        "frames",
        32,
        {"SB3": (DQN, None), "ours, uniform": (DQN, ReplayBuffer), "PERDQN": (PERDQN, None)},
    ),
}


class Nothing(Env[Any, Any]):
    """Spaces for an agent that is trained on what is stored."""

    action_space = spaces.Discrete(4)

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = observation_space


def transitions(kind: str) -> Any:
    """Rows of ``add``: episodes of 200 steps, whose frames are stacked."""
    rng = np.random.default_rng(0)
    obs = np.zeros((1, *(VECTOR if kind == "vectors" else FRAMES).shape), np.float32)
    obs = obs if kind == "vectors" else obs.astype(np.uint8)
    for step in range(STORED[kind]):
        if kind == "vectors":
            following = rng.standard_normal(obs.shape, np.float32)
        else:
            frame = rng.integers(0, 256, (1, 1, 84, 84), np.uint8)
            following = np.concatenate([obs[:, 1:], frame], axis=1)
        done = step % 200 == 199
        infos = [{"TimeLimit.truncated": step % 400 == 399}]
        yield obs, following, rng.integers(0, 4, 1), rng.standard_normal(1), np.array([done]), infos
        obs = np.zeros_like(obs) if done else following


def agent(kind: str, batch: int, make: Make) -> Any:
    """An agent with a filled buffer."""
    cls, buffer = make
    model = cls(
        "MlpPolicy" if kind == "vectors" else "CnnPolicy",
        Nothing(VECTOR if kind == "vectors" else FRAMES),
        buffer_size=STORED[kind],
        batch_size=batch,
        replay_buffer_class=buffer,
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    model._current_progress_remaining = 0.5
    for row in transitions(kind):
        model.replay_buffer.add(*row)
    return model


def trained(model: Any, batch: int) -> dict[str, torch.Tensor]:
    """Parameters after some updates, with seeded draws."""
    model.set_random_seed(1)
    model.train(5, batch)
    state: dict[str, torch.Tensor] = model.policy.state_dict()
    return state


def check(name: str, models: dict[str, Any], batch: int) -> None:
    """Raises unless the uniform buffers train the same parameters."""
    ours, theirs = trained(models["ours, uniform"], batch), trained(models["SB3"], batch)
    if any(not torch.equal(ours[key], theirs[key]) for key in theirs):
        raise SystemExit(f"{name}: training on ours and on SB3's buffer differs; no ratios")


def updating(model: Any, batch: int, seconds: float = 0.3) -> Callable[[], float]:
    """A function that trains on and returns updates a processor second."""

    def run() -> float:
        count, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < seconds:
            model.train(10, batch)
            count += 10
        return count / elapsed

    return run


def stored_bytes(buffer: Any) -> int:
    """Of a buffer's arrays."""
    if isinstance(buffer, ReplayBuffer):
        return int(buffer.transitions.rows._core.bytes)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    return sum(getattr(buffer, name).nbytes for name in names)


def main() -> None:
    """Checks, measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    facts = _harness.context(VERSIONS)
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    results = []
    for name, (kind, batch, makes) in CASES.items():
        if args.only not in name:
            continue
        models = {who: agent(kind, batch, make) for who, make in makes.items()}
        check(name, models, batch)
        runs = {who: updating(model, batch) for who, model in models.items()}
        rates: dict[str, list[float]] = {who: [] for who in runs}
        for _ in range(args.rounds):
            for who, run in runs.items():
                rates[who].append(run())
        medians = {who: statistics.median(values) for who, values in rates.items()}
        ratios = {
            who: statistics.median(a / b for a, b in zip(values, rates["SB3"], strict=True))
            for who, values in rates.items()
        }
        size = {who: stored_bytes(model.replay_buffer) for who, model in models.items()}
        print(f"\n{name}")
        for who, rate in medians.items():
            each = size[who] / STORED[kind]
            print(
                f"  {who:16}{rate:10,.0f} updates a CPU second{ratios[who]:8.2f}x{each:12,.0f} B a transition"
            )
        for who in [who for who in makes if who != "SB3"]:
            pair = {"fastrl": who, "SB3": "SB3"}
            results.append(
                {
                    "name": f"{name}: {who.removeprefix('ours, ')}",
                    "rates": {label: medians[one] for label, one in pair.items()},
                    "ratio": ratios[who],
                    "bytes": {label: size[one] for label, one in pair.items()},
                }
            )
    if args.json is not None:
        table = {"unit": "updates a CPU second", "contestants": ["fastrl", "SB3"], "rounds": args.rounds}
        args.json.write_text(json.dumps({**facts, **table, "cases": results}, indent=1))


if __name__ == "__main__":
    main()
