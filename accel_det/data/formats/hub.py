"""The Hub's own convention: a column of images and one of objects, as folder with metadata.jsonl, parquet or Hub name.

`objects` is a struct of lists or a list of structs with `bbox` (xywh, pixels), a class, and perhaps `area` and
`iscrowd`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from accel_det.data.defects import Findings
from accel_det.data.encoded import IMAGE_FEATURES
from accel_det.data.formats.arrow_objects import BOX_FIELDS, LABEL_FIELDS, MOST_NUMBERS, expected_kinds, read_objects
from accel_det.data.formats.raw import (
    MOST_AREA,
    UNKNOWN_SIDE,
    Bools,
    Ints,
    ObjectColumns,
    RawSplit,
    SplitSource,
    locate_image,
    to_number,
)
from accel_det.data.lines import in_one_line, one_line, parse_json, read_lines
from accel_det.data.locate import Folder, split_names
from accel_det.data.shards import open_parquet

METADATA = "metadata.jsonl"


class HubFiles(NamedTuple):
    """The files of a split.

    Attributes:
        metadata: the one with a JSON object on every line, or None.
        tables: else the parquet files, of which there may be none.
        images: the folder that the paths of the images begin at.
        looked_for: the places, for messages.
    """

    metadata: Path | None
    tables: list[str]
    images: Path
    looked_for: str


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in the Hub's convention.

    `<root>/<split>/metadata.jsonl` is read where it is; else `<root>[/data]/<split>*.parquet`; else, where `root` is no
    folder, it is the name of a data set of the Hub, which `datasets` loads, from its cache or from the network.

    Raises:
        ValueError: there is none of them, or the columns are others.
    """
    root = Path(source.root)
    if not root.exists():
        return _read_hub_name(source, split, findings=findings)
    found = find_files(source, split)
    if found.metadata is not None:
        return _read_metadata(source, found.metadata, images=found.images, findings=findings)
    if not found.tables:
        raise ValueError(
            f"set {source.name!r}, split {split!r}: neither {METADATA} nor parquet files in {root}; looked for "
            f"{found.looked_for}; name them in `annotations`"
        )
    table, where = load_parquet(found.tables, split), found.tables[0]
    return from_dataset(table, (), source_name=source.name, split=split, root=root, where=where, findings=findings)


def load_parquet(files: Sequence[str], split: str) -> datasets.Dataset:
    """The rows of parquet files, as the split of that name. Files without rows, at which the library stops, are passed over.

    Raises:
        ValueError: one of them is damaged, or their columns differ.
    """
    try:
        filled = [file for file in files if open_parquet(file).metadata.num_rows]
        if not filled:
            return datasets.Dataset(open_parquet(files[0]).schema_arrow.empty_table())
        with uncounted():
            return datasets.load_dataset("parquet", data_files={split: filled}, split=split)
    except Exception as error:  # the library raises nearly anything, and does not say of which file
        damage = next((found for file in files if (found := _damage(file))), None)
        where = (
            damage
            or f"{files[0]}{f' and {len(files) - 1} more' if files[1:] else ''}: {in_one_line(error.__cause__ or error)}"
        )
        raise ValueError(f"{where}; expected parquet files of the same columns: restore them") from error


@contextmanager
def uncounted() -> Iterator[None]:
    """Keeps `datasets` from telling a server, for its statistics, that files are opened: also those of this machine."""
    before, datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS, False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = before


def _damage(file: str) -> str:
    """Why a parquet file cannot be read, or ""."""
    try:
        for _ in open_parquet(file).iter_batches():
            pass
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return f"{file}: cannot be read as parquet: {in_one_line(error)}"
    return ""


def find_files(source: SplitSource, split: str) -> HubFiles:
    """The files of a split of a folder: `annotations`, a file or a pattern with "{split}" replaced, or the usual ones."""
    root = Path(source.root)
    names = split_names(split)
    if source.annotations is not None:
        patterns = [source.annotations.replace("{split}", name) for name in names]
        candidates = [root / pattern for pattern in patterns]
    else:
        candidates = [folder / name / METADATA for folder in (root, root / "data") for name in names]
        candidates += [root / METADATA] if split == "train" else []
        patterns = [f"{folder}{name}*.parquet" for folder in ("", "data/") for name in names]
        patterns += [f"{name}/*.parquet" for name in names]
    metadata = next((path for path in candidates if path.suffix == ".jsonl" and path.is_file()), None)
    tables: list[str] = []
    for pattern in patterns if metadata is None else ():
        tables = sorted(str(path) for path in root.glob(pattern) if path.suffix == ".parquet")
        if tables:
            break
    images = root if metadata is None else metadata.parent
    if source.images is not None:
        images = root / source.images.replace("{split}", split)
    looked_for = f"{', '.join(str(candidate) for candidate in candidates)} and {', '.join(patterns)}"
    return HubFiles(metadata, tables, images, looked_for)


