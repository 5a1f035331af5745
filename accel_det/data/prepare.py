"""Writes a split as shards that anything can stream: parquet in the Hub's convention, or tar files of WebDataset.

Shards are written by several processes, beside their places, and renamed once they are whole. So what was interrupted goes on,
and a reader meets whole shards or none.

Letters: I images.
"""

import hashlib
import io
import json
import multiprocessing
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import datasets
import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from accel_det.data.decode import decode
from accel_det.data.encoded import image_array, jpeg
from accel_det.data.progress import shown
from accel_det.data.records import DetectionTable, table_features
from accel_det.data.resize import resize

Kind = Literal["parquet", "webdataset"]
SUFFIXES: dict[Kind, str] = {"parquet": ".parquet", "webdataset": ".tar"}
_BYTES_OF_MB = 1_000_000
_ROWS_OF_GROUP = 64
"""Images of a row group: the least that is read of a parquet file at once."""


class Preparation(NamedTuple):
    """How shards are written.

    Attributes:
        kind: of the files.
        shard_mb: encoded images of a shard, in MB, about.
        max_side_px: larger images are made so large; None leaves the sizes.
        reencode: every image becomes a JPEG of quality 95, upright; else only those that are made smaller.
    """

    kind: Kind = "parquet"
    shard_mb: int = 256
    max_side_px: int | None = None
    reencode: bool = False


class Shard(NamedTuple):
    """A written file: its name in the folder, its images, and the sha256 of its bytes."""

    file: str
    images: int
    sha256: str


class Row(NamedTuple):
    """An image that is written.

    Attributes:
        data: the encoded image.
        name: path that it is stored under.
        key: number that names it in a tar file.
        columns: beside the image, in parquet.
        facts: what the .json beside it in a tar file says.
    """

    data: bytes
    name: str
    key: int
    columns: Mapping[str, object]
    facts: Mapping[str, object]


class Rows(Protocol):
    """What is written of a split.

    Attributes:
        features: of the columns beside the image.
        fingerprint: of everything but the pixels.
    """

    @property
    def features(self) -> datasets.Features: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...

    def length(self, index: int) -> int:
        """Bytes of an encoded image."""
        ...

    def row(self, index: int, how: Preparation) -> Row:
        """Raises ValueError where the image cannot be read."""
        ...


class _BoxRows:
    """Fulfils `Rows` for images with boxes."""

    def __init__(self, table: DetectionTable) -> None:
        self._table = table
        self.fingerprint = table.fingerprint
        features = table_features(table.classes)
        del features["name"]  # it is the path of the image
        self.features = datasets.Features(features)

    def __len__(self) -> int:
        return len(self._table)

    def length(self, index: int) -> int:
        return self._table.image_length(index)

    def row(self, index: int, how: Preparation) -> Row:
        table = self._table
        said: dict[str, Any] = table.dataset[index]
        made = encode(table.image_bytes(index), how, name=table.name(index), size=table.size(index))
        height, width = made.size
        objects = said["objects"]
        if made.size != table.size(index):
            objects = _scaled(objects, height / said["height"], width / said["width"])
        columns = {name: {**said, "height": height, "width": width, "objects": objects}[name] for name in self.features}
        named = {**objects, "category": [table.classes[label] for label in objects["category"]]}
        facts = {"name": said["name"], "height": height, "width": width, "objects": named}
        return Row(made.data, said["name"], said["image_id"], columns, facts)


class Encoded(NamedTuple):
    """An encoded image, and its height and width."""

    data: bytes
    size: tuple[int, int]


def encode(data: bytes, how: Preparation, *, name: str, size: tuple[int, int]) -> Encoded:
    """An encoded image as it shall be written: the bytes that it has, unless it is too large, or all are made anew.

    Args:
        size: height and width of the upright image.

    Raises:
        ValueError: it has to be decoded, and cannot be.
    """
    scale = 1.0 if how.max_side_px is None else min(1.0, how.max_side_px / max(size))
    if not how.reencode and scale == 1:
        return Encoded(data, size)
    pixels = decode(data, name=name)
    if scale < 1:
        size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        pixels = resize(pixels, *size)
    return Encoded(jpeg(pixels.permute(1, 2, 0).numpy()), size)


