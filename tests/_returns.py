"""Random arguments for every op of the returns family."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import kernels
from fastrl.kernels.returns._ops import FLAGS, OPS

Array = NDArray[Any]
# Options beside the defaults, arrays [T, B] by name.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "gae": [{}, {"gamma": 1.0, "lam": 1.0}, {"gamma": 0.0}, {"lam": 0.0}],
    "td_lambda": [{}, {"lam": 0.0}, {"gamma": 1.0, "lam": 1.0}, {"lam": "array"}, {"gamma": "array"}],
    "discounted": [{}, {"gamma": 1.0}, {"gamma": 0.0}, {"gamma": "array"}],
    "n_step": [{"n": n} for n in (1, 2, 3, 7, 1000)] + [{"n": 3, "gamma": 0.0}, {"n": 4, "gamma": 1.0}],
    "vtrace": [{}, {"lam": 0.8, "rho_bar": 2.0, "c_bar": 1.5, "pg_rho_bar": np.inf}],
    "retrace": [{}, {"lam": 0.7, "gamma": 1.0}],
    "q_lambda": [{}, {"lam": 1.0}, {"gamma": 0.0}],
}


def make(
    op: str, steps: int, batch: int, seed: int = 0, dtype: Any = np.float32, ends: float = 0.2
) -> dict[str, Array]:
    """Arguments of ``op``, all arrays given; ``ends`` are terminations and truncations a step."""
    rng = np.random.default_rng(seed)
    rates = {"terminated": ends, "truncated": ends, "greedy": 0.6, "mask": 0.9}
    return {
        name: rng.random((steps, batch)) < rates[name]
        if name in FLAGS
        else rng.normal(size=(steps, batch)).astype(dtype)
        for name in OPS[op].arrays
    }


def forms(op: str, data: dict[str, Array]) -> list[dict[str, Array]]:
    """The same rollout with fewer arrays."""
    plain = data | {"mask": None}
    found = [data, plain, plain | {"truncated": None}, data | {"truncated": None}]
    if op == "discounted":
        found += [data | {"next_value": None}, plain | {"next_value": None, "truncated": None}]
    if OPS[op].row and len(data["reward"]):
        found.append(plain | {"next_value": data["next_value"][-1], "truncated": None})
    return found


def options(op: str, variant: dict[str, Any], data: dict[str, Array]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    first = data[OPS[op].arrays[0]]
    arrays = {
        name: rng.random(first.shape).astype(first.dtype) for name, x in variant.items() if x == "array"
    }
    return variant | arrays


def run(op: str, data: dict[str, Any], **given: Any) -> tuple[Any, ...]:
    """The results of ``op``, as a tuple."""
    result = getattr(kernels, op)(**data, **given)
    return result if isinstance(result, tuple) else (result,)


def exact(op: str, data: dict[str, Array], **given: Any) -> tuple[Array, ...]:
    """By the definition, from the same numbers in float64."""
    wide = {
        name: x.astype(float) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x
        for name, x in (data | given).items()
    }
    return run(op, wide, backend="reference")


def close(got: tuple[Array, ...], wanted: tuple[Array, ...], tolerance: float | None = None) -> None:
    """Within a few roundings of the definition, relative to the largest result."""
    assert len(got) == len(wanted)
    for x, y in zip(got, wanted, strict=True):
        rounding = tolerance or (4e-6 if x.dtype == np.float32 else 2e-14)
        np.testing.assert_allclose(x, y, rtol=rounding, atol=rounding * np.abs(y).max(initial=1))
