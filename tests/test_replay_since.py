"""Priorities of rows that were overwritten since they were drawn."""

import numpy as np
import pytest

from fastrl.replay import PrioritizedReplayBuffer


def priorities_by_row(buffer):
    leaves, size = buffer.state()["leaves"], buffer.get_buffer_size()
    by_row = np.full(size, np.nan)
    by_row[(buffer.get_next_index() - len(leaves) + np.arange(len(leaves))) % size] = leaves
    return by_row


@pytest.mark.parametrize("before", [1, 4, 5, 13])
@pytest.mark.parametrize("after", [0, 1, 3, 5, 9])
def test_rows_written_since_they_were_drawn_are_passed_over(before, after):
    buffer = PrioritizedReplayBuffer(10, {"x": {}}, alpha=1, eps=0, num_envs=2, seed=1)
    written = np.full(10, -1)

    def add(steps):
        for _ in range(steps):
            row, added = buffer.get_next_index(), buffer.get_added_size()
            buffer.add(x=np.zeros(2))
            written[row : row + 2] = added, added + 1

    add(before)
    since, drawn = buffer.get_added_size(), np.arange(len(buffer))
    assert since == 2 * before
    add(after)
    expected = priorities_by_row(buffer)
    kept = written[drawn] < since
    expected[drawn[kept]] = 10.0 + drawn[kept]
    buffer.update_priorities(drawn, 10.0 + drawn, since=since)
    np.testing.assert_array_equal(priorities_by_row(buffer), expected)
    assert buffer.get_max_priority() == max([1, *(10.0 + drawn[kept])])
    buffer.update_priorities(drawn, 10.0 + drawn)
    np.testing.assert_array_equal(priorities_by_row(buffer)[drawn], 10.0 + drawn)
    for error, wrong in ((ValueError, -1), (TypeError, 0.5)):
        with pytest.raises(error, match="update_priorities: since must be"):
            buffer.update_priorities([0], [1.0], since=wrong)
