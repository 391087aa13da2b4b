"""Env-steps a second of compiled environments against Gymnasium's, EnvPool's and gymnax's, by their public steps.

    python bench/peers.py envpool gymnax      # once: the peers' environments
    python bench/bench_envs.py [--envs CartPole-v1 ...] [--num-envs 1 8 64 1024 8192] [--rounds 9]

NEXT_STEP autoreset (gymnax: SAME_STEP), actions drawn beforehand, int64 or float32. A step reads them and
returns observations float32 or int64, rewards float64 (CartPoleVectorEnv, EnvPool, gymnax: float32), two flag
arrays and what infos the environment has: fresh ones, unless the row says copy=False. ``make`` is one
environment by ``gymnasium.make``, reset where an episode ends; ``gymnax scan`` 64 steps in a compiled call.

One thread on one core, but AsyncVectorEnv and rows that say so: they may use all cores. EnvPool and gymnax run in
processes of their own, and all contestants take turns of 50 ms; figures are medians over the rounds. ``cpu`` is
processor time of all threads and processes that step, per env-step: what a busy machine pays.

Checked before anything is timed: SyncVectorEnv, AsyncVectorEnv and ours with copies, without and with threads
return the same bytes, and so do ours and Gymnasium's alone; ``mode="fast"`` and CartPoleVectorEnv, which seeds
otherwise, step alike from the same states; each transition of EnvPool and gymnax is Gymnasium's from the same
observation but for float32 rounding, or they get no ratio. Their resets draw other states.
"""

import os

CORES = sorted(os.sched_getaffinity(0))

import _harness  # noqa: E402  # before numpy

# isort: split
import argparse  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import _envs_checks as checks  # noqa: E402
import bench_threads  # noqa: E402
import gymnasium  # noqa: E402
from _windows import Contestants, Peer, Stepper, draw  # noqa: E402
from peers import python_of  # noqa: E402

from fastrl import _core  # noqa: E402
from fastrl.envs import VectorEnv  # noqa: E402

HERE = Path(__file__).parent
ONE = CORES[-1:]
TWO = CORES[-2:]
SYNC_CAP = 1024  # SyncVectorEnv is flat long before, and 8192 of its envs take minutes to make
ASYNC_CAP = 64  # processes
THREADS_FROM = 1024
PEERS = ("envpool", "gymnax")
SYNC, ASYNC, NUMPY = "SyncVectorEnv", "AsyncVectorEnv", "CartPoleVectorEnv"
IDS = (
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
    "Pendulum-v1",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "Blackjack-v1",
)


def modes(env_id: str) -> tuple[str, ...]:
    """Toy text has no arithmetic to make faster."""
    return ("exact",) if env_id in checks.TABULAR else ("exact", "fast")


def ours(env_id: str) -> dict[str, tuple[int, checks.Maker]]:
    """Threads and maker of ours, by name."""

    def maker(**options: Any) -> checks.Maker:
        return lambda n: gymnasium.make_vec(f"fastrl/{env_id}", num_envs=n, **options)

    return {
        mode + ("" if copy else " copy=False") + (", 2 threads" if threads == 2 else ""): (
            threads,
            maker(mode=mode, copy=copy, num_threads=threads),
        )
        for mode in modes(env_id)
        for threads in (1, 2)[: len(CORES)]
        for copy in (True, False)
    }


def gymnasiums(env_id: str, num_envs: int) -> dict[str, checks.Maker]:
    """Gymnasium's vector environments that make sense with so many."""

    def maker(mode: str) -> checks.Maker:
        return lambda n: gymnasium.make_vec(env_id, num_envs=n, vectorization_mode=mode)

    found = {SYNC: maker("sync")} if num_envs <= SYNC_CAP else {}
    found |= {ASYNC: maker("async")} if num_envs <= ASYNC_CAP else {}
    return found | ({NUMPY: maker("vector_entry_point")} if env_id == "CartPole-v1" else {})


def vector(maker: checks.Maker, num_envs: int, cores: Sequence[int]) -> Stepper:
    os.sched_setaffinity(0, cores)
    env = maker(num_envs)
    env.reset(seed=0)
    actions = draw(env.single_action_space, num_envs, 64)
    pids = [process.pid for process in getattr(env, "processes", ())]
    return Stepper(env.step, actions, num_envs, cores, env.close, pids)


def alone(env_id: str, **options: Any) -> Stepper:
    env = gymnasium.make(env_id, **options)
    env.reset(seed=0)

    def step(action: Any) -> None:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()

    actions = [action[0] for action in draw(env.action_space, 1, 64)]
    return Stepper(step, actions, 1, ONE, env.close)


def contestants(env_id: str, num_envs: int) -> Contestants:
    """Those of this process, ours first."""
    found = {
        name: vector(maker, num_envs, TWO if threads == 2 else ONE)
        for name, (threads, maker) in ours(env_id).items()
        if threads == 1 or num_envs >= THREADS_FROM
    }
    if num_envs == 1:
        found |= {f"{mode} make": alone(f"fastrl/{env_id}", mode=mode) for mode in modes(env_id)}
        found["gymnasium.make"] = alone(env_id)
    for name, maker in gymnasiums(env_id, num_envs).items():
        found[name] = vector(maker, num_envs, CORES if name == ASYNC else ONE)
    return found


