"""Write fastrl/_core.pyi from the built extension, or with --check say whether it is up to date."""

import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STUB = Path(__file__).parents[1] / "fastrl" / "_core.pyi"


def generate() -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pybind11_stubgen", "fastrl._core", "-o", folder, "--ignore-all-errors"],
            check=True,
            capture_output=True,
        )
        text = (Path(folder) / "fastrl" / "_core.pyi").read_text()
    text = re.sub(r"^__all__: .*\n", "", text, flags=re.MULTILINE)  # stubtest objects to it
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--stdin-filename", "_core.pyi", "-"]
    return subprocess.run(ruff, input=text, check=True, capture_output=True, text=True).stdout


def main() -> int:
    fresh = generate()
    if "--check" not in sys.argv:
        STUB.write_text(fresh)
        return 0
    difference = difflib.unified_diff(
        STUB.read_text().splitlines(), fresh.splitlines(), "committed", "generated", lineterm=""
    )
    lines = list(difference)
    print("\n".join(lines) or "up to date")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
