"""YOLO text labels."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import yaml

from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`labels/<split>/<stem>.txt`, one for each image, and `data.yaml`, with the images in `images/<split>`."""
    for split in splits:
        for image, text in _labels(split):
            yield TextFile(f"labels/{split.name}/{PurePosixPath(image).stem}.txt", [text])
    folders = {split.name: f"images/{split.name}" for split in splits}
    classes = list(splits[0].classes)
    yield TextFile("data.yaml", [yaml.safe_dump({**folders, "nc": len(classes), "names": classes}, sort_keys=False)])


def _labels(split: WrittenSplit) -> Iterator[tuple[str, str]]:
    shares, labels = (split.centers() / split.limits()).tolist(), split.labels.tolist()
    for _, image, span in split.spans():
        lines = [" ".join([str(labels[at]), *map(number_text, shares[at])]) for at in span]
        yield image, "".join(f"{line}\n" for line in lines)


WRITER = Writer("images/{split}", files, keeps_classes=True)
