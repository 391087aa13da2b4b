"""A compiled-kernel, high-performance reinforcement-learning engine."""

__version__ = "0.1.0"

try:
    from fastrl import _core as _core
except ImportError as error:  # a source folder on sys.path hides the installed package
    raise ImportError(
        "fastrl's compiled extension is missing: run `make setup` (or `pip install -e .`) in the checkout "
        f"once, or leave the source folder if fastrl is installed elsewhere ({error})"
    ) from error

from typing import TYPE_CHECKING, Any

from fastrl import envs as envs  # registers the compiled environments with Gymnasium

if TYPE_CHECKING:
    from fastrl.algorithms.ppo import PPO as PPO
    from fastrl.algorithms.ppo import PPOConfig as PPOConfig
    from fastrl.evaluate import evaluate as evaluate

_LAZY = {"PPO": "fastrl.algorithms.ppo", "PPOConfig": "fastrl.algorithms.ppo", "evaluate": "fastrl.evaluate"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fastrl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
