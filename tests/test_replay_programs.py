"""Long random programs on replay buffers beside a list of all rows ever added."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _replay import Choice, Episodes, History, columns

from fastrl.replay import shards


def compare(buffer: Any, history: History) -> None:
    """All that the buffer tells of itself."""
    choice, stored = history.choice, history.stored
    assert len(buffer) == len(stored)
    assert buffer.get_added_size() == len(history.rows)
    order = sorted(stored, key=lambda i: i % choice.size)
    for name, values in buffer.get_all_transitions().items():
        np.testing.assert_array_equal(
            values, np.array([history.rows[i][name] for i in order]).reshape(values.shape)
        )
    for name, values in buffer.gather([i % choice.size for i in order]).items():
        if name != "indexes":
            expected = np.array([history.returned(i)[name] for i in order]).reshape(values.shape)
            np.testing.assert_allclose(values, expected, rtol=1e-12, err_msg=name)
    if choice.prioritized:
        expected = np.array([history.priorities[i] for i in stored]) ** 0.5
        np.testing.assert_allclose(buffer.state()["leaves"], expected, rtol=1e-14)
        assert buffer.get_max_priority() == history.largest
        if not expected.any():
            with pytest.raises(ValueError, match=r"^sample: "):
                buffer.sample(1)
            return
    if stored:
        drawn = buffer.sample(5)
        for name, values in buffer.gather(drawn["indexes"]).items():
            np.testing.assert_array_equal(drawn[name], values)


def twin(buffer: Any, choice: Choice, how: str, folder: Path) -> Any:
    """The buffer by another way than itself."""
    if how == "copy":
        return copy.deepcopy(buffer)
    if how == "pickle":
        return pickle.loads(pickle.dumps(buffer))
    other = choice.make()
    other.add(**columns(Episodes(choice).steps(2), other))  # which it forgets
    if how == "state":
        other.load_state(buffer.state())
    elif how == "save":
        other.load(buffer.save(folder / "save"))
    else:
        other.load_shards(buffer.save_shards(folder / "shards"))
    return other


@pytest.mark.parametrize("seed", range(40))
def test_a_program(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    choice = Choice(random)
    monkeypatch.setattr(shards, "SHARD_BYTES", int(random.choice([1, 500, 1 << 27])))
    buffer, history, episodes = choice.make(), History(choice), Episodes(choice)
    since = 0
    for _ in range(25):
        action = random.choice(
            ["add"] * 10 + ["end"] * 3 + ["update"] * 3 + ["shards"] * 2 + ["clear"] + ["twin"] * 2
        )
        if action == "add":
            rows = episodes.steps(int(random.choice([0, 1, 1, 2, choice.steps, 2 * choice.steps + 1])))
            priorities, since = None, len(history.rows)
            options = {}
            if choice.prioritized and random.random() < 0.4:
                priorities = random.choice([0, 0.25, 4.0], len(rows))
                options["priorities"] = priorities
            assert buffer.add(**columns(rows, buffer), **options) == since % choice.size
            history.add(rows, priorities)
        elif action == "end":
            env = int(random.integers(choice.envs))
            buffer.on_episode_end(env)
            history.end(env)
        elif action == "update" and choice.prioritized and len(buffer):
            places, priorities = random.integers(len(buffer), size=4), random.choice([0, 1.0, 9.0], 4)
            buffer.update_priorities(places, priorities, since=since)
            history.update(places, priorities, since)
        elif action == "shards":
            buffer.save_shards(tmp_path / "shards")
        elif action == "clear":
            buffer.clear()
            history.clear()
            since = 0
        elif action == "twin":
            buffer = twin(
                buffer, choice, str(random.choice(["copy", "pickle", "state", "save", "shards"])), tmp_path
            )
        compare(buffer, history)
