"""Pictures of identities in the Hub's convention: folder with metadata.jsonl, parquet shards, or the name of a data set."""

import json
from pathlib import Path

import datasets
import pyarrow as pa

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_columns import TableSource, find_columns, read_rows
from accel_det.data.formats.identity_raw import IdentitySource, RawPictures, in_one_line, joined, parts_of
from accel_det.data.locate import split_names

_METADATA = "metadata.jsonl"
_UNKNOWN_SPLIT = "Unknown split"


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of a set with columns image, identity and perhaps camera; `parameters` name columns that are called otherwise.

    `<root>/<split>/metadata.jsonl`, with file_name for the picture, is read where it is; else
    `<root>[/data]/<split>*.parquet`; else, where `root` is no folder, it is the name of a data set of the Hub, which
    `datasets` loads, from its cache or from the network; `annotations` is then its configuration. "test" is the split of
    that name, with every picture both query and gallery, or else the splits "query" and "gallery".

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
            f"set {source.name!r}: no split {split!r} in {source.root}: neither {split}/{_METADATA} nor {split}*.parquet, nor "
            "a split of a data set of the Hub; `holdout` takes a share of the identities of 'train' for 'val'"
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
    for name in split_names(part):
        for folder in (root / name, root / "data" / name):
            if (folder / _METADATA).is_file():
                table = _load_metadata(folder / _METADATA, findings=findings)
                place = TableSource(source.name, str(folder / _METADATA), root, folder, "record", 1)
                return _rows(table, place, source, part=part, findings=findings)
        for pattern in (f"{name}*.parquet", f"data/{name}*.parquet", f"{name}/*.parquet"):
            files = sorted(str(path) for path in root.glob(pattern))
            if files:
                table = datasets.load_dataset("parquet", data_files={part: files}, split=part)
                place = TableSource(source.name, files[0], root, root)
                return _rows(table, place, source, part=part, findings=findings)
    return None


def _rows(
    table: datasets.Dataset, place: TableSource, source: IdentitySource, *, part: str, findings: Findings
) -> RawPictures:
    if "split" in source.parameters:
        raise ValueError(
            f"set {source.name!r}, parameters.split: the format hub has splits of its own; use format: table"
        )
    columns = find_columns(table, place, named=source.parameters)
    return read_rows(table, columns._replace(split=None), place, part=part, findings=findings)


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


def _load_metadata(path: Path, *, findings: Findings) -> datasets.Dataset:
    """metadata.jsonl: one JSON object for each picture; cells become texts, and what is no object an empty row."""
    rows: list[dict[str, object]] = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("an object belongs on every line")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            findings.add("malformed_record", file=str(path), record=f"line {number}", value=f"{error}; left out")
    names = dict.fromkeys(name for row in rows for name in row)
    cells = {name: [_text(row.get(name)) for row in rows] for name in names}
    return datasets.Dataset(pa.table({name: pa.array(column, pa.string()) for name, column in cells.items()}))


def _text(cell: object) -> str | None:
    return str(cell) if isinstance(cell, (str, int, float)) and not isinstance(cell, bool) else None
