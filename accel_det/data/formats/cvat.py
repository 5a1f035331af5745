"""XML of CVAT: "CVAT for images 1.1"."""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from accel_det.data.defects import Findings
from accel_det.data.formats.gather import (
    AnnotationFile,
    FoundImages,
    NamedObjects,
    find_annotations,
    image_folder,
    require_whole_set,
    shown,
    spellings,
    to_numbers,
    to_side,
    unique_names,
)
from accel_det.data.formats.raw import ObjectColumns, RawSplit, SplitSource
from accel_det.data.locate import split_names

_USUAL = ("{split}/annotations.xml", "{split}.xml", "annotations/{split}.xml", "annotations.xml")
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_SIDES = ("left", "top", "width", "height")
_OTHER_SHAPES = ("polyline", "points", "ellipse", "cuboid", "skeleton")
_TRUE = frozenset(("1", "true", "True"))


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in CVAT's format.

    The file is the given one ("{split}" in it is replaced), or `<split>/annotations.xml`, `<split>.xml`, or the
    `annotations.xml` of all splits, of which the subset of each image chooses; without that it is "train". Classes are the
    labels that the file lists, in its order. Corners are taken as they are. Of a turned box, a polygon and a mask the
    enclosing box is read; polylines, points, ellipses, cuboids and skeletons are noted. An object with the attribute
    `is_crowd` is an ignored region.

    Raises:
        ValueError: there is no annotation file, or it does not tell the splits apart.
    """
    file = find_annotations(source, split, what="CVAT XML file", usual=_USUAL)
    labels, elements = _load(file.path, findings)
    elements = _of_split(elements, source, split, file)
    classes = unique_names(labels, file=file.path, findings=findings)
    folder = image_folder(source, split, file=file.path, names=(element.get("name", "") for element in elements))
    images = FoundImages(folder, source, file=file.path, findings=findings)
    objects = NamedObjects(ObjectColumns("object"), listed=classes, file=file.path, findings=findings)
    for position, element in enumerate(elements):
        name = element.get("name", "")
        record = f"image {element.get('id', position)} ({name})"
        size = (to_side(element.get("height")), to_side(element.get("width")))
        index = images.add(spellings(name), record=record, size=size)
        if index >= 0:
            _add_objects(element, index, objects, record=record, file=file.path, findings=findings)
    return images.split(*objects.arrays())


def _load(path: Path, findings: Findings) -> tuple[list[str], list[Element]]:
    """Names of the labels, and the elements of the images; what is wrong with the file is noted."""
    labels: list[str] = []
    images: list[Element] = []
    try:
        for tag, element in _top_elements(path):
            if tag == "meta":
                labels = _label_names(element)
            elif tag == "image":
                images.append(element)
            elif tag == "track":
                value = "tracks of a video; export the task as `CVAT for images 1.1`"
                findings.add("malformed_file", file=str(path), record=f"track {element.get('id')}", value=value)
                break
    except ParseError as error:
        line = f"line {error.position[0]}" if getattr(error, "position", None) else ""
        findings.add("malformed_file", file=str(path), record=line, value=f"no XML: {error}")
    except (OSError, ValueError, LookupError, DefusedXmlException, RecursionError) as error:
        findings.add("malformed_file", file=str(path), value=f"{type(error).__name__}: {error}")
    return labels, images


def _label_names(meta: Element) -> list[str]:
    """The labels of a task or project, without the parts of skeletons."""
    labels = meta.find(".//labels")
    found = [] if labels is None else [label for label in labels.iterfind("label") if label.find("parent") is None]
    return [name for label in found if (name := (label.findtext("name") or "").strip())]


def _top_elements(path: Path) -> Iterator[tuple[str, Element]]:
    """The children of the root, each once it is whole."""
    root: Element | None = None
    depth = 0
    with path.open("rb") as file:
        for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            if root is None:
                root = element
                if root.tag != "annotations":
                    raise ValueError(f"root element {root.tag!r} where 'annotations' belongs")
            elif event == "end" and depth == 1:
                yield element.tag, element
                root.clear()


def _of_split(elements: list[Element], source: SplitSource, split: str, file: AnnotationFile) -> list[Element]:
    """The images whose subset is the split; all, where the file has none."""
    subsets = [element.get("subset", "").lower() for element in elements]
    if elements and not any(subsets):
        require_whole_set(source, split, file)
        return elements
    names = split_names(split)
    return [element for element, subset in zip(elements, subsets, strict=True) if subset in names]


def _add_objects(
    image: Element, owner: int, objects: NamedObjects, *, record: str, file: Path, findings: Findings
) -> None:
    for number, element in enumerate((child for child in image if child.tag != "tag"), start=1):
        place = f"{record}, object {number}"
        label = element.get("label", "").strip()
        if element.tag in _OTHER_SHAPES:
            findings.add("other_shape", file=str(file), record=place, value=f"{element.tag} of class {label!r}")
            continue
        try:
            if not label:
                raise ValueError("no label")
            box = _box(element, file=file, record=place, findings=findings)
        except ValueError as error:
            value = f"{error}; {element.tag} with {shown(dict(element.attrib))}"
            findings.add("malformed_record", file=str(file), record=place, value=value)
            continue
        marks = [mark.text or "" for mark in element.iterfind("attribute") if mark.get("name") == "is_crowd"]
        crowd = any(mark.strip() in _TRUE for mark in marks)
        objects.add(owner, box, name=label, number=number, record=place, crowd=crowd)


def _box(element: Element, *, file: Path, record: str, findings: Findings) -> tuple[float, float, float, float]:
    """Left, top, width and height of what a shape covers, in pixels."""

    def numbers(values: list[str | None]) -> list[float]:
        return to_numbers(values, file=file, record=record, findings=findings)

    if element.tag == "box":
        x1, y1, x2, y2 = numbers([element.get(corner) for corner in _CORNERS])
        (degrees,) = numbers([element.get("rotation", "0")])
        upright = degrees == 0 or x2 < x1 or y2 < y1
        return (x1, y1, x2 - x1, y2 - y1) if upright else _enclosing(x1, y1, x2, y2, turn=math.radians(degrees))
    if element.tag == "mask":
        left, top, width, height = numbers([element.get(side) for side in _SIDES])
        return left, top, width, height
    if element.tag != "polygon":
        raise ValueError("an unknown shape")
    points = [point.split(",") for point in element.get("points", "").split(";")]
    if len(points) < 3 or any(len(point) != 2 for point in points):
        raise ValueError("points x,y;x,y;... of three corners or more belong")
    xs, ys = (numbers([point[axis] for point in points]) for axis in (0, 1))
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _enclosing(x1: float, y1: float, x2: float, y2: float, *, turn: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned by an angle about its center."""
    cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
    width = (x2 - x1) * cosine + (y2 - y1) * sine
    height = (x2 - x1) * sine + (y2 - y1) * cosine
    return (x1 + x2 - width) / 2, (y1 + y2 - height) / 2, width, height
