"""Choice of the backend that runs an op: argument > ``FASTRL_BACKEND`` > preference by device.

A backend is a module ``fastrl.kernels.<family>.<backend>`` with a ``DEVICES`` tuple and a function named like
the op. There is no other registry.
"""

import importlib
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

PREFERENCE = {"cpu": ("cpp", "numba", "triton", "reference"), "cuda": ("triton",)}
BACKENDS = ("cpp", "numba", "triton", "reference")


def is_tensor(x: object) -> bool:
    """Whether ``x`` is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


@cache
def resolve(
    family: str, op: str, device: str, backend: str | None = None, asked: str | None = None
) -> Callable[..., Any]:
    """The function that runs ``op`` on ``device``. Messages name the op that the user ``asked`` for.

    ``backend=None`` takes ``FASTRL_BACKEND`` (read at the op's first use), then the first of the device's
    preference that can run. A named backend runs or raises; it is never replaced.

    Raises:
        ValueError: ``backend`` names no backend.
        NotImplementedError: no backend runs the op there; the message says why, one line a backend.
    """
    named = backend or os.environ.get("FASTRL_BACKEND")
    if named is not None and named not in BACKENDS:
        source = "backend" if backend else "FASTRL_BACKEND"
        raise ValueError(f"{asked or op}: {source} must be one of {', '.join(BACKENDS)}, got {named!r}")
    reasons = []
    for name in (named,) if named else PREFERENCE.get(device, BACKENDS):
        found, reason = _load(family, op, device, name)
        if found is not None:
            return found
        reasons.append(f"  {name}: {reason}")
    raise NotImplementedError("\n".join([f"no backend runs {asked or op} on {device}:", *reasons]))


def available(family: str, op: str, device: str = "cpu") -> tuple[str, ...]:
    """Names of the backends that run ``op`` on ``device`` here, for tests and tables."""
    return tuple(name for name in BACKENDS if _load(family, op, device, name)[0] is not None)


def _load(family: str, op: str, device: str, name: str) -> tuple[Callable[..., Any] | None, str]:
    module_name = f"fastrl.kernels.{family}.{name}"
    try:
        module = importlib.import_module(module_name)
    except (ImportError, OSError) as error:  # OSError: a shared library of torch's is missing
        missing = getattr(error, "name", None) or ""
        if missing == module_name:
            return None, f"{family} has no {name} backend"
        if missing.split(".")[0] == "fastrl":
            raise  # our own mistake
        return None, " ".join(str(error).split())
    function = getattr(module, op, None)
    if function is None:
        return None, f"has no {op}"
    if device not in module.DEVICES:
        return None, f"runs on {' and '.join(module.DEVICES)}, not {device}"
    return function, ""
