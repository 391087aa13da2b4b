"""Frames: grey values are ALE's, resizing is OpenCV's, rings hold what a loop would put there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastrl.kernels import grayscale, grayscale_resize, push_frames
from fastrl.kernels.frames.reference import area_weights

Images = NDArray[np.uint8]


def images(shape: tuple[int, ...], seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


STRIDES: dict[str, Callable[[Images], Images]] = {
    "contiguous": lambda x: x,
    "mirrored": lambda x: np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
    "Fortran": np.asfortranarray,
    "every second pixel": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "channels first": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1),
    "one image": lambda x: np.broadcast_to(x[:1], x.shape),
}


class TestReference:
    def test_luminance_is_the_formula(self) -> None:
        x = images((50, 7, 9, 3))
        formula = np.round(x.astype(np.float64) @ [0.2989, 0.587, 0.114]).astype(np.uint8)
        got = grayscale(x, backend="reference")
        exact_half = (x.astype(np.int64) @ [2989, 5870, 1140]) % 10000 == 5000
        np.testing.assert_array_equal(got[~exact_half], formula[~exact_half])
        np.testing.assert_array_equal(
            grayscale(np.full((1, 1, 1, 3), 255, np.uint8), backend="reference"), 255
        )

    @given(st.integers(1, 40), st.data())
    def test_weights_of_a_cell_sum_to_one(self, size: int, data: Any) -> None:
        """And each pixel's, over all cells, to a cell's share of it."""
        cells = data.draw(st.integers(1, size))
        weights = area_weights(size, cells)
        pixels = np.zeros(size)
        for shares in weights:
            np.testing.assert_allclose(sum(float(w) for _, w in shares), 1, atol=3e-3)
            for pixel, weight in shares:
                pixels[pixel] += weight
        np.testing.assert_allclose(pixels, cells / size, atol=3e-3)

    @given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 255))
    def test_a_plain_image_stays_plain(self, height: int, width: int, value: int) -> None:
        x = np.full((2, 12, 12), value, np.uint8)
        got = grayscale_resize(x, size=(height, width), backend="reference")
        assert set(np.unique(got).tolist()) == {value}

    def test_by_hand(self) -> None:
        x = np.array([[[0, 3, 6], [30, 60, 90]]], np.uint8)
        # 3 columns into 2: 2/3 and 1/3 of a cell; halves go to the even number
        np.testing.assert_array_equal(
            grayscale_resize(x, size=(2, 2), backend="reference"), [[[1, 5], [40, 80]]]
        )
        np.testing.assert_array_equal(grayscale_resize(x, size=(1, 3), backend="reference"), [[[15, 32, 48]]])
        second = np.array([[[9, 9, 9], [0, 0, 255]]], np.uint8)
        np.testing.assert_array_equal(
            grayscale_resize(x, second, size=(2, 3), backend="reference"), np.maximum(x, second)
        )


SIZES = [
    ((210, 160), (84, 84)),
    ((96, 96), (84, 84)),
    ((17, 13), (5, 7)),
    ((17, 13), (17, 1)),
    ((33, 64), (11, 32)),
    ((7, 5), (7, 5)),
    ((1, 1), (1, 1)),
]


class TestKernels:
    @pytest.mark.parametrize(("shape", "size"), SIZES)
    @pytest.mark.parametrize("channels", [(), (3,)])
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_equal_to_the_reference(self, isa: str, shape: Any, size: Any, channels: Any, count: int) -> None:
        frame, second = (images((count, *shape, *channels), seed) for seed in (0, 1))
        for pair in ((frame,), (frame, second)):
            got = grayscale_resize(*pair, size=size)
            assert (got.dtype, got.shape, got.flags.c_contiguous) == (np.uint8, (count, *size), True)
            np.testing.assert_array_equal(got, grayscale_resize(*pair, size=size, backend="reference"))
        if channels:
            np.testing.assert_array_equal(grayscale(frame), grayscale(frame, backend="reference"))

    @pytest.mark.parametrize("kind", STRIDES)
    @pytest.mark.parametrize("channels", [(), (3,)])
    def test_strides(self, isa: str, kind: str, channels: tuple[int, ...]) -> None:
        if kind == "channels first" and not channels:
            pytest.skip("there are none")
        x, second = (images((3, 12, 10, *channels), seed) for seed in (0, 1))
        view = STRIDES[kind](x)
        plain = np.ascontiguousarray(view)
        np.testing.assert_array_equal(
            grayscale_resize(view, second, size=(5, 4)), grayscale_resize(plain, second, size=(5, 4))
        )
        np.testing.assert_array_equal(
            grayscale_resize(second, view, size=(5, 4)), grayscale_resize(second, plain, size=(5, 4))
        )
        if channels:
            np.testing.assert_array_equal(grayscale(view), grayscale(plain))

    def test_out(self) -> None:
        x, out = images((2, 9, 8)), np.zeros((2, 3, 4), np.uint8)
        assert grayscale_resize(x, size=(3, 4), out=out) is out
        np.testing.assert_array_equal(out, grayscale_resize(x, size=(3, 4)))
        colours, grey = images((2, 9, 8, 3)), np.zeros((2, 9, 8), np.uint8)
        assert grayscale(colours, out=grey) is grey
        np.testing.assert_array_equal(grey, grayscale(colours))

    @pytest.mark.parametrize(("shape", "size"), [*SIZES, ((64, 48), (32, 24))])
    def test_equal_to_opencv(self, shape: Any, size: Any) -> None:
        cv2 = pytest.importorskip("cv2")
        x = images((10, *shape))
        theirs = np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in x])
        difference = np.abs(grayscale_resize(x, size=size).astype(int) - theirs)
        whole = all(
            pixels % cells == 0 for pixels, cells in zip(shape, size, strict=True)
        )  # it adds integers
        assert difference.max() <= (1 if whole else 0)

    @pytest.mark.parametrize("game", ["breakout", "ms_pacman", "seaquest", "qbert"])
    def test_grey_screens_are_ales(self, game: str) -> None:
        ale_py = pytest.importorskip("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        ale = ale_py.ALEInterface()
        ale.loadROM(ale_py.roms.get_rom_path(game))
        actions, random = ale.getMinimalActionSet(), np.random.default_rng(0)
        colours = set()
        for step in range(300):
            ale.act(actions[random.integers(len(actions))])
            if step % 30 == 0:
                screen = ale.getScreenRGB()
                np.testing.assert_array_equal(grayscale(screen[None])[0], ale.getScreenGrayscale())
                colours |= set(map(tuple, screen.reshape(-1, 3).tolist()))
        assert len(colours) > 5


class TestPush:
    @pytest.mark.parametrize("backend", ["cpp", "reference"])
    @pytest.mark.parametrize("shape", [(), (3,), (4, 5)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.bool_, np.int64])
    def test_against_lists(self, backend: str, shape: tuple[int, ...], dtype: Any) -> None:
        random = np.random.default_rng(0)
        num_envs, size = 4, 3
        ring = np.zeros((num_envs, 40, *shape), dtype)
        stacks = np.zeros((num_envs, size, *shape), dtype)
        blank = np.ones(shape, dtype)
        out = np.empty_like(stacks)
        for slot in range(size - 1, 40):
            frame = random.integers(0, 100, (num_envs, *shape)).astype(dtype)
            begin = random.random(num_envs) < 0.3
            padding = blank if slot % 2 else None
            stacks = np.concatenate([stacks[:, 1:], frame[:, None]], axis=1)
            for env in np.flatnonzero(begin):
                stacks[env, :-1] = frame[env] if padding is None else padding
            view = push_frames(ring, slot, frame, begin, size=size, padding=padding, backend=backend)
            assert np.shares_memory(view, ring)
            np.testing.assert_array_equal(view, stacks)
            begin = random.random(num_envs) < 0.3
            stacks[begin] = frame[begin, None]
            got = push_frames(ring, slot, frame, begin, size=size, only=True, out=out, backend=backend)
            assert got is out
            np.testing.assert_array_equal(out, stacks)

    @pytest.mark.parametrize("num_envs", [0, 1])
    @pytest.mark.parametrize("size", [1, 4])
    def test_few(self, isa: str, num_envs: int, size: int) -> None:
        ring = np.zeros((num_envs, size, 2))
        got = push_frames(ring, size - 1, np.ones((num_envs, 2)), np.ones(num_envs, np.bool_), size=size)
        np.testing.assert_array_equal(got, np.ones((num_envs, size, 2)))


FRAME, COLOURS = images((2, 6, 5)), images((2, 6, 5, 3))
RING = np.zeros((2, 8, 3))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: grayscale(FRAME), ValueError, r"grayscale: frame must be uint8 \[N, height, width, 3\], of at least one pixel, got uint8 \[2, 6, 5\]"),
        (lambda: grayscale(COLOURS.astype(np.float32)), TypeError, r"grayscale: frame must be uint8 .*, got float32 \[2, 6, 5, 3\]"),
        (lambda: grayscale([[1]]), TypeError, "frame must be uint8 .*, got list"),
        (lambda: grayscale(COLOURS, out=FRAME[:1]), ValueError, r"out must be uint8 \[N, height, width\] = \[2, 6, 5\]"),
        (lambda: grayscale(COLOURS, out=COLOURS[..., 0]), ValueError, "out must be C-contiguous"),
        (lambda: grayscale_resize(images((2, 6, 5, 4)), size=(2, 2)), ValueError, r"\[N, height, width\] or \[N, height, width, 3\]"),
        (lambda: grayscale_resize(images((2, 0, 5)), size=(1, 1)), ValueError, "of at least one pixel"),
        (lambda: grayscale_resize(FRAME, COLOURS, size=(2, 2)), ValueError, r"second must be uint8 \[N, height, width\] = \[2, 6, 5\], got uint8 \[2, 6, 5, 3\]"),
        (lambda: grayscale_resize(FRAME), ValueError, r"size must be a height in \[1, 6\] and a width in \[1, 5\], got \(84, 84\)"),
        (lambda: grayscale_resize(FRAME, size=(0, 2)), ValueError, r"got \(0, 2\)"),
        (lambda: grayscale_resize(FRAME, size=(2.0, 2)), TypeError, r"got \(2.0, 2\)"),
        (lambda: grayscale_resize(FRAME, size=3), TypeError, "got 3"),
        (lambda: grayscale_resize(FRAME, size=(6, 5), out=FRAME), ValueError, "out must share no memory with an input"),
        (lambda: grayscale_resize(FRAME, size=(2, 2), backend="numba"), NotImplementedError, "no backend runs grayscale_resize"),
        (lambda: push_frames(RING, 1, RING[:, 0].copy(), size=3), ValueError, r"slot must be in \[size - 1, slots\) = \[2, 8\), got 1"),
        (lambda: push_frames(RING, 8, RING[:, 0].copy(), size=3), ValueError, "got 8"),
        (lambda: push_frames(RING, 2, RING[:, 0].copy(), size=0), ValueError, "size must be >= 1, got 0"),
        (lambda: push_frames(RING, 2, np.zeros((2, 3), np.float32), size=2), TypeError, r"frame must be float64 \[N, ...\], got float32"),
        (lambda: push_frames(RING, 2, RING[:, 0], size=2), ValueError, "frame must be C-contiguous"),
        (lambda: push_frames(RING, 2, RING.reshape(-1, 3)[:2], size=2), ValueError, "frame must share no memory with ring"),
        (lambda: push_frames(RING, 2, np.zeros((2, 3)), np.zeros(2), size=2), TypeError, r"begin must be bool \[N\], got float64 \[2\]"),
        (lambda: push_frames(RING, 2, np.zeros((2, 3)), size=2, padding=np.zeros(2)), ValueError, r"padding must be float64 \[...\] = \[3\], got"),
        (lambda: push_frames(RING, 2, np.zeros((2, 3)), size=2, out=np.zeros((2, 3, 3))), ValueError, r"out must be float64 \[N, size, ...\] = \[2, 2, 3\]"),
        (lambda: push_frames(RING.astype(object), 2, RING[:, 0], size=2), TypeError, "without objects"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    before = RING.copy(), FRAME.copy(), COLOURS.copy()
    with pytest.raises(kind, match=message):
        call()
    np.testing.assert_array_equal(RING, before[0])
    np.testing.assert_array_equal(FRAME, before[1])
    np.testing.assert_array_equal(COLOURS, before[2])
