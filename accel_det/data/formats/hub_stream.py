"""The Hub's convention, streamed: annotations are gathered once and kept in the user's cache, images stay in their shards.

The annotations of parquet files are read without their images, where these have columns `height` and `width`. Of everything
else that `datasets` streams (tar files of WebDataset, JSON lines, Arrow, folders), and where the sizes are not annotated, each
shard is read once from end to end.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
from datasets.packaged_modules.parquet.parquet import Parquet

from accel_det.data.cache import cached_table, source_of
from accel_det.data.decode import image_header
from accel_det.data.defects import Findings
from accel_det.data.formats import arrow_objects, hub
from accel_det.data.formats.raw import UNKNOWN_SIDE, RawSplit, SplitSource, StreamedImages
from accel_det.data.lines import in_one_line, one_line
from accel_det.data.progress import shown
from accel_det.data.shards import DatasetShards, ParquetShards, Refusal, Shards, open_parquet, patiently, row_bytes

_LENGTHS = b"accel_det.lengths"
_MODULES = {".parquet": "parquet", ".tar": "webdataset", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}
_STAMPS = ("size", "mtime", "ETag", "etag", "LastModified", "commit_hash", "blob_id")
"""What file systems tell of a file that changes with its content."""
_SIDES = ("height", "width")
_READERS = 8
_ROWS_AT_ONCE = 1024


class _Source(NamedTuple):
    """A split that can be streamed.

    Attributes:
        builder: of `datasets`.
        files: its shards, or the files that they are made of.
    """

    builder: datasets.DatasetBuilder
    split: str
    files: list[str]


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split, of which the images are left where they are.

    `root` is a folder, an address such as `s3://bucket/set` or `https://host/set`, or a name on the Hub. `annotations` may name
    the shards, with `{split}` replaced, `*` where they can be listed, and `{00000..00031}` where they cannot.

    Raises:
        ValueError: there are no shards, one of them cannot be read, or the columns are others.
    """
    found = _find(source, split)
    with arrow_objects.expected_kinds(source.root):
        index = _index(source, found)
        features = datasets.Features.from_arrow_schema(index.table.schema)
        objects, classes = arrow_objects.read_objects(
            index.table.column("objects"), features["objects"], where=source.root, findings=findings
        )
    names = index.table.column("name").to_pylist()
    shards = _names_of_shards(found, index.lengths)
    return RawSplit(
        classes=classes,
        names=[name or f"row {row} of {split}" for row, name in enumerate(names)],
        files=None,
        images=None,
        annotation_files=[name for name, length in zip(shards, index.lengths, strict=True) for _ in range(length)],
        sizes=np.stack([index.table.column(side).to_numpy() for side in _SIDES], axis=1).astype(np.int64),
        objects=objects,
        streamed=StreamedImages(
            _shards(source, found, index.lengths),
            np.arange(len(names), dtype=np.int64),
            index.table.column("fault").to_pylist(),
        ),
    )


# Finding the shards -------------------------------------------------------------------------------------------------


def _find(source: SplitSource, split: str) -> _Source:
    remote = "://" in source.root
    if not remote and not Path(source.root).exists():
        return _built(source, split, source.root, name=source.annotations)
    if remote or source.annotations is not None:
        files = _named_files(source, split)
    else:
        files = hub.find_files(source, split).tables or _named_files(source, split)
    if not files:
        return _built(source, split, source.root)
    kinds = {Path(file).suffix.lower() for file in files}
    if len(kinds) > 1 or not kinds <= set(_MODULES):
        raise ValueError(
            f"set {source.name!r}, split {split!r}: shards of the kinds {', '.join(sorted(kinds))}, expected one of "
            f"{', '.join(_MODULES)}; name them in `annotations`"
        )
    return _built(source, split, _MODULES[kinds.pop()], data_files={split: files})


def _named_files(source: SplitSource, split: str) -> list[str]:
    """The shards that `annotations` names, or those that are called after the split; sorted."""
    if source.annotations is not None:
        patterns = [source.annotations.replace("{split}", split)]
    else:
        patterns = [f"{folder}{split}*{suffix}" for suffix in _MODULES for folder in ("", "data/", f"{split}/")]
        patterns += [f"{split}/*{suffix}" for suffix in _MODULES]
    for pattern in patterns:
        address = f"{source.root.rstrip('/')}/{pattern}"
        numbered = _numbered(address)
        if numbered:
            return numbered
        if "*" not in address:
            return [address]
        system, path = fsspec.core.url_to_fs(address)
        found = patiently(address, lambda system=system, path=path: sorted(system.glob(path)))  # type: ignore[misc]
        found = [file for file in found if Path(file).name != hub.METADATA]
        if found:
            return [system.unstrip_protocol(file) if "://" in address else file for file in found]
    if source.annotations is not None or "://" in source.root:
        raise ValueError(
            f"set {source.name!r}, split {split!r}: no shards at {source.root}; looked for {', '.join(patterns)}; name them in "
            "`annotations`"
        )
    return []


