"""Pascal VOC XML."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from accel_det.data.defects import Findings
from accel_det.data.formats.raw import UNKNOWN_SIDE, ObjectColumns, RawSplit, SplitSource, locate_image, to_number
from accel_det.data.lines import read_lines
from accel_det.data.locate import IMAGE_SUFFIXES, Folder, list_images, split_names

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_WHOLE_FOLDER = "train"


class Layout(NamedTuple):
    """Where a split lies.

    Attributes:
        xml_files: one for each image.
        listed: whether a list chose them.
        images: folder of the images.
        annotations: where it is given, images lie below `images` as XML files lie below it.
        suffix: of images, where the XML does not say it.
    """

    xml_files: list[Path]
    listed: bool
    images: Path
    annotations: Path | None = None
    suffix: str = ".jpg"


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    record: int


class _Annotation(NamedTuple):
    filename: str
    height: int
    width: int
    objects: list[_Object]


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in Pascal VOC's format.

    The split is `ImageSets/Main/<split>.txt` with `Annotations` and `JPEGImages`; without ImageSets it is every XML
    file of `<root>/<split>`, or, for "train", of the whole set. `difficult` objects become crowd: neither trained on
    nor counted as misses. Classes are the names that occur, sorted.

    Corners are taken as they are: (xmin, ymin, xmax, ymax) are the edges of the box in continuous pixels. The original
    VOC counts pixels from 1 and includes the last, which would be (xmin - 1, ymin - 1, xmax, ymax); but what writes VOC
    XML today does not (LabelImg, CVAT, Roboflow), and converters of the original to COCO and YOLO do not shift it.

    Raises:
        ValueError: there is no such split.
    """
    return read_layout(source, _layout(source, split, findings=findings), findings=findings)


def read_layout(source: SplitSource, layout: Layout, *, findings: Findings) -> RawSplit:
    """The images and objects of XML files that have been found."""
    folder, shown_root = Folder(layout.images), Folder(source.root)
    names: list[str] = []
    files: list[str] = []
    sizes: list[tuple[int, int]] = []
    annotation_files: list[str] = []
    objects: list[tuple[int, _Object]] = []
    seen: set[str] = set()
    for path in layout.xml_files:
        annotation = _read_file(path, layout=layout, findings=findings)
        if annotation is None:
            continue
        name = (
            path.stem if layout.annotations is None else path.relative_to(layout.annotations).with_suffix("").as_posix()
        )
        candidates = _candidates(name, annotation.filename, suffix=layout.suffix)
        located = locate_image(folder, candidates, findings=findings, annotation_file=str(path), record="filename")
        if located is None:
            continue
        if located.path in seen:
            findings.add("duplicate_file", file=str(path), record="filename", value=f"{located.path} again")
            continue
        seen.add(located.path)
        objects.extend((len(names), found) for found in annotation.objects)
        names.append(shown_root.relative(located.path))
        files.append(located.path)
        sizes.append((annotation.height, annotation.width))
        annotation_files.append(str(path))
    if not layout.listed:
        described = {path.stem.lower() for path in layout.xml_files}
        _note_unlisted(layout.images, used=set(files), described=described, findings=findings)
    classes = tuple(sorted({found.name for _, found in objects}))
    columns = ObjectColumns("object")
    for owner, found in objects:
        x1, y1, x2, y2 = found.box
        label = classes.index(found.name)
        columns.add(owner, (x1, y1, x2 - x1, y2 - y1), label=label, record=found.record, crowd=found.difficult)
    size_array = np.array(sizes, np.int64).reshape(-1, 2)
    return RawSplit(classes, names, files, None, annotation_files, size_array, columns.arrays())


def listed_files(listing: Path, annotations: Path, *, findings: Findings) -> list[Path]:
    """The XML files that a list names, each once; one that leads out of the folder of the annotations is noted and left out."""
    try:
        lines = read_lines(listing)
    except ValueError as error:
        findings.add("malformed_file", file=str(listing), value=str(error))
        return []
    files: dict[Path, None] = {}
    for number, line in enumerate(lines, start=1):
        name = PurePosixPath(*line.split()[:1])
        if name.is_absolute() or ".." in name.parts:
            value = f"{name} leads out of {annotations}"
            findings.add("malformed_record", file=str(listing), record=f"line {number}", value=value)
        elif name.name:
            files[annotations / f"{name}.xml"] = None
    return list(files)


