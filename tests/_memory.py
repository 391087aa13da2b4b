"""How much memory a call takes, whoever allocates it."""

import ctypes
import gc
import importlib.util
import multiprocessing
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

needs_proc = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="reads the peak of memory from /proc"
)
no_asan = pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer ends the process where memory runs out",
)


def in_a_fresh_process(measure: Callable[..., T], *arguments: object) -> T:
    """What a test module's function returns where no earlier test has left the allocator gaps to fill."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_called, measure.__code__.co_filename, measure.__name__, arguments).result()


def _called(file: str, name: str, arguments: tuple[object, ...]) -> Any:
    # by its file: where tests are not in the current folder's path, the name that pytest gave cannot be imported
    spec = importlib.util.spec_from_file_location("measured", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)(*arguments)


def peak_of(call: Callable[[], object]) -> int:
    """Bytes of resident memory at a call's peak beyond those before it."""
    gc.collect()
    # what earlier tests freed but the allocator kept would be used again without being seen
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(kind: str) -> int:
    found = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])