def _numbered(address: str) -> list[str]:
    """`a-{00..11}` written out; [] where there is no such range."""
    found = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", address)
    if found is None:
        return []
    before, first, last, after = found.groups()
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def _built(source: SplitSource, split: str, path: str, **arguments: Any) -> _Source:
    try:
        with hub.uncounted():
            builder = datasets.load_dataset_builder(path, **arguments)
        known = builder.config.data_files or {}
    except Exception as error:  # network, cache, names, credentials: the library raises nearly anything
        raise ValueError(
            f"set {source.name!r}: {source.root!r} cannot be streamed: {in_one_line(error)}; correct `root` or "
            "`annotations`"
        ) from error
    if split not in known:
        raise ValueError(
            f"set {source.name!r}: {source.root!r} has no split {split!r}, but {', '.join(map(str, known)) or 'none'}; correct "
            "the selection, or name the shards in `annotations`"
        )
    return _Source(builder, split, [str(file) for file in known[split]])


# Gathering the annotations ------------------------------------------------------------------------------------------


class _Index(NamedTuple):
    """Everything but the images: a row for each, with name, height, width, fault and objects; and the rows of each shard."""

    table: pa.Table
    lengths: list[int]


def _index(source: SplitSource, found: _Source) -> _Index:
    """From the cache, or gathered; whoever changes a shard gets another one."""
    stamps = [_stamp(file) for file in found.files]
    gather = _gather_parquet if isinstance(found.builder, Parquet) else _gather_rows
    table = cached_table(
        {"shards": json.dumps(stamps), "reader": type(found.builder).__name__},
        lambda: gather(source, found),
        code=[Path(__file__), source_of(arrow_objects.read_objects), source_of(image_header)],
        folder="streams",
    )
    return _Index(table, json.loads(table.schema.metadata[_LENGTHS]))


def _stamp(file: str) -> list[str]:
    def ask() -> list[str]:
        system, path = fsspec.core.url_to_fs(file)
        info = system.info(path)
        return [file, *(f"{key} {info[key]}" for key in _STAMPS if info.get(key) is not None)]

    return patiently(file, ask)


def _gather_parquet(source: SplitSource, found: _Source) -> pa.Table:
    with ThreadPoolExecutor(_READERS) as pool:
        waiting = pool.map(lambda file: patiently(file, lambda: _parquet_rows(source, file)), found.files)
        tables = list(shown(waiting, total=len(found.files), what="annotations of shards"))
    return _with_lengths(pa.concat_tables(tables), [len(table) for table in tables])


def _parquet_rows(source: SplitSource, file: str) -> pa.Table:
    """The annotations of one file; its images are read only where it does not say how large they are."""
    opened = open_parquet(file)
    schema = opened.schema_arrow
    missing = [column for column in ("image", "objects") if column not in schema.names]
    if missing:
        present = one_line(repr(schema.names), most=300)
        raise Refusal(f"set {source.name!r}: {file} has the columns {present}, without {missing}")
    kind = schema.field("image").type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise Refusal(f"set {source.name!r}: {file} has {kind} in the column image, where structs with bytes belong")
    paths = "image.path" if kind.get_field_index("path") >= 0 else None
    sized = all(side in schema.names for side in _SIDES)
    wanted = ["objects", *(_SIDES if sized else ()), *([paths] if paths else [])]
    table = opened.read(columns=wanted)
    count = len(table)
    names = table.column("image").combine_chunks().field("path") if paths else pa.nulls(count, pa.string())
    if sized:
        sides = [table.column(side).cast(pa.int64()).fill_null(UNKNOWN_SIDE) for side in _SIDES]
    unknown = not sized or any(pc.any(pc.less_equal(side, 0)).as_py() for side in sides)
    if unknown:
        images = (
            image or b""
            for group in range(opened.num_row_groups)
            for image in opened.read_row_group(group, columns=["image.bytes"])
            .column("image")
            .combine_chunks()
            .field("bytes")
            .to_pylist()
        )
        heights, widths, faults = _measured(images)
        sides = [pa.array(heights, pa.int64()), pa.array(widths, pa.int64())]
    else:
        faults = [""] * count
    columns = [names.cast(pa.string()), *sides, pa.array(faults, pa.string()), table.column("objects")]
    features = datasets.Features.from_arrow_schema(schema)
    return pa.table(columns, schema=_schema(features["objects"], table.column("objects").type))


