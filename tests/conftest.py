"""What several test files share."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastrl import _core

# Tests run side by side, and torch's threads would wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start jobs in the background with it ignored, which processes that tests start and interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def compiled(kernel, types, constants, fusion=True):
    for capability in (80, 90):
        signature = {
            name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names
        }
        binary = triton.compile(
            ASTSource(kernel, signature, constants),
            target=GPUTarget("cuda", capability, 32),
            options={"enable_fp_fusion": fusion},
        )
        assert binary.asm["cubin"].startswith(b"\\x7fELF")
        assert f".target sm_{capability}" in binary.asm["ptx"]
        print("compiled")
"""


@pytest.fixture(autouse=True)
def _default_start_method() -> None:
    """TorchRL, imported by any test, has the whole process start others by "spawn"."""
    multiprocessing.set_start_method(None, force=True)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on every instruction set of this processor."""
    if not _core.isa_supported(request.param):
        pytest.skip(f"this processor has no {request.param}")
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture
def triton_interpreted() -> Callable[[str], None]:
    """Runs a script with Triton's interpreter: the environment decides for a whole process what a kernel is."""
    pytest.importorskip("triton")
    return lambda script: _run(script, TRITON_INTERPRET="1") and None


@pytest.fixture
def triton_compiled(tmp_path: Path) -> Callable[[str, int], None]:
    """Runs a script that calls ``compiled(kernel, types, constants)`` so many times, for sm_80 and sm_90 each;
    none may spill a register.
    """
    pytest.importorskip("triton")

    def run(script: str, kernels: int) -> None:
        log = _run(COMPILE + script, TRITON_CACHE_DIR=str(tmp_path), TRITON_DUMP_PTXAS_LOG="1")
        assert log.count("compiled\n") == 2 * kernels
        spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
        assert spilled == [("0", "0")] * 2 * kernels, log

    return run


def _run(script: str, **variables: str) -> str:
    environment = {
        name: x for name, x in os.environ.items() if name not in ("TRITON_INTERPRET", "FASTRL_BACKEND")
    }
    command = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(command, env=environment | variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
