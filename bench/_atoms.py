"""The atoms of bench_distributional.py, and peers that write scalars as distributions over them."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
V_MIN, V_MAX, N, A = -10.0, 10.0, 51, 6
SUPPORT = {"v_min": V_MIN, "v_max": V_MAX}
Z = np.linspace(V_MIN, V_MAX, N, dtype=np.float32)
GAP = (V_MAX - V_MIN) / (N - 1)
SIGMA = 0.75 * GAP
Builder = Callable[..., Callable[[], Any]]


def module(name: str) -> Any:
    return importlib.import_module(name)


def gauss_torch(compiled: bool) -> Builder:
    """Listing 1 of Farebrother et al. 2024."""

    def build(x: Array) -> Callable[[], Any]:
        torch = module("torch")
        edges = torch.linspace(V_MIN - GAP / 2, V_MAX + GAP / 2, N + 1)

        def histogram(target: Any) -> Any:
            cdf = torch.special.erf((edges - target.unsqueeze(-1)) / (math.sqrt(2.0) * SIGMA))
            z = cdf[..., -1] - cdf[..., 0]
            return (cdf[..., 1:] - cdf[..., :-1]) / z.unsqueeze(-1)

        function, target = torch.compile(histogram) if compiled else histogram, torch.from_numpy(x)
        return lambda: function(target)

    return build


def two_hot_torch(compiled: bool) -> Builder:
    """DreamerV3's, for any atoms."""

    def build(x: Array) -> Callable[[], Any]:
        torch = module("torch")
        bins = torch.from_numpy(Z)
        one_hot = torch.nn.functional.one_hot

        def two(x: Any) -> Any:
            below = ((bins <= x[:, None]).sum(-1) - 1).clip(0, N - 1)
            above = (N - (bins > x[:, None]).sum(-1)).clip(0, N - 1)
            equal = below == above
            to_below = torch.where(equal, 1, (bins[below] - x).abs())
            to_above = torch.where(equal, 1, (bins[above] - x).abs())
            total = to_below + to_above
            return (
                one_hot(below, N) * (to_above / total)[:, None]
                + one_hot(above, N) * (to_below / total)[:, None]
            )

        function, values = torch.compile(two) if compiled else two, torch.from_numpy(x)
        return lambda: function(values)

    return build


def two_hot_rlax(x: Array) -> Callable[[], Any]:
    jax, rlax = module("jax"), module("rlax")
    step = jax.jit(lambda x: rlax.transform_to_2hot(x, V_MIN, V_MAX, N))
    values = jax.numpy.asarray(x)
    return lambda: step(values).block_until_ready()


GAUSSIANS = {
    "torch, as published": gauss_torch(compiled=False),
    "torch.compile": gauss_torch(compiled=True),
}
TWO_HOTS = {
    "torch, as published": two_hot_torch(compiled=False),
    "torch.compile": two_hot_torch(compiled=True),
    "rlax jit": two_hot_rlax,
}
