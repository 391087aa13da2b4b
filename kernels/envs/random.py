"""The random numbers of an episode: Philox4x32-10 (Salmon et al. 2011), a function of key and counter."""

_MASK = 0xFFFFFFFF
STREAM = 2
"""The last counter word, as in ``philox.h``: draws of environments and of actions never meet."""


def philox(key: int, counter: int, stream: int = STREAM, index: int = 0) -> tuple[int, int]:
    """The first two 32-bit words of the generator's block."""
    key0, key1 = key & _MASK, key >> 32
    c0, c1, c2, c3 = counter & _MASK, counter >> 32, index, stream
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ key0,
            product1 & _MASK,
            (product0 >> 32) ^ c3 ^ key1,
            product0 & _MASK,
        )
        key0, key1 = (key0 + 0x9E3779B9) & _MASK, (key1 + 0xBB67AE85) & _MASK
    return c0, c1


class Random:
    """Random numbers as compiled environments draw them: draw k of an episode is a function of (key, k).

    Args:
        key: of the episode, below 2^64.
        counter: draws so far.
    """

    def __init__(self, key: int, counter: int = 0) -> None:
        self.key = key
        self.counter = counter

    def random(self) -> float:
        """Uniform in [0, 1), a multiple of 2^-53."""
        low, high = self._next()
        return float((high << 21) | (low >> 11)) * 2.0**-53

    def integers(self, n: int) -> int:
        """Uniform in [0, n), n in [1, 2^32]; off by n / 2^64 at most.

        Raises:
            ValueError: another n.
        """
        if n < 1 or n > 2**32:
            raise ValueError("integers: n must be in [1, 2**32]")
        low, high = self._next()
        return (((high << 32) | low) * n) >> 64

    def _next(self) -> tuple[int, int]:
        words = philox(self.key, self.counter)
        self.counter += 1
        return words
