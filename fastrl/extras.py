"""Optional packages: which extra brings them, which are missing, and one clear error where one is."""

from collections.abc import Mapping
from importlib.util import find_spec

EXTRAS: Mapping[str, Mapping[str, str]] = {
    "torch": {"torch": "torch"},
    "cuda": {"torch": "torch", "triton": "triton"},
    "onnx": {"onnx": "onnx", "onnxruntime": "onnxruntime"},
    "sb3": {"stable_baselines3": "stable-baselines3", "sb3_contrib": "sb3-contrib"},
    "tianshou": {"tianshou": "tianshou"},
    "torchrl": {"torchrl": "torchrl"},
    "video": {"moviepy": "moviepy", "pygame": "pygame-ce"},
}
"""For each extra of ``pyproject.toml`` what it brings: name to import, name to install."""


class MissingExtraError(ImportError):
    """A command needs a package that is not installed; the message says how to install it."""


def missing(extra: str) -> list[str]:
    """Names to install, of the packages of an extra that are not installed. Imports none of them."""
    return [package for module, package in EXTRAS[extra].items() if find_spec(module) is None]


def pip_command(extra: str) -> str:
    """The command that installs what is missing of an extra."""
    return f"pip install {' '.join(missing(extra))}"


def require(extra: str, purpose: str) -> None:
    """Raise MissingExtraError unless the packages of an extra are installed; ``purpose`` needs them."""
    if absent := missing(extra):
        raise MissingExtraError(
            f"{purpose} needs {' and '.join(absent)} (extra [{extra}]): {pip_command(extra)}"
        )
