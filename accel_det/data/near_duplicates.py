"""Pictures that look alike: re-encoded, resized, brightened, mirrored.

A picture's hash is 64 bits: the signs of its 64 lowest frequencies, without the mean. Brightness and contrast do not change
signs; a mirrored picture has those of the odd horizontal frequencies turned, so its hash follows from that of the picture.

Letters: Q pictures that are asked about, K known pictures.

Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1 (the hash by the cosine
transform; here with the 64 frequencies nearest to 0, and with signs in place of the median, for the sake of mirrored pictures);
Norouzi et al., Fast Exact Search in Hamming Space with Multi-Index Hashing, 2014.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel_det.data.formats.raw import Bools, Ints
from accel_det.data.resize import resize

Hashes = NDArray[np.uint64]

MAX_BITS = 3
"""Hashes of pictures that look alike differ in so many bits at most."""

_SIDE_PX = 32
_LEAST_CONTRAST = 2.0
"""Standard deviation in grey levels of 0 to 255: below it signs are noise."""

_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)  # ITU-R BT.601
_STEPS = np.arange(_SIDE_PX)
_COSINES = np.cos(np.pi * (2 * _STEPS + 1) * _STEPS[:, None] / (2 * _SIDE_PX))
_ROWS, _COLUMNS = np.array(
    sorted(
        ((row, column) for row in range(16) for column in range(16) if row or column),
        key=lambda place: (place[0] ** 2 + place[1] ** 2, place),
    )[:64]
).T
_BANDS, _BAND_BITS = MAX_BITS + 1, 64 // (MAX_BITS + 1)
_AT_ONCE = 1 << 22
"""Pairs that are compared at once: about 200 MB."""


class Twins(NamedTuple):
    """Pictures that look like one of the known ones.

    Attributes:
        asked: (P,) ascending positions among the pictures that were asked about.
        known: (P,) positions of the known picture that is nearest to each.
        bits: (P,) of their hashes that differ.
        mirrored: (P,) whether it is the mirrored picture that is near.
    """

    asked: Ints
    known: Ints
    bits: Ints
    mirrored: Bools

    def words(self, pair: int) -> str:
        """How alike a pair is."""
        difference = f"{self.bits[pair]} of 64 bits differ"
        return f"mirrored, {difference}" if self.mirrored[pair] else difference


def perceptual_hash(image: Tensor) -> int | None:
    """64 bits that pictures which look alike share but for a few; None where an image shows nothing but one shade.

    Args:
        image: (3, H, W) uint8 RGB.
    """
    grey = (resize(image, _SIDE_PX, _SIDE_PX) * _LUMA).sum(dim=0).numpy()
    if grey.std() < _LEAST_CONTRAST:
        return None
    signs = (_COSINES @ grey @ _COSINES.T)[_ROWS, _COLUMNS] > 0
    return _number(signs)


def _number(bits: Bools) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


_TURNED_BY_MIRRORING = np.uint64(_number(_COLUMNS % 2 == 1))


def mirrored(hashes: Hashes) -> Hashes:
    """The hashes of the pictures as a mirror shows them."""
    return hashes ^ _TURNED_BY_MIRRORING


def find_twins(asked: Hashes, known: Hashes) -> Twins:
    """For each picture the known one that is nearest, upright or mirrored, if at most `MAX_BITS` differ: exact.

    Args:
        asked: (Q,).
        known: (K,).
    """
    upright, upright_bits = _nearest(asked, known)
    turned, turned_bits = _nearest(mirrored(asked), known)
    is_mirrored = turned_bits < upright_bits
    nearest, bits = np.where(is_mirrored, turned, upright), np.where(is_mirrored, turned_bits, upright_bits)
    found = np.flatnonzero(bits <= MAX_BITS)
    return Twins(found, nearest[found], bits[found], is_mirrored[found])


def _nearest(asked: Hashes, known: Hashes) -> tuple[Ints, Ints]:
    """(Q,) positions of the nearest known hashes, the first of equally near ones, and (Q,) bits that differ.

    Of four bands of bits one is equal where at most three bits differ: so only hashes that share a band are compared.
    What is further away has more than `MAX_BITS`.
    """
    different, back = np.unique(asked, return_inverse=True)
    others, first = np.unique(known, return_index=True)
    none = (MAX_BITS + 1) * max(1, len(known))
    best = np.full(
        len(different), none, np.int64
    )  # bits x K + position, so that the least is the nearest, then the first
    for band in range(_BANDS):
        keys, other_keys = _band(different, band), _band(others, band)
        order = np.argsort(other_keys, kind="stable")
        starts, stops = (np.searchsorted(other_keys[order], keys, side) for side in ("left", "right"))
        for part in _parts(stops - starts):
            counts = (stops - starts)[part]
            asking = np.repeat(np.arange(len(different))[part], counts)
            offsets = np.arange(len(asking)) - np.repeat(np.cumsum(counts) - counts, counts)
            candidates = order[np.repeat(starts[part], counts) + offsets]
            bits = np.bitwise_count(different[asking] ^ others[candidates]).astype(np.int64)
            near = bits <= MAX_BITS
            np.minimum.at(best, asking[near], bits[near] * len(known) + first[candidates[near]])
    return (best % max(1, len(known)))[back], (best // max(1, len(known)))[back]


def _band(hashes: Hashes, band: int) -> NDArray[np.uint16]:
    return (hashes >> np.uint64(band * _BAND_BITS)).astype(np.uint16)


def _parts(counts: Ints) -> list[slice]:
    """Runs of hashes with at most `_AT_ONCE` candidates together, or of one hash."""
    totals = np.cumsum(counts)
    edges = [0]
    while edges[-1] < len(counts):
        before = totals[edges[-1] - 1] if edges[-1] else 0
        edges.append(max(edges[-1] + 1, int(np.searchsorted(totals, before + _AT_ONCE, "right"))))
    return [slice(start, stop) for start, stop in pairwise(edges)]
