"""Batches a second that threads draw from one buffer: ``python bench/bench_replay_threads.py``.

Of 2^20 rows of f32[8] observations, what follows, action, reward and done; ours and cpprb, uniform and by
priority with new priorities. Each batch is checked first. Wall-clock time: it says something only on a quiet
machine.
"""

import argparse
import importlib
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer

CAPACITY = 1 << 20
FIELDS = {
    "obs": {"shape": 8},
    "act": {"shape": 1},
    "rew": {"shape": 1},
    "next_obs": {"shape": 8},
    "done": {"shape": 1},
}


def filled(make: Callable[..., Any]) -> Any:
    buffer = make(CAPACITY, {name: dict(options) for name, options in FIELDS.items()})
    number = np.arange(CAPACITY, dtype=np.float32)[:, None]
    obs = number + np.arange(8, dtype=np.float32) / 8
    buffer.add(obs=obs, act=number, rew=-number, next_obs=obs + 1, done=np.zeros_like(number))
    return buffer


def work(buffer: Any, batch: int, prioritized: bool) -> Callable[[], None]:
    fresh = np.random.default_rng(0).random((64, batch)).astype(np.float32) + np.float32(1e-3)
    turn = iter(range(10**12))

    def run() -> None:
        drawn = buffer.sample(batch)
        if prioritized:
            buffer.update_priorities(drawn["indexes"], fresh[next(turn) % 64])

    drawn = buffer.sample(batch)
    if not np.array_equal(drawn["obs"][:, :1], drawn["act"]) or not np.array_equal(
        drawn["rew"], -drawn["act"]
    ):
        raise SystemExit("a batch is not of rows that were added; no figures")
    return run


def rate(runs: list[Callable[[], None]], seconds: float) -> float:
    counts, start = [0] * len(runs), threading.Barrier(len(runs) + 1)
    stop = threading.Event()

    def loop(i: int) -> None:
        start.wait()
        while not stop.is_set():
            for _ in range(8):
                runs[i]()
            counts[i] += 8

    threads = [threading.Thread(target=loop, args=(i,)) for i in range(len(runs))]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256, 4096])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3)
    options = parser.parse_args()
    makers: dict[str, dict[str, Callable[..., Any]]] = {
        "uniform": {"ours": ReplayBuffer},
        "prioritized": {"ours": PrioritizedReplayBuffer},
    }
    try:
        cpprb = importlib.import_module("cpprb")
    except ImportError:
        print("left out: cpprb is not installed")
    else:
        makers["uniform"]["cpprb"] = cpprb.ReplayBuffer
        makers["prioritized"]["cpprb"] = cpprb.PrioritizedReplayBuffer
    for kind, by_name in makers.items():
        buffers = {name: filled(make) for name, make in by_name.items()}
        for batch in options.batch:
            rates: dict[tuple[str, int], list[float]] = {}
            for _ in range(options.rounds):
                for name, buffer in buffers.items():
                    alone = name == "cpprb" and kind == "prioritized"  # it has no lock
                    for count in [1] if alone else options.threads:
                        runs = [work(buffer, batch, kind == "prioritized") for _ in range(count)]
                        rates.setdefault((name, count), []).append(rate(runs, options.seconds))
            for (name, count), found in rates.items():
                speed = f"{statistics.median(found):10.0f} a second"
                print(f"{kind:12} batch {batch:5} {name:6} {count} threads: {speed}")


if __name__ == "__main__":
    main()
