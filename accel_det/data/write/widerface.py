"""Text files of WIDER FACE."""

from collections.abc import Iterator, Sequence

from accel_det.data.formats.widerface import CLASS
from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text

_NO_FACES = f"0\n{' '.join('0' * 10)}\n"


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`wider_face_split/wider_face_<split>_bbx_gt.txt`, with the images in `WIDER_<split>/images`; crowd is "invalid"."""
    for split in splits:
        yield TextFile(f"wider_face_split/wider_face_{split.name}_bbx_gt.txt", _entries(split))


def _entries(split: WrittenSplit) -> Iterator[str]:
    boxes, crowd = split.boxes.tolist(), split.crowd.astype(int).tolist()
    for _, image, span in split.spans():
        yield f"{image}\n{len(span)}\n" if span else f"{image}\n{_NO_FACES}"
        for at in span:
            yield f"{' '.join(map(number_text, boxes[at]))} 0 0 0 {crowd[at]} 0 0\n"


WRITER = Writer("WIDER_{split}/images", files, keeps_crowd=True, keeps_classes=True, only_class=CLASS)
