"""What the compiler must not do: put symbols of one instruction set where another one's code could find them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def built_objects():
    """Objects of the kernel families in every build folder of this checkout, GCC's and Clang's.

    Left out: sanitizers add symbols of their own, and an object older than its source says nothing about it.
    """
    cmake = ROOT / "CMakeLists.txt"
    families = re.findall(r"^fastrl_family\((\w+)", cmake.read_text(), re.MULTILINE) if cmake.exists() else []
    for cache in sorted((ROOT / "build").glob("*/CMakeCache.txt")):
        if "-fsanitize" in cache.read_text():
            continue
        for family in families:
            source = ROOT / "csrc" / f"{family}.cpp"
            for path in sorted(cache.parent.glob(f"CMakeFiles/{family}_*.dir/csrc/{family}.cpp.o")):
                if path.stat().st_mtime > source.stat().st_mtime:
                    yield path


def test_an_object_of_an_instruction_set_exports_one_symbol_and_no_weak_one():
    objects = list(built_objects())
    if not objects:
        pytest.skip("no build folder here: this is not the checkout that built the extension")
    for path in objects:
        listing = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        rows = [line.split()[-2:] for line in listing.splitlines()]
        # a pointer to the runtime's handler of exceptions, the same in every object: no code
        rows = [row for row in rows if row[1] != "DW.ref.__gxx_personality_v0"]
        exported = [name for kind, name in rows if kind.isupper() and kind != "U"]
        weak = [name for kind, name in rows if kind in "vVwWu"]
        assert len(exported) == 1, f"{path.relative_to(ROOT)}: {exported}"
        assert not weak, f"{path.relative_to(ROOT)}: {weak}"
