"""Sequences from a replay buffer: whole, of one environment, never across the ring's head, uniform."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrl.replay import PrioritizedReplayBuffer, SequenceReplayBuffer

FIELDS = {
    "step": {"dtype": np.int64},
    "obs": {"shape": 3},
    "done": {"dtype": bool},
    "truncated": {"dtype": bool},
}


class Run:
    """All steps ever, and from them which sequences a buffer of `steps` steps holds."""

    def __init__(self, num_envs: int, steps: int, length: int, stride: int, ends: str) -> None:
        self.num_envs, self.steps, self.length, self.stride, self.ends = num_envs, steps, length, stride, ends
        self.end: list[list[bool]] = []  # [step][env]

    def add(self, buffer: SequenceReplayBuffer, random: np.random.Generator, ends: float) -> None:
        flags = random.random((2, self.num_envs)) < ends
        t = len(self.end)
        step = t * self.num_envs + np.arange(self.num_envs)
        obs = np.stack([step, step + 1, step + 2], -1).astype(np.float32) + 1
        buffer.add(step=step, obs=obs, done=flags[0], truncated=flags[1])
        self.end.append(list(flags.any(0)))
        if random.random() < ends / 2:
            env = int(random.integers(self.num_envs))
            buffer.on_episode_end(env)
            self.end[-1][env] = True

    def first(self, t: int, env: int) -> bool:
        return t == 0 or self.end[t - 1][env]

    def steps_of(self, t: int, env: int) -> int | None:
        """Steps of the sequence that begins there; None: none does."""
        total = len(self.end)
        if t < max(0, total - self.steps):
            return None
        begin = t
        while not self.first(begin, env):
            begin -= 1
        if self.ends == "across":
            whole = t + self.length <= total and t % self.stride == 0
            return self.length if whole else None
        if (t - begin) % self.stride:
            return None
        last = t
        while last + 1 < min(total, t + self.length) and not self.end[last][env]:
            last += 1
        count = last - t + 1
        return count if count == self.length or self.ends == "padded" else None

    def starts(self) -> dict[tuple[int, int], int]:
        found = {}
        for t in range(max(0, len(self.end) - self.steps), len(self.end)):
            for env in range(self.num_envs):
                count = self.steps_of(t, env)
                if count is not None:
                    found[t, env] = count
        return found

    def check(self, batch: dict[str, Any]) -> None:
        starts = self.starts()
        for i, row in enumerate(batch["indexes"]):
            step = int(batch["step"][0, i])
            t, env = divmod(step, self.num_envs)
            assert row == step % (self.steps * self.num_envs)
            count = starts[t, env]
            np.testing.assert_array_equal(batch["mask"][:, i], np.arange(self.length) < count)
            for k in range(self.length):
                now = step + k * self.num_envs if k < count else None
                assert batch["step"][k, i] == (now or 0)
                wanted = np.zeros(3) if now is None else np.arange(now + 1, now + 4)
                np.testing.assert_array_equal(batch["obs"][k, i], wanted)
                assert batch["is_first"][k, i] == (now is not None and self.first(t + k, env))


@given(
    seed=st.integers(0, 2**32 - 1),
    num_envs=st.integers(1, 3),
    length=st.integers(1, 6),
    stride=st.integers(1, 5),
    spare=st.integers(0, 20),
    added=st.integers(0, 70),
    ends=st.sampled_from(["across", "full", "padded"]),
    rate=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_sequences_are_those_of_the_run(
    seed: int,
    num_envs: int,
    length: int,
    stride: int,
    spare: int,
    added: int,
    ends: str,
    rate: float,
) -> None:
    random = np.random.default_rng(seed)
    steps = length + stride + spare
    options: Any = {"num_envs": num_envs, "length": length, "stride": stride, "ends": ends, "seed": 1}
    buffer = SequenceReplayBuffer(steps * num_envs, FIELDS, **options)
    run = Run(num_envs, steps, length, stride, ends)
    for t in range(added):
        run.add(buffer, random, rate)
        if random.random() < 0.1 or t == added - 1:
            starts = run.starts()
            leaves = buffer.state()["leaves"]
            oldest = max(0, len(run.end) - steps) * num_envs
            assert {divmod(oldest + i, num_envs) for i in np.flatnonzero(leaves)} == set(starts)
            if starts:
                run.check(buffer.sample(8))
            else:
                with pytest.raises(ValueError, match=f"must hold a sequence of {length} steps"):
                    buffer.sample(8)
        if random.random() < 0.05:  # as good as new
            other = SequenceReplayBuffer(steps * num_envs, FIELDS, **options)
            other.load_state(buffer.state())
            buffer = other
        elif random.random() < 0.02:
            buffer.clear()
            run = Run(num_envs, steps, length, stride, ends)


def test_several_steps_are_added_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    for ends in ("across", "full", "padded"):
        many, single = (
            SequenceReplayBuffer(40, FIELDS, num_envs=2, length=3, stride=2, ends=ends, seed=0)
            for _ in range(2)
        )
        for _ in range(9):
            done, truncated = random.random((2, 26)) < 0.1
            rows = {
                "step": np.arange(26),
                "obs": random.random((26, 3)),
                "done": done,
                "truncated": truncated,
            }
            many.add(**rows)
            for t in range(0, 26, 2):
                single.add(**{name: x[t : t + 2] for name, x in rows.items()})
            x, y = many.state(), single.state()
            np.testing.assert_array_equal(x["leaves"], y["leaves"])
            np.testing.assert_array_equal(x["flags"], y["flags"])


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("ends", ["across", "full", "padded"])
def test_sequences_are_drawn_uniformly(ends: str, stratified: bool) -> None:
    random = np.random.default_rng(0)
    buffer = SequenceReplayBuffer(
        120, FIELDS, num_envs=2, length=4, stride=2, ends=ends, seed=3, stratified=stratified
    )
    run = Run(2, 60, 4, 2, ends)
    for _ in range(100):
        run.add(buffer, random, 0.03)
    starts = sorted((t * 2 + env) % 120 for t, env in run.starts())
    drawn = np.concatenate([buffer.sample(500)["indexes"] for _ in range(400)])
    counts = np.bincount(drawn, minlength=120)
    assert counts.sum() == counts[starts].sum()
    expected = len(drawn) / len(starts)
    chi2 = ((counts[starts] - expected) ** 2 / expected).sum()
    degrees = len(starts) - 1
    assert chi2 < degrees + 6 * (2 * degrees) ** 0.5


def test_sequences_have_priorities() -> None:
    buffer = SequenceReplayBuffer(60, FIELDS, length=5, stride=5, ends="across", alpha=1.0, eps=0.0, seed=0)
    run, random = Run(1, 60, 5, 5, "across"), np.random.default_rng(0)
    for _ in range(50):
        run.add(buffer, random, 0.1)
    rows = np.arange(0, 50, 5)
    buffer.update_priorities(rows, np.arange(10.0))
    drawn = np.concatenate([buffer.sample(450)["indexes"] for _ in range(200)])
    counts = np.bincount(drawn, minlength=50)[rows]
    assert counts[0] == 0
    np.testing.assert_allclose(counts / len(drawn), np.arange(10) / 45, atol=2e-3)
    batch = buffer.sample(300, beta=1.0)
    np.testing.assert_allclose(batch["weights"], 5.0 / batch["indexes"], rtol=1e-6)
    buffer.update_priorities([3, 7], [1e9, 1e9])  # where nothing begins
    assert set(buffer.sample(300)["indexes"]) <= set(rows)
    for _ in range(25):  # row 0 to 14 are new, and whole up to row 10
        run.add(buffer, random, 0.1)
    run.check(buffer.sample(300))
    with pytest.raises(IndexError, match="in \\[0, 60\\)"):
        buffer.update_priorities([60], [1.0])


def test_layouts_tensors_and_frames() -> None:
    torch = pytest.importorskip("torch")
    fields = {"obs": {"shape": (3, 4, 4), "dtype": np.uint8}, "done": {"dtype": bool}}
    buffer = SequenceReplayBuffer(
        40, fields, length=6, ends="across", num_envs=2, next_of="obs", stack_compress="obs", seed=0
    )
    frames = np.random.default_rng(0).integers(256, size=(33, 2, 4, 4), dtype=np.uint8)
    for t in range(28):
        obs, after = (np.stack([frames[u + i] for i in range(3)], 1) for u in (t, t + 1))
        buffer.add(obs=obs, next_obs=after, done=np.zeros(2, bool))
    batch = buffer.sample(5)
    assert batch["obs"].shape == batch["next_obs"].shape == (6, 5, 3, 4, 4)
    np.testing.assert_array_equal(batch["obs"][1:], batch["next_obs"][:-1])
    np.testing.assert_array_equal(batch["obs"][1:, :, :2], batch["obs"][:-1, :, 1:])
    assert batch["mask"].all()
    tensors = buffer.sample(5, time_major=False, output="torch")
    assert isinstance(tensors["obs"], torch.Tensor)
    assert tensors["obs"].shape == (5, 6, 3, 4, 4)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_sequences_are_written_to_arrays_of_the_caller(library: str) -> None:
    def make() -> SequenceReplayBuffer:
        buffer = SequenceReplayBuffer(60, FIELDS, length=4, ends="padded", num_envs=2, seed=3)
        run, random = Run(2, 30, 4, 1, "padded"), np.random.default_rng(0)
        for _ in range(30):
            run.add(buffer, random, 0.2)
        return buffer

    first, second = make(), make()
    out = {name: np.ones_like(x) for name, x in first.sample(7).items()}
    second.sample(7)
    if library == "torch":
        torch = pytest.importorskip("torch")
        out = {name: torch.from_numpy(x) for name, x in out.items()}
    expected = first.sample(7)
    assert not expected["mask"].all()
    assert second.sample(7, out=out) is out
    for name, x in expected.items():
        np.testing.assert_array_equal(np.asarray(out[name]), x)
    expected, views = first.sample(7), second.sample(7, out=out, time_major=False)
    assert views["obs"].shape == (7, 4, 3)
    for name, x in expected.items():
        np.testing.assert_array_equal(np.asarray(out[name]), x)
        x = x if name in ("indexes", "weights") else x.swapaxes(0, 1)
        np.testing.assert_array_equal(np.asarray(views[name]), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.ones((3, 6), bool)}, r"out\['mask'\] must be .* bool \[3, 5\], got bool \[3, 6\]"),
        ({"obs": np.ones((5, 3, 3), np.float32)}, r"out\['obs'\] must be .* float32 \[3, 5, 3\]"),
        ({"obs": np.ones((5, 3, 3), np.float32).swapaxes(0, 1)}, r"out\['obs'\] must be a C-contiguous"),
        ({"indexes": np.ones(15, np.int64)}, r"out\['indexes'\] must be .* int64 \[5\]"),
        ({"more": np.ones(5)}, "out must have step, .*, mask, is_first, indexes, weights, got step"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    buffer = SequenceReplayBuffer(20, FIELDS, length=3)
    for step in range(20):
        buffer.add(step=step, obs=np.zeros(3, np.float32), done=False, truncated=False)
    counter, out = buffer.state()["counter"], buffer.sample(5)
    with pytest.raises(ValueError, match="^sample: " + message):
        buffer.sample(5, out=out | change)
    shared = out["mask"]
    with pytest.raises(ValueError, match="mask and is_first that share memory"):
        buffer.sample(5, out=out | {"is_first": shared})
    assert buffer.state()["counter"] == counter + 1


def test_sequences_are_saved(tmp_path: Path) -> None:
    options: Any = {"length": 3, "stride": 2, "num_envs": 2, "ends": "padded", "alpha": 0.7}
    first, second = (SequenceReplayBuffer(30, FIELDS, **options, seed=seed) for seed in (1, 2))
    run, random = Run(2, 15, 3, 2, "padded"), np.random.default_rng(0)
    for count in (4, 9, 20):
        for _ in range(count):
            run.add(first, random, 0.1)
        batch = first.sample(6)
        first.update_priorities(batch["indexes"], random.random(6))
        second.load_shards(first.save_shards(tmp_path / "shards"))
        third = SequenceReplayBuffer(30, FIELDS, **options).load(first.save(tmp_path / "whole"))
        x, y, z = (buffer.sample(7) for buffer in (first, second, third))
        for name in x:
            np.testing.assert_array_equal(x[name], y[name])
            np.testing.assert_array_equal(x[name], z[name])
        run.check(y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "length must be in"),
        ({"stride": 0}, "stride must be in"),
        ({"length": 9, "stride": 2}, "together at most the 10 steps"),
        ({"ends": "wrap"}, "ends must be one of across, full, padded"),
    ],
)
def test_wrong_options_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceReplayBuffer(20, FIELDS, num_envs=2, **{"length": 3, **change})


@pytest.mark.parametrize(("name", "x"), [("length", 2.7), ("stride", "1"), ("length", None)])
def test_steps_are_integers(name: str, x: Any) -> None:
    with pytest.raises(TypeError, match=f"replay: {name} must be an integer, got {type(x).__name__}"):
        SequenceReplayBuffer(20, FIELDS, **{"length": 3, name: x})


@pytest.mark.parametrize("name", ["mask", "is_first", "indexes", "weights"])
def test_a_field_is_not_named_as_what_is_returned(name: str) -> None:
    with pytest.raises(ValueError, match=f"a field's name must be none of .*, got {name}"):
        SequenceReplayBuffer(20, {"x": {}, name: {}}, length=3)


@pytest.mark.parametrize("name", ["mask", "is_first"])
def test_the_compiled_part_refuses_these_names_too(name: str) -> None:
    core = PrioritizedReplayBuffer(20, {name: {}})._core
    with pytest.raises(ValueError, match=f"a field's name must be none of mask, is_first, got {name}"):
        core.keep_sequences(3, 1, 0)


def test_a_row_that_begins_no_sequence_changes_nothing() -> None:
    buffer = SequenceReplayBuffer(8, {"x": {}, "done": {}}, length=3, alpha=1.0)
    buffer.add(x=np.arange(8), done=np.zeros(8))
    buffer.update_priorities([7, 1], [500.0, 3.0])
    assert buffer.get_max_priority() == 3
    buffer.update_priorities(np.array([7]), np.array([500.0], np.float32))
    assert buffer.get_max_priority() == 3
    since = buffer.get_added_size()
    buffer.add(x=8, done=0)
    buffer.update_priorities([0, 1], [500.0, 4.0], since=since)
    assert buffer.get_max_priority() == 4


def test_wrong_calls_are_refused() -> None:
    buffer = SequenceReplayBuffer(20, FIELDS, num_envs=2, length=3)
    with pytest.raises(ValueError, match="must hold a sequence of 3 steps"):
        buffer.sample(2)
    assert buffer.sample(0)["obs"].shape == (3, 0, 3)
    for call in (lambda: buffer.sample(-1), lambda: buffer.sample(1, beta=-1)):
        with pytest.raises(ValueError, match="sample: b"):
            call()
    with pytest.raises(ValueError, match=r"batch_size must be in \[0, 715827883\), got 2147483647"):
        buffer.sample(2**31 - 1)
    with pytest.raises(ValueError, match="no sequences"):
        PrioritizedReplayBuffer(20, FIELDS)._core.sample_sequences(1, None, 0.4, True, 0)
