"""Count the instructions of every kernel under valgrind and compare them with bench/counts.json.

    python bench/counts.py            print them
    python bench/counts.py --check    exit 1 if one grew by more than 2 %, or is not in the file
    python bench/counts.py --update   write them to the file, for this compiler

Counts repeat to the instruction, unlike times; they depend on the compiler and libc, so the file keeps a
table for each pair, and on a pair it lacks the check passes and says so. valgrind 3.19 hides AVX-512, which
is not counted. Memory behaviour is not seen.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11

ROOT = Path(__file__).parents[1]
# the editable install's folder, where there is one: most that is counted is compiled
BUILD = next(
    (ROOT / "build").glob(f"cp{sys.version_info.major}{sys.version_info.minor}-*"), ROOT / "build" / "counts"
)
FILE = ROOT / "bench" / "counts.json"
ISAS = ("baseline", "avx2") if platform.machine() == "x86_64" else ("baseline",)
TOLERANCE = 0.02
Counts = dict[str, dict[str, int]]  # by instruction set, then by kernel


def build() -> None:
    bin_folder = Path(sys.executable).parent  # has cmake and ninja where they are not on the path
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    options = [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (
        ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *options],
        ["cmake", "--build", BUILD, "--target", "count"],
    ):
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"counts: {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")


def count(isa: str) -> tuple[str, dict[str, int]]:
    """Compiler and libc, and the instructions of every kernel."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "callgrind.out"
        collect = ["--collect-atstart=no", "--toggle-collect=counted", "--dump-after=counted"]
        command = ["valgrind", "--quiet", "--tool=callgrind", *collect, "--combine-dumps=yes"]
        result = subprocess.run(
            [*command, f"--callgrind-out-file={profile}", BUILD / "count"],
            env={"FASTRL_ISA": isa, "PATH": os.environ["PATH"]},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        totals = [int(n) for n in re.findall(r"^totals: (\d+)", profile.read_text(), re.MULTILINE)]
    toolchain, *kernels = result.stdout.splitlines()
    return toolchain, dict(zip(kernels, totals[:-1], strict=True))  # the last part is the end of the program


def complaints(fresh: Counts, stored: Counts) -> list[str]:
    """What --check fails on, a line each."""
    lines = []
    for isa, kernels in fresh.items():
        old = stored.get(isa, {})
        lines += [f"{isa} {name}: in counts.json, but not counted" for name in old.keys() - kernels.keys()]
        for name, n in kernels.items():
            if name not in old:
                lines.append(f"{isa} {name}: {n:,} instructions, not in counts.json")
            elif n > old[name] * (1 + TOLERANCE):
                lines.append(f"{isa} {name}: {old[name]:,} -> {n:,} instructions ({n / old[name] - 1:+.1%})")
    return lines


def show(fresh: Counts, stored: Counts) -> None:
    for isa, kernels in fresh.items():
        for name, n in kernels.items():
            old = stored.get(isa, {}).get(name)
            print(f"{isa:9} {name:40} {n:12,}" + ("" if old is None else f" {n / old - 1:+8.1%}"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="exit 1 on a regression")
    mode.add_argument("--update", action="store_true", help="rewrite counts.json for this compiler")
    options = parser.parse_args()
    build()
    fresh: Counts = {}
    for isa in ISAS:
        toolchain, fresh[isa] = count(isa)
    tables = json.loads(FILE.read_text()) if FILE.exists() else {}
    print(toolchain)
    show(fresh, tables.get(toolchain, {}))
    if options.update:
        tables[toolchain] = fresh
        FILE.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n")
    elif toolchain not in tables:
        print(f"counts.json has no counts of {toolchain}: nothing to compare with")
    elif options.check and (lines := complaints(fresh, tables[toolchain])):
        print("\n".join(["", *lines, "if this is meant: python bench/counts.py --update"]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
