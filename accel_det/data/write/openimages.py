"""CSV of Open Images."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from accel_det.data.write.preimage import Span, edges
from accel_det.data.write.split import TextFile, Writer, WrittenSplit, csv_lines, number_text

_HEADER = (
    *("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"),
    *("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"),
)
_UNKNOWN = "-1"
"""How the format says of an attribute that it is not known."""


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """Boxes, lists of all images, and classes, in `annotations`; the images are in `<split>`.

    A class has its name as its identifier; an ignored region is the box of a group.
    """
    for split in splits:
        yield TextFile(f"annotations/{split.name}-annotations-bbox.csv", csv_lines(_rows(split)))
        listed = ((PurePosixPath(image).stem, split.name) for image in split.images)
        yield TextFile(f"annotations/{split.name}-images.csv", csv_lines([("ImageID", "Subset"), *listed]))
    classes = ((name, name) for name in splits[0].classes)
    yield TextFile("annotations/class-descriptions-boxable.csv", csv_lines(classes, quoted=True))


def _rows(split: WrittenSplit) -> Iterator[Sequence[str]]:
    yield _HEADER
    boxes, limits = split.boxes, split.limits()
    axes = [edges(Span(boxes[:, axis], boxes[:, axis + 2]), limits[:, axis]) for axis in (0, 1)]
    columns = [column.tolist() for axis in axes for column in axis]
    labels, crowd = split.labels.tolist(), split.crowd.astype(int).tolist()
    for _, image, span in split.spans():
        for at in span:
            shares = [number_text(column[at]) for column in columns]
            marks = (_UNKNOWN, _UNKNOWN, str(crowd[at]), _UNKNOWN, _UNKNOWN)
            yield PurePosixPath(image).stem, "", split.classes[labels[at]], "1", *shares, *marks


WRITER = Writer("{split}", files, keeps_crowd=True, keeps_classes=True)
