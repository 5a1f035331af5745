"""WIDER FACE: a text file with, for each image, its name, the number of faces, and a line for each face."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from accel_det.data.defects import Findings
from accel_det.data.formats.gather import (
    FoundImages,
    NamedObjects,
    find_annotations,
    image_folder,
    natural_number,
    shown,
    to_numbers,
)
from accel_det.data.formats.raw import ObjectColumns, RawSplit, SplitSource
from accel_det.data.lines import read_lines
from accel_det.data.locate import IMAGE_SUFFIXES, split_names

CLASS = "face"
_USUAL = (
    "wider_face_split/wider_face_{split}_bbx_gt.txt",
    "wider_face_{split}_bbx_gt.txt",
    "annotations/wider_face_{split}_bbx_gt.txt",
)
_INVALID_COLUMN = 7


class _Line(NamedTuple):
    number: int
    text: str


class _Entry(NamedTuple):
    """What the file says of one image: the line of its name, the lines behind the count, and how many there should be."""

    name: _Line
    faces: list[_Line]
    num_faces: str


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in the format of WIDER FACE.

    The file is the given one ("{split}" in it is replaced), or `wider_face_split/wider_face_<split>_bbx_gt.txt`; the
    images are in `WIDER_<split>/images`. Faces are left, top, width and height in pixels, then blur, expression,
    illumination, invalid, occlusion, pose, as far as they are there; those marked as invalid are ignored regions. An image
    without faces has the count 0, and may have a line of zeros behind it.

    Raises:
        ValueError: there is no annotation file.
    """
    file = find_annotations(source, split, what="WIDER FACE text file", usual=_USUAL)
    entries = list(_entries(file.path, findings))
    folder = _folder(source, split, file=file.path, names=[entry.name.text for entry in entries])
    images = FoundImages(folder, source, file=file.path, findings=findings)
    objects = NamedObjects(ObjectColumns("line"), listed=[CLASS], file=file.path, findings=findings)
    for entry in entries:
        index = images.add([entry.name.text], record=f"line {entry.name.number}")
        if index < 0:
            continue
        faces = [line for line in entry.faces if not (entry.num_faces == "0" and set(line.text.split()) == {"0"})]
        if natural_number(entry.num_faces) != len(faces):
            value = f"{entry.name.text}: the count is {shown(entry.num_faces)}, {len(faces)} faces follow"
            findings.add("malformed_record", file=str(file.path), record=f"line {entry.name.number + 1}", value=value)
        for line in faces:
            _add_face(line, index, objects, file=file.path, findings=findings)
    return images.split(*objects.arrays())


def _entries(path: Path, findings: Findings) -> Iterator[_Entry]:
    """The images of a file: a line that ends as names of images do begins one."""
    try:
        lines = read_lines(path)
    except ValueError as error:
        findings.add("malformed_file", file=str(path), value=str(error))
        return
    filled = [_Line(number, text.strip()) for number, text in enumerate(lines, start=1) if text.strip()]
    starts = [position for position, line in enumerate(filled) if _is_image(line.text)]
    for line in filled[: starts[0] if starts else len(filled)]:
        value = f"{shown(line.text)} where the name of an image belongs"
        findings.add("malformed_record", file=str(path), record=f"line {line.number}", value=value)
    for start, stop in pairwise([*starts, len(filled)]):
        count = filled[start + 1].text if start + 1 < stop else ""
        yield _Entry(filled[start], filled[start + 2 : stop], count)


def _is_image(text: str) -> bool:
    return PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES


def _folder(source: SplitSource, split: str, *, file: Path, names: list[str]) -> Path:
    usual = [Path(source.root) / f"WIDER_{name}" / "images" for name in split_names(split)]
    if source.images is None:
        for folder in usual:
            if folder.is_dir():
                return folder
    return image_folder(source, split, file=file, names=names)


def _add_face(line: _Line, owner: int, objects: NamedObjects, *, file: Path, findings: Findings) -> None:
    record, fields = f"line {line.number}", line.text.split()
    try:
        if len(fields) < 4:
            raise ValueError("left, top, width and height belong")
        box = to_numbers(fields[:4], file=file, record=record, findings=findings)
    except ValueError as error:
        findings.add("malformed_record", file=str(file), record=record, value=f"{error} in {shown(line.text)}")
        return
    invalid = len(fields) > _INVALID_COLUMN and fields[_INVALID_COLUMN] == "1"
    objects.add(owner, box, name=CLASS, number=line.number, record=record, crowd=invalid)
