"""Groups of P identities x K images: pure functions of (seed, epoch, offset), as in `order.py`.

Losses that compare images need some of the same person, and of different ones, in front of them together. A group is that:
P x K turns in a row, K for each of P different identities. A micro-batch that holds whole groups never shares one with
another process, because an epoch is a whole number of groups.

Letters: N pictures, I identities, C chunks of all identities, G groups of an epoch.
"""

import heapq
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.data.order import forget_oldest, permutation
from accel_det.draws import mix

Ints = NDArray[np.int64]

# What a hash is about; `canvases.py` has 5 and 6, `identity_stream.py` 13 to 15.
_PICTURES, _CAMERAS, _TIES, _SPARE, _GROUPS = 7, 8, 9, 10, 11


class GroupRule(NamedTuple):
    """What a group is.

    Attributes:
        identities: P.
        images: K, of each identity.
        camera_balanced: those of an identity are of as many cameras as can be.
    """

    identities: int
    images: int
    camera_balanced: bool = False

    @property
    def size(self) -> int:
        """Pictures of a group."""
        return self.identities * self.images

    def num_groups(self, pictures: Ints) -> int:
        """The fewest groups that hold all pictures.

        Taking from the identities with the most chunks left never needs more groups than one of the two bounds says.

        Args:
            pictures: (I,) how many every identity has.
        """
        chunks = -(-pictures // self.images)
        return max(-(-int(chunks.sum()) // self.identities), int(chunks.max()))

    def require(self, labels: Ints, cameras: Ints | None) -> None:
        """Refuses pictures of which no groups can be made; see `IdentityGroups`."""
        if len(labels) and labels.min() < 0:
            raise ValueError(
                f"picture {int(labels.argmin())} of the training data has identity {int(labels.min())}, which is nobody: "
                "leave distractors out of training"
            )
        num_identities = len(np.unique(labels))
        if num_identities < self.identities:
            raise ValueError(
                f"the training data has {num_identities} identities, but a group takes {self.identities} different ones: "
                "lower data.identities_per_group, or train on more identities"
            )
        if self.camera_balanced and (cameras is None or cameras.max() < 0):
            raise ValueError(
                "data.camera_balanced is true, but the training data knows no cameras: set it to false, or name the cameras"
            )


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
        rule: GroupRule,
        *,
        cameras: Ints | None,
        seed: int,
    ) -> None:
        rule.require(labels, cameras)
        _, owners, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self._owners: Ints = owners.astype(np.int64)
        self._pairs = _number_pairs(self._owners, cameras) if rule.camera_balanced and cameras is not None else None
        self._rule = rule
        self._seed = seed
        self._counts: Ints = counts.astype(np.int64)
        self._first_picture = np.cumsum(counts) - counts
        self._num_chunks: Ints = -(-self._counts // rule.images)
        self._first_chunk = np.cumsum(self._num_chunks) - self._num_chunks
        self._chunk_owner = np.repeat(np.arange(len(counts)), self._num_chunks)
        self.length = rule.num_groups(self._counts) * rule.size
        self.extra_turns = self.length - len(labels)
        self._orders: dict[int, Ints] = {}

    def index(self, epoch: int, offset: int) -> int:
        if epoch not in self._orders:
            forget_oldest(self._orders)
            self._orders[epoch] = self.order(epoch)
        return int(self._orders[epoch][offset])

    def order(self, epoch: int) -> Ints:
        """(length,) the picture of every turn."""
        groups = self._deal(epoch)
        groups = groups[permutation(len(groups), seed=mix(self._seed, _GROUPS), epoch=epoch)].reshape(-1, 1)
        identity = self._chunk_owner[groups]
        number = groups - self._first_chunk[identity]
        pictures, chunks = self._counts[identity], self._num_chunks[identity]
        # The first chunks are longer by one where the pictures cannot be shared equally.
        start = number * (pictures // chunks) + np.minimum(number, pictures % chunks)
        place = (start + np.arange(self._rule.images)) % pictures
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
            group = [chunk_of[heapq.heappop(heap) % total] for _ in range(min(self._rule.identities, len(heap)))]
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
            while len(group) < self._rule.identities:
                round_, turn = divmod(next(turns), len(spare))
                identity = int(spare[turn])
                if identity not in present:
                    present.add(identity)
                    group.append(int(self._first_chunk[identity] + round_ % self._num_chunks[identity]))


def _number_pairs(owners: Ints, cameras: Ints) -> Ints:
    """(N,) a number for each pair of identity and camera, 0-based and without gaps."""
    pairs = owners * (int(cameras.max()) + 2) + cameras + 1
    numbers: Ints = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return numbers
