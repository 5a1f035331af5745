"""Every defect that a box can have, in every format that has boxes."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from small_sets import HEIGHT, WIDTH, Files, png, write_files

from accel_det.data.sources import SetSpec

Sides = tuple[float | str, float, float, float]
"""Left, top, width, height in pixels; a text stands for a left that is none."""

GOOD: Sides = (1, 2, 10, 12)


class Defect(NamedTuple):
    """A second box beside a good one, the kind of what must be found, and how many of the two are left; 0: it stops."""

    name: str
    box: Sides
    found: str
    left: int = 0


DEFECTS = [
    Defect("nan", (math.nan, 2, 3, 4), "nan_box"),
    Defect("infinity", (math.inf, 2, 3, 4), "nan_box"),
    Defect("minus infinity", (-math.inf, 2, 3, 4), "nan_box"),
    Defect("1e308, which the sum exceeds", (1.7e308, 2, 1.7e308, 4), "nan_box"),
    Defect("1e30", (1e30, 2, 1e30, 4), "outside_image"),
    Defect("a negative width", (20, 2, -3, 4), "negative_side"),
    Defect("a negative height", (20, 9, 3, -4), "negative_side"),
    Defect("no width", (20, 2, 0, 4), "zero_side", 1),
    Defect("a thousandth of a pixel", (20, 2, 3, 0.001), "zero_side", 1),
    Defect("right of the image", (50, 2, 3, 4), "outside_image"),
    Defect("above the image", (1, -20, 3, 4), "outside_image"),
    Defect("over the edge", (-5, 2, 10, 4), "partly_outside", 2),
    Defect("larger than the image", (-5, -5, 60, 50), "partly_outside", 2),
    Defect("an object twice", GOOD, "duplicate_box", 1),
    Defect("a word", ("wide", 2, 3, 4), "malformed_record"),
]


def _sides(box: Sides) -> Sequence[float | str]:
    return box


def _corners(box: Sides) -> Sequence[float | str]:
    left, top, width, height = box
    return [left, top, left if isinstance(left, str) else left + width, top + height]


def _centers(box: Sides) -> Sequence[float | str]:
    left, top, width, height = box
    return [left if isinstance(left, str) else left + width / 2, top + height / 2, width, height]


def _shares(numbers: Sequence[float | str]) -> list[float | str]:
    limits = (WIDTH, HEIGHT, WIDTH, HEIGHT)
    return [n if isinstance(n, str) else n / limit for n, limit in zip(numbers, limits, strict=True)]


def _coco(boxes: Sequence[Sides]) -> Files:
    records = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": list(_sides(box))} for i, box in enumerate(boxes, start=1)
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": records,
    }
    return {"a.png": png(), "annotations/instances_train.json": json.dumps(document)}


def _metadata(boxes: Sequence[Sides]) -> Files:
    objects = {"bbox": [list(_sides(box)) for box in boxes], "category": ["dog"] * len(boxes)}
    return {"train/a.png": png(), "train/metadata.jsonl": json.dumps({"file_name": "a.png", "objects": objects})}


def _createml(boxes: Sequence[Sides]) -> Files:
    keys = ("x", "y", "width", "height")
    objects = [{"label": "dog", "coordinates": dict(zip(keys, _centers(box), strict=True))} for box in boxes]
    return {"images/a.png": png(), "train.json": json.dumps([{"image": "a.png", "annotations": objects}])}


def _csv(boxes: Sequence[Sides]) -> Files:
    rows = [f"a.png,dog,{','.join(map(str, _corners(box)))}" for box in boxes]
    return {"images/a.png": png(), "train.csv": "\n".join(["image,label,x1,y1,x2,y2", *rows])}


def _openimages(boxes: Sequence[Sides]) -> Files:
    rows = [f"a,dog,{','.join(map(str, _shares(_corners(box))))}" for box in boxes]
    text = "\n".join(["ImageID,LabelName,XMin,YMin,XMax,YMax", *rows])
    return {"images/a.png": png(), "train-annotations-bbox.csv": text}


def _xml(boxes: Sequence[Sides]) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    corners = ["".join(f"<{t}>{n}</{t}>" for t, n in zip(tags, _corners(box), strict=True)) for box in boxes]
    objects = [f"<object><name>dog</name><bndbox>{inside}</bndbox></object>" for inside in corners]
    return f"<annotation>{''.join(objects)}</annotation>"


def _voc(boxes: Sequence[Sides]) -> Files:
    return {"JPEGImages/a.png": png(), "Annotations/a.xml": _xml(boxes)}


def _imagenet_det(boxes: Sequence[Sides]) -> Files:
    return {"Data/DET/train/a.png": png(), "Annotations/DET/train/a.xml": _xml(boxes)}


def _cvat(boxes: Sequence[Sides]) -> Files:
    keys = ("xtl", "ytl", "xbr", "ybr")
    attributes = [" ".join(f'{k}="{n}"' for k, n in zip(keys, _corners(box), strict=True)) for box in boxes]
    shapes = "".join(f'<box label="dog" {inside}/>' for inside in attributes)
    return {
        "images/a.png": png(),
        "annotations.xml": f'<annotations><image id="0" name="a.png">{shapes}</image></annotations>',
    }


def _widerface(boxes: Sequence[Sides]) -> Files:
    lines = [" ".join(map(str, _sides(box))) for box in boxes]
    return {
        "WIDER_train/images/a.png": png(),
        "wider_face_train_bbx_gt.txt": "\n".join(["a.png", str(len(boxes)), *lines]),
    }


def _yolo(boxes: Sequence[Sides]) -> Files:
    lines = [f"0 {' '.join(map(str, _shares(_centers(box))))}" for box in boxes]
    return {"data.yaml": "names: [dog]", "images/train/a.png": png(), "images/train/a.txt": "\n".join(lines)}


FORMATS: dict[str, tuple[Callable[[Sequence[Sides]], Files], str]] = {
    "coco": (_coco, r"instances_train\.json, annotation 2"),
    "hub": (_metadata, r"metadata\.jsonl, line 1"),
    "createml": (_createml, r"train\.json, (entry 0, )?object 2"),
    "csv": (_csv, r"train\.csv, line 3"),
    "openimages": (_openimages, r"bbox\.csv, line 3"),
    "voc": (_voc, r"a\.xml, object 2"),
    "imagenet_det": (_imagenet_det, r"a\.xml, object 2"),
    "cvat": (_cvat, r"annotations\.xml, (image 0 .*, )?object 2"),
    "widerface": (_widerface, r"gt\.txt, line 4"),
    "yolo": (_yolo, r"a\.txt, line 2"),
}
"""How a set of one image with boxes is written, and where the second box is in it."""


def entry(format_name: str, defect: Defect) -> Entry:
    write, place = FORMATS[format_name]
    left = (1, defect.left) if defect.left else None
    return Entry(f"{format_name}: {defect.name}", write([GOOD, defect.box]), defect.found, place, left)


def unit(format_name: str, name: str, boxes: Sequence[Sides], found: str, line: str, left: Left | None = None) -> Entry:
    """Boxes of a set that all are of another unit."""
    return Entry(f"{format_name}: {name}", FORMATS[format_name][0](boxes), found, line, left)


SHARES: list[Sides] = [(i / 40, 0.25, 0.25, 0.5) for i in range(1, 13)]
FAR: list[Sides] = [(40 * i, 30, 400, 300) for i in range(1, 4)]
CORNERS: list[Sides] = [(20 + i, 15, 30 + i, 25) for i in range(10)]

UNITS = [
    unit("coco", "shares for pixels", SHARES, "box_unit", "12 of 12 boxes lie within one pixel: are they shares"),
    unit("createml", "shares for pixels", SHARES, "box_unit", "12 of 12 boxes lie within one pixel"),
    unit("csv", "shares for pixels", SHARES, "box_unit", "12 of 12 boxes lie within one pixel"),
    unit("coco", "corners for sides", CORNERS, "box_unit partly_outside*10", "10 of 10 boxes stick out .* are they corners"),
    unit("hub", "corners for sides", CORNERS, "box_unit partly_outside*10", "10 of 10 boxes stick out .* are they corners"),
    unit("yolo", "pixels in all boxes", FAR, "outside_image*3", "of the image, class 0"),
    unit("coco", "10,001 copies", [GOOD] * 10_001, "duplicate_box*10000", "annotation 2: .*1, 2, 10, 12 px", (1, 1)),
]  # fmt: skip

ENTRIES = [*(entry(format_name, defect) for format_name in FORMATS for defect in DEFECTS), *UNITS]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_a_defect_of_a_box_has_the_outcome_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    write_files(tmp_path, entry.files)
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", entry.name.partition(":")[0], str(tmp_path))))


@pytest.mark.parametrize("boxes", [SHARES[:9], [*SHARES[:8], *CORNERS[:2]], [*CORNERS[:4], *[GOOD] * 6]])
def test_a_unit_is_not_doubted_for_few_boxes_or_some(boxes: Sequence[Sides], tmp_path: Path) -> None:
    write_files(tmp_path, _coco(boxes))
    _, defects = boxes_of(SetSpec("set", "coco", str(tmp_path)))()
    assert "box_unit" not in {defect.kind for defect in defects}
