"""YOLO text labels: one file per image, one line per object, in shares of the image's width and height."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from accel_det.data.defects import Findings
from accel_det.data.formats.raw import UNKNOWN_SIDE, ObjectColumns, RawSplit, SplitSource, locate_image, to_number
from accel_det.data.lines import one_line, read_lines
from accel_det.data.locate import Folder, list_images, split_names
from accel_det.plain_yaml import YamlError, read_yaml

_BOX_COLUMNS = 5
_POLYGON_MIN_COLUMNS = 7


class _Layout(NamedTuple):
    """Class names, and the images of a split with the folder that their names are relative to."""

    classes: tuple[str, ...]
    images: list[str]
    listing: str


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in YOLO's format.

    Classes and image folders come from the given YAML file or `<root>/data.yaml`, or from Darknet's `obj.data`. An
    image folder that the file names is tried as it is written, then without "..", then as `<root>/<split>/images` or
    `<root>/images/<split>`; folders outside the root are not read. The labels of `.../images/a.b.jpg` are
    `.../labels/a.b.txt`, or beside the image. An empty label file is an image without objects; a missing one too, but
    it is reported. Polygons become their bounding boxes.

    Raises:
        ValueError: there is no description of the set, or no images of this split.
    """
    layout = _layout(source, split, findings=findings)
    folder = Folder(source.root)
    names: list[str] = []
    files: list[str] = []
    label_files: list[str] = []
    seen: set[str] = set()
    columns = ObjectColumns("line", relative=True)
    for name in layout.images:
        located = locate_image(folder, [name], findings=findings, annotation_file=layout.listing, record=name)
        if located is None:
            continue
        if located.path in seen:
            findings.add("duplicate_file", file=layout.listing, record=name, value="listed again")
            continue
        seen.add(located.path)
        label_file = _label_file(Path(located.path), Path(folder.root))
        _read_labels(label_file, len(names), num_classes=len(layout.classes), columns=columns, findings=findings)
        names.append(folder.relative(located.path))
        files.append(located.path)
        label_files.append(str(label_file))
    sizes = np.full((len(names), 2), UNKNOWN_SIDE, np.int64)
    return RawSplit(layout.classes, names, files, None, label_files, sizes, columns.arrays())


def _layout(source: SplitSource, split: str, *, findings: Findings) -> _Layout:
    root = Path(source.root)
    given = root / source.annotations if source.annotations is not None else None
    darknet = given if given is not None and given.suffix == ".data" else root / "obj.data"
    description = given if given is not None else _only_yaml(root)
    if description is None or description.suffix == ".data":
        if not darknet.is_file():
            raise ValueError(f"set {source.name!r}: no data.yaml and no obj.data in {root}; name it in `annotations`")
        return _darknet_layout(darknet, root=root, split=split, set_name=source.name)
    if not description.is_file():
        raise ValueError(f"set {source.name!r}: no file {description}; correct `annotations`")
    try:
        document = read_yaml(description)
    except YamlError as error:
        findings.add("malformed_file", file=str(description), record=error.where, value=f"no YAML: {error}")
        return _Layout((), [], str(description))
    if not isinstance(document, dict):
        findings.add("malformed_file", file=str(description), value="no mapping with names, train and val")
        return _Layout((), [], str(description))
    try:
        classes = _class_names(document.get("names"), document.get("nc"))
    except ValueError as error:
        findings.add("malformed_file", file=str(description), record="names", value=str(error))
        return _Layout((), [], str(description))
    entries = [source.images.replace("{split}", split)] if source.images is not None else _entries(document, split)
    base = document.get("path")
    images: list[str] = []
    for entry in entries:
        as_written, found = _expand(entry, base=base if isinstance(base, str) else "", root=root, file=description)
        images += found
        if not as_written:
            findings.add("path_beside", file=str(description), record=split, value=f"{entry!r} is not inside {root}")
    if not images:
        images = _images_of_split(root, split)
    if not images:
        raise ValueError(
            f"set {source.name!r}, split {split!r}: no images; {description} names {entries or 'none'}, and none are "
            f"in {root / split / 'images'} or {root / 'images' / split}; name the folder in `images`"
        )
    return _Layout(classes, images, str(description))


def _only_yaml(root: Path) -> Path | None:
    """`data.yaml`, or the one YAML file there is."""
    for name in ("data.yaml", "data.yml"):
        if (root / name).is_file():
            return root / name
    found = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    return found[0] if len(found) == 1 else None


def _class_names(names: object, count: object) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise ValueError(f"names has the keys {list(names)}, where 0 to {len(names) - 1} belong")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"names is {names!r}, where a list of class names, or a mapping from number to name, belongs")
    if isinstance(count, int) and count != len(names):
        raise ValueError(f"nc is {count}, but there are {len(names)} names")
    texts = tuple(str(name) for name in names)
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated:
        raise ValueError(f"names has {repeated} more than once")
    return texts


def _entries(document: dict[object, object], split: str) -> list[str]:
    """What the YAML file says about a split, which it may call by another name."""
    for name in split_names(split):
        value = document.get(name)
        if isinstance(value, str):
            return [value]
        if isinstance(value, list):
            return [str(entry) for entry in value]
    return []


