"""CSV of Open Images."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

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
    yield TextFile("annotations/class-descriptions-boxable.csv", csv_lines([("LabelName", "DisplayName"), *classes]))


def _rows(split: WrittenSplit) -> Iterator[Sequence[str]]:
    yield _HEADER
    shares = (split.corners() / split.limits()).tolist()
    labels, crowd = split.labels.tolist(), split.crowd.astype(int).tolist()
    for _, image, span in split.spans():
        for at in span:
            x1, y1, x2, y2 = map(number_text, shares[at])
            marks = (_UNKNOWN, _UNKNOWN, str(crowd[at]), _UNKNOWN, _UNKNOWN)
            yield PurePosixPath(image).stem, "", split.classes[labels[at]], "1", x1, x2, y1, y2, *marks


WRITER = Writer("{split}", files, keeps_crowd=True, keeps_classes=True)
