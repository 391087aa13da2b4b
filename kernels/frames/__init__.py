"""Frames: grey, smaller, stacked. Batch-major [N, height, width], uint8."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._dispatch import resolve
from fastrl.kernels.frames._check import (
    require_images,
    require_out,
    require_push,
    require_same_images,
    require_size,
)

__all__ = ["grayscale", "grayscale_resize", "push_frames"]


def grayscale(
    frame: NDArray[np.uint8], *, out: NDArray[np.uint8] | None = None, backend: str | None = None
) -> NDArray[np.uint8]:
    """Luminance of RGB frames: round(0.2989 r + 0.587 g + 0.114 b), halves up.

    Equal to what the Arcade Learning Environment gives as grey screens, in all of its colours. OpenCV's
    ``cvtColor`` has 0.299 and differs by 1 in a few.

    Args:
        frame: uint8 [N, height, width, 3], of any strides.
        out: uint8 [N, height, width], C-contiguous, sharing no memory with ``frame``; returned.
            None: a new one.
        backend: ``"cpp"``, ``"reference"``, or None for the default.

    Raises:
        TypeError: not uint8 arrays.
        ValueError: a wrong shape, or an ``out`` that will not do.

    Source: Bellemare et al. 2013, The Arcade Learning Environment; its palettes have these coefficients.
    """
    shape = require_images("grayscale", "frame", frame, channels=(3,))
    out = require_out("grayscale", out, shape[:3], frame)
    resolve("frames", "grayscale", "cpu", backend)(frame, out)
    return out


def grayscale_resize(
    frame: NDArray[np.uint8],
    second: NDArray[np.uint8] | None = None,
    *,
    size: tuple[int, int] = (84, 84),
    out: NDArray[np.uint8] | None = None,
    backend: str | None = None,
) -> NDArray[np.uint8]:
    """Small grey frames: luminance, the larger value of two frames, and the mean over each cell's area.

    ::

        g = max(grayscale(frame), grayscale(second))
        out[i, j] = round(Σ_y Σ_x overlap(y, cell i) · overlap(x, cell j) · g[y, x]),   halves to even

    Overlaps are shares of a cell and sum to 1. Sums are in float32, along rows first, as OpenCV's
    ``INTER_AREA`` has them: equal to it to the bit unless both sides shrink by whole factors (there it
    adds integers, which differs by at most 1), and to what ``ale_py``'s vector environment and Gymnasium's
    ``AtariPreprocessing`` make of 210x160 screens. Enlarging is refused.

    Args:
        frame: uint8 [N, height, width], grey, or [N, height, width, 3], RGB; of any strides.
        second: another like it, usually the frame before; None: there is none.
        size: height and width of the result, at least 1 and at most the frame's.
        out: uint8 [N, *size], C-contiguous, sharing no memory with the inputs; returned. None: a new one.
        backend: ``"cpp"``, ``"reference"``, or None for the default.

    Raises:
        TypeError: not uint8 arrays, or sizes that are no integers.
        ValueError: a wrong shape or size, or an ``out`` that will not do.

    Source: Mnih et al. 2015, Human-level control through deep reinforcement learning, Methods: Preprocessing.
    """
    shape = require_images("grayscale_resize", "frame", frame, channels=(0, 3))
    height, width = require_size("grayscale_resize", size, shape[1:3])
    inputs = [frame]
    if second is not None:
        require_same_images("grayscale_resize", "second", second, frame)
        inputs.append(second)
    out = require_out("grayscale_resize", out, (shape[0], height, width), *inputs)
    resolve("frames", "grayscale_resize", "cpu", backend)(frame, second, out, height, width)
    return out


def push_frames(
    ring: NDArray[Any],
    slot: int,
    frame: NDArray[Any],
    begin: NDArray[np.bool_] | None = None,
    *,
    size: int,
    padding: NDArray[Any] | None = None,
    only: bool = False,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
) -> NDArray[Any]:
    """Stacks of the last ``size`` frames, kept in a ring: one frame written a step, none moved.

    ``frame`` goes to ``ring[:, slot]``; where ``begin``, the size - 1 slots before become ``padding``, or the
    frame itself, so that nothing of an earlier episode is left. The stacks are
    ``ring[:, slot - size + 1 : slot + 1]``, oldest first. Before ``slot`` passes the end, the caller moves
    the last size - 1 frames to the front.

    Args:
        ring: [N, slots, ...], of any dtype without objects, C-contiguous; changed in place.
        slot: in [size - 1, slots).
        frame: [N, ...], the ring's dtype, C-contiguous, sharing no memory with it.
        begin: bool [N]: this frame is the first of an episode; None: none is.
        size: frames in a stack, at least 1.
        padding: [...], what stands before the first frame; None: the first frame.
        only: leave environments outside ``begin`` as they are.
        out: [N, size, ...], C-contiguous: gets the stacks and is returned; None: a view of ``ring`` is.
        backend: ``"cpp"``, ``"reference"``, or None for the default.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape, ``slot`` or ``size`` out of range, unsuitable memory; nothing changed.
    """
    require_push(ring, slot, frame, begin, size, padding, out)
    resolve("frames", "push_frames", "cpu", backend)(ring, slot, frame, begin, size, padding, only, out)
    return ring[:, slot - size + 1 : slot + 1] if out is None else out