def _expand(entry: str, *, base: str, root: Path, file: Path) -> tuple[bool, list[str]]:
    """Whether a folder or a list of images is where the YAML file says, and the names of the images, from the root.

    Only places inside the root are looked at: such paths often point to the machine or the folder of the exporter.
    """
    written = PurePosixPath(entry.replace("\\", "/"))
    inward = PurePosixPath(*[part for part in written.parts if part not in ("..", "/")])
    real_root = root.resolve()
    as_written = (root / base / written, file.parent / written)
    for candidate in (*as_written, root / base / inward, file.parent / inward, root / inward):
        try:
            inside = candidate.resolve().is_relative_to(real_root)
            is_folder, is_file = candidate.is_dir(), candidate.is_file()
        except (OSError, RuntimeError, ValueError):  # a name that is too long, links in a circle, a NUL byte
            continue
        if inside and is_folder:
            return candidate in as_written, _relative(list_images(candidate), root)
        if inside and is_file:
            return candidate in as_written, _listed(candidate, root)
    return False, []


def _images_of_split(root: Path, split: str) -> list[str]:
    for name in split_names(split):
        for folder in (root / name / "images", root / "images" / name):
            if folder.is_dir():
                return _relative(list_images(folder), root)
    return []


def _relative(paths: list[Path], root: Path) -> list[str]:
    real_root = root.resolve()
    return [
        (path.relative_to(root) if path.is_relative_to(root) else path.resolve().relative_to(real_root)).as_posix()
        for path in paths
    ]


def _listed(listing: Path, root: Path) -> list[str]:
    """The images that a text file lists, one a line; a path is tried from the root, and without its first folder."""
    folder = Folder(root)
    names = []
    for line in read_lines(listing):
        name = line.strip().removeprefix("./")
        if name:
            inner = name.partition("/")[2]
            names.append(inner if inner and folder.find(name) is None and folder.find(inner) is not None else name)
    return names


def _darknet_layout(path: Path, *, root: Path, split: str, set_name: str) -> _Layout:
    """Darknet's `obj.data`: lines of `key = value`, where names and image lists are files."""
    pairs = [line.partition("=") for line in read_lines(path)]
    values = {key.strip(): value.strip() for key, _, value in pairs if key.strip()}
    folder = Folder(root)

    def listed_file(key: str) -> Path | None:
        name = values.get(key, "")
        found = folder.find(name) or folder.find(name.partition("/")[2])
        return Path(found.path) if found is not None and found.inside else None

    names_file = listed_file("names")
    list_file = next((found for name in split_names(split) if (found := listed_file(name)) is not None), None)
    if names_file is None or list_file is None:
        missing = "names" if names_file is None else split
        shown = one_line(repr(values), most=300)
        raise ValueError(
            f"set {set_name!r}: {path} names no file for {missing!r} that is inside {root}; it has {shown}"
        )
    classes = tuple(line.strip() for line in read_lines(names_file) if line.strip())
    return _Layout(classes, _listed(list_file, root), str(list_file))


def _label_file(image: Path, root: Path) -> Path:
    """`labels` in place of the last folder called `images`, or beside the image; the stem may hold dots."""
    beside = image.with_name(image.stem + ".txt")
    parts = list(image.parts)
    for position in range(len(parts) - 2, len(root.parts) - 1, -1):
        if parts[position] == "images":
            sibling = Path(*parts[:position], "labels", *parts[position + 1 : -1], image.stem + ".txt")
            return sibling if sibling.exists() or not beside.exists() else beside
    return beside


def _read_labels(path: Path, owner: int, *, num_classes: int, columns: ObjectColumns, findings: Findings) -> None:
    if not path.exists():
        findings.add("missing_label_file", file=str(path), value="no label file")
        return
    try:
        lines = read_lines(path)
    except ValueError as error:
        findings.add("malformed_record", file=str(path), value=str(error))
        return
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        record = f"line {number}"
        try:
            label, box = _parse(fields, on_comma=_comma_note(path, record, line=line, findings=findings))
        except ValueError as error:
            findings.add("malformed_record", file=str(path), record=record, value=str(error))
            continue
        if not 0 <= label < num_classes:
            value = f"class {label} of {num_classes}"
            findings.add("label_out_of_range", file=str(path), record=record, value=value)
            continue
        columns.add(owner, box, label=label, record=number)


def _parse(fields: list[str], *, on_comma: Callable[[], None]) -> tuple[int, list[float]]:
    """Class and xywh box, in shares, of one line."""
    numbers = [to_number(field, on_comma=on_comma) for field in fields]
    if not numbers[0].is_integer():
        raise ValueError(f"class {fields[0]!r} is no integer")
    if len(numbers) == _BOX_COLUMNS:
        _, center_x, center_y, width, height = numbers
        return int(numbers[0]), [center_x - width / 2, center_y - height / 2, width, height]
    if len(numbers) >= _POLYGON_MIN_COLUMNS and len(numbers) % 2 == 1:
        xs, ys = numbers[1::2], numbers[2::2]
        return int(numbers[0]), [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    raise ValueError(f"{len(numbers)} columns, where class and box (5) or class and polygon (7, 9, ...) belong")


def _comma_note(path: Path, record: str, *, line: str, findings: Findings) -> Callable[[], None]:
    noted = False

    def on_comma() -> None:
        nonlocal noted
        if not noted:
            findings.add("decimal_comma", file=str(path), record=record, value=line.strip()[:80])
        noted = True

    return on_comma
