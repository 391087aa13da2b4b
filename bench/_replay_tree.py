"""Time of the sum tree beside prioritized replay's trees elsewhere: ``python bench/_replay_tree.py``."""

import _harness

# isort: split
import importlib
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels import SumTree

Array = NDArray[Any]
Call = Callable[[], Any]
Pair = tuple[Callable[[int], Call], Callable[[list[tuple[Array, Array]]], Call]]

CAPACITY = 1 << 20
BATCHES = (32, 256, 4096)
ALPHA, BETA, SETS = 0.6, 0.4, 64
PACKAGES = ["numba", "cpprb", "tianshou", "flashbax", "jax", "torch", "torchrl"]


def raw() -> Array:
    """Priorities that all items have at first."""
    return np.random.default_rng(0).random(CAPACITY) + 1e-3


# A peer is a pair: a sampler of (index, weight) for a batch size, and an updater that takes sets of (index,
# priority) in turn and returns a function that reads its leaves.


def ours() -> Pair:
    tree = SumTree(CAPACITY, alpha=ALPHA, seed=0)
    tree.update(np.arange(CAPACITY), raw())

    def update(sets: list[tuple[Array, Array]]) -> Call:
        turn = cycle(sets)

        def run() -> Callable[[Array], Array]:
            tree.update(*next(turn))
            return tree.__getitem__

        return run

    return lambda batch: lambda: tree.sample(batch, beta=BETA), update


def cpprb() -> Pair:
    """Its sample also gathers a field of one float."""
    module = importlib.import_module("cpprb")
    buffer = module.PrioritizedReplayBuffer(CAPACITY, {"x": {"shape": 1}}, alpha=ALPHA, eps=0)
    buffer.add(x=np.zeros((CAPACITY, 1), np.float32), priorities=raw())

    def sample(batch: int) -> Call:
        def run() -> tuple[Array, Array]:
            drawn = buffer.sample(batch, BETA)
            return drawn["indexes"], drawn["weights"]

        return run

    def update(sets: list[tuple[Array, Array]]) -> Call:
        turn = cycle([(index.astype(np.uint64), priority) for index, priority in sets])
        return lambda: buffer.update_priorities(*next(turn))

    return sample, update


def filled_tianshou(kind: Any) -> Any:
    data = importlib.import_module("tianshou.data")
    buffer = kind(CAPACITY, ALPHA, BETA)
    one = data.Batch(obs=0.0, act=0.0, rew=0.0, terminated=False, truncated=False, obs_next=0.0, info={})
    buffer.add(one)
    buffer._size = CAPACITY
    buffer.weight[np.arange(CAPACITY)] = raw() ** ALPHA
    return buffer


def tianshou() -> Pair:
    buffer = filled_tianshou(importlib.import_module("tianshou.data").PrioritizedReplayBuffer)

    def sample(batch: int) -> Call:
        def run() -> tuple[Array, Array]:
            index = buffer.sample_indices(batch)
            weight = buffer.get_weight(index)
            return index, weight / weight.max()

        return run

    def update(sets: list[tuple[Array, Array]]) -> Call:
        turn = cycle(sets)

        def run() -> Callable[[Array], Array]:
            buffer.update_weight(*next(turn))
            read: Callable[[Array], Array] = buffer.weight.__getitem__
            return read

        return run

    return sample, update


def torchrl() -> Pair:
    """Its tree alone: 2 calls to draw, a power by torch."""
    extension = importlib.import_module("torchrl._torchrl")
    torch = importlib.import_module("torch")
    trees = [getattr(extension, name)(CAPACITY) for name in ("SumSegmentTreeFp64", "MinSegmentTreeFp64")]
    for tree in trees:
        tree[torch.arange(CAPACITY)] = torch.from_numpy(raw() ** ALPHA)

    def sample(batch: int) -> Call:
        def run() -> tuple[Any, Any]:
            mass = np.random.uniform(0, trees[0].query(0, CAPACITY), batch)  # noqa: NPY002
            index = torch.as_tensor(trees[0].scan_lower_bound(mass))
            weight = torch.pow(torch.as_tensor(trees[0][index]) / trees[1].query(0, CAPACITY), -BETA)
            return index, weight

        return run

    def update(sets: list[tuple[Array, Array]]) -> Call:
        turn = cycle([(torch.from_numpy(i), torch.from_numpy(p.astype(float))) for i, p in sets])

        def run() -> Callable[[Array], Any]:
            index, priority = next(turn)
            leaf = torch.pow(priority, ALPHA)
            for tree in trees:
                tree[index] = leaf
            return lambda at: trees[0][torch.from_numpy(at)]

        return run

    return sample, update


