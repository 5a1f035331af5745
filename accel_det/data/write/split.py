"""What writers of annotation files are given, and what they give.

Letters: I images, A objects.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from accel_det.data.formats.raw import Bools, Floats, Ints


class WrittenSplit(NamedTuple):
    """One split, to be written.

    Attributes:
        name: "train" or "val".
        classes: class names; labels index them.
        images: (I,) file names, without folder, whose stems differ within all splits.
        sizes: (I, 2) int64, height and width in pixels of the upright file.
        starts: (I + 1,) the objects of image i are those from starts[i] to starts[i + 1].
        boxes: (A, 4) float64, xywh, pixels of the upright file.
        labels, crowd, areas: (A,).
    """

    name: str
    classes: tuple[str, ...]
    images: list[str]
    sizes: Ints
    starts: Ints
    boxes: Floats
    labels: Ints
    crowd: Bools
    areas: Floats

    def corners(self) -> Floats:
        """(A, 4) xyxy."""
        return np.concatenate((self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]), axis=1)

    def centers(self) -> Floats:
        """(A, 4) center, width and height."""
        return np.concatenate((self.boxes[:, :2] + self.boxes[:, 2:] / 2, self.boxes[:, 2:]), axis=1)

    def limits(self) -> Floats:
        """(A, 4) width, height, width and height of the image of each object."""
        return np.repeat(np.tile(self.sizes[:, ::-1], 2).astype(np.float64), np.diff(self.starts), axis=0)

    def spans(self) -> Iterator[tuple[int, str, range]]:
        """Index and file name of each image, and the positions of its objects."""
        edges = self.starts.tolist()
        for index, image in enumerate(self.images):
            yield index, image, range(edges[index], edges[index + 1])


class TextFile(NamedTuple):
    """A file to be written: its place in the folder, with forward slashes, and its parts in their order."""

    place: str
    parts: Iterable[str]


class Writer(NamedTuple):
    """How a format is written.

    Attributes:
        images: folder of the images; "{split}" is the name of the split.
        files: the annotation files of all splits.
        keeps_crowd: ignored regions can be told from objects.
        keeps_areas: an area can differ from that of its box.
        keeps_classes: all classes are listed in their order; else a reader meets those that have objects, and sorts them.
        only_class: the one class of the format.
    """

    images: str
    files: Callable[[Sequence[WrittenSplit]], Iterator[TextFile]]
    keeps_crowd: bool = False
    keeps_areas: bool = False
    keeps_classes: bool = False
    only_class: str | None = None


def number_text(value: float) -> str:
    """The shortest text that is read as exactly this number; whole ones without a point."""
    return str(int(value)) if value.is_integer() else repr(value)


class _Echo:
    def write(self, text: str) -> str:
        return text


def csv_lines(rows: Iterable[Sequence[str]], *, quoted: bool = False) -> Iterator[str]:
    """Lines of CSV.

    Args:
        quoted: put every field into quotes, so that a first line shows its delimiter whatever the names hold.
    """
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
    for row in rows:
        yield writer.writerow(row)
