"""A table with a row for every picture: which columns say what, whatever file it came from.

Letters: N rows.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from accel_det.data.defects import Findings
from accel_det.data.encoded import IMAGE_FEATURES
from accel_det.data.formats.identity_raw import DISTRACTOR, NO_CAMERA, RawPictures, role_of
from accel_det.data.formats.raw import Bools, locate_image
from accel_det.data.lines import one_line
from accel_det.data.locate import Folder, split_names

NOBODY = "-1"
"""The identity of a distractor, and a camera that is not known."""

IMAGE_COLUMNS = ("image", "img", "path", "file", "file_name", "filename", "image_path", "img_path")
"""Usual names of the column of the pictures, those that come first before the others."""

_MOST_SHOWN = 300

_USUAL = {
    "image": IMAGE_COLUMNS,
    "identity": ("identity", "label", "pid", "person_id"),
    "camera": ("camera", "camid", "cam", "camera_id"),
    "split": ("split",),
}
_REQUIRED = ("image", "identity")


class Columns(NamedTuple):
    """The names of the columns of a table; None where there is none."""

    image: str
    identity: str
    camera: str | None
    split: str | None


class TableSource(NamedTuple):
    """Where a table came from.

    Attributes:
        set_name: of the set, for messages.
        where: file or name of the table, for messages.
        shown_root: the folder that names are told from.
        folder: the folder that pictures stored as paths must lie in.
        record_word, first_record: how a row is called in the file: "row 0" is the first one, or "line 2".
        records: the number of every row, where they do not follow one another.
    """

    set_name: str
    where: str
    shown_root: Path
    folder: Path
    record_word: str = "row"
    first_record: int = 0
    records: Sequence[int] | None = None

    def record(self, row: int) -> str:
        return f"{self.record_word} {self.first_record + row if self.records is None else self.records[row]}"


def find_columns(present: Sequence[str], source: TableSource, *, named: Mapping[str, int | float | str]) -> Columns:
    """Which column is which.

    Args:
        present: all columns of the table.
        named: the user's names for "image", "identity", "camera" or "split"; the others are looked for under usual names.

    Raises:
        ValueError: a column that is needed, or named, is not there.
    """
    shown = one_line(repr(list(present)), most=_MOST_SHOWN)
    chosen: dict[str, str | None] = {}
    for meaning, name in named.items():
        if meaning not in _USUAL:
            raise ValueError(
                f"set {source.set_name!r}, parameters: {meaning!r} is no meaning of a column; known are {', '.join(_USUAL)}"
            )
        if name not in present:
            raise ValueError(
                f"set {source.set_name!r}, parameters.{meaning}: no column {name!r} in {source.where}, which has {shown}"
            )
        chosen[meaning] = str(name)
    for meaning, usual in _USUAL.items():
        chosen.setdefault(meaning, next((name for name in usual if name in present), None))
        if chosen[meaning] is None and meaning in _REQUIRED:
            raise ValueError(
                f"set {source.set_name!r}: {source.where} has the columns {shown}, none of {', '.join(usual)}; name that "
                f"of the {meaning} in parameters.{meaning}"
            )
    assert chosen["image"] is not None and chosen["identity"] is not None
    return Columns(chosen["image"], chosen["identity"], chosen["camera"], chosen["split"])


class Said(NamedTuple):
    """What the rows say.

    Attributes:
        images: (N,) path of each picture, or "".
        identities: (N,) whom it shows, or DISTRACTOR; None where the cell is empty.
        cameras: (N,) its camera, or NO_CAMERA.
        has_bytes: (N,) whether the table holds the picture itself.
    """

    images: list[str]
    identities: list[str | None]
    cameras: list[str]
    has_bytes: Bools


def read_texts(table: datasets.Dataset, columns: Columns) -> Said:
    """What all rows say, of any part."""
    identities = texts(table, columns.identity)
    cameras = texts(table, columns.camera) if columns.camera is not None else [NO_CAMERA] * len(table)
    paths, has_bytes = _paths(table, columns.image)
    return Said(
        images=paths,
        identities=[DISTRACTOR if identity == NOBODY else identity or None for identity in identities],
        cameras=[NO_CAMERA if camera == NOBODY else f"c{camera}" if camera.isdigit() else camera for camera in cameras],
        has_bytes=has_bytes,
    )


def read_rows(
    table: datasets.Dataset, columns: Columns, source: TableSource, *, part: str, findings: Findings
) -> RawPictures:
    """The pictures of a part of a table: its rows of that split, or all where it has no column of splits.

    An identity is the text of its cell, the name of a class where it is one, or a number without ".0"; -1 is a distractor.
    A camera that is empty or -1 is unknown. Pictures are bytes, as the Hub stores them, or paths below the folder.
    """
    if table._indices is not None:
        table = table.flatten_indices()
    said = read_texts(table, columns)
    kept = rows_of(table, columns, part=part)
    for row in np.flatnonzero(kept).tolist():
        if said.identities[row] is None:
            value = f"{said.images[row]}: no {columns.identity}"
            findings.add("malformed_record", file=source.where, record=source.record(row), value=value)
            kept[row] = False
    pictures = RawPictures(
        names=[path or f"row {row} of {part}" for row, path in enumerate(said.images)],
        files=None,
        images=None,
        rows=np.arange(len(table)),
        identities=[identity or DISTRACTOR for identity in said.identities],
        cameras=said.cameras,
        roles=np.full(len(table), int(role_of(part)), np.int64),
    )
    if said.has_bytes[kept].all() and said.has_bytes.any():
        images = table.select_columns([columns.image])
        images = images if columns.image == "image" else images.rename_column(columns.image, "image")
        images = images.cast_column("image", IMAGE_FEATURES["image"])
        return pictures._replace(images=images).select(kept)
    files, kept = _located(said, kept, source=source, findings=findings)
    shown_root = Folder(source.shown_root)
    names = [shown_root.relative(file) if file else "" for file in files]
    return pictures._replace(files=files, names=names).select(kept)


def rows_of(table: datasets.Dataset, columns: Columns, *, part: str) -> Bools:
    """(N,) the rows of a part of a table; all of them where it has no column of splits."""
    if columns.split is None:
        return np.ones(len(table), np.bool_)
    names = split_names(part)
    return np.array([split in names for split in texts(table, columns.split)], np.bool_)


def has_part(table: datasets.Dataset, columns: Columns, part: str) -> bool:
    """Whether a table has rows of a part; one without splits is "train"."""
    return bool(rows_of(table, columns, part=part).any()) if columns.split is not None else part == "train"


def texts(table: datasets.Dataset, name: str) -> list[str]:
    """The cells of a column as texts, without space around them; "" for null, and for a number that is not finite.

    Raises:
        ValueError: the cells are lists or the like.
    """
    column, feature = table.data.column(name), table.features[name]
    if isinstance(feature, datasets.ClassLabel):
        known = dict(enumerate(feature.names))
        return ["" if number is None else known.get(number, NOBODY) for number in column.to_pylist()]
    if pa.types.is_floating(column.type):
        return [_number_text(number) for number in column.to_pylist()]
    if pa.types.is_nested(column.type):
        raise ValueError(
            f"column {name!r} holds {column.type}, where texts or numbers belong; name another one in parameters"
        )
    return [text.strip() for text in pc.fill_null(column.cast(pa.string()), "").to_pylist()]


def cell_text(cell: object, feature: object) -> str:
    """One cell, as `texts` has it.

    Args:
        feature: of its column, as `datasets` describes it.

    Raises:
        ValueError: it is a list or the like.
    """
    if isinstance(cell, (list, dict)):
        raise ValueError(
            f"a cell holds {cell!r:.60}, where a text or number belongs; name another column in parameters"
        )
    if isinstance(feature, datasets.ClassLabel) and isinstance(cell, int):
        return feature.names[cell] if 0 <= cell < len(feature.names) else NOBODY
    return _number_text(cell) if cell is None or isinstance(cell, float) else str(cell).strip()


def _number_text(number: float | None) -> str:
    """Whole numbers that became floats, as next to empty cells, are written without ".0"."""
    if number is None or not np.isfinite(number):
        return ""
    return f"{number:.0f}" if number == round(number) else str(number)


def _paths(table: datasets.Dataset, name: str) -> tuple[list[str], Bools]:
    """(N,) the path of every picture, "" where it has none, and whether the table holds its bytes."""
    column = table.data.column(name)
    if not pa.types.is_struct(column.type):
        return texts(table, name), np.zeros(len(table), np.bool_)
    if not {"bytes", "path"} <= {field.name for field in column.type}:
        raise ValueError(f"column {name!r} holds {column.type}, where bytes and path of pictures belong")
    paths = [path or "" for chunk in column.chunks for path in pc.struct_field(chunk, "path").to_pylist()]
    present = [pc.is_valid(pc.struct_field(chunk, "bytes")).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return paths, np.concatenate([np.zeros(0, np.bool_), *present])


def _located(said: Said, kept: Bools, *, source: TableSource, findings: Findings) -> tuple[list[str], Bools]:
    """The files of a table of paths, and which rows have one that may be used, each file once."""
    folder = Folder(source.folder)
    files = [""] * len(kept)
    usable = np.zeros(len(kept), np.bool_)
    first: dict[str, int] = {}
    for row in np.flatnonzero(kept).tolist():
        record, path = source.record(row), said.images[row]
        if said.has_bytes[row]:
            value = "bytes in a table of paths; left out"
            findings.add("malformed_record", file=source.where, record=record, value=value)
            continue
        located = locate_image(folder, [path], findings=findings, annotation_file=source.where, record=record)
        if located is None:
            continue
        earlier = first.setdefault(os.path.normpath(located.path), row)
        if earlier != row:
            value = f"{path} again, after {source.record(earlier)}"
            findings.add("duplicate_file", file=source.where, record=record, value=value)
            continue
        files[row], usable[row] = located.path, True
    return files, usable
