"""Mean and variance of rewards that depend on the next state."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sums(index: NDArray[np.int64], values: Floats, size: int) -> Floats:
    """[size]: sum of the values that have each index."""
    total: Floats = np.bincount(index, values, size).astype(np.float64, copy=False)
    return total


def likeliest(index: NDArray[np.int64], probability: Floats, values: Floats, size: int) -> Floats:
    """[size]: of each index, which do not decrease, the value that is the likeliest; 0 where there is none.

    Others are added up as differences from it: they are exact where all are equal, and none is lost beside it
    that counts more.
    """
    found = np.zeros(size)
    if not len(index):
        return found
    begin = np.flatnonzero(np.diff(index, prepend=-1))
    most = np.repeat(np.maximum.reduceat(probability, begin), np.diff(begin, append=len(index)))
    top = np.flatnonzero(probability == most)[::-1]  # the first of equals
    found[index[top]] = values[top]
    return found


def moments(
    pair: NDArray[np.int64], probability: Floats, reward: Floats, pairs: int
) -> tuple[Floats, Floats]:
    """Mean and variance of each pair's reward, from outcomes that are possible."""
    usual = likeliest(pair, probability, reward, pairs)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities, which are refused later
        beyond = np.where((probability > 0) & (reward != usual[pair]), reward - usual[pair], 0.0)
        mean = usual + sums(pair, probability * beyond, pairs)
        spread = np.where((probability > 0) & (reward != mean[pair]), reward - mean[pair], 0.0)
        return mean, sums(pair, probability * spread * spread, pairs)


def moments_dense(probability: Floats, reward: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean [L], the rewards themselves [L, S] and their variance [L]."""
    usual = np.take_along_axis(reward, probability.argmax(axis=1, keepdims=True), axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        beyond = np.where((probability > 0) & (reward != usual), reward - usual, 0.0)
        mean = usual + np.einsum("ls,ls->l", probability, beyond)[:, None]
        spread = np.where((probability > 0) & (reward != mean), reward - mean, 0.0)
        return mean[:, 0], reward, np.einsum("ls,ls,ls->l", probability, spread, spread)
