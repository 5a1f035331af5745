"""Encoded images that are read from shards, some neighbouring rows at a time: parquet files, or what `datasets` streams.

Rows are numbered shard after shard. What cannot be read is tried again, as networks fail now and then, before it is an error.
"""

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, TypeVar

import datasets
import fsspec
import pyarrow as pa
from pyarrow import parquet

from accel_det.data.lines import in_one_line

_MOST_OPEN = 64
_PAUSES_S = (0.25, 1.0, 4.0)

Option = bool | int | float | str
"""Of a server, for fsspec; no secrets, which are in its own files and variables."""

ResultT = TypeVar("ResultT")


class Refusal(ValueError):
    """For which another attempt is of no use."""


class Shards(Protocol):
    """Where streamed images are.

    Attributes:
        lengths: rows of each shard.
    """

    @property
    def lengths(self) -> tuple[int, ...]: ...

    def read(self, rows: range) -> list[bytes]:
        """The encoded images of neighbouring rows of one shard.

        Raises:
            ValueError: they cannot be read; the message names the shard.
        """
        ...


class ParquetShards:
    """Parquet files, local or remote, of which the row groups that hold the wanted rows are read.

    Args:
        files: paths, or addresses that fsspec opens.
        lengths: rows of each.
        column: of the images, structs with `bytes`.
        storage: options of the server.
    """

    def __init__(
        self,
        files: Sequence[str],
        lengths: Sequence[int],
        *,
        column: str = "image",
        storage: Mapping[str, Option],
    ) -> None:
        self.files = tuple(files)
        self.lengths = tuple(lengths)
        self._starts = _starts(lengths)
        self._column = column
        self._storage = dict(storage)
        self._open: OrderedDict[int, _ParquetShard] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def read(self, rows: range) -> list[bytes]:
        place = _place(rows, self._starts)
        return patiently(
            self.files[place.shard],
            lambda: self._shard(place.shard).read(place.rows),
            give_up=lambda: self._forget(place),
        )

    def _shard(self, index: int) -> "_ParquetShard":
        with self._lock:
            if index not in self._open:
                if len(self._open) == _MOST_OPEN:
                    self._open.popitem(last=False)
                self._open[index] = _ParquetShard(self.files[index], self._column, self._storage)
            self._open.move_to_end(index)
            return self._open[index]

    def _forget(self, place: "_Place") -> None:
        with self._lock:
            self._open.pop(place.shard, None)


