"""Pictures of identities in the Hub's convention, streamed: who is where is gathered once and kept in the user's cache.

Columns of parquet files are read without the pictures. Of everything else that `datasets` streams (tar files of WebDataset,
JSON lines, folders with metadata.jsonl, Arrow), each shard is read once from end to end.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from accel_det.data.cache import source_of
from accel_det.data.defects import Findings
from accel_det.data.formats.identity_columns import (
    IMAGE_COLUMNS,
    Columns,
    TableSource,
    cell_text,
    find_columns,
    read_texts,
    texts,
)
from accel_det.data.formats.identity_hub import hub_columns
from accel_det.data.formats.identity_raw import DISTRACTOR, IdentitySource, RawPictures, joined, parts_of, role_of
from accel_det.data.formats.raw import StreamedImages
from accel_det.data.formats.shard_files import (
    Index,
    ShardedSplit,
    find_shards,
    gather_files,
    gather_rows,
    open_shards,
    read_index,
    undecoded,
)
from accel_det.data.shards import Refusal, open_parquet, patiently

_IMAGE = b"accel_det.image"
_INDEXED = Columns(image="name", identity="identity", camera="camera", split=None)


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split, of which the pictures are left where they are.

    Where its shards are, `shard_files.find_shards` says; which columns there are, `identity_hub.read`. Those of a tar file of
    WebDataset are its fields, and the keys of its `json`. "test" is the split of that name, with every picture both query and
    gallery, or else the splits "query" and "gallery".

    Raises:
        ValueError: there are no shards, one of them cannot be read, or a column is missing.
    """
    return joined([_read_part(source, part, found, findings=findings) for part, found in _find_parts(source, split)])


def _find_parts(source: IdentitySource, split: str) -> list[tuple[str, ShardedSplit]]:
    try:
        return [(split, find_shards(source, split))]
    except ValueError as error:
        parts = parts_of(split)
        if parts == (split,):
            raise
        try:
            return [(part, find_shards(source, part)) for part in parts]
        except ValueError:
            raise error from None  # what is said of the split itself tells more


def _read_part(source: IdentitySource, part: str, found: ShardedSplit, *, findings: Findings) -> RawPictures:
    index = read_index(
        found,
        lambda: _gathered_files(source, found) if found.is_parquet else _gathered_rows(source, found),
        code=[Path(__file__), source_of(find_columns)],
        parameters={"identities": json.dumps(dict(source.parameters), sort_keys=True)},
    )
    # The fingerprint is given, or `datasets` would pickle the whole table to make one.
    fingerprint = hashlib.sha256(json.dumps(found.files).encode()).hexdigest()[:16]
    said = read_texts(datasets.Dataset(index.table, fingerprint=fingerprint), _INDEXED)
    known = np.array([identity is not None for identity in said.identities], np.bool_)
    starts = [0, *accumulate(index.lengths)]
    shards = found.names(len(index.lengths))
    for row in np.flatnonzero(~known).tolist():
        shard = bisect_right(starts, row) - 1
        record, value = f"row {row - starts[shard]}", f"{said.images[row]}: no identity"
        findings.add("malformed_record", file=shards[shard], record=record, value=value)
    image = index.table.schema.metadata[_IMAGE].decode()
    count = len(known)
    pictures = RawPictures(
        names=[name or f"row {row} of {part}" for row, name in enumerate(said.images)],
        files=None,
        images=None,
        rows=np.arange(count),
        identities=[identity or DISTRACTOR for identity in said.identities],
        cameras=said.cameras,
        roles=np.full(count, int(role_of(part)), np.int64),
        streamed=StreamedImages(
            open_shards(source, found, index.lengths, image=image), np.arange(count, dtype=np.int64), ()
        ),
    )
    return pictures.select(known)


def _gathered_files(source: IdentitySource, found: ShardedSplit) -> Index:
    first = found.files[0]
    present = patiently(first, lambda: open_parquet(first, source.storage).schema_arrow.names)
    columns = _columns(present, source, first)
    return _said_by(columns, gather_files(found, lambda file: _file_rows(source, file)))


