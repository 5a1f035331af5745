"""Groups of identities out of streamed data: pure functions of (seed, epoch, offset) that ask for rows which lie close together.

The rows, shard after shard, are cut into as many equal parts as there are places to read at. A block is the next window of every
part, and groups are dealt out of one block: a reader holds few blocks, and each of their pictures is read once. Every epoch
begins its parts elsewhere and brings the shards into another order, so that identities meet others; after eight such layouts the
first one returns. What identities and shards are is known from the start, so the groups of an epoch are counted without reading.

Letters: N rows, S shards, B blocks, G groups of an epoch, P identities of a group, K pictures of each.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from accel_det.data.identity_order import GroupRule, IdentityGroups, Ints
from accel_det.data.order import forget_oldest, permutation
from accel_det.data.stream_order import Place, ShardLayout, Streams, Window
from accel_det.draws import mix

_SHARDS, _START, _BLOCK = 13, 14, 15  # what a hash is about; `identity_order.py` has 7 to 11
_LAYOUTS = 8
_GROUPS_OF_BLOCK = 32
"""Groups' worth of pictures that a block has at least: in fewer, the same identities would meet over and over."""


class GroupPlan(NamedTuple):
    """How an epoch is cut.

    Attributes:
        streams: parts of the epoch that take turns, each with a block of its own.
        turn: groups that a stream gives at its turn.
        places: windows of a block.
        window: neighbouring rows of each, at most.
    """

    streams: int
    turn: int
    places: int
    window: int