def flashbax() -> Pair:
    """A sum tree alone, float32; its weights in the same jit."""
    jax = importlib.import_module("jax")
    tree_of = importlib.import_module("flashbax.buffers.sum_tree")
    start = tree_of.init(CAPACITY)
    state = tree_of.set_batch_scan(start, jax.numpy.arange(CAPACITY), jax.numpy.asarray(raw() ** ALPHA))
    box = [jax.block_until_ready(state), jax.random.PRNGKey(0)]

    def sample(batch: int) -> Call:
        @jax.jit  # type: ignore[untyped-decorator]
        def draw(state: Any, key: Any) -> Any:
            key, now = jax.random.split(key)
            index = tree_of.stratified_sample(state, batch, now)
            weight = tree_of.get_batch(state, index) ** -BETA
            return key, index, weight / weight.max()

        def run() -> tuple[Any, Any]:
            box[1], index, weight = jax.block_until_ready(draw(*box))
            return index, weight

        return run

    def update(sets: list[tuple[Array, Array]]) -> Call:
        turn = cycle([(jax.numpy.asarray(index), jax.numpy.asarray(priority)) for index, priority in sets])
        write = jax.jit(
            lambda state, index, priority: tree_of.set_batch_scan(state, index, priority**ALPHA),
            donate_argnums=0,
        )

        def run() -> Callable[[Array], Array]:
            box[0] = jax.block_until_ready(write(box[0], *next(turn)))
            return lambda at: np.asarray(tree_of.get_batch(box[0], jax.numpy.asarray(at)))

        return run

    return sample, update


def searchsorted() -> Pair:
    leaf = raw() ** ALPHA
    rng = np.random.default_rng(0)

    def sample(batch: int) -> Call:
        def run() -> tuple[Array, Array]:
            ends = leaf.cumsum()
            index = ends.searchsorted(rng.random(batch) * ends[-1], "right")
            weight = leaf[index] ** -BETA
            return index, weight / weight.max()

        return run

    def update(sets: list[tuple[Array, Array]]) -> Call:
        turn = cycle(sets)

        def run() -> Callable[[Array], Array]:
            index, priority = next(turn)
            leaf[index] = priority**ALPHA
            return leaf.__getitem__

        return run

    return sample, update


BUILDERS: dict[str, Callable[[], Pair]] = {
    "cpprb, uint64 indices": cpprb,
    "tianshou": tianshou,
    "torchrl C++ tree, float64": torchrl,
    "flashbax sum tree, jit": flashbax,
    "numpy: cumsum as it draws": searchsorted,
}


def built() -> dict[str, Pair]:
    pairs = {}
    for name, build in BUILDERS.items():
        try:
            pairs[name] = build()
        except (ImportError, OSError) as error:
            print(f"left out: {name}, {' '.join(str(error).split())[:100]}")
    return pairs


def drawn_rightly(_: Any, answer: tuple[Any, Any]) -> bool:
    """Indices in range, and weights that are, but for a factor, leaf^-beta."""
    index, weight = (np.asarray(x) for x in answer)
    scale = weight * (raw() ** ALPHA)[index.astype(np.int64)] ** BETA
    return bool(np.ptp(scale) < 1e-4 * scale.max())


def adapted() -> Iterator[_harness.Case]:
    """Tianshou's buffer on our tree and on its own: indices, weights and an update, from the same seed."""
    try:
        own = importlib.import_module("tianshou.data").PrioritizedReplayBuffer
        on_ours = importlib.import_module("fastrl.integrations.tianshou").PrioritizedReplayBuffer
    except ImportError as error:
        print(f"left out: Tianshou's buffer, {error}")
        return
    for batch in BATCHES:
        error = np.random.default_rng(batch).random(batch)

        def cycle_of(kind: Any, batch: int = batch, error: Array = error) -> Call:
            buffer = filled_tianshou(kind)

            def run() -> tuple[Array, Array]:
                index = buffer.sample_indices(batch)
                weight = buffer.get_weight(index)
                buffer.update_weight(index, error)
                return index, weight

            np.random.seed(0)  # noqa: NPY002  # what Tianshou draws from
            first = run()
            return lambda: (run(), first)[1]

        yield _harness.Case(
            name=f"Tianshou's buffer on our tree: draw {batch} of 2^20, weigh, update",
            ours=cycle_of(on_ours),
            peers={"on its own": cycle_of(own)},
            agree=lambda x, y: all(np.allclose(a, b, rtol=1e-9) for a, b in zip(x, y, strict=True)),
        )


def cases() -> Iterator[_harness.Case]:
    yield from tree_cases()
    yield from adapted()


def tree_cases() -> Iterator[_harness.Case]:
    pairs = {"ours": ours()} | built()
    for batch in BATCHES:
        calls = {name: pair[0](batch) for name, pair in pairs.items()}
        yield _harness.Case(
            name=f"sample {batch} of 2^20: indices and importance weights",
            ours=calls.pop("ours"),
            peers=calls,
            agree=drawn_rightly,
        )
    for batch in BATCHES:
        rng = np.random.default_rng(batch)
        sets = [
            (rng.choice(CAPACITY, batch, replace=False), rng.random(batch, np.float32) + np.float32(1e-3))
            for _ in range(SETS)
        ]
        index, priority = sets[0]

        def written(_: Any, read: Any, index: Array = index, priority: Array = priority) -> bool:
            """The first set's leaves, but for an eps; cpprb does not show its own."""
            return read is None or np.allclose(np.asarray(read(index)), priority**ALPHA, rtol=1e-3)

        calls = {name: pair[1](sets) for name, pair in pairs.items()}
        yield _harness.Case(
            name=f"update {batch} of 2^20: {SETS} sets in turn",
            ours=calls.pop("ours"),
            peers=calls,
            agree=written,
        )


if __name__ == "__main__":
    _harness.main("replay_tree", cases, PACKAGES)