def _read_hub_name(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    try:
        table = datasets.load_dataset(source.root, name=source.annotations, split=split)
    except Exception as error:  # network, cache, names, credentials: the library raises nearly anything
        raise ValueError(
            f"set {source.name!r}: {source.root!r} is no folder here, and as a Hub data set its split {split!r} cannot "
            f"be loaded: {in_one_line(error)}; correct `root`"
        ) from error
    return from_dataset(
        table, (), source_name=source.name, split=split, root=None, where=source.root, findings=findings
    )


def from_dataset(
    table: datasets.Dataset,
    classes: Sequence[str],
    *,
    source_name: str,
    split: str,
    root: Path | None,
    where: str,
    findings: Findings,
) -> RawSplit:
    """A table in the Hub's convention, without decoding an image or making a Python object per annotation.

    Args:
        table: columns image and objects; width and height where known.
        classes: class names, or empty: then they are taken from the table's features, or from the labels themselves.
        source_name, split: of the set, for messages.
        root: the folder that images stored as paths must lie in; None: the cache of the Hub.
        where: file or name of the table, for messages.
        findings: takes what is wrong.

    Raises:
        ValueError: a column is missing.
    """
    missing = [column for column in ("image", "objects") if column not in table.column_names]
    if missing:
        columns = one_line(repr(table.column_names), most=300)
        raise ValueError(f"set {source_name!r}: {where} has the columns {columns}, without {missing}")
    if table._indices is not None:
        table = table.flatten_indices()
    with expected_kinds(where):
        objects, found_classes = read_objects(
            table.data.column("objects"), table.features["objects"], where=where, findings=findings
        )
        images = table.select_columns(["image"]).cast_column("image", IMAGE_FEATURES["image"])
        sizes = np.stack([_stored_sides(table, name) for name in ("height", "width")], axis=1)
    # Chunk by chunk: joined, they may be larger than an array of bytes can be.
    chunks = images.data.column("image").chunks
    paths = [path for chunk in chunks for path in pc.struct_field(chunk, "path").to_pylist()]
    raw = RawSplit(
        classes=tuple(classes) or found_classes,
        names=[path or f"row {index} of {split}" for index, path in enumerate(paths)],
        files=None,
        images=images,
        annotation_files=[where] * len(table),
        sizes=sizes,
        objects=objects,
    )
    present = [_present(pc.struct_field(chunk, "bytes")) for chunk in chunks]
    has_bytes = np.concatenate([np.ones(0, np.bool_), *present])
    if has_bytes.all():
        return raw
    base = Path(datasets.config.HF_CACHE_HOME) if root is None else root
    return _with_files(raw, paths, has_bytes=has_bytes, root=base, findings=findings)


def _with_files(
    raw: RawSplit, paths: Sequence[str | None], *, has_bytes: Bools, root: Path, findings: Findings
) -> RawSplit:
    """A table whose images are paths; they must lie under the root. Rows of the other sort, if mixed, are left out."""
    folder = Folder(root)
    kept = np.zeros(len(paths), np.bool_)
    files = [""] * len(paths)
    for index, path in enumerate(paths):
        where, record = raw.annotation_files[index], f"row {index}"
        if has_bytes[index]:
            findings.add("malformed_record", file=where, record=record, value="bytes in a table of paths; left out")
            continue
        located = locate_image(folder, [path or ""], findings=findings, annotation_file=where, record=record)
        if located is not None:
            kept[index], files[index] = True, located.path
    names = [folder.relative(file) if file else "" for file in files]
    return raw._replace(files=files, names=names, images=None).select(kept)


def _present(column: pa.Array) -> Bools:
    present: Bools = pc.is_valid(column).to_numpy(zero_copy_only=False)
    return present


def _stored_sides(table: datasets.Dataset, name: str) -> Ints:
    """(I,) annotated height or width in pixels, where the table has it."""
    if name not in table.column_names:
        return np.full(len(table), UNKNOWN_SIDE, np.int64)
    column = pc.fill_null(table.data.column(name).cast(pa.int64()), UNKNOWN_SIDE)
    sides: Ints = column.to_numpy()
    return sides


def _read_metadata(source: SplitSource, path: Path, *, images: Path, findings: Findings) -> RawSplit:
    """metadata.jsonl: one JSON object per line with file_name and objects."""
    folder, shown_root = Folder(images), Folder(source.root)
    names: list[str] = []
    files: list[str] = []
    sizes: list[tuple[int, int]] = []
    seen: set[str] = set()
    rows: list[tuple[int, int, dict[str, object]]] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        record = f"line {number}"
        try:
            row = parse_json(line)
            name, objects = _metadata_row(row)
        except ValueError as error:
            findings.add("malformed_record", file=str(path), record=record, value=f"{error}; the image is left out")
            continue
        located = locate_image(folder, [name], findings=findings, annotation_file=str(path), record=record)
        if located is None:
            continue
        if located.path in seen:
            findings.add("duplicate_file", file=str(path), record=record, value=f"{name!r} again")
            continue
        seen.add(located.path)
        rows += [(len(names), number, entry) for entry in objects]
        names.append(shown_root.relative(located.path))
        files.append(located.path)
        sizes.append((_side(row.get("height")), _side(row.get("width"))))
    columns = ObjectColumns("line")
    classes = _add_objects(rows, columns, path=str(path), findings=findings)
    size_array = np.array(sizes, np.int64).reshape(-1, 2)
    return RawSplit(classes, names, files, None, [str(path)] * len(names), size_array, columns.arrays())


def _metadata_row(row: object) -> tuple[str, list[dict[str, object]]]:
    """File name and objects, one mapping each with "bbox", "label" and perhaps "area" and "iscrowd"."""
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise ValueError("an object with file_name belongs on every line")
    objects = row.get("objects") or {}
    if isinstance(objects, list):
        entries = [entry for entry in objects if isinstance(entry, dict)]
        if len(entries) != len(objects):
            raise ValueError("objects holds entries that are no objects")
    elif isinstance(objects, dict):
        lengths = {key: len(value) for key, value in objects.items() if isinstance(value, list)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the lists of objects differ in length: {lengths}")
        count = next(iter(lengths.values()), 0)
        entries = [{key: objects[key][index] for key in lengths} for index in range(count)]
    else:
        raise ValueError(f"objects is a {type(objects).__name__}, where lists belong")
    return row["file_name"], [_normal(entry) for entry in entries]


def _normal(entry: dict[str, object]) -> dict[str, object]:
    box = next((entry[name] for name in BOX_FIELDS if name in entry), None)
    label = next((entry[name] for name in LABEL_FIELDS if name in entry), None)
    return {"bbox": box, "label": label, "area": entry.get("area"), "iscrowd": entry.get("iscrowd")}


def _add_objects(
    rows: list[tuple[int, int, dict[str, object]]], columns: ObjectColumns, *, path: str, findings: Findings
) -> tuple[str, ...]:
    """Fills the columns; returns the classes: the texts that occur, sorted, or the numbers from 0 as texts."""
    labels = [entry["label"] for _, _, entry in rows]
    texts = sorted({label for label in labels if isinstance(label, str)})
    numbers = [label for label in labels if type(label) is int and 0 <= label < MOST_NUMBERS]
    classes = tuple(texts) if texts else tuple(str(number) for number in range(max(numbers, default=-1) + 1))
    index_of: dict[object, int] = (
        {name: index for index, name in enumerate(texts)} if texts else {n: n for n in numbers}
    )
    for owner, number, entry in rows:
        record = f"line {number}"
        label, box = entry["label"], entry["bbox"]
        if isinstance(label, (list, dict)) or label not in index_of:
            findings.add("label_out_of_range", file=path, record=record, value=f"class {label!r}")
            continue
        try:
            if not isinstance(box, list) or len(box) != 4:
                raise ValueError(f"bbox {box!r} where [left, top, width, height] belongs")
            sides = [to_number(side, on_comma=_comma_note(path, record, box, findings)) for side in box]
        except ValueError as error:
            findings.add("malformed_record", file=path, record=record, value=str(error))
            continue
        area = entry["area"]
        known = isinstance(area, (int, float)) and 0 < area <= MOST_AREA
        columns.add(
            owner,
            sides,
            label=index_of[label],
            record=number,
            crowd=entry["iscrowd"] in (1, True),
            area=float(area) if known else float("nan"),  # type: ignore[arg-type]
        )
    return classes


def _comma_note(path: str, record: str, box: object, findings: Findings) -> Callable[[], None]:
    return lambda: findings.add("decimal_comma", file=path, record=record, value=f"bbox {box!r}")


def _side(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1 << 31 else UNKNOWN_SIDE
