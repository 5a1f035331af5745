"""The Hub's convention, streamed: annotations are gathered once and kept in the user's cache, images stay in their shards.

The annotations of parquet files are read without their images, where these have columns `height` and `width`. Of everything
else that `datasets` streams (tar files of WebDataset, JSON lines, Arrow, folders), and where the sizes are not annotated, each
shard is read once from end to end.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from accel_det.data.cache import source_of
from accel_det.data.decode import image_header
from accel_det.data.defects import Findings
from accel_det.data.formats import arrow_objects
from accel_det.data.formats.raw import UNKNOWN_SIDE, RawSplit, SplitSource, StreamedImages
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
from accel_det.data.lines import one_line
from accel_det.data.shards import Option, Refusal, open_parquet, row_bytes

_SIDES = ("height", "width")


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split, of which the images are left where they are; see `shard_files.find_shards`.

    Raises:
        ValueError: there are no shards, one of them cannot be read, or the columns are others.
    """
    found = find_shards(source, split)
    with arrow_objects.expected_kinds(source.root):
        index = read_index(
            found,
            lambda: (
                gather_files(found, lambda file: _parquet_rows(source, file))
                if found.is_parquet
                else _gathered_rows(source, found)
            ),
            code=[Path(__file__), source_of(arrow_objects.read_objects), source_of(image_header)],
        )
        features = datasets.Features.from_arrow_schema(index.table.schema)
        objects, classes = arrow_objects.read_objects(
            index.table.column("objects"), features["objects"], where=source.root, findings=findings
        )
    names = index.table.column("name").to_pylist()
    shards = found.names(len(index.lengths))
    return RawSplit(
        classes=classes,
        names=[name or f"row {row} of {split}" for row, name in enumerate(names)],
        files=None,
        images=None,
        annotation_files=[name for name, length in zip(shards, index.lengths, strict=True) for _ in range(length)],
        sizes=np.stack([index.table.column(side).to_numpy() for side in _SIDES], axis=1).astype(np.int64),
        objects=objects,
        streamed=StreamedImages(
            open_shards(source, found, index.lengths),
            np.arange(len(names), dtype=np.int64),
            index.table.column("fault").to_pylist(),
        ),
    )


def _parquet_rows(source: SplitSource, file: str) -> pa.Table:
    """The annotations of one file; its images are read only where it does not say how large they are."""
    opened = open_parquet(file, source.storage)
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


def _gathered_rows(source: SplitSource, found: ShardedSplit) -> Index:
    dataset, image = undecoded(source, found)
    objects = _keys_of_objects(source, dataset.features)
    root = f"{source.root.rstrip('/')}/" if found.is_json else ""
    index = gather_rows(
        source, found, dataset, lambda rows: _bare_rows(rows, image, objects, opened=found.opened, root=root)
    )
    feature = _objects_feature(dataset.features, objects)
    kind = (
        index.table.column("objects").type
        if feature is None
        else datasets.Features({"o": feature}).arrow_schema.field(0).type
    )
    schema = _schema(feature, kind)
    return index._replace(table=index.table.select(schema.names).cast(schema))


def _bare_rows(
    rows: Iterable[dict[str, Any]],
    image: str,
    objects: Sequence[str],
    *,
    opened: Mapping[str, Option] | None,
    root: str,
) -> Iterator[dict[str, Any]]:
    """What the index holds of some rows; names without the root before them."""
    for row in rows:
        found = row
        for key in objects:
            found = found[key]
        data = row_bytes(row[image], opened=opened)
        (height,), (width,), (fault,) = _measured([data])
        name = row.get("__key__") or (row[image] or {}).get("path")
        yield {
            "name": name and str(name).removeprefix(root),
            "height": height,
            "width": width,
            "fault": fault,
            "objects": found,
        }


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


def _keys_of_objects(source: SplitSource, features: datasets.Features) -> list[str]:
    """The keys that lead to the objects of a row."""
    objects = ["objects"] if "objects" in features else ["json", "objects"]
    if _objects_feature(features, objects) is None:
        raise ValueError(
            f"set {source.name!r}: {source.root!r} has the columns {list(features)}; expected one of images, and objects, or "
            "json with objects"
        )
    return objects


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
