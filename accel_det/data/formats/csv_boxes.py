"""CSV with one row per box: with named columns, or as RetinaNet's without."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from accel_det.data.defects import Findings
from accel_det.data.formats.csv_rows import CsvRow, column_names, csv_rows, repeated_column
from accel_det.data.formats.gather import (
    PROBED_IMAGES,
    AnnotationFile,
    FoundImages,
    NamedObjects,
    find_annotations,
    image_folder,
    natural_number,
    require_whole_set,
    shown,
    spellings,
    to_numbers,
    to_side,
    unique_names,
    with_any_suffix,
)
from accel_det.data.formats.raw import ObjectColumns, RawSplit, SplitSource
from accel_det.data.locate import split_names

CLASSES_FILE = "classes.csv"
_USUAL = (
    "{split}.csv",
    "{split}/_annotations.csv",
    "{split}/annotations.csv",
    "annotations/{split}.csv",
    "{split}_labels.csv",
    "annotations.csv",
    "_annotations.csv",
)
_ALIASES: dict[str, tuple[str, ...]] = {
    "image": (
        *("filename", "file_name", "image", "file", "path", "image_path", "image_name", "img_path", "image_id"),
        "img",
    ),
    "label": ("class", "label", "class_name", "label_name", "category", "name"),
    "split": ("split", "set", "subset", "partition"),
    "crowd": ("crowd", "iscrowd", "is_crowd", "difficult", "is_group_of"),
    "area": ("area",),
}
_CORNERS = (
    ("xmin", "x_min", "x1", "left"),
    ("ymin", "y_min", "y1", "top"),
    ("xmax", "x_max", "x2", "right"),
    ("ymax", "y_max", "y2", "bottom"),
)
_SIDES = (
    ("x", "bbox_x", "left", "xmin", "x_min", "x1"),
    ("y", "bbox_y", "top", "ymin", "y_min", "y1"),
    ("w", "bbox_width", "box_width", "bbox_w", "width"),
    ("h", "bbox_height", "box_height", "bbox_h", "height"),
)
_IMAGE_SIDES = (("image_height", "img_height", "height"), ("image_width", "img_width", "width"))
_RETINANET = ("path", "x1", "y1", "x2", "y2", "class")
_TRUE = frozenset(("1", "1.0", "true", "yes"))


class _Columns(NamedTuple):
    """Positions of the columns; `box` has four, of corners or of left, top, width, height; -1 where one is absent."""

    image: int
    label: int
    box: tuple[int, ...]
    corners: bool
    height: int
    width: int
    split: int
    crowd: int
    area: int


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in CSV.

    The file is the given one ("{split}" in it is replaced), `<split>.csv`, `<split>/_annotations.csv` or another of the usual
    places, or `annotations.csv` for all splits, of which a column `split` chooses; without that it is "train". Columns are
    found by the names that are usual for them; a file without a header has RetinaNet's columns path, x1, y1, x2, y2, class.
    Boxes are in pixels, corners as they stand. A row with neither box nor class is an image without objects. Classes are
    those of `classes.csv` (name, number), where it is there, else the names that occur, sorted.

    Raises:
        ValueError: there is no annotation file, or it does not tell the splits apart.
    """
    file = find_annotations(source, split, what="CSV file", usual=_USUAL)
    rows = csv_rows(file.path, findings=findings)
    first = next(rows, None)
    if first is None:
        return RawSplit.empty()
    columns, has_header = _columns(first.fields)
    if columns is None:
        expected = "image, label and xmin, ymin, xmax, ymax (or x, y, width, height)"
        value = f"columns {shown(first.fields)} where {expected} belong"
        findings.add("malformed_file", file=str(file.path), record=f"line {first.line}", value=value)
        return RawSplit.empty()
    repeated = repeated_column(first.fields) if has_header else ""
    if repeated:
        value = f"the column {repeated!r} is there twice"
        findings.add("malformed_file", file=str(file.path), record=f"line {first.line}", value=value)
        return RawSplit.empty()
    if not has_header:
        rows = chain([first], rows)
    return _read_rows(rows, columns, source=source, split=split, file=file, findings=findings)


def _columns(fields: list[str]) -> tuple[_Columns | None, bool]:
    """Where the columns are, and whether the first row is a header; None where they cannot be told."""
    names = column_names(fields)
    found = {column: _first(names, aliases) for column, aliases in _ALIASES.items()}
    corners = tuple(_first(names, aliases) for aliases in _CORNERS)
    sides = tuple(_first(names, aliases) for aliases in _SIDES)
    box = corners if min(corners) >= 0 else sides
    if min(found["image"], found["label"], *box) < 0:
        headerless = len(fields) == len(_RETINANET) and all(_is_number(field) for field in fields[1:5])
        return (_columns(list(_RETINANET))[0] if headerless else None), False
    height, width = (_first({n: p for n, p in names.items() if p not in box}, aliases) for aliases in _IMAGE_SIDES)
    return _Columns(box=box, corners=box is corners, height=height, width=width, **found), True


