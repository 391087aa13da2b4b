"""What several test files share."""

import os
from collections.abc import Iterator

import pytest

from fastrl import _core

# Tests run side by side, and torch's threads would wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on every instruction set of this processor."""
    if not _core.isa_supported(request.param):
        pytest.skip(f"this processor has no {request.param}")
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)
