"""The frames family in NumPy: the definition of its ops, of which the order of float32 sums is part."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEVICES = ("cpu",)


def grayscale(frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Luminance in integers: ten-thousandths, halves up."""
    out[...] = (frame.astype(np.int64) @ [2989, 5870, 1140] + 5000) // 10000


def grayscale_resize(
    frame: NDArray[np.uint8],
    second: NDArray[np.uint8] | None,
    out: NDArray[np.uint8],
    height: int,
    width: int,
) -> None:
    """Mean of grey values over the area of each cell."""
    grey = _grey(frame) if second is None else np.maximum(_grey(frame), _grey(second))
    rows = _shrink(grey.astype(np.float32), width)
    out[...] = np.rint(_shrink(rows.swapaxes(1, 2), height)).swapaxes(1, 2)


def area_weights(size: int, cells: int) -> list[list[tuple[int, np.float32]]]:
    """For each of ``cells`` equal parts of ``size`` pixels: the pixels under it and the share each has of it.

    A share of a pixel under 1e-3 counts as none; the last cell ends where the pixels end.
    """
    scale = size / cells
    weights = []
    for i in range(cells):
        begin, end = i * scale, i * scale + scale
        area = min(scale, size - begin)
        last = min(math.floor(end), size - 1)
        first = min(math.ceil(begin), last)
        shares = [(first - 1, first - begin)] if first - begin > 1e-3 else []
        shares += [(pixel, 1.0) for pixel in range(first, last)]
        if end - last > 1e-3:
            shares.append((last, min(end - last, 1.0, area)))
        weights.append([(pixel, np.float32(share / area)) for pixel, share in shares])
    return weights


def push_frames(
    ring: NDArray[Any],
    slot: int,
    frame: NDArray[Any],
    begin: NDArray[np.bool_] | None,
    size: int,
    padding: NDArray[Any] | None,
    only: bool,
    out: NDArray[Any] | None,
) -> None:
    """Each environment in turn."""
    for env in range(len(ring)):
        begins = begin is not None and begin[env]
        if begins or not only:
            ring[env, slot] = frame[env]
        if begins:
            ring[env, slot - size + 1 : slot] = frame[env] if padding is None else padding
    if out is not None:
        out[...] = ring[:, slot - size + 1 : slot + 1]


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if frame.ndim == 3:
        return frame
    out = np.empty(frame.shape[:3], np.uint8)
    grayscale(frame, out)
    return out


def _shrink(x: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """The last axis of ``x``, in ``cells`` weighted sums."""
    out = np.zeros((*x.shape[:-1], cells), np.float32)
    for i, shares in enumerate(area_weights(x.shape[-1], cells)):
        for pixel, weight in shares:
            out[..., i] += x[..., pixel] * weight
    return out
