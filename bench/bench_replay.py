"""Replay buffers beside cpprb, Tianshou, SB3, TorchRL and flashbax: ``python bench/bench_replay.py``.

Vectors, then the sum tree alone, then pixels: ``--only pixels`` and the like choose. Two threads that draw:
``bench/bench_replay_threads.py``.
"""

import _harness

# isort: split
from collections.abc import Iterator

import _replay_pixels
import _replay_rows
import _replay_tree


def cases() -> Iterator[_harness.Case]:
    yield from _replay_rows.cases()
    yield from _replay_tree.cases()
    yield from _replay_pixels.cases()


if __name__ == "__main__":
    _harness.main("replay", cases, sorted({*_replay_rows.PACKAGES, *_replay_tree.PACKAGES}))
