"""Replay buffers beside cpprb, Tianshou, SB3, TorchRL and flashbax: ``python bench/bench_replay.py``.

``--part rows`` (vectors), ``tree`` (the sum tree alone) or ``pixels`` measures that alone. Two threads that
draw: ``bench/bench_replay_threads.py``.
"""

import _harness

# isort: split
import argparse
import sys
from collections.abc import Iterator

import _replay_pixels
import _replay_rows
import _replay_tree

PARTS = {"rows": _replay_rows, "tree": _replay_tree, "pixels": _replay_pixels}


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    options, rest = parser.parse_known_args()
    sys.argv[1:] = rest

    def cases() -> Iterator[_harness.Case]:
        for part in options.part:
            yield from PARTS[part].cases()

    _harness.main("replay", cases, sorted({*_replay_rows.PACKAGES, *_replay_tree.PACKAGES}))


if __name__ == "__main__":
    main()