def _file_rows(source: IdentitySource, file: str) -> pa.Table:
    """Who is in the pictures of a file."""
    opened = open_parquet(file, source.storage)
    schema = opened.schema_arrow
    columns = _columns(schema.names, source, file)
    kind = schema.field(columns.image).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise Refusal(
            f"set {source.name!r}: column {columns.image!r} of {file} holds {kind}, where pictures with their bytes belong: "
            "set data.streaming to false, or name another column in parameters.image"
        )
    path = [f"{columns.image}.path"] if kind.get_field_index("path") >= 0 else []
    wanted = [columns.identity, *([columns.camera] if columns.camera else [])]
    table = opened.read(columns=[*wanted, *path])
    features = datasets.Features.from_arrow_schema(schema)
    fingerprint = hashlib.sha256(file.encode()).hexdigest()[:16]
    info = datasets.DatasetInfo(features=datasets.Features({name: features[name] for name in wanted}))
    small = datasets.Dataset(table.select(wanted).replace_schema_metadata(None), info=info, fingerprint=fingerprint)
    count = len(table)
    names = table.column(columns.image).combine_chunks().field("path") if path else pa.nulls(count)
    with _refused(f"set {source.name!r}: {file}"):
        identities = texts(small, columns.identity)
        cameras = texts(small, columns.camera) if columns.camera else [""] * count
    return _table(names.cast(pa.string()), identities, cameras)


def _gathered_rows(source: IdentitySource, found: ShardedSplit) -> Index:
    named = source.parameters
    dataset, image = undecoded(source, found, usual=(str(named["image"]),) if "image" in named else IMAGE_COLUMNS)
    inner = dataset.features.get("json")
    places: dict[str, tuple[str, ...]] = {key: ("json", key) for key in inner} if isinstance(inner, dict) else {}
    places |= {name: (name,) for name in dataset.features}
    columns = hub_columns(list(places), _place(source, source.root), named={"image": image, **named})
    if columns.image != image or image in (columns.identity, columns.camera):
        raise ValueError(
            f"set {source.name!r}, parameters.image: column {columns.image!r} of {source.root} holds no pictures; name another "
            "one"
        )
    wanted = {name: places[name] for name in (columns.identity, columns.camera) if name is not None}

    def said(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            with _refused(f"set {source.name!r}: {source.root}"):
                cells = [cell_text(_inside(row, keys), _inside(dataset.features, keys)) for keys in wanted.values()]
            yield {"name": _name(row, image, source), "identity": cells[0], "camera": cells[1] if cells[1:] else ""}

    return _said_by(columns, gather_rows(source, found, dataset, said))


def _columns(present: list[str], source: IdentitySource, file: str) -> Columns:
    with _refused():
        return hub_columns(present, _place(source, file), named=source.parameters)


@contextmanager
def _refused(where: str = "") -> Iterator[None]:
    """What is wrong with the columns or cells of a table that was read stays wrong: it is not read again."""
    try:
        yield
    except ValueError as error:
        raise Refusal(f"{where}: {error}" if where else str(error)) from error


def _place(source: IdentitySource, where: str) -> TableSource:
    root = Path(source.root)
    return TableSource(source.name, where, root, root)


def _inside(cells: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        cells = cells[key]
    return cells


def _name(row: Mapping[str, Any], image: str, source: IdentitySource) -> str:
    """What a tar file says in `json`, or the key there; or else the path of a picture, as it is written inside the set."""
    said = row["json"].get("name") if isinstance(row.get("json"), dict) else None
    name = said or row.get("__key__") or (row[image] or {}).get("path") or ""
    return str(name).removeprefix(f"{source.root.rstrip('/')}/")


def _table(names: pa.Array | list[str], identities: list[str], cameras: list[str]) -> pa.Table:
    arrays = [pa.array(values, pa.string()) for values in (names, identities, cameras)]
    return pa.table(arrays, names=list(_INDEXED[:3]))


def _said_by(columns: Columns, index: Index) -> Index:
    """An index that knows the column of its pictures."""
    return index._replace(table=index.table.replace_schema_metadata({_IMAGE: columns.image.encode()}))
