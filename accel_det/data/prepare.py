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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

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


def write_split(
    table: DetectionTable,
    split: str,
    folder: Path,
    how: Preparation,
    *,
    workers: int,
) -> list[Shard]:
    """Write the shards of one split that are not there yet, in `folder`/data.

    Args:
        split: the files are called after it.
        workers: processes that write.

    Raises:
        ValueError: an image cannot be read; or what is in the folder is of other data, or was written otherwise.
    """
    names = _names(table, split, how)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    _agree(folder / "data" / f".{split}.json", {"data": table.fingerprint, "how": how._asdict(), "shards": len(names)})
    edges = np.linspace(0, len(table), len(names) + 1).round().astype(int).tolist()
    tasks = [(folder / name, edges[i], edges[i + 1]) for i, name in enumerate(names)]
    # Forked, the processes share the table.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(workers, len(tasks)), context, initializer=_start, initargs=(table, how)) as pool:
        return list(shown(pool.map(_write, tasks), total=len(tasks), what=f"shards of {split}"))


def _names(table: DetectionTable, split: str, how: Preparation) -> list[str]:
    size = sum(table.image_length(index) for index in range(len(table)))
    count = max(1, min(len(table), -(-size // (how.shard_mb * _BYTES_OF_MB))))
    return [f"data/{split}-{i:05d}-of-{count:05d}{SUFFIXES[how.kind]}" for i in range(count)]


def _agree(file: Path, plan: dict[str, object]) -> None:
    """What is there already must be of the same plan."""
    if file.exists() and json.loads(file.read_text()) != json.loads(json.dumps(plan)):
        raise ValueError(
            f"{file.parent}: holds shards of other data, or written otherwise ({file.name} differs); choose another folder, or "
            "remove this one"
        )
    file.write_text(json.dumps(plan))


_work: tuple[DetectionTable, Preparation] | None = None


def _start(table: DetectionTable, how: Preparation) -> None:
    global _work
    _work = table, how
    torch.set_num_threads(1)


def _write(task: tuple[Path, int, int]) -> Shard:
    file, start, stop = task
    assert _work is not None
    table, how = _work
    if not file.exists():
        beside = file.with_name(f"{file.name}.part")
        rows = (_row(table, index, how) for index in range(start, stop))
        (_write_parquet if how.kind == "parquet" else _write_tar)(beside, rows, table.classes)
        beside.replace(file)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Shard(f"{file.parent.name}/{file.name}", stop - start, digest)


def _row(table: DetectionTable, index: int, how: Preparation) -> dict[str, Any]:
    row: dict[str, Any] = table.dataset[index]
    data, size = table.image_bytes(index), table.size(index)
    scale = 1.0 if how.max_side_px is None else min(1.0, how.max_side_px / max(size))
    objects = row["objects"]
    if how.reencode or scale < 1:
        pixels = decode(data, name=table.name(index))
        if scale < 1:
            size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            pixels = resize(pixels, *size)
            objects = _scaled(objects, size[0] / row["height"], size[1] / row["width"])
        data = jpeg(pixels.permute(1, 2, 0).numpy())
    height, width = size
    return {**row, "bytes": data, "height": height, "width": width, "objects": objects}


def _scaled(objects: dict[str, Any], down: float, across: float) -> dict[str, Any]:
    sides = [[x * across, y * down, w * across, h * down] for x, y, w, h in objects["bbox"]]
    return {**objects, "bbox": sides, "area": [area * down * across for area in objects["area"]]}


def _write_parquet(file: Path, rows: Iterator[dict[str, Any]], classes: tuple[str, ...]) -> None:
    features = table_features(classes)
    del features["name"]  # it is the path of the image
    schema = datasets.Features({"image": datasets.Image(), **features}).arrow_schema
    with parquet.ParquetWriter(file, schema) as writer:
        while part := list(islice(rows, _ROWS_OF_GROUP)):
            images = image_array([row["bytes"] for row in part], [row["name"] for row in part])
            columns = [pa.array([row[name] for row in part], schema.field(name).type) for name in features]
            writer.write_table(pa.table([images, *columns], schema=schema))


def _write_tar(file: Path, rows: Iterator[dict[str, Any]], classes: tuple[str, ...]) -> None:
    with tarfile.open(file, "w") as archive:
        for row in rows:
            objects = {**row["objects"], "category": [classes[label] for label in row["objects"]["category"]]}
            facts = {"name": row["name"], "height": row["height"], "width": row["width"], "objects": objects}
            key = f"{row['image_id']:09d}"
            for suffix, data in (("jpg", row["bytes"]), ("json", json.dumps(facts).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
