"""Random draws that are a pure function of a key.

Only raw 64-bit outputs of PCG64 are used, which numpy promises never to change; the methods of `numpy.random.Generator`
carry no such promise.
"""

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ItemT = TypeVar("ItemT")

_BLOCK = 64
_UNIT = 2.0**-53


class Draws:
    """A stream of draws, the same for the same key in every process and on every platform."""

    def __init__(self, *key: int | str) -> None:
        """
        Args:
            key: integers >= 0 of any size, and words that keep the streams of different purposes apart.

        Raises:
            ValueError: an integer is negative.
        """
        for part in key:
            if isinstance(part, int) and part < 0:
                raise ValueError(f"street: seeds and numbers must be >= 0, got {part} in {key}; use a non-negative one")
        entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))
        self._buffer: list[int] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number of [low, high)."""
        if not self._buffer:
            self._buffer = self._bits.random_raw(_BLOCK).tolist()
        return low + (high - low) * ((self._buffer.pop() >> 11) * _UNIT)

    def integer(self, low: int, high: int) -> int:
        """One integer of [low, high)."""
        return low + int(self.uniform() * (high - low))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def choice(self, items: Sequence[ItemT]) -> ItemT:
        """One of the items, all equally likely."""
        return items[self.integer(0, len(items))]

    def sign(self) -> int:
        """1 or -1."""
        return 1 if self.chance(0.5) else -1

    def noise(self, size: int) -> NDArray[np.int16]:
        """(size,) int16 in [-255, 255], triangular around 0 with a standard deviation of 104.5."""
        words = (2 * size + 7) // 8
        octets = np.asarray(self._bits.random_raw(words)).astype("<u8").view(np.uint8)[: 2 * size]
        return octets[:size].astype(np.int16) - octets[size:].astype(np.int16)