def check(env_id: str, peers: list[Peer]) -> dict[str, str]:
    """Raises unless ours and Gymnasium's agree; which peers differ, and how."""
    makers = {name: maker for name, (_, maker) in ours(env_id).items()}
    own = gymnasiums(env_id, 8)
    checks.same_bytes(env_id, ["exact", SYNC], makers | own, num_envs=64, steps=600)
    checks.same_bytes(env_id, [SYNC, ASYNC], own, num_envs=8, steps=100)
    for mode in modes(env_id):
        names = [name for name in makers if name.startswith(mode)]
        checks.same_bytes(env_id, names, makers, num_envs=30_001, steps=10)
    checks.same_bytes_alone(env_id)
    if "fast" in makers:
        checks.fast_is_close(env_id, makers["fast"], makers["exact"])
    if NUMPY in own:
        checks.cart_pole_vector_env(makers["exact"](64), own[NUMPY](64))
    found = {}
    for peer in peers:
        trace = peer.ask("trace", env_id, 60)
        if trace and (difference := checks.difference(env_id, trace)):
            found[peer.name] = difference
            print(f"{env_id}: {peer.name} differs, no ratio: {difference}")
    return found


def measure(
    env_id: str, num_envs: int, peers: list[Peer], rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """What every contestant did, in interleaved rounds after one to warm up."""
    here = contestants(env_id, num_envs)
    runs = {name: stepper.window for name, stepper in here.items()}
    for peer in peers:
        for name in peer.ask("make", env_id, num_envs):
            runs[name] = lambda s, peer=peer, name=name: peer.ask("window", name, s)
    windows: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            windows[name].append(run(seconds))
    for stepper in here.values():
        stepper.close()
    rows = {}
    for name, values in windows.items():
        rates, cpu = zip(*values[1:], strict=True)
        rows[name] = {"rate": median(rates), "best": max(rates), "cpu_us": median(cpu), "rates": rates}
    return rows


def library(name: str) -> str | None:
    """The peer whose process a contestant runs in."""
    return next((peer for peer in PEERS if name.lower().startswith(peer)), None)


def show(env_id: str, num_envs: int, rows: dict[str, dict[str, Any]], differs: dict[str, str]) -> None:
    print(f"\n{env_id}, N = {num_envs}")
    for name, row in rows.items():
        ratio = rows["exact"]["rate"] / row["rate"]
        verdict = "differs" if library(name) in differs else f"{ratio:.2f}x"
        print(
            f"  {name:<28}{row['rate'] / 1e6:10.3f} M/s (best {row['best'] / 1e6:.3f})"
            f"{row['cpu_us']:12.4f} us cpu  [{verdict}]"
        )


def million_envs() -> dict[str, dict[str, float]]:
    """Megabytes that a process with a million CartPoles holds."""
    found = {}
    for mode in ("exact", "fast"):
        for copy in ("True", "False"):
            command = [sys.executable, HERE / "peers" / "fastrl_envs_memory.py", mode, copy]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            row = found[f"{mode}, copy={copy}"] = json.loads(output)
            cells = ", ".join(f"{name} {value:.0f}" for name, value in row.items())
            print(f"1,000,000 CartPoles, {mode}, copy={copy}: {cells}")
    return found


def busy_core(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """CartPole's rate with one thread and with two while another process keeps a core busy."""
    os.sched_setaffinity(0, TWO)
    other = multiprocessing.Process(target=bench_threads.spin, args=(TWO[0],), daemon=True)
    other.start()
    found = {}
    for mode in ("exact", "fast"):
        for num_envs in (1024, 8192, 65_536):
            envs = [VectorEnv("CartPole-v1", num_envs, mode=mode, num_threads=n) for n in (1, 2)]
            for env in envs:
                env.reset(seed=0)
            actions = draw(envs[0].single_action_space, num_envs, 1)[0]
            rates = [[bench_threads.rate(env, actions, seconds) for env in envs] for _ in range(rounds + 1)]
            one, two = map(median, zip(*rates[1:], strict=True))
            found[f"{mode}, N = {num_envs}"] = {"1 thread": one, "2 threads": two}
            verdict = "" if two >= one / 2 else "  FAILS: below half of one"
            print(f"beside a busy core, {mode}, N = {num_envs}: {two / one:.2f} times one thread{verdict}")
    other.kill()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--envs", nargs="+", default=IDS, choices=IDS)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 8, 64, 1024, 8192])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.05, help="of a window")
    args = parser.parse_args()
    begin = time.perf_counter()
    peers = []
    for name in PEERS:
        if python_of(name).exists():
            peers.append(Peer(name, python_of(name), CORES))
        else:
            print(f"{name}: absent; python bench/peers.py {name}")
    facts = _harness.context(["fastrl-engine", "gymnasium", "numpy"])
    facts |= {"isa": _core.isa(), "rounds": args.rounds, "window_s": args.seconds}
    for peer in peers:
        facts["packages"] |= peer.ask("versions")
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), f"\nload: {os.getloadavg()[0]:.1f}")
    differs = {env_id: check(env_id, peers) for env_id in args.envs}
    print("checked: contestants agree, but those named")
    environments: dict[str, Any] = {}
    for env_id in args.envs:
        environments[env_id] = {"differs": differs[env_id], "rows": {}}
        for num_envs in args.num_envs:
            rows = measure(env_id, num_envs, peers, args.rounds, args.seconds)
            environments[env_id]["rows"][num_envs] = rows
            show(env_id, num_envs, rows, differs[env_id])
    for peer in peers:
        peer.close()
    memory = million_envs()
    busy = busy_core(args.rounds, args.seconds) if len(CORES) > 1 else {}
    facts |= {"environments": environments, "million_envs": memory, "busy_core": busy}
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    file = folder / f"envs-{facts['date'].replace(':', '')}.json"
    file.write_text(json.dumps(facts, indent=1))
    print(f"written to {file.relative_to(HERE.parent)} after {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