def _first(names: Mapping[str, int], aliases: Iterable[str]) -> int:
    return next((names[alias] for alias in aliases if alias in names), -1)


def _is_number(field: str) -> bool:
    """Whether a field holds a number, perhaps with a decimal comma, or nothing."""
    try:
        float(field.strip().replace(",", ".") or "0")
    except ValueError:
        return False
    return True


def _read_rows(
    rows: Iterable[CsvRow],
    columns: _Columns,
    *,
    source: SplitSource,
    split: str,
    file: AnnotationFile,
    findings: Findings,
) -> RawSplit:
    if columns.split < 0:
        require_whole_set(source, split, file)
    classes = _listed_classes(Path(source.root) / CLASSES_FILE, findings)
    objects = NamedObjects(ObjectColumns("line"), listed=classes, file=file.path, findings=findings)
    complete = _rows_of_split(rows, columns, split, file=file.path, findings=findings)
    first = list(islice(complete, PROBED_IMAGES))
    folder = image_folder(source, split, file=file.path, names=[_name(row, columns) for row in first])
    images = FoundImages(folder, source, file=file.path, findings=findings)
    index_of: dict[str, int] = {}
    for row in chain(first, complete):
        name = _name(row, columns)
        if name not in index_of:
            size = (_side(row, columns.height), _side(row, columns.width))
            candidates = [other for spelled in spellings(name) for other in (spelled, *with_any_suffix(spelled))]
            index_of[name] = images.add(list(dict.fromkeys(candidates)), record=f"line {row.line}", size=size)
        if index_of[name] >= 0:
            _add_object(row, columns, index_of[name], objects, file=file.path, findings=findings)
    return images.split(*objects.arrays())


def _rows_of_split(
    rows: Iterable[CsvRow], columns: _Columns, split: str, *, file: Path, findings: Findings
) -> Iterator[CsvRow]:
    """The rows that belong to a split and have all columns that are needed."""
    names = split_names(split)
    needed = max(columns.image, columns.label, columns.split, *columns.box) + 1
    for row in rows:
        if len(row.fields) < needed:
            value = f"{len(row.fields)} columns, where at least {needed} belong"
            findings.add("malformed_record", file=str(file), record=f"line {row.line}", value=value)
        elif columns.split < 0 or row.fields[columns.split].strip().lower() in names:
            yield row


def _add_object(
    row: CsvRow, columns: _Columns, owner: int, objects: NamedObjects, *, file: Path, findings: Findings
) -> None:
    """The object of a row, unless it says that its image has none."""
    record, fields = f"line {row.line}", row.fields
    texts = [fields[position].strip() for position in columns.box]
    name = fields[columns.label].strip()
    if not any(texts) and not name:
        return
    try:
        numbers = to_numbers(texts, file=file, record=record, findings=findings)
        if not name:
            raise ValueError("a box without a class")
        area = _optional(row, columns.area)
        (square_px,) = to_numbers([area], file=file, record=record, findings=findings) if area else [float("nan")]
    except ValueError as error:
        findings.add("malformed_record", file=str(file), record=record, value=f"{error} in {shown(fields)}")
        return
    if square_px <= 0 or square_px == float("inf"):
        findings.add("bad_area", file=str(file), record=record, value=f"area {area}")
        square_px = float("nan")
    x, y, third, fourth = numbers
    box = (x, y, third - x, fourth - y) if columns.corners else (x, y, third, fourth)
    crowd = _optional(row, columns.crowd).lower() in _TRUE
    objects.add(owner, box, name=name, number=row.line, record=record, crowd=crowd, area=square_px)


def _name(row: CsvRow, columns: _Columns) -> str:
    return row.fields[columns.image].strip()


def _optional(row: CsvRow, position: int) -> str:
    """The field of a column that may be absent, or ""."""
    return row.fields[position].strip() if 0 <= position < len(row.fields) else ""


def _side(row: CsvRow, position: int) -> int:
    return to_side(_optional(row, position))


def _listed_classes(path: Path, findings: Findings) -> tuple[str, ...]:
    """Names of the rows (name, number), by number where all rows have one; none where there is no such file."""
    rows = list(csv_rows(path, findings=findings)) if path.is_file() else []
    names = [row.fields[0].strip() for row in rows]
    numbers = [natural_number(row.fields[1]) if len(row.fields) > 1 else -1 for row in rows]
    if len(numbers) > 1 and numbers[0] < 0 and min(numbers[1:]) >= 0:
        names, numbers = names[1:], numbers[1:]  # the first row is a header
    if min(numbers, default=-1) >= 0:
        names = [name for _, name in sorted(zip(numbers, names, strict=True))]
    return unique_names(names, file=path, findings=findings)
