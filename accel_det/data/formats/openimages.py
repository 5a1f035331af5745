"""CSV of Open Images: boxes in shares of the image, classes by identifiers."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from accel_det.data.defects import Findings
from accel_det.data.formats.csv_rows import CsvRow, column_names, csv_rows, repeated_column
from accel_det.data.formats.gather import (
    PROBED_IMAGES,
    FoundImages,
    NamedObjects,
    find_annotations,
    image_folder,
    require_whole_set,
    shown,
    to_numbers,
    with_any_suffix,
)
from accel_det.data.formats.raw import ObjectColumns, RawSplit, SplitSource
from accel_det.data.locate import split_names

_USUAL = (
    "annotations/{split}-annotations-bbox.csv",
    "{split}-annotations-bbox.csv",
    "annotations/*{split}-annotations-bbox.csv",
    "*{split}-annotations-bbox.csv",
    "{split}/labels/detections.csv",
    "all_bounding_boxes.csv",
)
_LISTS = ("annotations/*{split}-images*.csv", "*{split}-images*.csv")
_NAMES = tuple(
    f"{folder}{file}"
    for file in ("class-descriptions-boxable.csv", "*class-descriptions*.csv", "classes.csv")
    for folder in ("annotations/", "", "metadata/", "*/metadata/")
)
_IMAGE, _LABEL, _CROWD = "imageid", "labelname", "isgroupof"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Columns(NamedTuple):
    image: int
    label: int
    corners: tuple[int, ...]
    crowd: int


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in the format of Open Images.

    The boxes are in the given file ("{split}" in it is replaced), or in `[annotations/]<split>-annotations-bbox.csv`. Images
    without boxes are those that `<split>-images*.csv` lists beyond; without such a list an image without boxes is left out.
    Where a `class-descriptions*.csv` lies beside, it gives the classes, their order and their names; else the classes
    are the identifiers that occur, sorted. Boxes around groups are ignored regions.

    Raises:
        ValueError: there is no file of boxes.
    """
    file = find_annotations(source, split, what="Open Images CSV file", usual=_USUAL)
    require_whole_set(source, split, file)
    path = file.path
    rows = csv_rows(path, findings=findings)
    columns = _columns(next(rows, None), path, findings)
    if columns is None:
        return RawSplit.empty()
    name_of = _names(Path(source.root), findings)
    listed = _listed_images(source, split, findings)
    first = list(islice(rows, PROBED_IMAGES))
    probes = [name for row in first for name in with_any_suffix(row.fields[columns.image].strip())[:2]]
    folder = image_folder(source, split, file=path, names=[*probes, *(f"{name}.jpg" for name in listed or ())])
    images = FoundImages(folder, source, file=path, findings=findings)
    classes = tuple(dict.fromkeys(name_of.values()))
    objects = NamedObjects(ObjectColumns("line", relative=True), listed=classes, file=path, findings=findings)
    index_of: dict[str, int] = {}
    for row in chain(first, rows):
        if len(row.fields) <= max(columns.image, columns.label, *columns.corners):
            value = f"{len(row.fields)} columns: {shown(row.fields)}"
            findings.add("malformed_record", file=str(path), record=f"line {row.line}", value=value)
            continue
        name = row.fields[columns.image].strip()
        if name not in index_of:
            index_of[name] = images.add(with_any_suffix(name), record=f"line {row.line}")
        if index_of[name] >= 0:
            _add_object(row, columns, index_of[name], objects, name_of=name_of, file=path, findings=findings)
    for name in listed or ():
        if name not in index_of:
            images.add(with_any_suffix(name), record=f"image {name}")
    if listed is None:
        images.note_unlisted()
    return images.split(*objects.arrays())


def _columns(header: CsvRow | None, path: Path, findings: Findings) -> _Columns | None:
    """Where the columns are; None, and noted, where one is missing."""
    if header is None:
        return None
    names = column_names(header.fields)
    missing = [name for name in (_IMAGE, _LABEL, *_CORNERS) if name not in names]
    repeated = repeated_column(header.fields)
    if missing or repeated:
        value = f"columns {shown(header.fields)}, where ImageID, LabelName, XMin, YMin, XMax and YMax belong"
        value = value if missing else f"the column {repeated!r} is there twice"
        findings.add("malformed_file", file=str(path), record=f"line {header.line}", value=value)
        return None
    corners = tuple(names[corner] for corner in _CORNERS)
    return _Columns(names[_IMAGE], names[_LABEL], corners, names.get(_CROWD, -1))


def _add_object(
    row: CsvRow,
    columns: _Columns,
    owner: int,
    objects: NamedObjects,
    *,
    name_of: dict[str, str],
    file: Path,
    findings: Findings,
) -> None:
    record, fields = f"line {row.line}", row.fields
    label = fields[columns.label].strip()
    try:
        if not label:
            raise ValueError("no LabelName")
        corners = [fields[position].strip() for position in columns.corners]
        x1, y1, x2, y2 = to_numbers(corners, file=file, record=record, findings=findings)
    except ValueError as error:
        findings.add("malformed_record", file=str(file), record=record, value=f"{error} in {shown(fields)}")
        return
    crowd = 0 <= columns.crowd < len(fields) and fields[columns.crowd].strip() in ("1", "True", "true")
    box = (x1, y1, x2 - x1, y2 - y1)
    objects.add(owner, box, name=name_of.get(label, label), number=row.line, record=record, crowd=crowd)


def _names(root: Path, findings: Findings) -> dict[str, str]:
    """Names of the classes by identifier, in the order of the file; none where there is no such file."""
    found = next((path for place in _NAMES for path in sorted(root.glob(place))), None)
    rows: Iterator[CsvRow] = iter(()) if found is None else csv_rows(found, findings=findings)
    names: dict[str, str] = {}
    for row in rows:
        identifier, name = row.fields[0].strip(), row.fields[-1].strip()
        if row.line > 1 or identifier.lower() not in ("labelname", "mid"):
            names.setdefault(identifier, name)
    return names


def _listed_images(source: SplitSource, split: str, findings: Findings) -> list[str] | None:
    """Identifiers of all images of the split; None where there is no list of them."""
    root = Path(source.root)
    places = [place.replace("{split}", name) for place in _LISTS for name in split_names(split)]
    found = next((path for place in places for path in sorted(root.glob(place))), None)
    if found is None:
        return None
    rows = csv_rows(found, findings=findings)
    header = next(rows, None)
    position = -1 if header is None else column_names(header.fields).get(_IMAGE, -1)
    if position < 0:
        findings.add("malformed_file", file=str(found), record="line 1", value="no column ImageID")
        return []
    return list(dict.fromkeys(row.fields[position].strip() for row in rows if len(row.fields) > position))
