"""Groups of P identities x K images: pure functions of (seed, epoch, offset), as in `order.py`.

Losses that compare images need some of the same person, and of different ones, in front of them together. A group is that:
P x K turns in a row, K for each of P different identities. A micro-batch that holds whole groups never shares one with
another process, because an epoch is a whole number of groups.

Letters: N pictures, I identities, C chunks of all identities, G groups of an epoch.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from accel_det.data.order import forget_oldest, permutation
from accel_det.draws import mix

Ints = NDArray[np.int64]

# What a hash is about; `canvases.py` has 5 and 6.
_PICTURES, _CAMERAS, _TIES, _SPARE, _GROUPS, _STREAM = 7, 8, 9, 10, 11, 12


class IdentityGroups:
    """Every picture at least once per epoch, in groups of P different identities x K pictures.

    The n pictures of an identity are shuffled in every epoch, and cut into the fewest chunks of at most K, as equal as they
    can be. A chunk with fewer than K goes on with pictures of the next one, so that its pictures are all different where the
    identity has K; where it has fewer, they repeat. Each group takes a chunk of the P identities with the most chunks left,
    which needs the fewest groups; a hash decides between equals. Where fewer than P have any left, further chunks of others
    fill the group. At last the groups are shuffled.

    With balanced cameras, the pictures of an identity are sorted by camera, the cameras in an order of the epoch, and dealt
    to its chunks like cards. So a camera with n pictures is seen in min(n, chunks) of them, which no order exceeds. Pictures
    of unknown cameras count as of one more.

    Args:
        labels: (N,) the identity of every picture, any number that is not negative.
        cameras: (N,) the camera of every picture, -1 where it is not known; None: no camera is known.
        identities_per_group: P.
        images_per_identity: K.

    Attributes:
        length: G x P x K, the same in every epoch.
        extra_turns: turns of an epoch that repeat a picture: length - N.

    Raises:
        ValueError: fewer than P identities, a picture of nobody, or no cameras to balance.

    Source: Hermans, Beyer, Leibe, In Defense of the Triplet Loss, 2017, section 2; there an epoch draws K pictures of each
    identity, however many it has.
    """

    repeats = True

    def __init__(
        self,
        labels: Ints,
        *,
        cameras: Ints | None,
        identities_per_group: int,
        images_per_identity: int,
        camera_balanced: bool,
        seed: int,
    ) -> None:
        if len(labels) and labels.min() < 0:
            raise ValueError(
                f"picture {int(labels.argmin())} of the training data has identity {int(labels.min())}, which is nobody: "
                "leave distractors out of training"
            )
        _, owners, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if len(counts) < identities_per_group:
            raise ValueError(
                f"the training data has {len(counts)} identities, but a group takes {identities_per_group} different ones: "
                "lower data.identities_per_group, or train on more identities"
            )
        if camera_balanced and (cameras is None or cameras.max() < 0):
            raise ValueError(
                "data.camera_balanced is true, but the training data knows no cameras: set it to false, or name the cameras"
            )
        self._owners: Ints = owners.astype(np.int64)
        self._pairs = _number_pairs(self._owners, cameras) if camera_balanced and cameras is not None else None
        self._identities_per_group = identities_per_group
        self._images_per_identity = images_per_identity
        self._seed = seed
        self._counts: Ints = counts.astype(np.int64)
        self._first_picture = np.cumsum(counts) - counts
        self._num_chunks: Ints = -(-self._counts // images_per_identity)
        self._first_chunk = np.cumsum(self._num_chunks) - self._num_chunks
        self._chunk_owner = np.repeat(np.arange(len(counts)), self._num_chunks)
        # Taking from the identities with the most left never needs more groups than one of the two bounds says.
        num_groups = max(-(-len(self._chunk_owner) // identities_per_group), int(self._num_chunks.max()))
        self.length = num_groups * identities_per_group * images_per_identity
        self.extra_turns = self.length - len(labels)
        self._orders: dict[int, Ints] = {}

    def index(self, epoch: int, offset: int) -> int:
        if epoch not in self._orders:
            forget_oldest(self._orders)
            self._orders[epoch] = self._order(epoch)
        return int(self._orders[epoch][offset])

    def _order(self, epoch: int) -> Ints:
        """(length,) the picture of every turn."""
        groups = self._deal(epoch)
        groups = groups[permutation(len(groups), seed=mix(self._seed, _GROUPS), epoch=epoch)].reshape(-1, 1)
        identity = self._chunk_owner[groups]
        number = groups - self._first_chunk[identity]
        pictures, chunks = self._counts[identity], self._num_chunks[identity]
        # The first chunks are longer by one where the pictures cannot be shared equally.
        start = number * (pictures // chunks) + np.minimum(number, pictures % chunks)
        place = (start + np.arange(self._images_per_identity)) % pictures
        order: Ints = self._shuffled(epoch)[self._first_picture[identity] + place].reshape(-1)
        return order

    def _shuffled(self, epoch: int) -> Ints:
        """(N,) the pictures by identity, and within one in the order in which its chunks take them."""
        pictures = permutation(len(self._owners), seed=mix(self._seed, _PICTURES), epoch=epoch)
        if self._pairs is None:
            return pictures[np.argsort(self._owners[pictures], kind="stable")]
        camera = permutation(int(self._pairs.max()) + 1, seed=mix(self._seed, _CAMERAS), epoch=epoch)[self._pairs]
        pictures = pictures[np.lexsort((camera[pictures], self._owners[pictures]))]
        identity = self._owners[pictures]
        place = np.arange(len(pictures)) - self._first_picture[identity]
        chunk = self._first_chunk[identity] + place % self._num_chunks[identity]
        return pictures[np.argsort(chunk, kind="stable")]

    def _deal(self, epoch: int) -> Ints:
        """(G, P) the chunks of every group."""
        total = len(self._chunk_owner)
        by_rank = permutation(total, seed=mix(self._seed, _TIES), epoch=epoch)
        rank = np.empty(total, np.int64)
        rank[by_rank] = np.arange(total)
        left = (self._first_chunk + self._num_chunks)[self._chunk_owner] - np.arange(total)
        # One number that sorts by chunks left, then by the hash of the chunk, and modulo total says which chunk it is.
        keys, chunk_of, owners = (rank - left * total).tolist(), by_rank.tolist(), self._chunk_owner.tolist()
        heap = [keys[first] for first in self._first_chunk.tolist()]
        heapq.heapify(heap)
        groups: list[list[int]] = []
        while heap:
            group = [chunk_of[heapq.heappop(heap) % total] for _ in range(min(self._identities_per_group, len(heap)))]
            for chunk in group:
                if chunk + 1 < total and owners[chunk + 1] == owners[chunk]:
                    heapq.heappush(heap, keys[chunk + 1])
            groups.append(group)
        self._fill(groups, epoch)
        return np.array(groups, np.int64)

    def _fill(self, groups: list[list[int]], epoch: int) -> None:
        """Make groups whole with chunks of other identities, which take turns."""
        spare = permutation(len(self._counts), seed=mix(self._seed, _SPARE), epoch=epoch)
        turns = count()
        for group in groups:
            present = set(self._chunk_owner[group].tolist())
            while len(group) < self._identities_per_group:
                round_, turn = divmod(next(turns), len(spare))
                identity = int(spare[turn])
                if identity not in present:
                    present.add(identity)
                    group.append(int(self._first_chunk[identity] + round_ % self._num_chunks[identity]))


def groups_from_stream(
    labels: Iterable[int],
    *,
    identities_per_group: int,
    images_per_identity: int,
    buffer_size: int,
    seed: int,
    epoch: int,
) -> Iterator[list[int]]:
    """Groups of P different identities x K rows from a stream, in bounded memory; every row at least once.

    Rows wait in a buffer. When only P x K places are free, a group takes up to K of the waiting rows of each of the P
    identities with the most of them, chosen by a hash. Rows that were given stay for as long as there is room, those of the
    last P identities always. They fill up what is short: first an identity that has fewer than K waiting rows, which then
    repeats its rows if that is not enough; and where fewer than P identities wait, further ones that were given before.
    When the stream ends, groups follow until no row waits. So the order is a function of (labels, seed, epoch), whoever
    computes it, and a resume replays integers alone.

    Args:
        labels: the identity of every row, in the order of the stream; read as far as the groups need.
        identities_per_group: P.
        images_per_identity: K.
        buffer_size: rows in memory at most, at least 2 x P x K. The more rows of an identity lie within it, the fewer repeat.

    Yields:
        P x K row numbers, those of an identity one after the other.

    Raises:
        ValueError: the buffer is too small, or is full or the stream ends before P identities were seen.
    """
    least = 2 * identities_per_group * images_per_identity
    if buffer_size < least:
        raise ValueError(
            f"the buffer of the stream holds {buffer_size} rows, expected at least {least}, two groups of "
            f"{identities_per_group} x {images_per_identity}: enlarge it, or lower data.identities_per_group"
        )
    buffer = _Buffer(identities_per_group, images_per_identity, buffer_size=buffer_size, key=mix(seed, _STREAM, epoch))
    return _groups(enumerate(labels), buffer)


def _groups(rows: Iterable[tuple[int, int]], buffer: "_Buffer") -> Iterator[list[int]]:
    for row, identity in rows:
        buffer.add(row, identity)
        while buffer.must_give():
            yield buffer.give()
    while buffer.num_waiting:
        yield buffer.give()


class _Buffer:
    """Rows that wait for their turn, and rows that were given and may fill a group.

    Args:
        buffer_size: both kinds together never exceed it.
        key: all choices derive from it, from row numbers and from the number of groups given.
    """

    def __init__(self, identities_per_group: int, images_per_identity: int, *, buffer_size: int, key: int) -> None:
        self.num_waiting = 0
        self._num_given = 0
        self._num_groups = 0
        self._identities_per_group = identities_per_group
        self._images_per_identity = images_per_identity
        self._buffer_size = buffer_size
        self._key = key
        self._waiting: dict[int, list[int]] = {}
        # One number that sorts identities by their waiting rows, then by a hash.
        self._ranks: dict[int, int] = {}
        # At most K rows of each identity; that which was given longest ago comes first.
        self._given: dict[int, list[int]] = {}

    def add(self, row: int, identity: int) -> None:
        self._waiting.setdefault(identity, []).append(row)
        self._rank(identity, row)
        self.num_waiting += 1
        self._forget_given()

    def must_give(self) -> bool:
        """Whether the buffer is as full as it may be; before the first group it may use the places of given rows.

        Raises:
            ValueError: it is full, and there have not been enough identities for a group.
        """
        if self._given or len(self._waiting) >= self._identities_per_group:
            return self.num_waiting > self._buffer_size - self._identities_per_group * self._images_per_identity
        if self.num_waiting == self._buffer_size:
            raise ValueError(
                f"the first {self._buffer_size} rows of the stream, which fill its buffer, hold {len(self._waiting)} "
                f"identities, but a group takes {self._identities_per_group} different ones: enlarge the buffer, mix the "
                "rows better, or lower data.identities_per_group"
            )
        return False

    def give(self) -> list[int]:
        """The next group.

        Raises:
            ValueError: there have not been enough identities for it.
        """
        key = mix(self._key, 1, self._num_groups)
        chosen = heapq.nlargest(self._identities_per_group, self._ranks, key=self._ranks.__getitem__)
        others = [identity for identity in self._given if identity not in chosen]
        missing = self._identities_per_group - len(chosen)
        if missing > len(others):
            raise ValueError(
                f"the stream ended with {len(self._waiting)} identities, but a group takes {self._identities_per_group} "
                "different ones: lower data.identities_per_group, or train on more identities"
            )
        chosen += _draw(others, missing, key=mix(key, 0))
        self._num_groups += 1
        group = [row for place, identity in enumerate(chosen) for row in self._chunk(identity, key=mix(key, 1, place))]
        self._forget_given()
        return group

    def _chunk(self, identity: int, *, key: int) -> list[int]:
        """K rows of an identity: waiting ones, then given ones, then the same again."""
        waiting, given = self._waiting.get(identity, []), self._given.pop(identity, [])
        rows = _draw(waiting, min(self._images_per_identity, len(waiting)), key=mix(key, 0))
        self.num_waiting -= len(rows)
        self._num_given -= len(given)
        if waiting:
            self._rank(identity, rows[0])
        elif rows:
            del self._waiting[identity], self._ranks[identity]
        rows = (rows + _draw(given, len(given), key=mix(key, 1)))[: self._images_per_identity]
        self._given[identity] = rows
        self._num_given += len(rows)
        return [rows[k % len(rows)] for k in range(self._images_per_identity)]

    def _rank(self, identity: int, row: int) -> None:
        self._ranks[identity] = (len(self._waiting[identity]) << 63) + mix(self._key, 0, row)

    def _forget_given(self) -> None:
        while self.num_waiting + self._num_given > self._buffer_size and len(self._given) > self._identities_per_group:
            self._num_given -= len(self._given.pop(next(iter(self._given))))


def _number_pairs(owners: Ints, cameras: Ints) -> Ints:
    """(N,) a number for each pair of identity and camera, 0-based and without gaps."""
    pairs = owners * (int(cameras.max()) + 2) + cameras + 1
    numbers: Ints = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return numbers


def _draw(values: list[int], number: int, *, key: int) -> list[int]:
    """Takes some values, different ones, out of a list, whose order does not stay."""
    drawn = []
    for turn in range(number):
        slot = mix(key, turn) % len(values)
        values[slot], values[-1] = values[-1], values[slot]
        drawn.append(values.pop())
    return drawn
