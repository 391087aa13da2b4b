"""A compiled-kernel, high-performance reinforcement-learning engine."""

__version__ = "0.1.0"

try:
    from fastrl import _core as _core
except ImportError as error:  # a source folder on sys.path hides the installed package
    raise ImportError(
        "fastrl's compiled extension is missing: run `make setup` (or `pip install -e .`) in the checkout "
        f"once, or leave the source folder if fastrl is installed elsewhere ({error})"
    ) from error

from fastrl import envs as envs  # registers the compiled environments with Gymnasium
