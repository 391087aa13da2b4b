"""Which backend runs: argument over environment over preference, and never another one silently."""

import subprocess
import sys

import numpy as np
import pytest

from fastrl import _core
from fastrl.kernels import _dispatch, gae

ARRAYS = [np.zeros((4, 2), np.float32)] * 3 + [np.zeros((4, 2), bool)]


def test_preference_by_device():
    from fastrl.kernels.returns import cpp, reference

    assert _dispatch.resolve("returns", "gae", "cpu") is cpp.gae
    assert _dispatch.resolve("returns", "gae", "cpu", "reference") is reference.gae
    assert "cpp" in _dispatch.available("returns", "gae")


def test_a_backend_that_cannot_run_says_why():
    with pytest.raises(NotImplementedError) as error:
        _dispatch.resolve("returns", "gae", "cuda", "cpp")
    assert str(error.value) == "no backend runs gae on cuda:\n  cpp: runs on cpu, not cuda"
    with pytest.raises(NotImplementedError, match="numba: returns has no numba backend"):
        gae(*ARRAYS, backend="numba")
    with pytest.raises(NotImplementedError, match="cpp: has no nothing"):
        _dispatch.resolve("returns", "nothing", "cpu", "cpp")
    with pytest.raises(
        ValueError, match="gae: backend must be one of cpp, numba, triton, reference, got 'c'"
    ):
        gae(*ARRAYS, backend="c")


def test_a_broken_library_is_a_reason_not_a_traceback(monkeypatch):
    def broken(name):
        raise ImportError("libtorch_cpu.so: cannot open\nshared object file")

    monkeypatch.setattr(_dispatch.importlib, "import_module", broken)
    with pytest.raises(NotImplementedError) as error:
        _dispatch.resolve("returns", "gae", "xpu", "triton")
    reason = "triton: libtorch_cpu.so: cannot open shared object file"
    assert str(error.value) == f"no backend runs gae on xpu:\n  {reason}"


def test_a_mistake_of_our_own_is_no_reason(monkeypatch):
    def broken(name):
        raise ImportError("cannot import name 'x'", name="fastrl._core")

    monkeypatch.setattr(_dispatch.importlib, "import_module", broken)
    with pytest.raises(ImportError, match="cannot import name 'x'"):
        _dispatch.resolve("returns", "gae", "xpu", "cpp")


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_environment_variables():
    call = (
        "import numpy as np, fastrl.kernels as k\n"
        "k.gae(*[np.zeros((4, 2), np.float32)] * 3, np.zeros((4, 2), bool))\n"
        "import sys; print('fastrl.kernels.returns.cpp' in sys.modules)\n"
    )
    assert run(call).stdout == "True\n"
    assert run(call, FASTRL_BACKEND="reference").stdout == "False\n"
    assert "FASTRL_BACKEND must be one of" in run(call, FASTRL_BACKEND="gpu").stderr
    isa = "from fastrl import _core; print(_core.isa())"
    assert run(isa, FASTRL_ISA="baseline").stdout == "baseline\n"
    assert "FASTRL_ISA must be baseline, avx2 or avx512, got sse" in run(isa, FASTRL_ISA="sse").stderr


def test_set_isa():
    before = _core.isa()
    assert _core.isa_supported(before)
    assert not _core.isa_supported("sse")
    with pytest.raises(ValueError, match="name must be baseline, avx2 or avx512, got neon"):
        _core.set_isa("neon")
    _core.set_isa("baseline")
    assert _core.isa() == "baseline"
    _core.set_isa(before)
