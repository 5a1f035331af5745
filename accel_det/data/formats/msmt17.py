"""MSMT17: lists of pictures."""

import os
import re
from pathlib import Path

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_raw import (
    IdentitySource,
    PictureColumns,
    RawPictures,
    joined,
    no_split,
    parts_of,
    role_of,
    split_folder,
)
from accel_det.data.formats.raw import locate_image
from accel_det.data.lines import read_lines
from accel_det.data.locate import Folder

# Of each list: whose identities it numbers, and the folders of its pictures in the two versions of the set.
_SIDES = {"train": "train", "val": "train", "query": "test", "gallery": "test"}
_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_CAMERA = re.compile(r"[0-9]+_[0-9]+_([0-9]+)_.*", re.ASCII)
_EXPECTED = "<identity>_<picture>_<camera>_<time>_..., as 0000_000_01_0303morning_0008_0.jpg"


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of MSMT17: `list_<split>.txt` with a path and the number of an identity on every line.

    "train" and "val" are of the same people (the authors drew single pictures for "val"), "query" and "gallery" of others,
    whose numbers begin at 0 again: identities are named "train/0" and "test/0". "test" is query and gallery. Pictures are in
    `train` and `test`, or in `mask_train_v2` and `mask_test_v2`; `images` names another folder, `annotations` another list.

    Raises:
        ValueError: there is no such split.

    Source: Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-identification, 2018.
    """
    if split not in (*_SIDES, "test"):
        raise no_split(source, split, known=(*_SIDES, "test"))
    return joined([_read_list(source, part, findings=findings) for part in parts_of(split)])


def _read_list(source: IdentitySource, part: str, *, findings: Findings) -> RawPictures:
    side = _SIDES[part]
    path = Path(source.root) / (source.annotations or "list_{split}.txt").replace("{split}", part)
    if not path.is_file():
        raise ValueError(
            f"set {source.name!r}, split {part!r}: no list {path}; restore it, or name it in `annotations`"
        )
    folder = Folder(split_folder(source, side, usual=_FOLDERS[side]))
    shown_root, columns = Folder(source.root), PictureColumns()
    seen: set[str] = set()
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        record = f"line {number}"
        name, _, label = line.strip().rpartition(" ")
        if not (name.strip() and label.isascii() and label.isdigit()):
            findings.add(
                "malformed_record", file=str(path), record=record, value=f"{line!r} where 'path number' belongs"
            )
            continue
        match = _CAMERA.fullmatch(name.strip().rpartition("/")[2])
        if match is None:
            findings.add("name_mismatch", file=str(path), record=record, value=f"{name!r} where {_EXPECTED} belongs")
            continue
        located = locate_image(folder, [name.strip()], findings=findings, annotation_file=str(path), record=record)
        if located is None:
            continue
        if os.path.normpath(located.path) in seen:
            findings.add("duplicate_file", file=str(path), record=record, value=f"{name} again")
            continue
        seen.add(os.path.normpath(located.path))
        columns.add(
            shown_root.relative(located.path),
            located.path,
            identity=f"{side}/{label.lstrip('0') or 0}",
            camera=f"c{int(match[1])}",
            role=role_of(part),
        )
    return columns.pictures()
