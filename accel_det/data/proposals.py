"""Files of regions that were found in images beforehand, by selective search or by a network: for training on given regions.

Letters: I images of a table, P regions of one image, R regions of all images together.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel_det.data.lines import one_line
from accel_det.data.proposal_files import READERS, Regions

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MAX_REGIONS = 2000
"""Regions of an image that are kept: the best, or the first where the file has no scores; as Fast R-CNN trains on."""

_MOST_SHOWN = 1000


class Proposals(NamedTuple):
    """The regions of the images of a table, in its order.

    Attributes:
        starts: (I + 1,) where the regions of each image begin.
        boxes: (R, 4) xyxy, pixels of the upright file, inside it; the best of an image first where the file has scores.
    """

    starts: Ints
    boxes: Floats

    def of(self, index: int) -> Tensor:
        """(P, 4) float32, xyxy, pixels of the upright file."""
        return torch.from_numpy(self.boxes[self.starts[index] : self.starts[index + 1]].copy())

    def fingerprint(self) -> str:
        """sha256 over all of it."""
        digest = hashlib.sha256(self.starts.astype("<i8").tobytes())
        digest.update(self.boxes.astype("<f4").tobytes())
        return digest.hexdigest()


def read_proposals(file: Path, *, names: Sequence[str], sizes: Ints, max_regions: int = MAX_REGIONS) -> Proposals:
    """The regions that a file holds for some images.

    An image is found in the file by its name as the table has it ("set/folder/a.jpg"), by its path inside the set, by its
    file name, or by its file name without suffix. The file may hold further images. Regions are cut to the image; those
    that have no area then are dropped. An image may have no region at all, but not be missing.

    Args:
        file: .parquet with columns name, boxes and maybe scores; .jsonl with a line {"name": ..., "boxes": [[x1, y1, x2, y2],
            ...], "scores": [...]} for each image; or .mat as selective search writes it.
        names: (I) as the table has them.
        sizes: (I, 2) height and width in pixels of the upright files.
        max_regions: so many of each image are kept.

    Raises:
        ValueError: the file is missing or damaged, or an image or a number in it is.
    """
    if file.suffix not in READERS:
        raise ValueError(
            f"{file}: proposals are read from {', '.join(READERS)}, not from {file.suffix or 'this'} files"
        )
    if not file.is_file():
        raise ValueError(f"{file}: no such file; correct data.proposals")
    try:
        regions = READERS[file.suffix](file)
        _check(regions, file)
        return _aligned(regions, _positions(names, regions.names, file), sizes, max_regions)
    except ValueError as error:
        raise ValueError(one_line(str(error), most=_MOST_SHOWN)) from error


def _check(regions: Regions, file: Path) -> None:
    """Every number is finite, and corners are in order."""
    values = regions.boxes if regions.scores is None else np.column_stack((regions.boxes, regions.scores))
    for wrong, what in (
        (~np.isfinite(values).all(axis=1), "not a finite number"),
        ((regions.boxes[:, 2:] < regions.boxes[:, :2]).any(axis=1), "not x1 <= x2 and y1 <= y2"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            owner = int(np.searchsorted(regions.starts, row, side="right")) - 1
            raise ValueError(
                f"{file}: region {row - int(regions.starts[owner])} of {regions.names[owner]} is {values[row].tolist()}, "
                f"{what}; expected x1, y1, x2, y2 in pixels{'' if regions.scores is None else ', score'}; write the file again"
            )


def _positions(names: Sequence[str], found: Sequence[str], file: Path) -> Ints:
    """(I,) which record of the file each image has."""
    record_of: dict[str, int] = {}
    for record, name in enumerate(found):
        if name in record_of:
            raise ValueError(f"{file}: {name} is in it twice; keep one of them")
        record_of[name] = record
    positions = np.empty(len(names), np.int64)
    owner: dict[int, str] = {}
    for index, name in enumerate(names):
        key = next((key for key in _keys(name) if key in record_of), None)
        if key is None:
            raise ValueError(
                f"{file}: no regions for {name}, the file has {len(found)} images, such as {', '.join(found[:2])}; "
                "names must be those of the image files, with or without folder and suffix"
            )
        record = record_of[key]
        if record in owner:
            raise ValueError(
                f"{file}: {found[record]} may be {owner[record]} or {name}; write the names with their folders"
            )
        owner[record] = name
        positions[index] = record
    return positions


def _keys(name: str) -> Iterable[str]:
    """What a file may call an image, the most exact first."""
    base = name.rpartition("/")[2]
    yield from (name, name.partition("/")[2], base, base.rpartition(".")[0])


def _aligned(regions: Regions, positions: Ints, sizes: Ints, max_regions: int) -> Proposals:
    """The regions in the order of the table, the best first, cut to the images, without those that have no area."""
    order = np.arange(len(regions.boxes))
    owner = np.repeat(np.arange(len(regions.names)), np.diff(regions.starts))
    if regions.scores is not None:
        order = np.lexsort((-regions.scores, owner))
    kept_rows: list[Any] = []
    counts = np.zeros(len(positions), np.int64)
    for index, record in enumerate(positions.tolist()):
        rows = order[regions.starts[record] : regions.starts[record + 1]][:max_regions]
        kept_rows.append(rows)
        counts[index] = len(rows)
    rows = np.concatenate(kept_rows) if kept_rows else np.zeros(0, np.int64)
    image = np.repeat(np.arange(len(positions)), counts)
    limits = np.tile(sizes[image][:, ::-1], 2)
    boxes = np.clip(regions.boxes[rows], 0, limits).astype(np.float32)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    counts = np.bincount(image[has_area], minlength=len(positions))
    return Proposals(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), boxes[has_area])
