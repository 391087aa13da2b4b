"""What NumPy arrays and torch tensors spell differently, so that an update is written once for both."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._dispatch import is_tensor


def empty_like(x: Any) -> Any:
    """An array or tensor of this shape and dtype, contiguous, with any contents."""
    return x.new_empty(x.shape) if is_tensor(x) else np.empty(x.shape, x.dtype)


def all_finite(x: Any) -> bool:
    """Whether no element is NaN or infinite."""
    return bool(x.isfinite().all() if is_tensor(x) else np.isfinite(x).all())


def to_host(x: Any) -> NDArray[Any]:
    """As a NumPy array; of a tensor on another device, once it is computed."""
    return np.asarray(x.cpu() if is_tensor(x) else x)


def zeros(size: int, dtype: type[np.generic], *, like: Any) -> Any:
    """Zeros [size] of NumPy's ``dtype``: an array, or a tensor on the device if ``like`` is one."""
    x = np.zeros(size, dtype)
    if not is_tensor(like):
        return x
    import torch

    return torch.from_numpy(x).to(like.device)
