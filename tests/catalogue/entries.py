"""Entries of the catalogue of malformed input: a name, the files, and what must come of them."""

import io
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from accel_det.data.check import check_tables
from accel_det.data.defects import DEFECT_KINDS, STOP, Defect
from accel_det.data.identity_check import check_identity_tables
from accel_det.data.identity_sources import open_identities
from accel_det.data.sources import SetSpec, open_split

WIDTH, HEIGHT = 40, 30
LIMIT_S = 10
"""No entry may take longer: a hang, or a bomb that went off. Most take some milliseconds."""

REFUSED = ""
"""What is `found` where a set cannot be opened at all: one error."""

_CONSEQUENCES = ("image_without_annotations", "single_picture")

Files = Mapping[str, bytes | str]
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


def png(seed: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A noise image whose bytes differ from seed to seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_files(root: Path, *layers: Files) -> None:
    """Files by place; what a later layer has too is written over."""
    for place, content in {place: content for layer in layers for place, content in layer.items()}.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


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
        for index in range(len(table)):
            height, width = table.size(index)
            truth = table.truth(index)
            x1, y1, x2, y2 = truth.boxes.reshape(-1, 4).T
            assert bool(((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all())
            assert bool(((truth.labels >= 0) & (truth.labels < len(table.classes))).all())
        report = check_tables(table, None, defects, read_images=read_images)
        return (len(table), int(table.counts().sum())), report.defects

    return read


def identities_of(spec: SetSpec, split: str = "train") -> Reading:
    """Opens a split of pictures of identities."""

    def read() -> tuple[Left, Sequence[Defect]]:
        training = split == "train"
        table, defects = open_identities({spec.name: spec}, f"{spec.name}:{split}", training=training)
        train, val = (table, None) if training else (None, table)
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
