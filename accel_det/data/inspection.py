"""Every image of a split decoded once: whether it can be, and how it looks.

Letters: I images.
"""

import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from accel_det.data.cache import cached_table, source_of
from accel_det.data.decode import decode
from accel_det.data.formats.raw import Ints
from accel_det.data.near_duplicates import Hashes, Twins, find_twins, perceptual_hash
from accel_det.data.progress import shown
from accel_det.data.records import DetectionTable
from accel_det.data.resize import resize
from accel_det.data.street.parallel import cores

_OF_A_TASK = 32
_WORTH_A_PROCESS = 128
_SCHEMA = pa.schema({"fault": pa.string(), "hash": pa.uint64()})


class Inspection(NamedTuple):
    """What decoding a split has shown.

    Attributes:
        faults: why an image cannot be used, by position.
        hashed: (H,) ascending positions of the images that have a hash: they decode, and show more than one shade.
        hashes: (H,) of these.
    """

    faults: dict[int, str]
    hashed: Ints
    hashes: Hashes


class _Seen(NamedTuple):
    """Of one image: why it cannot be used, or its hash, if it shows anything."""

    fault: str | None
    hash: int | None


def inspect(table: DetectionTable) -> Inspection:
    """Decode every image now, by a process per core; streamed ones by this process."""
    return _inspection(_look_at_all(table))


def remembered(table: DetectionTable) -> Inspection:
    """The same, from the user's cache where these files were decoded before.

    A file counts as the same if its path, size and time of change are; an image inside a table if its bytes are.
    """
    assert table.streamed is None, "streamed images would all be fetched"
    code = [source_of(part) for part in (remembered, perceptual_hash, decode, resize)]
    return _inspection(cached_table({"images": _key(table)}, lambda: _look_at_all(table), code=code, folder="looks"))


def twins_of(val: Inspection, train: Inspection) -> Twins:
    """Images of one split that look like one of the other, by their positions in the two tables."""
    found = find_twins(val.hashes, train.hashes)
    return found._replace(asked=val.hashed[found.asked], known=train.hashed[found.known])


def _inspection(seen: pa.Table) -> Inspection:
    faults = {index: fault for index, fault in enumerate(seen.column("fault").to_pylist()) if fault is not None}
    hashes = seen.column("hash").combine_chunks()
    hashed = np.flatnonzero(np.asarray(hashes.is_valid()))
    return Inspection(faults, hashed, hashes.drop_null().to_numpy(zero_copy_only=False).astype(np.uint64))


def _look_at_all(table: DetectionTable) -> pa.Table:
    seen = list(shown(_looks(table), total=len(table), what="images decoded"))
    return pa.table([[one.fault for one in seen], [one.hash for one in seen]], schema=_SCHEMA)


def _looks(table: DetectionTable) -> Iterator[_Seen]:
    processes = min(cores(), len(table) // _WORTH_A_PROCESS)
    if processes < 2 or table.streamed is not None:
        yield from (_look(table, index) for index in range(len(table)))
        return
    # Forked, the processes share the table.
    context = multiprocessing.get_context("fork")
    tasks = [range(start, min(start + _OF_A_TASK, len(table))) for start in range(0, len(table), _OF_A_TASK)]
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(table,)) as pool:
        yield from chain.from_iterable(pool.map(_look_at_some, tasks))


def _look(table: DetectionTable, index: int) -> _Seen:
    try:
        image = decode(table.image_bytes(index), name=table.name(index))
    except ValueError as error:
        return _Seen(str(error), None)
    size = tuple(image.shape[1:])
    if size != table.size(index):
        return _Seen(f"header says {table.size(index)}, the pixels are {size} (height, width)", None)
    return _Seen(None, perceptual_hash(image))


_work: DetectionTable | None = None


def _start(table: DetectionTable) -> None:
    global _work
    _work = table
    torch.set_num_threads(1)


def _look_at_some(indices: range) -> list[_Seen]:
    assert _work is not None
    return [_look(_work, index) for index in indices]


def _key(table: DetectionTable) -> str:
    digest = hashlib.sha256()
    for index in range(len(table)):
        path = table.path(index)
        digest.update(repr(table.size(index)).encode())
        if path is None:
            digest.update(hashlib.sha256(table.image_bytes(index)).digest())
        else:
            digest.update(f"{path}\0{_state(path)}\0".encode())
    return digest.hexdigest()


def _state(path: str) -> str:
    try:
        state = Path(path).stat()
    except OSError:
        return "missing"
    return f"{state.st_size} {state.st_mtime_ns}"
