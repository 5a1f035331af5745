"""Pascal VOC XML."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`Annotations/<stem>.xml` and `ImageSets/Main/<split>.txt`, with the images of all splits in `JPEGImages`."""
    for split in splits:
        for image, text in annotations(split, folder="JPEGImages"):
            yield TextFile(f"Annotations/{PurePosixPath(image).stem}.xml", [text])
        stems = (f"{PurePosixPath(image).stem}\n" for image in split.images)
        yield TextFile(f"ImageSets/Main/{split.name}.txt", stems)


def annotations(split: WrittenSplit, *, folder: str) -> Iterator[tuple[str, str]]:
    """File name and XML of every image. Corners are the edges of boxes in continuous pixels; crowd is `difficult`."""
    corners, labels, crowd = split.corners().tolist(), split.labels.tolist(), split.crowd.astype(int).tolist()
    names = [escape(name) for name in split.classes]
    for index, image, span in split.spans():
        height, width = split.sizes[index].tolist()
        head = (
            f"<annotation>\n<folder>{folder}</folder>\n<filename>{image}</filename>\n<size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size>\n<segmented>0</segmented>\n"
        )
        objects = [_object(names[labels[at]], corners[at], difficult=crowd[at]) for at in span]
        yield image, "".join([head, *objects, "</annotation>\n"])


def _object(name: str, corners: Sequence[float], *, difficult: int) -> str:
    box = "".join(f"<{tag}>{number_text(edge)}</{tag}>" for tag, edge in zip(_CORNERS, corners, strict=True))
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
        f"<bndbox>{box}</bndbox></object>\n"
    )


WRITER = Writer("JPEGImages", files, keeps_crowd=True)
