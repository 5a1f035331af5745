"""Entries of the catalogue of malformed input: a name, the files, and what must come of them."""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from small_sets import Files, assert_sound_boxes, assert_sound_identities

from accel_det.data.check import check_tables
from accel_det.data.defects import DEFECT_KINDS, STOP, Defect
from accel_det.data.identity_check import check_identity_tables
from accel_det.data.identity_sources import open_identities
from accel_det.data.sources import SetSpec, open_split

LIMIT_S = 10
"""No entry may take longer: a hang, or a bomb that went off. Most take some milliseconds."""

REFUSED = ""
"""What is `found` where a set cannot be opened at all: one error."""

_CONSEQUENCES = ("image_without_annotations", "single_picture")

Left = tuple[int, int]
Reading = Callable[[], tuple[Left, Sequence[Defect]]]


class Entry(NamedTuple):
    """One malformed input.

    Attributes:
        name: what is wrong.
        files: what is written over the valid set, by place.
        found: the kinds of all findings, such as "missing_file orphan_annotation*2"; or `REFUSED`.
        line: regular expression for the line of the first finding of the first kind, or of the error.
        left: where everything is repaired, the images (or pictures) and objects (or identities) that are trained on; None:
            the first kind stops the run.
    """

    name: str
    files: Files
    found: str
    line: str
    left: Left | None = None


def names(entries: Sequence[Entry]) -> list[str]:
    """As ids of tests."""
    return [entry.name for entry in entries]


def boxes_of(spec: SetSpec, split: str = "train", *, read_images: bool = False) -> Reading:
    """Opens a split of images with boxes, and looks at every one that is left of it.

    Args:
        read_images: decode the images too, as `accel-det check --images` does.
    """

    def read() -> tuple[Left, Sequence[Defect]]:
        table, defects = open_split({spec.name: spec}, f"{spec.name}:{split}")
        assert_sound_boxes(table)
        report = check_tables(table, None, defects, read_images=read_images)
        return (len(table), int(table.counts().sum())), report.defects

    return read


def identities_of(spec: SetSpec, split: str = "train") -> Reading:
    """Opens a split of pictures of identities."""

    def read() -> tuple[Left, Sequence[Defect]]:
        training = split == "train"
        table, defects = open_identities({spec.name: spec}, f"{spec.name}:{split}", training=training)
        train, val = (table, None) if training else (None, table)
        assert_sound_identities(table)
        report = check_identity_tables(train, val, defects, read_images=False)
        return (len(table), len(table.identities)), report.defects

    return read


def assert_outcome(entry: Entry, root: Path, read: Reading) -> None:
    """That reading ends in time as it must: with these findings and no others, each a line that names its file, or one error.

    What follows from what was left out, an image without objects or an identity with one picture, is not looked at.
    """
    start = time.monotonic()
    try:
        left, found = read()
    except ValueError as error:
        assert entry.found == REFUSED, f"refused: {error}"
        _assert_one_line(str(error), entry.line, root)
        return
    assert time.monotonic() - start < LIMIT_S
    defects = [defect for defect in found if defect.kind not in _CONSEQUENCES]
    lines = [defect.line() for defect in defects]
    for line in lines:
        _assert_one_line(line, "", root)
    assert _counts(defects) == _expected(entry.found), (left, lines)
    kind = next(iter(_expected(entry.found)))
    first = next(defect for defect in defects if defect.kind == kind)
    _assert_one_line(first.line(), entry.line, root)
    assert DEFECT_KINDS[kind].rule in first.line() and DEFECT_KINDS[kind].remedy in first.line()
    if entry.left is None:
        assert first.repair is None
    else:
        assert [defect.repair for defect in defects] == [DEFECT_KINDS[defect.kind].default for defect in defects]
        assert STOP not in (defect.repair for defect in defects)
        assert left == entry.left


def _counts(defects: Sequence[Defect]) -> dict[str, int]:
    return dict(Counter(defect.kind for defect in defects))


def _expected(found: str) -> dict[str, int]:
    """ "a b*2" as counts by kind."""
    pairs = (word.partition("*") for word in found.split())
    return {kind: int(count or 1) for kind, _, count in pairs}


def _assert_one_line(text: str, expression: str, root: Path) -> None:
    assert text.isprintable(), f"{text!r} is no line"
    assert len(text) < 4000
    assert str(root) in text or "set/" in text, f"no file, nor the set's name of an image, is in: {text}"
    assert re.search(expression, text), f"{expression} is not in: {text}"
