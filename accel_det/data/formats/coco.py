"""COCO instances JSON."""

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accel_det.data.defects import Findings
from accel_det.data.formats.raw import (
    MOST_AREA,
    UNKNOWN_SIDE,
    ObjectColumns,
    RawObjects,
    RawSplit,
    SplitSource,
    locate_image,
    to_number,
)
from accel_det.data.lines import in_one_line, parse_json
from accel_det.data.locate import Folder, split_names

ROBOFLOW_FILE = "_annotations.coco.json"
_PROBED_IMAGES = 50


class _Categories(NamedTuple):
    names: tuple[str, ...]
    label_of: dict[Hashable, int]


class _Images(NamedTuple):
    index_of: dict[Hashable, int]
    names: list[str]
    files: list[str]
    sizes: list[tuple[int, int]]
    left_out: set[Hashable]


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in COCO's format.

    The annotation file is the given one ("{split}" in it is replaced), or `<root>/<split>/_annotations.coco.json`, or
    `<root>/annotations/instances_<split>.json` (also with 2017 or 2014 behind the split). Category ids become labels in
    the order of the ids. An image may have any id, number or text.

    Raises:
        ValueError: there is no annotation file.
    """
    path = annotation_file(source, split)
    document = _load(path, findings)
    if document is None:
        return RawSplit.empty()
    try:
        categories = _categories(document["categories"], path, findings)
    except ValueError as error:
        findings.add("malformed_file", file=str(path), record="categories", value=str(error))
        return RawSplit.empty()
    folder = Folder(_image_folder(source, split, path=path, images=document["images"]))
    images = _read_images(document["images"], folder, path=path, root=Path(source.root), findings=findings)
    objects = _read_annotations(document["annotations"], images, categories, path=str(path), findings=findings)
    return RawSplit(
        classes=categories.names,
        names=images.names,
        files=images.files,
        images=None,
        annotation_files=[str(path)] * len(images.names),
        sizes=np.array(images.sizes, np.int64).reshape(-1, 2),
        objects=objects,
    )


def annotation_file(source: SplitSource, split: str) -> Path:
    """Where the annotations of a split are.

    Raises:
        ValueError: nowhere; the message lists where they were looked for.
    """
    root = Path(source.root)
    if source.annotations is not None:
        candidates = [root / source.annotations.replace("{split}", name) for name in split_names(split)]
    else:
        candidates = [root / name / ROBOFLOW_FILE for name in split_names(split)]
        candidates += [
            root / "annotations" / f"instances_{name}{year}.json"
            for name in split_names(split)
            for year in ("", "2017", "2014")
        ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked_for = ", ".join(str(candidate) for candidate in dict.fromkeys(candidates))
    raise ValueError(
        f"set {source.name!r}, split {split!r}: no COCO annotation file; looked for {looked_for}; "
        "name it in `annotations`"
    )


def _load(path: Path, findings: Findings) -> Mapping[str, Sequence[object]] | None:
    """The document, with its three lists; None and a finding where it is not one."""
    try:
        document = parse_json(path.read_bytes())
    except json.JSONDecodeError as error:
        findings.add(
            "malformed_file",
            file=str(path),
            record=f"line {error.lineno}, column {error.colno}",
            value=f"no JSON: {error.msg}",
        )
        return None
    except (OSError, ValueError) as error:
        findings.add("malformed_file", file=str(path), value=f"cannot be read: {in_one_line(error)}")
        return None
    if not isinstance(document, dict):
        findings.add("malformed_file", file=str(path), value=f"a {type(document).__name__} where an object belongs")
        return None
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            value = f"{key!r} is {type(document.get(key)).__name__} where a list belongs"
            findings.add("malformed_file", file=str(path), record=key, value=value)
            return None
    return document


def _categories(entries: Sequence[object], path: Path, findings: Findings) -> _Categories:
    name_of: dict[int | str, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError(f"{_shown(entry)} has no name")
        identifier = entry.get("id")
        if isinstance(identifier, bool) or not isinstance(identifier, (int, str)):
            raise ValueError(f"{_shown(entry)} has no id that is an integer or a text")
        if identifier in name_of:
            raise ValueError(f"id {identifier!r} is that of {name_of[identifier]!r} and of {entry['name']!r}")
        name_of[identifier] = entry["name"]
    names: list[str] = []
    label_of: dict[Hashable, int] = {}
    for identifier in sorted(name_of, key=lambda key: (isinstance(key, str), key)):
        name = name_of[identifier]
        if name in names:
            findings.add("duplicate_class", file=str(path), record=f"category {identifier}", value=f"name {name!r}")
        else:
            names.append(name)
        label_of[identifier] = names.index(name)
    return _Categories(tuple(names), label_of)


def _image_folder(source: SplitSource, split: str, *, path: Path, images: Sequence[object]) -> Path:
    """The folder that the file names are relative to: of the usual ones, the first that holds one of the images."""
    root = Path(source.root)
    if source.images is not None:
        given = [root / source.images.replace("{split}", name) for name in split_names(split)]
        return next((folder for folder in given if folder.is_dir()), given[0])
    if path.name == ROBOFLOW_FILE:
        return path.parent
    named = [
        folder / f"{name}{year}"
        for name in split_names(split)
        for year in ("", "2017", "2014")
        for folder in (root / "images", root)
    ]
    candidates = [*named, root / "images", root, path.parent]
    probes = [
        entry["file_name"] for entry in images[:_PROBED_IMAGES] if isinstance(entry, dict) and "file_name" in entry
    ]
    for folder in candidates:
        if folder.is_dir() and any(isinstance(name, str) and _exists(folder, name) for name in probes):
            return folder
    return next((folder for folder in candidates if folder.is_dir()), root)


def _exists(folder: Path, name: str) -> bool:
    return Folder(folder).find(name) is not None


def _read_images(entries: Sequence[object], folder: Folder, *, path: Path, root: Path, findings: Findings) -> _Images:
    images = _Images({}, [], [], [], set())
    seen_files: dict[str, Hashable] = {}
    shown_root = Folder(root)
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or not _is_id(entry.get("id")):
            value = f"{_shown(entry)} needs id and file_name"
            findings.add("malformed_record", file=str(path), record=f"images[{position}]", value=value)
            continue
        identifier, name = entry["id"], entry["file_name"]
        record = f"image {identifier} ({name})"
        if identifier in images.index_of or identifier in images.left_out:
            findings.add("duplicate_image_id", file=str(path), record=record, value=f"id {identifier!r} again")
            continue
        located = locate_image(folder, [name], findings=findings, annotation_file=str(path), record=record)
        if located is None:
            images.left_out.add(identifier)
            continue
        if located.path in seen_files:
            value = f"the file of image {seen_files[located.path]} again"
            findings.add("duplicate_file", file=str(path), record=record, value=value)
            images.left_out.add(identifier)
            continue
        seen_files[located.path] = identifier
        images.index_of[identifier] = len(images.names)
        images.names.append(shown_root.relative(located.path))
        images.files.append(located.path)
        images.sizes.append((_side(entry.get("height")), _side(entry.get("width"))))
    return images


def _read_annotations(
    entries: Sequence[object], images: _Images, categories: _Categories, *, path: str, findings: Findings
) -> RawObjects:
    columns = ObjectColumns("annotation")
    seen: set[Hashable] = set()
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            value = f"{_shown(entry)} is no object"
            findings.add("malformed_record", file=path, record=f"annotations[{position}]", value=value)
            continue
        identifier = entry.get("id")
        number = identifier if isinstance(identifier, int) and abs(identifier) < 1 << 63 else position
        record = f"annotation {identifier}" if identifier is not None else f"annotations[{position}]"
        if _is_id(identifier):
            if identifier in seen:
                findings.add("duplicate_annotation_id", file=path, record=record, value=f"id {identifier!r} again")
            seen.add(identifier)
        owner = entry.get("image_id")
        index = images.index_of.get(owner) if _is_id(owner) else None
        if index is None:
            if not _is_id(owner) or owner not in images.left_out:
                findings.add("orphan_annotation", file=path, record=record, value=f"image_id {_shown(owner)}")
            continue
        try:
            box = _box(entry.get("bbox"), path=path, record=record, findings=findings)
        except ValueError as error:
            findings.add("malformed_record", file=path, record=record, value=str(error))
            continue
        category = entry.get("category_id")
        label = categories.label_of.get(category, -1) if _is_id(category) else -1
        if label < 0:
            value = f"category_id {_shown(category)} is not in categories"
            findings.add("label_out_of_range", file=path, record=record, value=value)
            continue
        area = _area(entry.get("area"), path=path, record=record, findings=findings)
        columns.add(index, box, label=label, record=number, crowd=entry.get("iscrowd") in (1, True), area=area)
    return columns.arrays()


def _box(value: object, *, path: str, record: str, findings: Findings) -> list[float]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"bbox {_shown(value)} where [left, top, width, height] belongs")
    if all(type(side) is float or type(side) is int for side in value):
        return [min(max(side, -1e300), 1e300) if type(side) is int else side for side in value]

    def on_comma() -> None:
        findings.add("decimal_comma", file=path, record=record, value=f"bbox {_shown(value)}")

    try:
        return [to_number(side, on_comma=on_comma) for side in value]
    except ValueError as error:
        raise ValueError(f"bbox {_shown(value)}: {error}") from error


def _area(value: object, *, path: str, record: str, findings: Findings) -> float:
    """Annotated area in square pixels; NaN, to be computed from the box, where it is missing or impossible."""
    if value is None:
        return float("nan")
    if isinstance(value, (int, float)) and 0 < value <= MOST_AREA:
        return float(value)
    findings.add("bad_area", file=path, record=record, value=f"area {_shown(value)}")
    return float("nan")


def _side(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1 << 31 else UNKNOWN_SIDE


def _is_id(value: object) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
