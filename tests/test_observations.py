"""Observations of every space, encoded as Gymnasium's own ``flatten`` does."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

from fastrl.observations import Encoder, as_batch, batch_one, one_of

SPACES = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "matrix of float64": spaces.Box(-1, 1, (2, 3), np.float64),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "bytes": spaces.Box(0, 255, (5,), np.uint8),
    "discrete": spaces.Discrete(7, start=3),
    "multi-discrete": spaces.MultiDiscrete([2, 5, 3]),
    "multi-binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(0, 1, (2,), np.float32)}),
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.Dict({"x": spaces.MultiBinary(3)})]),
}


@pytest.mark.parametrize("name", SPACES)
def test_encoding_equals_gymnasiums_flatten(name):
    space = SPACES[name]
    batched = batch_space(space, 6)
    batched.seed(0)
    batch = batched.sample()
    encoder = Encoder(space)
    x = encoder.encode(batch)
    assert x.shape == (6, *encoder.shape)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    for row, single in zip(x, iterate(batched, batch), strict=True):
        np.testing.assert_array_equal(row, spaces.flatten(space, single).astype(np.float32))
        np.testing.assert_array_equal(encoder.encode(batch_one(space, single))[0], row)


def test_final_observations_of_both_kinds():
    encoder = Encoder(SPACES["dict"])
    one = {"a": np.array([0.5, 0.25], np.float32), "b": np.int64(2)}
    objects = np.array([None, one, None], object)
    np.testing.assert_array_equal(encoder.encode(one_of(encoder.space, objects, 1)), [[0.5, 0.25, 0, 0, 1]])
    images = np.arange(2 * 84 * 84 * 4, dtype=np.uint8).reshape(2, 84, 84, 4)
    encoder = Encoder(spaces.Box(0, 255, (84, 84, 4), np.uint8))
    np.testing.assert_array_equal(encoder.encode(one_of(encoder.space, images, 1)), images[1:])


def test_images_stay():
    encoder = Encoder(spaces.Box(0, 255, (84, 84, 4), np.uint8))
    assert encoder.image
    assert encoder.encode(np.zeros((2, 84, 84, 4), np.uint8)).dtype == np.uint8
    assert not encoder.identity
    assert Encoder(SPACES["vector"]).identity
    assert not Encoder(SPACES["discrete"]).identity


def test_pixels_are_integers_of_a_byte():
    """Floats in [0, 1] became black."""
    encoder = Encoder(spaces.Box(0, 255, (84, 84, 4), np.uint8))
    x = encoder.encode(np.full((2, 84, 84, 4), 255))
    assert x.dtype == np.uint8
    assert (x == 255).all()
    for bad in (0.5, 1.0, 256, -1):
        with pytest.raises(ValueError, match="the observation must be uint8, as its space says, got "):
            encoder.encode(np.full((2, 84, 84, 4), bad))


def test_unsupported():
    with pytest.raises(ValueError, match=r"Text.* is not supported; Box, Discrete, MultiDiscrete"):
        Encoder(spaces.Text(4))


@pytest.mark.parametrize("value", [2, 10, 3.5, -(2**62)])
def test_discrete_values_out_of_range(value):
    """Negative ones do not count from the end."""
    with pytest.raises(ValueError, match=r"the observation must be an int in \[3, 10\), got "):
        Encoder(SPACES["discrete"]).encode(np.array([3, value]))
    with pytest.raises(ValueError, match=r"the observation must be an int in \[0, [25]\), got "):
        Encoder(SPACES["multi-discrete"]).encode(np.array([[1, 4, 2], [1, value + 7, 2]]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_narrow_integers_far_from_the_first_value(dtype):
    """What the first value is subtracted from holds neither it nor the difference."""
    x = Encoder(spaces.Discrete(400, start=-200)).encode(np.array([0, 127], dtype))
    np.testing.assert_array_equal(x.argmax(1), [200, 327])
    x = Encoder(spaces.MultiDiscrete([400, 2], start=[-200, 0])).encode(np.array([[127, 1]], dtype))
    np.testing.assert_array_equal(np.flatnonzero(x[0]), [327, 401])


def test_multi_discrete_of_two_axes():
    space = spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-2, 7]])
    x = Encoder(space).encode(np.array([[[2, 0], [1, 11]]]))
    np.testing.assert_array_equal(np.flatnonzero(x[0]), [1, 2, 8, 13])


@pytest.mark.parametrize("name", SPACES)
def test_one_observation_or_a_batch(name):
    space = SPACES[name]
    encoder, batched = Encoder(space), batch_space(space, 4)
    batched.seed(0)
    batch = batched.sample()
    given, single = as_batch(space, batch)
    assert not single
    np.testing.assert_array_equal(encoder.encode(given), encoder.encode(batch))
    for one in iterate(batched, batch):
        given, single = as_batch(space, one)
        assert single
        np.testing.assert_array_equal(encoder.encode(given), encoder.encode(batch_one(space, one)))


@pytest.mark.parametrize(
    ("name", "observation", "message"),
    [
        ("vector", ["a", "b", "c"], "must hold numbers, got"),
        ("vector", np.zeros(4), r"must be \[3\] or \[N, 3\], got \[4\]"),
        ("vector", 1.0, r"must be \[3\] or \[N, 3\], got \[\]"),
        ("dict", {"a": 3}, "must be a dict of a, b, got {'a': 3}"),
        ("dict", 3, "must be a dict of a, b, got 3"),
        ("dict", {"a": [0.0, np.inf], "b": 1}, "is not finite"),
        ("vector", [[1.0], [2.0, 3.0]], r"must be \[3\] or \[N, 3\], got setting an array element"),
        (
            "dict",
            {"a": [0.0, 1.0], "b": [1, 2]},
            r"must be one, or as many in all its parts, got one and \[2,",
        ),
        (
            "dict",
            {"a": np.zeros((3, 2)), "b": [1, 2]},
            r"must be .* in all its parts, got \[3, ...\] and \[2,",
        ),
        ("dict", {"a": [0.0, 1.0, 2.0], "b": 1}, r"must be \[2\] or \[N, 2\], got \[3\]"),
        ("tuple", (1,), r"must be a tuple of 2, got \(1,\)"),
        ("tuple", (1, 2), "must be a dict of x, got 2"),
    ],
)
def test_what_is_neither_is_refused_in_one_error(name, observation, message):
    with pytest.raises(ValueError, match=f"predict: observation {message}"):
        as_batch(SPACES[name], observation)


def test_a_tensor_is_taken_if_numpy_can_have_it():
    torch = pytest.importorskip("torch")
    given, single = as_batch(SPACES["vector"], torch.ones(3))
    assert single
    np.testing.assert_array_equal(given, [[1, 1, 1]])
    with pytest.raises(ValueError, match=r"predict: observation must be \[3\] or .*, got .* requires grad"):
        as_batch(SPACES["vector"], torch.ones(3, requires_grad=True))


def test_parts_of_another_dtype_are_taken():
    given, single = as_batch(SPACES["dict"], {"a": [0, 1], "b": np.int8(2)})
    assert single
    np.testing.assert_array_equal(Encoder(SPACES["dict"]).encode(given), [[0, 1, 0, 0, 1]])
