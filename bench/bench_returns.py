"""Time of the returns family beside what users run today: ``python bench/bench_returns.py``.

Peers that are not installed are left out and named. rlax and JAX are no test dependencies of fastrl's; an
environment with all peers of this file, and fastrl in it::

    python bench/peers.py kernels
    bench/.peers/kernels/bin/python -m pip install .
    bench/.peers/kernels/bin/python bench/bench_returns.py --publish

``bytes`` of a case are the arrays that the op reads and writes, each once. The limit printed beside it is the
time that NumPy takes to copy half as many, which reads and writes as much: one stream in, one out. Loops over
the ops' own streams took as long, within 5 % in most cases, on the machine of RESULTS.md. ``[1, 1]``: what a
call costs.
"""

import _harness

# isort: split
import importlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import _returns
import numpy as np

from fastrl import kernels

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)  # one thread, as the rest
SHAPES = [(1, 1), (128, 8), (2048, 1), (128, 4096), (1024, 1024)]
COMPILED_STEPS, COMPILED_BATCH = 128, 8
# Arrays of each op, and the bytes an element that they have: 4 a real, 1 a flag, and the results.
ARRAYS = {
    "gae": (("reward", "value", "last", "terminated"), 13),
    "td_lambda": (("reward", "next_value", "terminated"), 13),
    "discounted": (("reward", "terminated"), 9),
    "n_step": (("reward", "next_value", "terminated"), 13),
    "vtrace": (("log_rho", "reward", "value", "next_value", "terminated"), 25),
    "retrace": (("log_rho", "reward", "value", "next_value", "terminated"), 21),
    "q_lambda": (("reward", "next_value", "greedy", "terminated"), 14),
}
OPTIONS: dict[str, dict[str, Any]] = {"n_step": {"n": _returns.N}}


def rollout(steps: int, batch: int) -> _returns.Data:
    rng = np.random.default_rng(0)
    reward, value, log_rho = rng.normal(size=(3, steps, batch)).astype(np.float32)
    last = rng.normal(size=batch).astype(np.float32)
    return _returns.Data(
        reward, value, last, rng.random((steps, batch)) < 0.01, log_rho / 4, rng.random((steps, batch)) < 0.9
    )


def agree(ours: Any, peer: Any) -> bool:
    pairs = zip(ours, peer, strict=True) if isinstance(ours, tuple) else [(ours, peer)]
    return all(_close(np.asarray(x), np.asarray(y)) for x, y in pairs)


def _close(ours: Any, peer: Any) -> bool:
    return ours.shape == peer.shape and np.allclose(ours, peer, rtol=1e-4, atol=1e-4 * np.abs(ours).max())


def present() -> dict[str, dict[str, _returns.Builder]]:
    """The peers whose packages are here."""
    found: dict[str, dict[str, _returns.Builder]] = {}
    for op, builders in _returns.PEERS.items():
        found[op] = {}
        for name, build in builders.items():
            try:
                build(rollout(8, 1))
            except ImportError as error:
                print(f"left out: {op}, {name}: {error}")
            else:
                found[op][name] = build
    return found


def ours(op: str, data: _returns.Data) -> dict[str, Callable[[], Any]]:
    """Into a new array, into one that is there, of tensors, and of arrays that are [B, T] in memory."""
    names, _ = ARRAYS[op]
    arrays = [getattr(data, name) for name in names]
    call = partial(getattr(kernels, op), **OPTIONS.get(op, {}))
    shape = data.reward.shape
    buffers = [np.empty(shape, np.float32) for _ in range(2)]
    out = tuple(buffers) if op == "vtrace" else buffers[0]
    by_sequence = [np.ascontiguousarray(x.T).T for x in arrays]
    turned = [np.empty(shape[::-1], np.float32).T for _ in range(2)]
    out_turned = tuple(turned) if op == "vtrace" else turned[0]
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: call(*arrays),
        "ours, out=": lambda: call(*arrays, out=out),
        "ours, [B, T] in memory, out=": lambda: call(*by_sequence, out=out_turned),
    }
    if op == "gae":
        full = [data.reward, data.value, data.next_value, data.terminated]
        variants["ours, next_value [T, B]"] = lambda: call(*full)
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return variants
    tensors = [torch.from_numpy(x) for x in arrays]
    return variants | {"ours, torch tensors": lambda: call(*tensors)}


def cases() -> Iterator[_harness.Case]:
    peers = present()
    for op, (_, size) in ARRAYS.items():
        for steps, batch in SHAPES:
            data = rollout(steps, batch)
            mine = ours(op, data)
            others = {
                name: build(data)
                for name, build in peers[op].items()
                if "torch.compile" not in name or (steps <= COMPILED_STEPS and batch <= COMPILED_BATCH)
            }
            yield _harness.Case(
                name=f"{op} float32 [{steps}, {batch}], 1 % terminated",
                ours=mine.pop("ours"),
                peers=mine | others,
                agree=agree,
                bytes=size * steps * batch,
            )


if __name__ == "__main__":
    _harness.main(
        "returns", cases, ["torch", "numba", "stable-baselines3", "tianshou", "rlax", "jax", "torchrl"]
    )