def write_split(table: DetectionTable, split: str, folder: Path, how: Preparation, *, workers: int) -> list[Shard]:
    """As `write_rows`, of images with boxes."""
    return write_rows(_BoxRows(table), split, folder, how, workers=workers)


def write_rows(rows: Rows, split: str, folder: Path, how: Preparation, *, workers: int) -> list[Shard]:
    """Write the shards of one split that are not there yet, in `folder`/data.

    Args:
        split: the files are called after it.
        workers: processes that write.

    Raises:
        ValueError: an image cannot be read; or what is in the folder is of other data, or was written otherwise.
    """
    names = _names(rows, split, how)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    _agree(folder / "data" / f".{split}.json", {"data": rows.fingerprint, "how": how._asdict(), "shards": len(names)})
    edges = np.linspace(0, len(rows), len(names) + 1).round().astype(int).tolist()
    tasks = [(folder / name, edges[i], edges[i + 1]) for i, name in enumerate(names)]
    # Forked, the processes share the table.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(workers, len(tasks)), context, initializer=_start, initargs=(rows, how)) as pool:
        return list(shown(pool.map(_write, tasks), total=len(tasks), what=f"shards of {split}"))


def _names(rows: Rows, split: str, how: Preparation) -> list[str]:
    size = sum(rows.length(index) for index in range(len(rows)))
    count = max(1, min(len(rows), -(-size // (how.shard_mb * _BYTES_OF_MB))))
    return [f"data/{split}-{i:05d}-of-{count:05d}{SUFFIXES[how.kind]}" for i in range(count)]


def _agree(file: Path, plan: dict[str, object]) -> None:
    """What is there already must be of the same plan."""
    if file.exists() and json.loads(file.read_text()) != json.loads(json.dumps(plan)):
        raise ValueError(
            f"{file.parent}: holds shards of other data, or written otherwise ({file.name} differs); choose another folder, or "
            "remove this one"
        )
    file.write_text(json.dumps(plan))


_work: tuple[Rows, Preparation] | None = None


def _start(rows: Rows, how: Preparation) -> None:
    global _work
    _work = rows, how
    torch.set_num_threads(1)


def _write(task: tuple[Path, int, int]) -> Shard:
    file, start, stop = task
    assert _work is not None
    rows, how = _work
    if not file.exists():
        beside = file.with_name(f"{file.name}.part")
        made = (rows.row(index, how) for index in range(start, stop))
        if how.kind == "parquet":
            _write_parquet(beside, made, rows.features)
        else:
            _write_tar(beside, made)
        beside.replace(file)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Shard(f"{file.parent.name}/{file.name}", stop - start, digest)


def _scaled(objects: dict[str, Any], down: float, across: float) -> dict[str, Any]:
    sides = [[x * across, y * down, w * across, h * down] for x, y, w, h in objects["bbox"]]
    return {**objects, "bbox": sides, "area": [area * down * across for area in objects["area"]]}


def _write_parquet(file: Path, rows: Iterator[Row], features: datasets.Features) -> None:
    schema = datasets.Features({"image": datasets.Image(), **features}).arrow_schema
    with parquet.ParquetWriter(file, schema) as writer:
        while part := list(islice(rows, _ROWS_OF_GROUP)):
            images = image_array([row.data for row in part], [row.name for row in part])
            columns = [pa.array([row.columns[name] for row in part], schema.field(name).type) for name in features]
            writer.write_table(pa.table([images, *columns], schema=schema))


def _write_tar(file: Path, rows: Iterator[Row]) -> None:
    with tarfile.open(file, "w") as archive:
        for row in rows:
            for suffix, data in (("jpg", row.data), ("json", json.dumps(dict(row.facts)).encode())):
                member = tarfile.TarInfo(f"{row.key:09d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
