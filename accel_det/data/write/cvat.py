"""XML of CVAT: "CVAT for images 1.1"."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text

_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_CROWD_ATTRIBUTE = (
    "<attributes><attribute><name>is_crowd</name><mutable>False</mutable><input_type>checkbox</input_type>"
    "<default_value>false</default_value><values>false</values></attribute></attributes>"
)


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`<split>/annotations.xml`, with the images in `<split>/images`: each split as CVAT exports a task."""
    for split in splits:
        yield TextFile(f"{split.name}/annotations.xml", _document(split))


def _document(split: WrittenSplit) -> Iterator[str]:
    labels = "".join(f"<label><name>{escape(name)}</name>{_CROWD_ATTRIBUTE}</label>\n" for name in split.classes)
    yield (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>\n'
        f"<name>{split.name}</name><size>{len(split.images)}</size><mode>annotation</mode>\n<labels>\n{labels}</labels>\n"
        "</task></meta>\n"
    )
    names = [quoteattr(name) for name in split.classes]
    corners, classes, crowd = split.corners().tolist(), split.labels.tolist(), split.crowd.tolist()
    for index, image, span in split.spans():
        height, width = split.sizes[index].tolist()
        yield f'<image id="{index}" name={quoteattr(image)} width="{width}" height="{height}">\n'
        for at in span:
            edges = zip(_CORNERS, corners[at], strict=True)
            box = " ".join(f'{corner}="{number_text(edge)}"' for corner, edge in edges)
            mark = str(crowd[at]).lower()
            yield (
                f'<box label={names[classes[at]]} source="manual" occluded="0" {box} z_order="0">'
                f'<attribute name="is_crowd">{mark}</attribute></box>\n'
            )
        yield "</image>\n"
    yield "</annotations>\n"


WRITER = Writer("{split}/images", files, keeps_crowd=True, keeps_classes=True)