class _ParquetShard:
    """One open file; remembers the row group that it read last, because the next rows are mostly in it."""

    def __init__(self, file: str, column: str, storage: Mapping[str, Option]) -> None:
        self._name = file
        self._column = column
        self._storage = storage
        self._lock = threading.Lock()
        self._file: parquet.ParquetFile | None = None
        self._edges: list[int] = []
        self._last: tuple[int, pa.Array] | None = None

    def read(self, rows: range) -> list[bytes]:
        with self._lock:
            if self._file is None:
                self._file = open_parquet(self._name, self._storage)
                metadata = self._file.metadata
                self._edges = _starts([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
            found: list[bytes] = []
            start = rows.start
            while start < rows.stop:
                group = bisect_right(self._edges, start) - 1
                stop = min(rows.stop, self._edges[group + 1])
                images = self._group(group).slice(start - self._edges[group], stop - start)
                found += [image or b"" for image in images.to_pylist()]
                start = stop
            return found

    def _group(self, group: int) -> pa.Array:
        if self._last is None or self._last[0] != group:
            assert self._file is not None
            self._last = None  # before the next one is in memory
            table = self._file.read_row_group(group, columns=[f"{self._column}.bytes"])
            self._last = group, table.column(self._column).combine_chunks().field("bytes")
        return self._last[1]


class DatasetShards:
    """Shards that `datasets` reads from their beginning, such as tar files; readers that stand before the rows are kept.

    Args:
        dataset: undecoded.
        lengths: rows of each shard.
        column: of the images.
        names: of the shards, for messages.
        opened: options with which the files are opened that rows name instead of holding their bytes; None: they are not.
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        lengths: Sequence[int],
        *,
        column: str,
        names: Sequence[str],
        opened: Mapping[str, Option] | None,
    ) -> None:
        self.lengths = tuple(lengths)
        self._dataset = dataset
        self._starts = _starts(lengths)
        self._column = column
        self._names = tuple(names)
        self._opened = opened
        self._readers: OrderedDict[tuple[int, int], Iterator[dict[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_readers": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def read(self, rows: range) -> list[bytes]:
        place = _place(rows, self._starts)
        return patiently(self._names[place.shard], lambda: self._read(place))

    def _read(self, place: "_Place") -> list[bytes]:
        reader = self._reader(place)
        found: list[bytes] = []
        for _ in place.rows:
            row = next(reader, None)
            if row is None:
                raise EOFError(f"ends before row {place.rows.stop - 1}; it was longer when it was counted")
            found.append(row_bytes(row[self._column], opened=self._opened))
        with self._lock:
            self._readers[place.shard, place.rows.stop] = reader
            if len(self._readers) > _MOST_OPEN:
                self._readers.popitem(last=False)
        return found

    def _reader(self, place: "_Place") -> Iterator[dict[str, Any]]:
        """A reader whose next row is the first wanted one: the nearest before it, or one from the beginning."""
        with self._lock:
            before = [key for key in self._readers if key[0] == place.shard and key[1] <= place.rows.start]
            nearest = max(before, default=None)
            reader = None if nearest is None else self._readers.pop(nearest)
        start = 0 if nearest is None else nearest[1]
        if reader is None:
            reader = iter(self._dataset.shard(num_shards=len(self.lengths), index=place.shard))
        for _ in range(start, place.rows.start):
            next(reader, None)
        return reader


class JoinedShards:
    """The shards of several sets, one after the other."""

    def __init__(self, parts: Sequence[Shards]) -> None:
        self.parts = tuple(parts)
        self.lengths = tuple(length for part in parts for length in part.lengths)
        self._starts = _starts([sum(part.lengths) for part in parts])

    def read(self, rows: range) -> list[bytes]:
        place = _place(rows, self._starts)
        return self.parts[place.shard].read(place.rows)


class _Place(NamedTuple):
    """A shard, and rows counted from its beginning."""

    shard: int
    rows: range


def _place(rows: range, starts: Sequence[int]) -> _Place:
    shard = bisect_right(starts, rows.start) - 1
    start = starts[shard]
    if not rows or not 0 <= rows.start <= rows.stop <= starts[min(shard + 1, len(starts) - 1)]:
        raise IndexError(f"rows {rows.start} to {rows.stop} are not of one shard")
    return _Place(shard, range(rows.start - start, rows.stop - start))


def _starts(lengths: Sequence[int]) -> list[int]:
    return [0, *accumulate(lengths)]


def row_bytes(image: Mapping[str, Any] | None, *, opened: Mapping[str, Option] | None) -> bytes:
    """The encoded image of a row that `datasets` gave undecoded; b"" where there is none.

    Args:
        opened: options with which a file is opened that the row names instead of holding its bytes; None: it is not.
    """
    if image is not None and image["bytes"] is not None:
        return bytes(image["bytes"])
    if image is None or opened is None:
        return b""
    with fsspec.open(image["path"], "rb", **opened) as file:
        return bytes(file.read())


def open_parquet(file: str, storage: Mapping[str, Option] | None = None) -> parquet.ParquetFile:
    """A parquet file at a path, or at an address that fsspec opens with options of its server."""
    # With a memory map a row group would be pages of the file, which count as this process's memory.
    source = fsspec.open(file, "rb", **(storage or {})).open() if "://" in file else file
    return parquet.ParquetFile(source, memory_map=False, pre_buffer=False)


def patiently(name: str, read: Callable[[], ResultT], *, give_up: Callable[[], None] = lambda: None) -> ResultT:
    """What `read` gives, at the fourth attempt at the latest.

    Args:
        name: of what is read, for the message.
        give_up: called after a failure, to close what may be broken.

    Raises:
        ValueError: it failed for good, or is not there.
    """
    for pause in (*_PAUSES_S, None):
        try:
            return read()
        except Refusal:
            raise
        except Exception as error:  # networks, servers, files, credentials: the libraries raise nearly anything
            give_up()
            missing = isinstance(error, (FileNotFoundError, PermissionError))
            if missing or pause is None:
                attempts = "" if missing else f" after {len(_PAUSES_S) + 1} attempts"
                raise ValueError(
                    f"{name}: cannot be read{attempts}: {in_one_line(error)}; restore the file, or see to its server"
                ) from error
        time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")
