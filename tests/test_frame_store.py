"""The frame store gives back what was written, whatever that was, and holds no frame twice."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastrl._core import FrameStore

Array = NDArray[np.generic]
ROW = 16
"""Bytes that a row takes beside frames."""


class Whole:
    """The definition: a ring of whole observations."""

    def __init__(self, num_envs: int, steps: int) -> None:
        self.rows = num_envs * steps
        self.obs: dict[int, Array] = {}
        self.next_obs: dict[int, Array] = {}
        self.head = 0

    def add(self, obs: Array, next_obs: Array) -> None:
        for x, y in zip(obs, next_obs, strict=True):
            self.obs[self.head], self.next_obs[self.head] = x.copy(), y.copy()
            self.head = (self.head + 1) % self.rows


def episode(
    random: np.random.Generator, shape: tuple[int, ...], axis: int | None, padding: str, values: int
) -> Iterator[Array]:
    """Observations of an episode without end; stacks begin with repeats, zeros or different frames."""
    single = shape if axis is None else tuple(np.delete(shape, axis))
    stack = 1 if axis is None else shape[axis]
    frame = lambda: random.integers(values, size=single, dtype=np.uint8)  # noqa: E731
    first = frame()
    before = {
        "repeat": [first] * (stack - 1),
        "zeros": [np.zeros_like(first)] * (stack - 1),
        "different": [frame() for _ in range(stack - 1)],
    }[padding]
    frames = [*before, first]
    while True:
        yield frames[0] if axis is None else np.stack(frames, axis)
        frames = [*frames[1:], frame()]


shapes = st.one_of(
    st.tuples(st.sampled_from([(), (1,), (3,), (5, 7), (16, 9)]), st.none(), st.just(1)),
    st.tuples(
        st.sampled_from([(), (1,), (7,), (8, 8), (13, 5)]), st.sampled_from([0, -1]), st.integers(1, 6)
    ),
)
dtypes = st.sampled_from(["u1", "i2", "f4", "f8", "c16", "V3"])


def layout(drawn: tuple[tuple[int, ...], int | None, int]) -> tuple[tuple[int, ...], int | None]:
    single, axis, stack = drawn
    if axis is None:
        return single, None
    return ((stack, *single) if axis == 0 else (*single, stack)), axis


def typed(x: Array, dtype: str) -> Array:
    if dtype == "V3":
        return np.repeat(x[..., None], 3, -1).view("V3")[..., 0]
    return x.astype(dtype)


def check(store: FrameStore, model: Whole, random: np.random.Generator, dtype: str) -> None:
    held = np.array(sorted(model.obs), np.int64)
    rows, last = random.choice(held, 2 * len(held) + 1), random.choice(held, 2 * len(held) + 1)
    if random.integers(2):
        last = rows
    wanted = np.stack([model.obs[i] for i in rows]), np.stack([model.next_obs[i] for i in last])
    obs, next_obs = np.zeros_like(wanted[0]), np.zeros_like(wanted[1])
    store.gather(rows, last, obs, next_obs)
    np.testing.assert_array_equal(obs, wanted[0])
    np.testing.assert_array_equal(next_obs, wanted[1])
    only, after = np.zeros_like(obs), np.zeros_like(obs)
    store.gather(rows, None, only, None)
    store.gather(rows, last, None, after)
    np.testing.assert_array_equal(only, wanted[0])
    np.testing.assert_array_equal(after, wanted[1])


@given(
    seed=st.integers(0, 2**32 - 1),
    num_envs=st.integers(1, 4),
    steps=st.integers(1, 40),
    added=st.integers(1, 130),
    drawn=shapes,
    dtype=dtypes,
    ends=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    values=st.sampled_from([1, 2, 256]),
    odd=st.sampled_from([0.0, 0.1]),
    per_add=st.integers(1, 5),
)
def test_what_is_read_is_what_was_written(
    seed: int,
    num_envs: int,
    steps: int,
    added: int,
    drawn: tuple[tuple[int, ...], int | None, int],
    dtype: str,
    ends: float,
    values: int,
    odd: float,
    per_add: int,
) -> None:
    random = np.random.default_rng(seed)
    shape, axis = layout(drawn)
    store = FrameStore(num_envs, steps, list(shape), np.dtype(dtype).itemsize, axis)
    model = Whole(num_envs, steps)

    def begin() -> Iterator[Array]:
        return episode(random, shape, axis, random.choice(["repeat", "zeros", "different"]), values)

    envs = [begin() for _ in range(num_envs)]
    now = [next(env) for env in envs]
    for done in range(0, added, per_add):
        obs, next_obs = [], []
        for _ in range(per_add):
            for i in range(num_envs):
                after = next(envs[i])
                if random.random() < odd:  # follows nothing
                    after = random.integers(256, size=shape, dtype=np.uint8)
                obs.append(now[i])
                next_obs.append(after)
                now[i] = after
                if random.random() < ends:
                    envs[i] = begin()
                    now[i] = next(envs[i])
        x, y = typed(np.array(obs), dtype), typed(np.array(next_obs), dtype)
        store.add(x, y)
        model.add(x, y)
        if random.random() < 0.1 or done + per_add >= added:
            check(store, model, random, dtype)
        if random.random() < 0.01:
            store.clear()
            model = Whole(num_envs, steps)


def run(
    store: FrameStore,
    shape: tuple[int, ...],
    axis: int,
    steps: int,
    length: int,
    padding: str,
    num_envs: int = 1,
) -> None:
    random = np.random.default_rng(0)
    for t in range(steps):
        if t % length == 0:
            envs = [episode(random, shape, axis, padding, 256) for _ in range(num_envs)]
            now = np.array([next(env) for env in envs])
        after = np.array([next(env) for env in envs])
        store.add(now, after)
        now = after


@pytest.mark.parametrize(("padding", "extra"), [("repeat", 1), ("zeros", 2), ("different", 4)])
@pytest.mark.parametrize("axis", [0, -1])
def test_frames_are_held_once(padding: str, extra: int, axis: int) -> None:
    shape = (4, 30, 30) if axis == 0 else (30, 30, 4)
    store = FrameStore(1, 400, list(shape), 1, axis)
    empty = store.nbytes
    run(store, shape, axis, 400, 50, padding)
    frames = 400 + 8 * extra
    slack = 8 * (frames + 256)  # addresses of blocks
    assert frames * 900 <= store.nbytes - empty <= frames * 900 + slack


def test_memory_follows_what_is_held() -> None:
    """Rows of short episodes need more frames than those of long ones, and give them back."""
    shape = (4, 30, 30)
    store = FrameStore(2, 200, list(shape), 1, 0)
    run(store, shape, 0, 400, 2, "different", 2)
    most = store.nbytes
    run(store, shape, 0, 400, 400, "repeat", 2)
    assert store.nbytes < 0.4 * most
    assert store.nbytes <= 400 * (900 + ROW) + 20 * 900 + 8 * 2048
    store.clear()
    assert store.nbytes == 400 * ROW


def test_an_observation_shared_by_two_rows_is_held_once() -> None:
    store = FrameStore(1, 100, [1000], 1, None)
    x = np.random.default_rng(0).integers(256, size=(101, 1000), dtype=np.uint8)
    store.add(x[:-1], x[1:])
    assert 101 * 1000 <= store.nbytes <= 101 * 1000 + 100 * ROW + 8 * 256


def test_bad_arguments_are_refused_and_change_nothing() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    store = FrameStore(1, 5, [3, 4], 1, -1)
    store.add(x, x)
    rows, out = np.array([0, 1]), np.zeros_like(x)
    before = store.nbytes
    for call, match in [
        (lambda: FrameStore(0, 1, [3], 1, 0), "at least 1"),
        (lambda: FrameStore(1, 1, [0], 1, 0), "without axes of length 0"),
        (lambda: FrameStore(1, 1, [3], 1, 2), "None, 0 or -1"),
        (lambda: FrameStore(1, 1, [129, 2], 1, 0), "at most 128"),
        (lambda: store.add([1], None), "a NumPy array"),
        (lambda: store.add(x[:, ::2], None), "C-contiguous"),
        (lambda: store.add(x.reshape(-1)[:13], None), "whole observations"),
        (lambda: store.add(x, x[:1]), "as many rows"),
        (lambda: FrameStore(2, 5, [3, 4], 1, -1).add(x[:1], None), "whole steps"),
        (lambda: store.gather(np.array([2]), None, out[:1], None), "written"),
        (lambda: store.gather(np.array([5]), None, out[:1], None), "indices"),
        (lambda: store.gather(np.array([-1]), None, out[:1], None), "indices"),
        (lambda: store.gather(rows, None, out[:1], None), "as many rows"),
        (lambda: store.gather(rows, np.array([0]), out, out), "last"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    frozen = out.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        store.gather(rows, None, frozen, None)
    assert store.nbytes == before
    store.gather(rows, None, out, None)
    np.testing.assert_array_equal(out, x)
