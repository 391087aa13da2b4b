"""Algorithms by name; each is a configuration dataclass and a class, in a file of its own."""

from importlib import import_module

from fastrl.algorithms.base import Algorithm

ALGORITHMS = {"ppo": ("fastrl.algorithms.ppo", "PPO")}


def algorithm(name: str) -> type[Algorithm]:
    """The class of an algorithm, by its name in any case.

    Raises:
        ValueError: no such algorithm; the message lists those there are.
    """
    try:
        module, attribute = ALGORITHMS[name.lower()]
    except KeyError:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {name!r}") from None
    found: type[Algorithm] = getattr(import_module(module), attribute)
    return found
