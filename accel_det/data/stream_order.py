"""The order of streamed data: pure functions of integers that ask for rows which lie close together.

The rows of an epoch are laid out shard after shard, the shards in a new order each epoch, and cut into a fixed number of
virtual streams of equal length, which the configuration decides and not the machine. Streams take turns. Within a stream the
rows of one window after the other are shuffled. So a reader holds one window of each stream that it reads, finds any position
without replaying those before it, and shards may be few, many, uneven or empty.

Letters: N rows, S shards.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from accel_det.data.order import Turns, forget_oldest, permutation
from accel_det.draws import mix

_SHARDS, _FIRST_WINDOW, _WINDOWS = 7, 8, 9  # what a hash is about; `balance.py` and `canvases.py` have 2 to 6

Window = tuple[range, ...]
"""The rows that are shuffled together, as stretches of single shards."""


class StreamPlan(NamedTuple):
    """How an epoch is cut.

    Attributes:
        streams: how many there are.
        turn: rows that a stream gives at its turn.
        window: rows that are shuffled together, at most.
    """

    streams: int
    turn: int
    window: int


class Place(NamedTuple):
    """Where a turn of an epoch falls: the stream, and what of it is shuffled together."""

    stream: int
    window: Window


class StreamedTurns(Turns, Protocol):
    """An order whose rows come out of windows, which can be read ahead."""

    def place(self, epoch: int, offset: int) -> Place:
        """The stream of a turn, and the rows among which its row was drawn."""
        ...

    def following(self, epoch: int, offset: int) -> tuple[int, Window]:
        """The next window of the stream of a turn, and its epoch: the next one where the stream ends."""
        ...


class Streams(NamedTuple):
    """How an epoch is cut into streams that take turns.

    Attributes:
        length: things of the epoch.
        streams: how many, consecutive parts of the epoch, of which none is longer than another by more than one.
        turn: things that a stream gives at its turn.
    """

    length: int
    streams: int
    turn: int

    def first(self, stream: int) -> int:
        """The thing with which a stream begins; that of the stream after the last is the end."""
        return self.length * stream // self.streams

    def length_of(self, stream: int) -> int:
        return self.first(stream + 1) - self.first(stream)

    def turn_of(self, offset: int) -> tuple[int, int]:
        """The stream whose turn it is, and how many things it has given before in this epoch."""
        if not 0 <= offset < self.length:
            raise IndexError(f"turn {offset} of an epoch of {self.length}")
        rounds = self.length // self.streams // self.turn  # in which all streams have a whole turn
        whole = rounds * self.turn * self.streams
        if offset < whole:
            block, within = divmod(offset, self.turn)
            return block % self.streams, block // self.streams * self.turn + within
        offset -= whole
        for stream in range(self.streams):
            left = self.length_of(stream) - rounds * self.turn
            if offset < left:
                return stream, rounds * self.turn + offset
            offset -= left
        raise AssertionError("unreachable: the streams hold everything")


def plan_streams(*, images_per_update: int, most_streams: int, window: int) -> StreamPlan:
    """The most streams of which every update takes equally many rows.

    So a process, whose share of every update begins at the same place, reads the same few streams for an epoch.
    """
    streams = max(count for count in range(1, most_streams + 1) if images_per_update % count == 0)
    return StreamPlan(streams, images_per_update // streams, window)


class StreamTurns:
    """Fulfils `StreamedTurns`: every row once per epoch.

    Args:
        lengths: (S,) rows of each shard; rows are numbered shard after shard.
        shuffle: False keeps the order of the shards and of their rows in every epoch; windows are then what is read at once.

    Attributes:
        length: N.
        plan: as it is used: without shuffling there is one stream.
    """

    repeats = False

    def __init__(self, lengths: Sequence[int], plan: StreamPlan, *, seed: int, shuffle: bool = True) -> None:
        self.length = int(sum(lengths))
        self._starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        self.plan = plan if shuffle else plan._replace(streams=1, turn=1)
        self._streams = Streams(self.length, self.plan.streams, self.plan.turn)
        self._seed = seed
        self._shuffle = shuffle
        self._layouts: dict[int, ShardLayout] = {}
        self._orders: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def index(self, epoch: int, offset: int) -> int:
        """The row whose turn it is, 0 <= offset < length turns into an epoch."""
        stream, counter = self._streams.turn_of(offset)
        start, stop = self._window(epoch, stream, counter)
        layout = self._layout(epoch)
        if not self._shuffle:
            return layout.row(counter)
        order = self._order(epoch, stream, start, stop)
        return layout.row(self._streams.first(stream) + start + int(order[counter - start]))

    def place(self, epoch: int, offset: int) -> Place:
        """See `StreamedTurns`."""
        stream, counter = self._streams.turn_of(offset)
        start, stop = self._window(epoch, stream, counter)
        first = self._streams.first(stream)
        return Place(stream, self._layout(epoch).stretches(first + start, first + stop))

    def following(self, epoch: int, offset: int) -> tuple[int, Window]:
        """See `StreamedTurns`."""
        stream, counter = self._streams.turn_of(offset)
        _, stop = self._window(epoch, stream, counter)
        if stop == self._streams.length_of(stream):
            epoch, stop = epoch + 1, 0
        start, stop = self._window(epoch, stream, stop)
        first = self._streams.first(stream)
        return epoch, self._layout(epoch).stretches(first + start, first + stop)

    def _window(self, epoch: int, stream: int, counter: int) -> tuple[int, int]:
        """Begin and end, in the stream, of the window of its row number `counter`.

        The first one is of a random length, so that the windows of streams, and those of epochs, do not end together.
        """
        size = self.plan.window
        first = 1 + mix(self._seed, _FIRST_WINDOW, epoch, stream) % size
        start = 0 if counter < first else first + (counter - first) // size * size
        stop = first if counter < first else start + size
        return start, min(stop, self._streams.length_of(stream))

    def _order(self, epoch: int, stream: int, start: int, stop: int) -> NDArray[np.int64]:
        key = (epoch, stream, start)
        if key not in self._orders:
            if len(self._orders) > 2 * self.plan.streams:
                del self._orders[next(iter(self._orders))]
            self._orders[key] = permutation(stop - start, seed=mix(self._seed, _WINDOWS, epoch, stream), epoch=start)
        return self._orders[key]

    def _layout(self, epoch: int) -> "ShardLayout":
        if epoch not in self._layouts:
            forget_oldest(self._layouts)
            count = len(self._starts) - 1
            shards = permutation(count, seed=mix(self._seed, _SHARDS), epoch=epoch)
            self._layouts[epoch] = ShardLayout(self._starts, shards if self._shuffle else np.arange(count))
        return self._layouts[epoch]


class ShardLayout:
    """The rows of an epoch, shard after shard.

    Args:
        starts: (S + 1,) the first row of every shard, and the end.
        shards: (S,) the shards in their order.
    """

    def __init__(self, starts: NDArray[np.int64], shards: NDArray[np.int64]) -> None:
        lengths = np.diff(starts)[shards]
        self._rows: list[int] = starts[:-1][shards].tolist()
        self._edges: list[int] = np.concatenate(([0], np.cumsum(lengths))).tolist()

    def row(self, position: int) -> int:
        place = bisect_right(self._edges, position) - 1
        return self._rows[place] + position - self._edges[place]

    def stretches(self, start: int, stop: int) -> Window:
        """The rows at some positions, as stretches of single shards."""
        found: list[range] = []
        while start < stop:
            place = bisect_right(self._edges, start) - 1
            end = min(stop, self._edges[place + 1])
            row = self._rows[place] + start - self._edges[place]
            found.append(range(row, row + end - start))
            start = end
        return tuple(found)
