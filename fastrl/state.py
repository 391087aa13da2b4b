"""State trees as JSON plus named tensors: what a checkpoint stores. Loading them runs no code.

A tree is made of dict (str keys), list, tuple, str, int, float, bool, None, bytes and numeric NumPy arrays.
It comes back equal, types included: integers of any size, infinities and NaN, 0-d and empty arrays, dtypes.
Three things change: NumPy scalars come back as Python numbers, big-endian arrays in native order, other
mappings as dict.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = Mapping[str, Any]

_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64")


def encode(state: State) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """JSON tree and tensors of ``state``; a tensor is named by its dotted path, as ``policy.layers.0.bias``.

    What JSON lacks becomes a dict of one ``$`` key: ``{"$array": name}``, ``{"$bytes": name}``,
    ``{"$tuple": [...]}``, ``{"$float": "nan"}``. A user's key that begins with ``$`` gets a second one.

    Raises:
        TypeError: a value or key of another type; the message names its place.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"checkpoint: state must be a dict, got {type(state).__name__}")
    tensors: dict[str, NDArray[Any]] = {}
    tree: dict[str, Any] = _encode(state, (), tensors)
    return tree, tensors


def decode(tree: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The state that ``encode`` took apart.

    Raises:
        ValueError: the tree names a tensor that is missing, or has a mark that ``encode`` does not write.
    """
    state: dict[str, Any] = _decode(tree, tensors)
    return state


def _encode(value: Any, path: tuple[str, ...], tensors: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        return {"$array": _store(value, path, tensors)}
    if isinstance(value, bytes):
        return {"$bytes": _store(np.frombuffer(value, np.uint8), path, tensors)}
    if isinstance(value, list):
        return [_encode(item, (*path, str(i)), tensors) for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": _encode(list(value), path, tensors)}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"checkpoint: {_place(path)} must be a dict, list, tuple, str, number, bool, None, bytes or "
            f"numeric array, got {type(value).__name__}"
        )
    tree = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError(f"checkpoint: keys of {_place(path)} must be str, got {key!r}")
        tree["$" + key if key.startswith("$") else key] = _encode(item, (*path, key), tensors)
    return tree


def _store(array: NDArray[Any], path: tuple[str, ...], tensors: dict[str, NDArray[Any]]) -> str:
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"checkpoint: {_place(path)} must have a dtype of {', '.join(DTYPES)}, got {array.dtype}"
        )
    plain = ".".join(path).encode("utf-8", "backslashreplace").decode()
    name, copies = plain, 1
    while name in tensors or name == "__metadata__":  # keys may hold dots; safetensors keeps that one name
        copies += 1
        name = f"{plain}#{copies}"
    # safetensors writes memory as it lies: C order it must be; np.ascontiguousarray would lose 0-d shapes
    tensors[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return name


def _place(path: tuple[str, ...]) -> str:
    return ".".join(("state", *path))


def _decode(tree: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, tensors) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    (mark, content), *rest = tree.items() if tree else [("", None)]
    if not rest and mark in _MARKS:
        return _MARKS[mark](content, tensors)
    for key in tree:
        if key.startswith("$") and not key.startswith("$$"):
            raise ValueError(f"unknown mark {key!r}")
    return {key[1:] if key.startswith("$") else key: _decode(item, tensors) for key, item in tree.items()}


def _tensor(name: Any, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if name not in tensors:
        raise ValueError(f"tensor {name!r} is missing")
    return tensors[name]


_MARKS: Mapping[str, Callable[[Any, Mapping[str, NDArray[Any]]], Any]] = {
    "$array": _tensor,
    "$bytes": lambda name, tensors: _tensor(name, tensors).tobytes(),
    "$tuple": lambda items, tensors: tuple(_decode(items, tensors)),
    "$float": lambda text, tensors: float(text),
}
