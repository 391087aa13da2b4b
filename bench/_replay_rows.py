"""Transitions of vectors in a replay buffer of 2^20: f32[8] observations, what follows, action, reward, done.

Row i is known by its numbers, so each batch drawn is checked before it is timed. All buffers are full.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from _harness import Case

CAPACITY = 1 << 20
BATCHES = (32, 256, 4096)
INSERTS = (1, 64, 1024)
SETS = 64
N, GAMMA = 3, 0.99
SHAPES: dict[str, tuple[int, ...]] = {"obs": (8,), "act": (), "rew": (), "next_obs": (8,), "done": ()}
PACKAGES = ["cpprb", "tianshou", "stable-baselines3", "torch", "torchrl", "numba", "flashbax", "jax"]

Rows = dict[str, np.ndarray]
Call = Callable[[], Any]


def rows(first: int, count: int) -> Rows:
    number = np.arange(first, first + count, dtype=np.float32)
    obs = number[:, None] + np.arange(8, dtype=np.float32) / 8
    return {"obs": obs, "act": number, "rew": -number, "next_obs": obs + 1, "done": np.zeros_like(number)}


def priorities(batch: int) -> Iterator[np.ndarray]:
    """Other ones each time: the same again would be faster than any training is."""
    return cycle(np.random.default_rng(batch).random((SETS, batch)).astype(np.float32) + np.float32(1e-3))


@dataclass
class Buffer:
    """What is timed of a full buffer."""

    sample: Callable[[int], Call] | None = None
    """Uniform: a function that returns a batch."""
    cycle: Callable[[int], Call] | None = None
    """By priority, and new priorities for what was drawn."""
    add: Callable[[Rows], Call] | None = None
    """Many rows in one call."""
    n_step: Callable[[int], Call] | None = None
    """Uniform, n-step returns."""


def ours() -> dict[str, Buffer]:
    from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer

    fields = {name: {"shape": shape} for name, shape in SHAPES.items()}
    n_step = {"size": N, "gamma": GAMMA, "rew": "rew", "next": "next_obs"}
    uniform, several = ReplayBuffer(CAPACITY, fields, seed=0), ReplayBuffer(CAPACITY, fields, Nstep=n_step)
    prioritized = PrioritizedReplayBuffer(CAPACITY, fields, seed=0)
    for buffer in (uniform, several, prioritized):
        buffer.add(**rows(0, CAPACITY))
    return _named(uniform, several, prioritized)


def cpprb() -> dict[str, Buffer]:
    library = importlib.import_module("cpprb")
    fields = {name: {"shape": shape or 1} for name, shape in SHAPES.items()}
    n_step = {"size": N, "gamma": GAMMA, "rew": "rew", "next": "next_obs"}
    uniform, several = (
        library.ReplayBuffer(CAPACITY, fields),
        library.ReplayBuffer(CAPACITY, fields, Nstep=n_step),
    )
    prioritized = library.PrioritizedReplayBuffer(CAPACITY, fields)
    for buffer in (uniform, several, prioritized):
        buffer.add(**rows(0, CAPACITY))
    return _named(uniform, several, prioritized)


def _named(uniform: Any, several: Any, prioritized: Any) -> dict[str, Buffer]:
    """Buffers of dictionaries."""

    def turn(batch: int) -> Call:
        fresh = priorities(batch)

        def run() -> Any:
            drawn = prioritized.sample(batch, 0.4)
            prioritized.update_priorities(drawn["indexes"], next(fresh))
            return drawn

        return run

    return {
        "uniform": Buffer(
            lambda batch: lambda: uniform.sample(batch),
            None,
            lambda new: lambda: uniform.add(**new),
            lambda batch: lambda: several.sample(batch),
        ),
        "prioritized": Buffer(None, turn, lambda new: lambda: prioritized.add(**new)),
    }


def tianshou() -> dict[str, Buffer]:
    data = importlib.import_module("tianshou.data")
    algorithm = importlib.import_module("tianshou.algorithm").Algorithm
    torch = importlib.import_module("torch")

    def batch_of(new: Rows) -> Any:
        names = {"obs": "obs", "act": "act", "rew": "rew", "obs_next": "next_obs"}
        flags = dict.fromkeys(("terminated", "truncated", "done"), new["done"].astype(bool))
        return data.Batch(**{name: new[ours] for name, ours in names.items()}, **flags)

    def named(batch: Any) -> Rows:
        return {"obs": batch.obs, "act": batch.act, "rew": batch.rew, "next_obs": batch.obs_next}

    uniform, prioritized = data.ReplayBuffer(CAPACITY), data.PrioritizedReplayBuffer(CAPACITY, 0.6, 0.4)
    for buffer in (uniform, prioritized):
        buffer.add(batch_of(rows(0, 1))[0])
        buffer.set_batch(batch_of(rows(0, CAPACITY)))
        buffer._size = CAPACITY
    prioritized.init_weight(np.arange(CAPACITY))

    def n_step(batch: int) -> Call:
        def run() -> Any:
            drawn, index = uniform.sample(batch)

            def target(buffer: Any, terminal: Any) -> Any:  # V = 0, of observations that it does gather
                return torch.as_tensor(np.ascontiguousarray(buffer.get(terminal, "obs_next")[:, :1] * 0))

            algorithm.compute_nstep_return(drawn, uniform, index, target, GAMMA, N)
            return named(drawn) | {"rew": drawn.returns}

        return run

    def turn(batch: int) -> Call:
        fresh = priorities(batch)

        def run() -> Any:
            drawn, index = prioritized.sample(batch)
            prioritized.update_weight(index, next(fresh))
            return named(drawn)

        return run

    def add(buffer: Any) -> Callable[[Rows], Call]:
        def calls(new: Rows) -> Call:
            batch = batch_of(new)
            return lambda: [buffer.add(one) for one in batch]

        return calls

    sample = lambda batch: lambda: named(uniform.sample(batch)[0])  # noqa: E731
    return {
        "uniform": Buffer(sample, None, add(uniform), n_step),
        "prioritized": Buffer(None, turn, add(prioritized)),
    }


def sb3() -> dict[str, Buffer]:
    buffers = importlib.import_module("stable_baselines3.common.buffers")
    spaces = importlib.import_module("gymnasium.spaces")

    def full(kind: Any, **options: Any) -> Any:
        vectors, numbers = spaces.Box(-np.inf, np.inf, (8,)), spaces.Box(-np.inf, np.inf, (1,))
        buffer = kind(CAPACITY, vectors, numbers, device="cpu", **options)
        new = rows(0, CAPACITY)
        buffer.observations[:, 0], buffer.next_observations[:, 0] = new["obs"], new["next_obs"]
        buffer.actions[:, 0, 0], buffer.rewards[:, 0] = new["act"], new["rew"]
        buffer.full = True
        return buffer

    uniform, several = full(buffers.ReplayBuffer), full(buffers.NStepReplayBuffer, n_steps=N, gamma=GAMMA)

    def of(buffer: Any) -> Callable[[int], Call]:
        def calls(batch: int) -> Call:
            def run() -> Rows:
                drawn = buffer.sample(batch)
                columns = {"act": drawn.actions[:, 0], "rew": drawn.rewards[:, 0]}
                return {"obs": drawn.observations, "next_obs": drawn.next_observations, **columns}

            return run

        return calls

    def add(new: Rows) -> Call:
        steps = [{name: values[i : i + 1] for name, values in new.items()} for i in range(len(new["act"]))]

        def run() -> None:
            for one in steps:
                act = one["act"][:, None]
                uniform.add(one["obs"], one["next_obs"], act, one["rew"], one["done"], [{}])

        return run

    return {"uniform": Buffer(of(uniform), None, add, of(several))}


def torchrl() -> dict[str, Buffer]:
    torch = importlib.import_module("torch")
    data, table = importlib.import_module("torchrl.data"), importlib.import_module("tensordict").TensorDict
    uniform = data.TensorDictReplayBuffer(storage=data.LazyTensorStorage(CAPACITY))

    def table_of(new: Rows) -> Any:
        return table({name: torch.from_numpy(values) for name, values in new.items()}, [len(new["act"])])

    uniform.extend(table_of(rows(0, CAPACITY)))

    def add(new: Rows) -> Call:
        batch = table_of(new)
        return lambda: uniform.extend(batch)

    return {"uniform": Buffer(lambda batch: lambda: uniform.sample(batch), None, add)}


def flashbax() -> dict[str, Buffer]:
    """Compiled, its state given up to each call; batches of one size a buffer."""
    jax, library = importlib.import_module("jax"), importlib.import_module("flashbax")
    example = {name: jax.numpy.zeros(shape) for name, shape in SHAPES.items()}

    def of(batch: int) -> Any:
        return library.make_prioritised_item_buffer(CAPACITY, 1, batch, True, False, priority_exponent=0.6)

    state = jax.jit(of(32).add, donate_argnums=0)(
        of(32).init(example), jax.tree.map(jax.numpy.asarray, rows(0, CAPACITY))
    )
    box = [state, jax.random.PRNGKey(0)]

    def turn(batch: int) -> Call:
        buffer, fresh = of(batch), priorities(batch)
        draw, give = jax.jit(buffer.sample), jax.jit(buffer.set_priorities, donate_argnums=0)

        def run() -> Rows:
            box[1], key = jax.random.split(box[1])
            drawn = draw(box[0], key)
            box[0] = jax.block_until_ready(give(box[0], drawn.indices, next(fresh)))
            return drawn.experience

        return run

    def add(new: Rows) -> Call:
        write, batch = jax.jit(of(32).add, donate_argnums=0), jax.tree.map(jax.numpy.asarray, new)

        def run() -> None:
            box[0] = jax.block_until_ready(write(box[0], batch))

        return run

    return {"prioritized": Buffer(None, turn, add)}


PEERS = {"cpprb": cpprb, "tianshou": tianshou, "SB3": sb3, "TorchRL": torchrl, "flashbax, jit": flashbax}


def whole(_: Any, batch: Any) -> bool:
    """Whether what was drawn are rows, of one step or of n; of ``add`` there is nothing to see."""
    if not hasattr(batch, "keys"):
        return True
    obs, act, rew, after = (np.asarray(batch[name]) for name in ("obs", "act", "rew", "next_obs"))
    act, rew = act.reshape(-1), rew.reshape(-1)
    seen = act < CAPACITY - N  # windows that do not reach the newest row
    one = np.array_equal(rew, -act) and np.array_equal(after, obs + 1)
    total = -(GAMMA ** np.arange(N) * (act[:, None] + np.arange(N))).sum(1)
    several = np.allclose(rew[seen], total[seen], rtol=1e-5)
    return bool((one or several) and np.array_equal(obs, rows(0, 1)["obs"] + act[:, None]))


def cases() -> Iterator[Case]:
    buffers = {"ours": ours()}
    for name, make in PEERS.items():
        try:
            buffers[name] = make()
        except Exception as error:  # a peer that does not run here is left out, and says so
            print(f"left out: {name}: {type(error).__name__}: {' '.join(str(error).split())[:120]}")

    def case(title: str, kind: str, what: str, argument: Any, moved: int = 0) -> Case:
        calls = {
            name: getattr(found[kind], what)(argument)
            for name, found in buffers.items()
            if kind in found and getattr(found[kind], what) is not None
        }
        return Case(name=title, ours=calls.pop("ours"), peers=calls, agree=whole, bytes=moved)

    row = 4 * sum(int(np.prod(shape)) for shape in SHAPES.values())
    for batch in BATCHES:
        yield case(f"prioritized cycle {batch} of 2^20", "prioritized", "cycle", batch, 2 * batch * row)
    for batch in BATCHES:
        yield case(f"uniform sample {batch} of 2^20", "uniform", "sample", batch, 2 * batch * row)
    for batch in BATCHES:
        yield case(f"{N}-step sample {batch} of 2^20", "uniform", "n_step", batch, 2 * batch * row)
    for kind in ("prioritized", "uniform"):
        for count in INSERTS:
            new = rows(0, count)  # the same each time, so that no row is unlike its number
            yield case(f"insert {count}, {kind}", kind, "add", new, 2 * count * row)
