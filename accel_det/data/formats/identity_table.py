"""A CSV or parquet file with a row for every picture."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow as pa

from accel_det.data.defects import Findings
from accel_det.data.formats.hub import load_parquet
from accel_det.data.formats.identity_columns import Columns, TableSource, find_columns, has_part, read_rows
from accel_det.data.formats.identity_raw import SPLITS, IdentitySource, RawPictures, joined, parts_of
from accel_det.data.lines import in_one_line
from accel_det.data.locate import split_names

SUFFIXES = (".csv", ".tsv", ".parquet")
_WHOLE_FILE = "train"


class TableFile(NamedTuple):
    """A file, and whether its name says which split it holds."""

    path: Path
    of_split: bool


class TablePart(NamedTuple):
    """A table that holds a part of a split: its rows of that name, or all where `columns` has no column of splits."""

    table: datasets.Dataset
    columns: Columns
    place: TableSource
    name: str


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of a table with columns image or path, identity, and perhaps camera and split.

    The file is `annotations`, in which "{split}" is replaced, or else `<root>/<split>` with the suffix csv, tsv or parquet, or
    else the only such file of the root. A file that is not of one split gives the rows that its column of splits says; without
    such a column it is "train". "test" is the rows of "test", each both query and gallery, or else those of "query" and of
    "gallery". Paths are relative to `images`, or else to the root. `parameters` name columns that are called otherwise, as
    {identity: pid}.

    Raises:
        ValueError: there is no such file, column or split.
    """
    parts = open_parts(source, split, named=source.parameters)
    return joined([read_rows(*part[:3], part=part.name, findings=findings) for part in parts])


def open_parts(source: IdentitySource, split: str, *, named: Mapping[str, int | float | str]) -> list[TablePart]:
    """The tables that hold a split: one, or one for each of its official parts.

    Args:
        named: the user's names of columns.

    Raises:
        ValueError: there is no such file, column or split.
    """
    loaded: dict[Path, datasets.Dataset] = {}
    whole = _open_part(source, split, loaded, named=named)
    if whole is not None:
        return [whole]
    parts = [_open_part(source, part, loaded, named=named) for part in parts_of(split)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        places = ", ".join(str(path) for path in loaded) or "no table"
        raise ValueError(
            f"set {source.name!r}: no split {split!r} in {source.root} (read: {places}); a table needs a column of splits, or "
            "to be named after its split; `holdout` takes a share of the identities of 'train' for 'val'"
        )
    return found


def load(path: Path) -> datasets.Dataset:
    """The table of a file; all cells of CSV are texts, so that identity 0002 stays what it is.

    Raises:
        ValueError: the file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        return load_parquet([str(path)], _WHOLE_FILE)
    try:
        rows = _text_rows(path)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table: {in_one_line(error)}; restore it") from error
    if not rows:
        raise ValueError(
            f"{path}: a table without rows; expected a line with names of columns, and a line for each picture"
        )
    names = [name for name in rows[0] if name]
    columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in names}
    # The fingerprint is given, or `datasets` would pickle the whole table to make one.
    return datasets.Dataset(pa.table(columns), fingerprint=hashlib.sha256(str(path).encode()).hexdigest()[:16])


def _text_rows(path: Path) -> list[dict[str, str | None]]:
    """The lines of a CSV file by the names of its columns.

    Raises:
        ValueError, OSError, csv.Error: it cannot be read, or not in one way alone.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    if "\0" in text:
        raise ValueError("a text with NUL bytes")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    names = [name for name in table.fieldnames or () if name]
    if len(set(names)) < len(names):
        raise ValueError(f"a column is there twice: {', '.join(names)}")
    return list(table)


def table_source(source: IdentitySource, path: Path) -> TableSource:
    """What messages tell of the rows of a file, and where its pictures are."""
    root = Path(source.root)
    folder = root if source.images is None else root / source.images
    is_text = path.suffix.lower() != ".parquet"
    return TableSource(source.name, str(path), root, folder, *(("line", 2) if is_text else ("row", 0)))


def find_file(source: IdentitySource, part: str) -> TableFile | None:
    """The file that holds a part, or that may hold it; None where there is none."""
    root = Path(source.root)
    names = split_names(part)
    if source.annotations is not None:
        candidates: Sequence[Path] = [root / source.annotations.replace("{split}", name) for name in names]
        of_split = "{split}" in source.annotations
    else:
        candidates = [root / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
        of_split = True
    path = next((path for path in candidates if path.is_file()), None)
    if path is not None:
        return TableFile(path, of_split)
    if source.annotations is not None and not of_split:
        raise ValueError(f"set {source.name!r}, annotations: no file {candidates[0]}; correct the name")
    of_others = {name for known in SPLITS for name in split_names(known)}
    tables = [path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.stem not in of_others]
    return TableFile(tables[0], False) if len(tables) == 1 and source.annotations is None else None


def _open_part(
    source: IdentitySource, part: str, loaded: dict[Path, datasets.Dataset], *, named: Mapping[str, int | float | str]
) -> TablePart | None:
    """The table of a part; None where there is none, or it has no rows of it."""
    file = find_file(source, part)
    if file is None:
        return None
    if file.path not in loaded:
        loaded[file.path] = load(file.path)
    table, place = loaded[file.path], table_source(source, file.path)
    columns = find_columns(table.column_names, place, named=named)
    if file.of_split:
        columns = columns._replace(split=None)
    elif not has_part(table, columns, part):
        return None
    return TablePart(table, columns, place, part)
