"""What every reader gives: one split as its annotations say it, in columns, not yet judged.

Letters: I images, A annotated objects.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import datasets
import numpy as np
import numpy.typing as npt

from accel_det.data.defects import Findings
from accel_det.data.locate import Folder, Located
from accel_det.data.shards import JoinedShards, Option, Shards

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

UNKNOWN_SIDE = 0
"""Height and width of an image whose annotation does not say its size."""


MOST_AREA = 2.0**62
"""In square pixels: no image has it, and float32 still does."""


class SplitSource(Protocol):
    """What a reader is told about a data set: the part of `sources.SetSpec` that readers use."""

    @property
    def name(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def images(self) -> str | None: ...
    @property
    def annotations(self) -> str | None: ...
    @property
    def storage(self) -> Mapping[str, Option]: ...


class RawObjects(NamedTuple):
    """Annotated objects, in the order of the file.

    Attributes:
        owner: (A,) index of the image.
        boxes: (A, 4) xywh; pixels of the annotated image, or shares of its width and height where `relative`.
        labels: (A,) index into the classes, -1 where it is none of them.
        crowd: (A,) to be ignored in training and in metrics.
        areas: (A,) square pixels, NaN where the format does not say.
        records: (A,) number of the record, for messages.
        record_word: what such a number counts: "annotation", "object", "line".
        relative: see boxes.
    """

    owner: Ints
    boxes: Floats
    labels: Ints
    crowd: Bools
    areas: Floats
    records: Ints
    record_word: str
    relative: bool

    def keep(self, mask: Bools | Ints | slice) -> "RawObjects":
        """The objects for which the (A,) mask holds, or at the positions of an index or slice."""
        return self._replace(
            owner=self.owner[mask],
            boxes=self.boxes[mask],
            labels=self.labels[mask],
            crowd=self.crowd[mask],
            areas=self.areas[mask],
            records=self.records[mask],
        )


class StreamedImages(NamedTuple):
    """Images that stay in shards.

    Attributes:
        shards: where they are.
        rows: (I,) int64, the row of each image in the shards, ascending.
        faults: (I,) why an image cannot be used, else ""; or () where none was looked at.
    """

    shards: Shards
    rows: Ints
    faults: Sequence[str]

    def select(self, positions: Ints) -> "StreamedImages":
        faults = [self.faults[i] for i in positions] if self.faults else ()
        return StreamedImages(self.shards, self.rows[positions], faults)

    def read(self, index: int) -> bytes:
        """An encoded image, by its index.

        Raises:
            ValueError: its shard cannot be read; the message names it.
        """
        row = int(self.rows[index])
        return self.shards.read(range(row, row + 1))[0]


def join_streams(parts: Sequence[StreamedImages]) -> StreamedImages:
    """The images of several splits, one after the other."""
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0, *(sum(part.shards.lengths) for part in parts)])
    return StreamedImages(
        JoinedShards([part.shards for part in parts]),
        np.concatenate([part.rows + first for part, first in zip(parts, firsts, strict=False)]),
        [fault for part in parts for fault in part.faults],
    )


class RawSplit(NamedTuple):
    """One split of one set.

    Attributes:
        classes: class names; labels index them.
        names: of each image, relative to the root of the set, for people.
        files: path of each image, or None where the bytes are in `images`.
        images: a dataset of the one column "image" {bytes, path}, or None.
        annotation_files: per image, the file that holds its annotations, for messages.
        sizes: (I, 2) int64, annotated (height, width), or UNKNOWN_SIDE.
        objects: of all images.
        streamed: where the images are, if neither `files` nor `images` says it; `sizes` are then those of the upright files.
    """

    classes: tuple[str, ...]
    names: list[str]
    files: list[str] | None
    images: datasets.Dataset | None
    annotation_files: list[str]
    sizes: Ints
    objects: RawObjects
    streamed: StreamedImages | None = None

    @staticmethod
    def empty() -> "RawSplit":
        """What is left of a set whose annotation file cannot be read."""
        return RawSplit((), [], [], None, [], np.zeros((0, 2), np.int64), ObjectColumns("record").arrays())

    def select(self, kept: Bools) -> "RawSplit":
        """The images for which the (I,) mask holds, and their objects."""
        if kept.all():
            return self
        positions = np.flatnonzero(kept)
        renumbered = np.cumsum(kept) - 1
        objects = self.objects.keep(kept[self.objects.owner])
        return RawSplit(
            classes=self.classes,
            names=[self.names[i] for i in positions],
            files=None if self.files is None else [self.files[i] for i in positions],
            images=None if self.images is None else self.images.select(positions),
            annotation_files=[self.annotation_files[i] for i in positions],
            sizes=self.sizes[positions],
            objects=objects._replace(owner=renumbered[objects.owner]),
            streamed=None if self.streamed is None else self.streamed.select(positions),
        )


class ObjectColumns:
    """Objects as a reader meets them, turned into columns at the end."""

    def __init__(self, record_word: str, *, relative: bool = False) -> None:
        self._word = record_word
        self._relative = relative
        self._owner: list[int] = []
        self._boxes: list[Sequence[float]] = []
        self._labels: list[int] = []
        self._crowd: list[bool] = []
        self._areas: list[float] = []
        self._records: list[int] = []

    def add(
        self,
        owner: int,
        box: Sequence[float],
        *,
        label: int,
        record: int,
        crowd: bool = False,
        area: float = float("nan"),
    ) -> None:
        """One object: xywh box of the image with index `owner`."""
        self._owner.append(owner)
        self._boxes.append(box)
        self._labels.append(label)
        self._crowd.append(crowd)
        self._areas.append(area)
        self._records.append(record)

    def arrays(self) -> RawObjects:
        return RawObjects(
            owner=np.array(self._owner, np.int64),
            boxes=np.array(self._boxes, np.float64).reshape(-1, 4),
            labels=np.array(self._labels, np.int64),
            crowd=np.array(self._crowd, np.bool_),
            areas=np.array(self._areas, np.float64),
            records=np.array(self._records, np.int64),
            record_word=self._word,
            relative=self._relative,
        )


def to_number(value: object, *, on_comma: Callable[[], None]) -> float:
    """A number as annotation files write it: int, float, or text with a decimal point or, reported, a comma.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a number")
    if isinstance(value, str) and value.count(",") == 1 and "." not in value:
        value = value.replace(",", ".")
        number = float(value)
        on_comma()
        return number
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def locate_image(
    folder: Folder, candidates: Iterable[str], *, findings: Findings, annotation_file: str, record: str
) -> Located | None:
    """The first of the named files that exists; what is wrong with it is noted. None: no file that may be used."""
    names = list(candidates)
    found = None
    for name in names:
        found = folder.find(name)
        if found is not None:
            break
    if found is None:
        shown = names[0] if names else ""
        findings.add("missing_file", file=annotation_file, record=record, value=f"no file {shown!r} in {folder.root}")
        return None
    if not found.exact:
        value = f"{names[0]!r} is {os.path.basename(found.path)!r} on disk"  # noqa: PTH119
        findings.add("case_mismatch", file=annotation_file, record=record, value=value)
    if not found.inside:
        value = f"{names[0]!r} leads out of {folder.root}"
        findings.add("outside_root", file=annotation_file, record=record, value=value)
        return found if findings.drops("outside_root") else None
    return found
