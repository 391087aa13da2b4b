"""Mean and variance of rewards that depend on the next state."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sums(index: NDArray[np.int64], values: Floats, size: int) -> Floats:
    """[size]: sum of the values that have each index."""
    total: Floats = np.bincount(index, values, size).astype(np.float64, copy=False)
    return total


def moments(
    pair: NDArray[np.int64], probability: Floats, reward: Floats, pairs: int
) -> tuple[Floats, Floats]:
    """Mean and variance of each pair's reward; of equal rewards they are exact."""
    first = np.zeros(pairs)
    first[pair[::-1]] = reward[::-1]
    with np.errstate(invalid="ignore"):  # of infinities, which are refused later
        beyond = np.where((probability > 0) & (reward != first[pair]), reward - first[pair], 0.0)
        mean = first + sums(pair, probability * beyond, pairs)
        spread = np.where((probability > 0) & (reward != mean[pair]), reward - mean[pair], 0.0)
        return mean, sums(pair, probability * spread * spread, pairs)


def moments_dense(probability: Floats, reward: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean [L], the rewards themselves [L, S] and their variance [L]."""
    counted = np.where(probability > 0, reward, 0.0)  # an infinity that never comes does not count
    mean = np.einsum("ls,ls->l", probability, counted)
    spread = np.where(probability > 0, reward - mean[:, None], 0.0)
    return mean, reward, np.einsum("ls,ls,ls->l", probability, spread, spread)