def plan_groups(*, groups_per_update: int, group_size: int, most_places: int, window: int) -> GroupPlan:
    """The most streams of which every update takes equally many groups, as long as their blocks are large enough.

    Args:
        most_places: places of the shards at which all streams together read.
    """
    streams = 1
    for count in range(2, min(groups_per_update, most_places) + 1):
        if groups_per_update % count == 0 and most_places // count * window >= _GROUPS_OF_BLOCK * group_size:
            streams = count
    return GroupPlan(streams, groups_per_update // streams, most_places // streams, window)


class IdentityStream:
    """Fulfils `stream_order.StreamedTurns`: every row at least once per epoch, in groups of P identities x K rows of a block.

    Within a block, groups are those of `IdentityGroups`, in a new order every epoch. A block that has fewer than P identities
    takes in the next one. Where one block holds all rows, they are groups of everything, as without streaming. Layouts differ
    a little in the groups that they need; those with fewer go on with further ones of their last block, so that every epoch is
    as long as the longest.

    Args:
        lengths: (S,) rows of each shard; rows are numbered shard after shard.
        labels: (N,) the identity of every row, any number that is not negative.
        cameras: (N,) the camera of every row, -1 where it is not known.

    Attributes:
        length: G x P x K, the same in every epoch.

    Raises:
        ValueError: fewer than P identities, a row of nobody, or no cameras to balance.
    """

    repeats = True

    def __init__(
        self, lengths: Sequence[int], labels: Ints, rule: GroupRule, plan: GroupPlan, *, cameras: Ints, seed: int
    ) -> None:
        rule.require(labels, cameras)
        self._starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        self._labels = labels
        self._cameras = cameras
        self._rule = rule
        self._plan = plan
        self._seed = seed
        num_groups = max(self._layout(number).edges[-1] for number in range(_LAYOUTS))
        self._streams = Streams(num_groups, plan.streams, plan.turn)
        self.length = num_groups * rule.size
        self._layouts: dict[int, _Layout] = {}
        self._orders: dict[tuple[int, int], Ints] = {}

    def index(self, epoch: int, offset: int) -> int:
        """The row whose turn it is, 0 <= offset < length turns into an epoch."""
        group, place = divmod(offset, self._rule.size)
        layout = self._of_epoch(epoch)
        _, number = self._group(group)
        block = layout.block(number)
        order = self._order(epoch, block)
        start = (number - layout.edges[block]) * self._rule.size % len(order)
        return int(order[start + place])

    def place(self, epoch: int, offset: int) -> Place:
        """See `StreamedTurns`."""
        layout = self._of_epoch(epoch)
        stream, number = self._group(offset // self._rule.size)
        return Place(stream, layout.blocks[layout.block(number)])

    def following(self, epoch: int, offset: int) -> tuple[int, Window]:
        """See `StreamedTurns`."""
        layout = self._of_epoch(epoch)
        stream, number = self._group(offset // self._rule.size)
        block = layout.block(number)
        if block < layout.block(self._streams.first(stream + 1) - 1):
            return epoch, layout.blocks[block + 1]
        layout = self._of_epoch(epoch + 1)
        return epoch + 1, layout.blocks[layout.block(self._streams.first(stream))]

    def _group(self, turn: int) -> tuple[int, int]:
        """The stream whose turn it is, and the group that it gives, both of an epoch."""
        stream, counter = self._streams.turn_of(turn)
        return stream, self._streams.first(stream) + counter

    def _order(self, epoch: int, block: int) -> Ints:
        """The rows of a block, group after group."""
        key = (epoch, block)
        if key not in self._orders:
            if len(self._orders) > 2 * self._plan.streams:
                del self._orders[next(iter(self._orders))]
            rows = _rows(self._of_epoch(epoch).blocks[block])
            cameras = self._cameras[rows]
            balanced = self._rule.camera_balanced and bool(cameras.max() >= 0)
            groups = IdentityGroups(
                self._labels[rows],
                self._rule._replace(camera_balanced=balanced),
                cameras=cameras,
                seed=mix(self._seed, _BLOCK, block),
            )
            self._orders[key] = rows[groups.order(epoch)]
        return self._orders[key]

    def _of_epoch(self, epoch: int) -> "_Layout":
        if epoch not in self._layouts:
            forget_oldest(self._layouts)
            self._layouts[epoch] = self._layout(epoch % _LAYOUTS)
        return self._layouts[epoch]

    def _layout(self, number: int) -> "_Layout":
        blocks: list[Window] = []
        counts: list[int] = []
        short: Window = ()
        for part in self._cut(number):
            block = short + part
            pictures = self._pictures(block)
            enough = len(pictures) >= self._rule.identities
            short = () if enough else block
            if enough:
                blocks.append(block)
                counts.append(self._rule.num_groups(pictures))
        if short:
            blocks[-1] += short
            counts[-1] = self._rule.num_groups(self._pictures(blocks[-1]))
        return _Layout(blocks, [0, *accumulate(counts)])

    def _cut(self, number: int) -> Iterator[Window]:
        """The next window of every place, again and again."""
        shards = permutation(len(self._starts) - 1, seed=mix(self._seed, _SHARDS), epoch=number)
        layout = ShardLayout(self._starts, shards)
        total, window = int(self._starts[-1]), self._plan.window
        places = min(self._plan.places, total)
        parts = [range(total * place // places, total * (place + 1) // places) for place in range(places)]
        starts = [mix(self._seed, _START, number, place) % len(part) for place, part in enumerate(parts)]
        for first in range(0, max(map(len, parts)), window):
            block: Window = ()
            for part, start in zip(parts, starts, strict=True):
                for stretch in _turned(part, start, range(first, min(first + window, len(part)))):
                    block += layout.stretches(stretch.start, stretch.stop)
            yield block

    def _pictures(self, block: Window) -> Ints:
        """How many pictures every identity of a block has."""
        counts: Ints = np.unique(self._labels[_rows(block)], return_counts=True)[1].astype(np.int64)
        return counts


class _Layout(NamedTuple):
    """The blocks of an epoch, in their order.

    Attributes:
        blocks: B.
        edges: (B + 1,) the first group of each, and the end.
    """

    blocks: list[Window]
    edges: list[int]

    def block(self, group: int) -> int:
        """The block of a group; the last one gives those that are missing in an epoch."""
        return min(bisect_right(self.edges, group), len(self.blocks)) - 1


def _rows(block: Window) -> Ints:
    return np.concatenate([np.arange(stretch.start, stretch.stop) for stretch in block])


def _turned(part: range, start: int, wanted: range) -> list[range]:
    """Positions of a part that begins at its element number `start` and goes on at its beginning after its end."""
    first, stop = wanted.start + start, wanted.stop + start
    if first >= len(part):
        first, stop = first - len(part), stop - len(part)
    pieces = [part[first : min(stop, len(part))], part[: max(0, stop - len(part))]]
    return [piece for piece in pieces if piece]
