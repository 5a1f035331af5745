"""Pictures of identities in the Hub's convention: folder with metadata.jsonl, parquet shards, or the name of a data set."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow as pa

from accel_det.data.defects import Findings
from accel_det.data.formats.hub import find_files, load_parquet
from accel_det.data.formats.identity_columns import Columns, TableSource, find_columns, read_rows
from accel_det.data.formats.identity_raw import IdentitySource, RawPictures, joined, parts_of
from accel_det.data.lines import in_one_line, parse_json, read_lines
from accel_det.data.locate import split_names

_UNKNOWN_SPLIT = "Unknown split"


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of a set with columns image, identity and perhaps camera; `parameters` name columns that are called otherwise.

    The files of a split are found as for detection: `annotations`, with "{split}" replaced; or else
    `<root>[/data]/<split>/metadata.jsonl`, with file_name for the picture, which for "train" may lie in the root; or else
    `<root>[/data]/<split>*.parquet`. Pictures stored as paths are in `images`, or else beside metadata.jsonl, or in the root.
    Where `root` is no folder, it is the name of a data set of the Hub, which `datasets` loads, from its cache or from the
    network; `annotations` is then its configuration. "test" is the split of that name, with every picture both query and
    gallery, or else the splits "query" and "gallery".

    Raises:
        ValueError: there is none of them, or a column is missing.
    """
    whole = _read_part(source, split, findings=findings)
    if whole is not None:
        return whole
    parts = [_read_part(source, part, findings=findings) for part in parts_of(split)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise ValueError(
            f"set {source.name!r}: no split {split!r} in {source.root}: {_looked_for(source, split)}; `holdout` takes a share "
            "of the identities of 'train' for 'val'"
        )
    return joined(found)


def _read_part(source: IdentitySource, part: str, *, findings: Findings) -> RawPictures | None:
    """The rows of a split; None where there is no such split."""
    root = Path(source.root)
    if not root.is_dir():
        table = _load_from_hub(source, part)
        cache = Path(datasets.config.HF_CACHE_HOME)
        place = TableSource(source.name, source.root, cache, cache)
        return None if table is None else _rows(table, place, source, part=part, findings=findings)
    found = find_files(source, part)
    if found.metadata is not None:
        lines = _load_metadata(found.metadata, findings=findings)
        place = TableSource(source.name, str(found.metadata), root, found.images, "line", records=lines.numbers)
        return _rows(lines.table, place, source, part=part, findings=findings)
    if not found.tables:
        return None
    table = load_parquet(found.tables, part)
    place = TableSource(source.name, found.tables[0], root, found.images)
    return _rows(table, place, source, part=part, findings=findings)


def _looked_for(source: IdentitySource, split: str) -> str:
    """Where a split is not, for a message."""
    if not Path(source.root).is_dir():
        return "the data set of the Hub has none of that name"
    return f"looked for {find_files(source, split).looked_for}; name them in `annotations`"


def _rows(
    table: datasets.Dataset, place: TableSource, source: IdentitySource, *, part: str, findings: Findings
) -> RawPictures:
    columns = hub_columns(table.column_names, place, named=source.parameters)
    return read_rows(table, columns, place, part=part, findings=findings)


def hub_columns(present: Sequence[str], place: TableSource, *, named: Mapping[str, int | float | str]) -> Columns:
    """Which column is which; there is none of splits.

    Args:
        named: the user's names of columns.

    Raises:
        ValueError: a column that is needed, or named, is not there.
    """
    if "split" in named:
        raise ValueError(
            f"set {place.set_name!r}, parameters.split: the format hub has splits of its own; use format: table"
        )
    return find_columns(present, place, named=named)._replace(split=None)


def _load_from_hub(source: IdentitySource, part: str) -> datasets.Dataset | None:
    for name in split_names(part):
        try:
            return datasets.load_dataset(source.root, name=source.annotations, split=name)
        except Exception as error:  # network, cache, names, credentials: the library raises nearly anything
            if isinstance(error, ValueError) and _UNKNOWN_SPLIT in str(error):
                continue
            raise ValueError(
                f"set {source.name!r}: {source.root!r} is no folder here, and as a Hub data set its split {name!r} cannot be "
                f"loaded: {in_one_line(error)}; correct `root`"
            ) from error
    return None


class _Lines(NamedTuple):
    """The objects of a file as rows, and the number of the line of each."""

    table: datasets.Dataset
    numbers: list[int]


def _load_metadata(path: Path, *, findings: Findings) -> _Lines:
    """metadata.jsonl: one JSON object for each picture; cells become texts, and what is no object is noted and left out."""
    rows: list[dict[str, object]] = []
    numbers: list[int] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError("an object belongs on every line")
        except ValueError as error:
            findings.add("malformed_record", file=str(path), record=f"line {number}", value=f"{error}; left out")
            continue
        rows.append(row)
        numbers.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    cells = {name: pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in names}
    # The fingerprint is given, or `datasets` would pickle the whole table to make one.
    fingerprint = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return _Lines(datasets.Dataset(pa.table(cells), fingerprint=fingerprint), numbers)


def _text(cell: object) -> str | None:
    return str(cell) if isinstance(cell, (str, int, float)) and not isinstance(cell, bool) else None
