"""Brings streamed images to the workers that decode them: read ahead by threads of the trainer, window by window.

Workers hold no state and open no shard. So a process reads each of its windows once, however many workers it has.

Letters: M companions.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from accel_det.data.formats.raw import StreamedImages
from accel_det.data.order import Draw
from accel_det.data.stream_order import StreamedTurns, Window
from accel_det.draws import mix

_THREADS = 8
_COMPANION = 10  # what a hash is about; `stream_order.py` has 7 to 9

KeyT = TypeVar("KeyT")


class Delivered(NamedTuple, Generic[KeyT]):
    """A sample that is asked for, together with the encoded images that it may need.

    Attributes:
        key: a draw in training, an index in evaluation.
        members: its own index, then those of images that augmentation may put beside it.
        images: encoded, by index.
    """

    key: KeyT
    members: tuple[int, ...]
    images: Mapping[int, bytes]


class Feed(Protocol):
    """Gives what a training consumes its images."""

    def deliver(self, positions: Sequence[int], draws: Sequence[Draw]) -> list[Delivered[Draw]]:
        """The draws at some positions of the endless sequence, which ascend from call to call."""
        ...

    def close(self) -> None: ...


class StreamFeed:
    """Fulfils `Feed`: one window of every stream that this process reads is in memory, and the next one is on its way.

    Args:
        turns: the order.
        companions: M, how many other images of its window come with each; as many as the window has, at most.
    """

    def __init__(self, images: StreamedImages, turns: StreamedTurns, *, seed: int, companions: int = 0) -> None:
        self._images = images
        self._turns = turns
        self._seed = seed
        self._companions = companions
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="shards")
        self._here: dict[tuple[int, int], _Reading] = {}
        self._ahead: dict[tuple[int, int], _Reading] = {}

    def deliver(self, positions: Sequence[int], draws: Sequence[Draw]) -> list[Delivered[Draw]]:
        """See `Feed`.

        Raises:
            ValueError: a shard cannot be read; the message names it.
        """
        found = []
        for position, draw in zip(positions, draws, strict=True):
            epoch, offset = divmod(position, self._turns.length)
            window, images = self._window(epoch, offset)
            members = (draw.index, *(self._others(window, draw) if self._companions else ()))
            found.append(Delivered(draw, members, {index: images[index] for index in members}))
        return found

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _window(self, epoch: int, offset: int) -> tuple[Window, Mapping[int, bytes]]:
        place = self._turns.place(epoch, offset)
        key = epoch, place.stream
        reading = self._here.get(key)
        if reading is None or reading.window != place.window:
            for readings in (self._here, self._ahead):
                for old in [other for other in readings if other[0] < epoch]:
                    del readings[old]
            reading = self._reading(place.window)
            self._here[key] = reading
            self._ahead.pop(key, None)
            later, following = self._turns.following(epoch, offset)
            self._ahead[later, place.stream] = self._reading(following)
        return reading.window, reading.images()

    def _reading(self, window: Window) -> "_Reading":
        """One that has begun, for this stream or another, or else a new one, the stretches of which are read together."""
        for known in (*self._ahead.values(), *self._here.values()):
            if known.window == window:
                return known
        parts = [self._pool.submit(read_images, self._images, (stretch,)) for stretch in window]
        return _Reading(window, parts)

    def _others(self, window: Window, draw: Draw) -> list[int]:
        """M different images of a window, of which only the draw decides."""
        rows = [row for stretch in window for row in stretch if row != draw.index]
        count = min(self._companions, len(rows))
        for place in range(count):
            other = place + mix(draw.seed, _COMPANION, place) % (len(rows) - place)
            rows[place], rows[other] = rows[other], rows[place]
        return rows[:count]


class _Reading:
    """The images of a window, on their way."""

    def __init__(self, window: Window, parts: "list[Future[dict[int, bytes]]]") -> None:
        self.window = window
        self._parts = parts
        self._found: dict[int, bytes] = {}

    def images(self) -> Mapping[int, bytes]:
        """Waits for all of them."""
        for part in self._parts:
            self._found |= part.result()
        self._parts = []
        return self._found


def read_images(images: StreamedImages, window: Window) -> dict[int, bytes]:
    """The encoded images of some stretches, by index; what lies between them in a shard is read and let go.

    Raises:
        ValueError: a shard cannot be read; the message names it.
    """
    found: dict[int, bytes] = {}
    for stretch in window:
        rows = images.rows[stretch.start : stretch.stop]
        data = images.shards.read(range(int(rows[0]), int(rows[-1]) + 1))
        found.update((index, data[int(row - rows[0])]) for index, row in zip(stretch, rows, strict=True))
    return found


def shard_lengths(images: StreamedImages) -> list[int]:
    """(S,) how many of the images are in each shard."""
    ends = np.cumsum(images.shards.lengths)
    lengths: list[int] = np.diff(np.searchsorted(images.rows, ends, side="left"), prepend=0).tolist()
    return lengths


def evaluation_feed(
    images: StreamedImages, *, window: int
) -> Callable[[Sequence[Sequence[int]]], Iterator[list[Delivered[int]]]]:
    """Gives the chunks of an evaluation, whose indices ascend, with their images; the next window is read ahead."""
    edges = np.concatenate(([0], np.cumsum(shard_lengths(images)))).tolist()

    def deliver(chunks: Sequence[Sequence[int]]) -> Iterator[list[Delivered[int]]]:
        windows = [] if not chunks else list(_stretches(chunks[0][0], chunks[-1][-1] + 1, edges, window=window))
        here: dict[int, bytes] = {}
        with ThreadPoolExecutor(1, thread_name_prefix="shards") as pool:
            ahead = [pool.submit(read_images, images, (windows[0],))] if windows else []
            for chunk in chunks:
                here = {index: data for index, data in here.items() if index >= chunk[0]}
                while chunk[-1] not in here:
                    here |= ahead.pop().result()
                    windows.pop(0)
                    ahead = [pool.submit(read_images, images, (windows[0],))] if windows else []
                yield [Delivered(index, (index,), {index: here[index]}) for index in chunk]

    return deliver


def _stretches(start: int, stop: int, edges: Sequence[int], *, window: int) -> Iterator[range]:
    """The rows from start to stop in stretches of a single shard each, no longer than a window."""
    while start < stop:
        end = min(stop, start + window, edges[bisect_right(edges, start)])
        yield range(start, end)
        start = end