def _gather_rows(source: SplitSource, found: _Source) -> pa.Table:
    dataset, image, objects = _undecoded(source, found)
    tables: list[pa.Table] = []
    lengths: list[int] = []
    count = dataset.num_shards
    names = _names_of_shards(found, range(count))
    for shard in shown(range(count), total=count, what="annotations of shards"):
        rows = patiently(
            names[shard],
            lambda shard=shard: list(_bare_rows(dataset.shard(count, shard), image, objects, paths=_has_paths(found))),  # type: ignore[misc]
        )
        lengths.append(len(rows))
        tables += [pa.Table.from_pylist(rows[i : i + _ROWS_AT_ONCE]) for i in range(0, len(rows), _ROWS_AT_ONCE)]
    if not tables:
        raise ValueError(f"set {source.name!r}, split {found.split!r}: the shards hold no row")
    whole = pa.concat_tables(tables, promote_options="permissive")
    feature = _objects_feature(dataset.features, objects)
    kind = (
        whole.column("objects").type
        if feature is None
        else datasets.Features({"o": feature}).arrow_schema.field(0).type
    )
    schema = _schema(feature, kind)
    return _with_lengths(whole.select(schema.names).cast(schema), lengths)


def _bare_rows(
    rows: Iterable[dict[str, Any]], image: str, objects: Sequence[str], *, paths: bool
) -> Iterator[dict[str, Any]]:
    """What the index holds of some rows."""
    for row in rows:
        found = row
        for key in objects:
            found = found[key]
        data = row_bytes(row[image], paths=paths)
        (height,), (width,), (fault,) = _measured([data])
        name = row.get("__key__") or (row[image] or {}).get("path")
        yield {"name": name and str(name), "height": height, "width": width, "fault": fault, "objects": found}


def _measured(images: Iterable[bytes]) -> tuple[list[int], list[int], list[str]]:
    """Height and width of every upright image, and why it has none."""
    heights, widths, faults = [], [], []
    for image in images:
        height, width, fault = UNKNOWN_SIDE, UNKNOWN_SIDE, ""
        try:
            _, height, width = image_header(image)
        except ValueError as error:
            fault = str(error)
        heights.append(height)
        widths.append(width)
        faults.append(fault)
    return heights, widths, faults


def _undecoded(source: SplitSource, found: _Source) -> tuple[datasets.IterableDataset, str, list[str]]:
    """The rows with encoded images, the column of the images, and the keys that lead to the objects."""
    try:
        dataset = found.builder.as_streaming_dataset(split=found.split)
        if dataset.features is None:
            dataset = dataset._resolve_features()
    except Exception as error:
        shards = f"{found.files[0]}{f' and {len(found.files) - 1} more' if found.files[1:] else ''}"
        raise ValueError(f"{shards}: cannot be read as shards: {in_one_line(error)}; restore them") from error
    features = dataset.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    image = "image" if "image" in images else next(iter(images), None)
    objects = ["objects"] if "objects" in features else ["json", "objects"]
    if image is None or _objects_feature(features, objects) is None:
        raise ValueError(
            f"set {source.name!r}: {source.root!r} has the columns {list(features)}; expected one of images, and objects, or "
            "json with objects"
        )
    return dataset.decode(False), image, objects


def _objects_feature(features: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        features = features[key] if isinstance(features, dict) and key in features else None
    return features


def _schema(objects: Any, kind: pa.DataType) -> pa.Schema:
    text, number = datasets.Value("string"), datasets.Value("int64")
    features = datasets.Features(
        {"name": text, "height": number, "width": number, "fault": text, "objects": objects}
    ).arrow_schema
    return features.set(features.get_field_index("objects"), pa.field("objects", kind))


def _with_lengths(table: pa.Table, lengths: Sequence[int]) -> pa.Table:
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _LENGTHS: json.dumps(list(lengths)).encode()}
    )


def _names_of_shards(found: _Source, shards: Sequence[object]) -> list[str]:
    """The file of each shard, where each is one."""
    same = len(shards) == len(found.files)
    return found.files if same else [f"shard {number} of {found.split}" for number in range(len(shards))]


def _shards(source: SplitSource, found: _Source, lengths: Sequence[int]) -> Shards:
    if isinstance(found.builder, Parquet):
        return ParquetShards(found.files, lengths)
    dataset, image, _ = _undecoded(source, found)
    names = _names_of_shards(found, lengths)
    return DatasetShards(dataset, lengths, column=image, names=names, paths=_has_paths(found))


def _has_paths(found: _Source) -> bool:
    """Whether paths in its rows may be opened: those of a folder were found in it, any other could lead anywhere."""
    return isinstance(found.builder, FolderBasedBuilder)
