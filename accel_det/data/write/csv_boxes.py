"""CSV with one row per box."""

from collections.abc import Iterator, Sequence

from accel_det.data.formats.csv_boxes import CLASSES_FILE
from accel_det.data.write.split import TextFile, Writer, WrittenSplit, csv_lines, number_text

_HEADER = ("filename", "width", "height", "xmin", "ymin", "xmax", "ymax", "class", "iscrowd", "area")


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`<split>.csv` and `classes.csv` (name, number), with the images in `images/<split>`."""
    for split in splits:
        yield TextFile(f"{split.name}.csv", csv_lines(_rows(split)))
    numbered = ((name, str(label)) for label, name in enumerate(splits[0].classes))
    yield TextFile(CLASSES_FILE, csv_lines(numbered, quoted=True))


def _rows(split: WrittenSplit) -> Iterator[Sequence[str]]:
    """The header, then a row for each object, and one for each image without any."""
    yield _HEADER
    corners, labels, crowd, areas = (
        column.tolist() for column in (split.corners(), split.labels, split.crowd.astype(int), split.areas)
    )
    for index, image, span in split.spans():
        height, width = map(str, split.sizes[index].tolist())
        if not span:
            yield image, width, height, *[""] * 7
        for at in span:
            edges = map(number_text, corners[at])
            yield image, width, height, *edges, split.classes[labels[at]], str(crowd[at]), number_text(areas[at])


WRITER = Writer("images/{split}", files, keeps_crowd=True, keeps_areas=True, keeps_classes=True)