def _layout(source: SplitSource, split: str, *, findings: Findings) -> Layout:
    root = Path(source.root)
    annotations = root / (source.annotations or "Annotations").replace("{split}", split)
    lists = root / "ImageSets" / "Main"
    if lists.is_dir():
        for name in split_names(split):
            if (lists / f"{name}.txt").is_file():
                files = listed_files(lists / f"{name}.txt", annotations, findings=findings)
                images = root / (source.images or "JPEGImages").replace("{split}", split)
                return Layout(files, True, images)
        present = ", ".join(sorted(path.stem for path in lists.glob("*.txt")))
        raise ValueError(f"set {source.name!r}: no split {split!r} in {lists}; there are {present or 'none'}")
    folders = [root / name for name in split_names(split)]
    folders += [annotations, root] if split == _WHOLE_FOLDER or source.annotations is not None else []
    for folder in folders:
        found = sorted(folder.glob("*.xml"), key=lambda path: path.name) if folder.is_dir() else []
        if found:
            beside = root / "JPEGImages" if folder == annotations and (root / "JPEGImages").is_dir() else folder
            images = root / source.images.replace("{split}", split) if source.images else beside
            return Layout(found, False, images)
    raise ValueError(
        f"set {source.name!r}, split {split!r}: neither {lists / f'{split}.txt'} nor XML files in "
        f"{', '.join(str(folder) for folder in folders)}; without split files use `holdout` to make a val split"
    )


def _candidates(stem: str, filename: str, *, suffix: str) -> list[str]:
    """Names the image of `<stem>.xml` may have: the stem with the suffix inside or the given one, the name inside, the
    stem with any suffix.

    The stem comes first: the name inside is often left over from before files were renamed. Of a path, the last part
    counts.
    """
    base = filename.replace("\\", "/").rsplit("/", 1)[-1]
    suffix = Path(base).suffix or suffix
    others = [stem + other for other in sorted(IMAGE_SUFFIXES)]
    return list(dict.fromkeys([stem + suffix, *([base] if base else []), *others]))


def _read_file(path: Path, *, layout: Layout, findings: Findings) -> _Annotation | None:
    """The annotation of one image, or None and a finding."""
    file = str(path)
    try:
        root = fromstring(path.read_bytes(), forbid_dtd=True)
    except FileNotFoundError:
        value = f"{path.stem!r} is listed, its annotation is not there; the image is left out"
        findings.add("malformed_record", file=file, value=value)
        return None
    except ParseError as error:
        line = f"line {error.position[0]}" if getattr(error, "position", None) else ""
        findings.add("malformed_record", file=file, record=line, value=f"no XML: {error}; the image is left out")
        return None
    except (OSError, ValueError, LookupError, DefusedXmlException, RecursionError) as error:
        value = f"{type(error).__name__}: {error}; the image is left out"
        findings.add("malformed_record", file=file, value=value)
        return None
    if root.tag != "annotation":
        findings.add("malformed_record", file=file, value=f"root element {root.tag!r} where 'annotation' belongs")
        return None
    objects = []
    for number, element in enumerate(root.findall("object"), start=1):
        found = _read_object(element, number, file=file, findings=findings)
        if found is not None:
            objects.append(found)
    height, width = (_side(root.findtext(f"size/{side}")) for side in ("height", "width"))
    return _Annotation((root.findtext("filename") or "").strip(), height, width, objects)


def _read_object(element: Element, number: int, *, file: str, findings: Findings) -> _Object | None:
    record = f"object {number}"
    name = (element.findtext("name") or "").strip()
    texts = [element.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    if not name or any(text is None for text in texts):
        value = f"name {name!r}, bndbox {dict(zip(_CORNERS, texts, strict=True))}"
        findings.add("malformed_record", file=file, record=record, value=value)
        return None
    on_comma = _comma_note(file, record, texts=texts, findings=findings)
    try:
        x1, y1, x2, y2 = (to_number(text, on_comma=on_comma) for text in texts)
    except ValueError as error:
        findings.add("malformed_record", file=file, record=record, value=f"bndbox: {error}")
        return None
    difficult = (element.findtext("difficult") or "").strip() in ("1", "true", "True")
    return _Object(name, (x1, y1, x2, y2), difficult, number)


def _comma_note(file: str, record: str, *, texts: list[str | None], findings: Findings) -> Callable[[], None]:
    """Notes decimal commas of one record once."""
    noted = False

    def on_comma() -> None:
        nonlocal noted
        if not noted:
            findings.add("decimal_comma", file=file, record=record, value=f"bndbox {texts}")
        noted = True

    return on_comma


def _note_unlisted(folder: Path, *, used: set[str], described: set[str], findings: Findings) -> None:
    """Images without XML: nobody said that they show nothing, so they are left out."""
    if not folder.is_dir():
        return
    base = Path(Folder(folder).root)
    for path in list_images(base):
        if str(path) not in used and path.stem.lower() not in described:
            findings.add("unlisted_image", file=str(path), value="no XML file of this name")


def _side(text: str | None) -> int:
    try:
        value = float((text or "").replace(",", "."))
    except ValueError:
        return UNKNOWN_SIDE
    return int(value) if 0 < value < 1 << 31 else UNKNOWN_SIDE
