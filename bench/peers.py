"""Make one virtual environment per peer group under bench/.peers: the peers' pins conflict with each other.

python bench/peers.py [GROUP...]   without names: every group that has a file in bench/peers
"""

import argparse
import subprocess
import venv
from pathlib import Path

BENCH = Path(__file__).parent
GROUPS = sorted(path.stem for path in (BENCH / "peers").glob("*.txt"))


def python_of(group: str) -> Path:
    return BENCH / ".peers" / group / "bin" / "python"


def make(group: str) -> None:
    python = python_of(group)
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
    requirements = BENCH / "peers" / f"{group}.txt"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", requirements], check=True)
    print(f"{group}: {python}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    groups = parser.parse_args().groups or GROUPS
    if unknown := set(groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; the groups are {', '.join(GROUPS)}")
    for group in groups:
        make(group)


if __name__ == "__main__":
    main()
