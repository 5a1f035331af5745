"""Names of files that lead out of the folder of a set: none is followed unasked, in no format."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from entries import Entry, assert_outcome, boxes_of, identities_of, names
from small_sets import Files, png, write_files

from accel_det.data.sources import SetSpec

SECRET, LINK = "0000_000_01_0303morning_0008_0.jpg", "0001_000_01_0303morning_0008_0.jpg"
"""A picture beside the folder of the set, and a link to it inside, named so that every format would take them."""

WAYS = {
    "..": f"../../outside/{SECRET}",
    "a way in and out": f"deep/../../../outside/{SECRET}",
    "backslashes": rf"..\..\outside\{SECRET}",
    "an absolute path": f"OUTSIDE/{SECRET}",
    "a link to the file": LINK,
    "a link to the folder": f"linked/{SECRET}",
}


def _coco(name: str) -> Files:
    document = {"images": [{"id": 1, "file_name": name}], "categories": [], "annotations": []}
    return {"annotations/instances_train.json": json.dumps(document), "images/train/a.png": png()}


def _openimages(name: str) -> Files:
    header = "ImageID,LabelName,XMin,YMin,XMax,YMax"
    return {"train-annotations-bbox.csv": f"{header}\n{name},dog,0,0,1,1", "train-images.csv": f"ImageID\n{name}\n"}


WRITERS: dict[str, Callable[[str], Files]] = {
    "coco": _coco,
    "createml": lambda name: {"train.json": json.dumps([{"image": name, "annotations": []}])},
    "csv": lambda name: {"train.csv": f"image,label,x1,y1,x2,y2\n{name},dog,1,2,3,4\n"},
    "cvat": lambda name: {"annotations.xml": f'<annotations><image id="0" name="{name}"/></annotations>'},
    "openimages": _openimages,
    "widerface": lambda name: {"wider_face_train_bbx_gt.txt": f"{name}\n0\n"},
    "hub": lambda name: {"train/metadata.jsonl": json.dumps({"file_name": name, "identity": "1"})},
    "yolo": lambda name: {"data.yaml": "names: [dog]\ntrain: images/list.txt", "images/list.txt": name},
    "table": lambda name: {"train.csv": f"image,identity\n{name},1\n"},
    "msmt17": lambda name: {"list_train.txt": f"{name} 0\n"},
}
"""How a set is written whose only image has this name."""

_IDENTITIES = ("table", "msmt17")


def entry(format_name: str, way: str) -> Entry:
    """Pictures of identities of which none is left cannot be opened; what was found is told."""
    found = "" if format_name in _IDENTITIES else "outside_root"
    if format_name in ("widerface", "yolo"):  # their classes are listed, and nothing is left of them
        found += " unused_class"
    line = "where <identity>_<picture>" if (format_name, way) == ("msmt17", "backslashes") else "' leads out of /"
    return Entry(f"{format_name}: {way}", WRITERS[format_name](WAYS[way]), found, line)


ENTRIES = [entry(format_name, way) for format_name in WRITERS for way in WAYS]


def write_set(root: Path, files: Files) -> None:
    """The files; in each folder that images may lie in, links out of the set; and beside it what they lead to."""
    outside = root.parent / "outside"
    write_files(root.parent, {f"outside/{SECRET}": png()})
    write_files(root.parent.parent, {f"outside/{SECRET}": png()})
    write_files(root, {place: _text(content).replace("OUTSIDE", str(outside)) for place, content in files.items()})
    for folder in ("", "images", "images/train", "train"):
        (root / folder / "deep").mkdir(parents=True, exist_ok=True)
        (root / folder / LINK).symlink_to(outside / SECRET)
        (root / folder / "linked").symlink_to(outside)


def _text(content: bytes | str) -> str:
    return content if isinstance(content, str) else ""


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_an_image_outside_of_its_set_is_not_read(entry: Entry, tmp_path: Path) -> None:
    root, format_name = tmp_path / "sets" / "one", entry.name.partition(":")[0]
    write_set(root, entry.files)
    spec = SetSpec("set", format_name, str(root))
    assert_outcome(entry, root, identities_of(spec) if format_name in _IDENTITIES else boxes_of(spec))
