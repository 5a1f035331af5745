"""CreateML JSON: a list of images, each with labels and boxes by their centers."""

import json
from pathlib import Path

from accel_det.data.defects import Findings
from accel_det.data.formats.gather import (
    FoundImages,
    NamedObjects,
    find_annotations,
    image_folder,
    require_whole_set,
    shown,
    spellings,
    to_numbers,
)
from accel_det.data.formats.raw import ObjectColumns, RawSplit, SplitSource
from accel_det.data.lines import in_one_line, parse_json

FILE = "_annotations.createml.json"
_USUAL = (
    f"{{split}}/{FILE}",
    "{split}.json",
    "{split}/annotations.json",
    "annotations/{split}.json",
    FILE,
    "annotations.json",
)
_SIDES = ("x", "y", "width", "height")
_IMAGE_KEYS = ("image", "imagefilename", "filename")
_OBJECT_KEYS = ("annotations", "annotation")


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in CreateML's format.

    The file is the given one ("{split}" in it is replaced), or `<split>/_annotations.createml.json`, where Roboflow writes
    it, or another of the usual places. Boxes are in pixels, (x, y) is the center. Classes are the names that occur, sorted.

    Raises:
        ValueError: there is no annotation file.
    """
    file = find_annotations(source, split, what="CreateML JSON file", usual=_USUAL)
    require_whole_set(source, split, file)
    entries = _load(file.path, findings)
    names = [_image_name(entry) for entry in entries]
    folder = image_folder(source, split, file=file.path, names=filter(None, names))
    images = FoundImages(folder, source, file=file.path, findings=findings)
    objects = NamedObjects(ObjectColumns("object"), file=file.path, findings=findings)
    for position, (entry, name) in enumerate(zip(entries, names, strict=True)):
        found = _objects(entry)
        if not name or found is None:
            value = f"{shown(entry)} needs a file name in `image` and a list in `annotations`"
            findings.add("malformed_record", file=str(file.path), record=f"entry {position}", value=value)
            continue
        index = images.add(spellings(name), record=f"entry {position}")
        if index >= 0:
            _add_objects(found, index, objects, entry=position, file=file.path, findings=findings)
    return images.split(*objects.arrays())


def _load(path: Path, findings: Findings) -> list[object]:
    """The list of the file; empty, and noted, where it is not one."""
    try:
        document = parse_json(path.read_bytes())
    except json.JSONDecodeError as error:
        findings.add(
            "malformed_file",
            file=str(path),
            record=f"line {error.lineno}, column {error.colno}",
            value=f"no JSON: {error.msg}",
        )
        return []
    except (OSError, ValueError) as error:
        findings.add("malformed_file", file=str(path), value=f"cannot be read: {in_one_line(error)}")
        return []
    if not isinstance(document, list):
        findings.add(
            "malformed_file", file=str(path), value=f"a {type(document).__name__} where a list of images belongs"
        )
        return []
    return document


def _image_name(entry: object) -> str:
    """The file name of an entry, or ""."""
    values = [entry.get(key) for key in _IMAGE_KEYS] if isinstance(entry, dict) else []
    return next((value for value in values if isinstance(value, str)), "")


def _objects(entry: object) -> list[object] | None:
    values = [entry.get(key) for key in _OBJECT_KEYS] if isinstance(entry, dict) else []
    return next((value for value in values if isinstance(value, list)), None)


def _add_objects(
    found: list[object], owner: int, objects: NamedObjects, *, entry: int, file: Path, findings: Findings
) -> None:
    for number, value in enumerate(found, start=1):
        record = f"entry {entry}, object {number}"
        sides = value.get("coordinates") if isinstance(value, dict) else None
        label = value.get("label") if isinstance(value, dict) else None
        try:
            if not isinstance(sides, dict) or not isinstance(label, str):
                raise ValueError("an object with a text in `label` and a box in `coordinates` belongs")
            x, y, width, height = to_numbers(
                [sides.get(side) for side in _SIDES], file=file, record=record, findings=findings
            )
        except ValueError as error:
            findings.add("malformed_record", file=str(file), record=record, value=f"{error}; it is {shown(value)}")
            continue
        objects.add(owner, (x - width / 2, y - height / 2, width, height), name=label, number=number, record=record)
