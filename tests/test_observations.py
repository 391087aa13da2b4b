"""Observations of every space, encoded as Gymnasium's own ``flatten`` does."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

from fastrl.observations import Encoder, batch_one, one_of

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


def test_unsupported():
    with pytest.raises(ValueError, match=r"Text.* is not supported; Box, Discrete, MultiDiscrete"):
        Encoder(spaces.Text(4))
