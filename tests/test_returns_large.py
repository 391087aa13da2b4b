"""Arrays that leave the caches take loops of their own."""

from typing import Any

import numpy as np
import pytest
from _returns import make, run

HALF = 2050


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["vtrace", "retrace"])
def test_same_bits_as_of_parts(isa: str, op: str, dtype: Any) -> None:
    """Each half is below the 4 MB from which the loops differ."""
    steps = 270 if dtype == np.float32 else 140
    data = make(op, steps, 2 * HALF - 1, dtype=dtype)
    assert data["reward"].nbytes > 4 << 20 > data["reward"][:, :HALF].nbytes
    for form in (data, data | {"mask": None}):
        whole = run(op, form)
        for columns in (np.s_[:HALF], np.s_[HALF:]):
            part = {name: x if x is None else x[:, columns] for name, x in form.items()}
            for got, wanted in zip(whole, run(op, part), strict=True):
                np.testing.assert_array_equal(got[:, columns], wanted)
