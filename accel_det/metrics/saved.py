"""Detections of a split in a parquet file: what was found, apart from the network that found it and from the truth.

One row per image: name, boxes (N, 4) xyxy in pixels of the file, scores (N,), labels (N,), all as the metrics took them,
in float64; the class names are in the file's metadata. So the metrics of the file are those of the run, bit for bit.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from accel_det.types import Detections

_KEY = b"accel_det.detections"
_FORMAT_VERSION = 1
_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("boxes", pa.list_(pa.list_(pa.float64(), 4))),
        ("scores", pa.list_(pa.float64())),
        ("labels", pa.list_(pa.int64())),
    ]
)


class SavedDetections(NamedTuple):
    """What was found in each image of a split.

    Attributes:
        classes: names, by label.
        names: of the images, each once.
        detections: by image: float64, xyxy, pixels of the file, best first.
    """

    classes: tuple[str, ...]
    names: list[str]
    detections: list[Detections]


def write_detections(file: Path, saved: SavedDetections) -> None:
    """Write a file; equal detections give equal bytes.

    Raises:
        ValueError: it cannot be written.
    """
    facts = {"format_version": _FORMAT_VERSION, "classes": list(saved.classes)}
    columns = [
        pa.array(saved.names, pa.string()),
        *(_lists([found[field] for found in saved.detections], field) for field in range(3)),
    ]
    schema = _SCHEMA.with_metadata({_KEY: json.dumps(facts, ensure_ascii=False).encode()})
    table = pa.table(columns, schema=schema)
    beside = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, beside)
        beside.replace(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be written ({error.strerror or error}); choose another place") from None


def read_detections(file: Path) -> SavedDetections:
    """Read what `write_detections` wrote.

    Raises:
        ValueError: no such file, another format, an image twice, or a row that makes no sense; names the image.
    """
    try:
        table = pq.read_table(file, memory_map=False)
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file; save one with `accel-det evaluate RUN --save {file}`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: no parquet file ({str(error).splitlines()[0]}); save it again") from None
    classes = _classes(table, file)
    missing = [name for name in _SCHEMA.names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{file}: has columns {', '.join(table.column_names) or 'none'}, expected {', '.join(_SCHEMA.names)}; "
            "save it with `accel-det evaluate RUN --save FILE`"
        )
    wrong = [name for name in _SCHEMA.names if not _same_kind(table.schema.field(name).type, _SCHEMA.field(name).type)]
    if wrong:
        found = ", ".join(f"{name} is {table.schema.field(name).type}" for name in wrong)
        raise ValueError(f"{file}: {found}, expected {_SCHEMA.field(wrong[0]).type}; save it again")
    names: list[str] = table.column("name").to_pylist()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{file}: image {twice} is in it twice, expected each image once; save it again")
    rows = zip(names, *(table.column(field).to_pylist() for field in ("boxes", "scores", "labels")), strict=True)
    found_rows = [_row(*row, num_classes=len(classes), file=file) for row in rows]
    return SavedDetections(classes, names, found_rows)


def checked_detections(
    boxes: Sequence[Sequence[float]], scores: Sequence[float], labels: Sequence[int], *, num_classes: int, where: str
) -> Detections:
    """Columns of one image as float64 detections, best first; equal scores keep their order.

    Args:
        where: file and image, for the message.

    Raises:
        ValueError: columns of different lengths, a number that is not finite, corners out of order, an unknown label.
    """
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(
            f"{where}: {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels, expected as many of each"
        )
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    numbers = np.array(scores, dtype=np.float64)
    classes = np.array(labels, dtype=np.int64)
    flawed = (
        ~np.isfinite(corners).all(axis=1)
        | ~np.isfinite(numbers)
        | (corners[:, :2] > corners[:, 2:]).any(axis=1)
        | (classes < 0)
        | (classes >= num_classes)
    )
    if flawed.any():
        bad = int(np.flatnonzero(flawed)[0])
        raise ValueError(
            f"{where}: box {corners[bad].tolist()}, score {numbers[bad]}, label {classes[bad]}, expected finite numbers "
            f"with x1 <= x2 and y1 <= y2 and a label from 0 to {num_classes - 1}; correct what wrote it"
        )
    order = np.argsort(-numbers, kind="stable")
    return Detections(
        torch.from_numpy(corners[order]), torch.from_numpy(numbers[order]), torch.from_numpy(classes[order])
    )


def _row(
    name: str | None,
    boxes: list[list[float]] | None,
    scores: list[float] | None,
    labels: list[int] | None,
    *,
    num_classes: int,
    file: Path,
) -> Detections:
    columns: list[list[Any]] = [column if column is not None else [None] for column in (boxes, scores, labels)]
    empty = [None in column or any(isinstance(value, list) and None in value for value in column) for column in columns]
    if name is None or any(empty):
        raise ValueError(f"{file}: image {name} has an empty field, expected a value in every one; save it again")
    return checked_detections(*columns, num_classes=num_classes, where=f"{file}: image {name}")


def _classes(table: pa.Table, file: Path) -> tuple[str, ...]:
    facts = (table.schema.metadata or {}).get(_KEY)
    if facts is None:
        raise ValueError(
            f"{file}: does not hold saved detections (no `{_KEY.decode()}` in its metadata); save them with "
            "`accel-det evaluate RUN --save FILE`"
        )
    values = json.loads(facts)
    if values.get("format_version") != _FORMAT_VERSION:
        raise ValueError(
            f"{file}: format_version is {values.get('format_version')!r}, expected {_FORMAT_VERSION}; save it again"
        )
    return tuple(str(name) for name in values["classes"])


def _same_kind(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether types agree but for the way in which lists are stored."""
    if pa.types.is_list(expected) or pa.types.is_fixed_size_list(expected):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        return is_list and _same_kind(found.value_type, expected.value_type)
    if pa.types.is_string(expected):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(found.equals(expected))


def _lists(columns: list[torch.Tensor], field: int) -> pa.Array:
    """A list per image, from one flat column: no Python object per detection."""
    kind = _SCHEMA.field(field + 1).type
    starts = np.concatenate(([0], np.cumsum([len(column) for column in columns]))).astype(np.int32)
    flat = torch.cat(columns).numpy() if columns else np.zeros((0, 4) if field == 0 else 0)
    if field == 0:
        values = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), pa.float64()), 4)
    else:
        values = pa.array(flat, kind.value_type)
    return pa.ListArray.from_arrays(pa.array(starts), values).cast(kind)
