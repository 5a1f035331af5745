"""ImageNet DET: VOC's XML in the folders of ILSVRC."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from accel_det.data.write import voc
from accel_det.data.write.split import TextFile, Writer, WrittenSplit


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`Annotations/DET/<split>/<stem>.xml` and `ImageSets/DET/<split>.txt`, with the images in `Data/DET/<split>`."""
    for split in splits:
        for image, text in voc.annotations(split, folder=split.name):
            yield TextFile(f"Annotations/DET/{split.name}/{PurePosixPath(image).stem}.xml", [text])
        lines = (f"{PurePosixPath(image).stem} {number}\n" for number, image in enumerate(split.images, start=1))
        yield TextFile(f"ImageSets/DET/{split.name}.txt", lines)


WRITER = Writer("Data/DET/{split}", files, keeps_crowd=True)
