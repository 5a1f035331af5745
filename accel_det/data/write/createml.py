"""CreateML JSON."""

import json
from collections.abc import Iterator, Sequence

import numpy as np

from accel_det.data.formats.createml import FILE
from accel_det.data.write.preimage import Span, centers
from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`<split>/_annotations.createml.json`, beside the images."""
    for split in splits:
        yield TextFile(f"{split.name}/{FILE}", _document(split))


def _document(split: WrittenSplit) -> Iterator[str]:
    boxes, limits, labels = split.boxes, split.limits(), split.labels.tolist()
    axes = [centers(Span(boxes[:, axis], boxes[:, axis + 2]), limits[:, axis], relative=False) for axis in (0, 1)]
    sides = np.stack([axes[0][0], axes[1][0], axes[0][1], axes[1][1]], axis=1).tolist()
    names = [json.dumps(name) for name in split.classes]
    yield "["
    for index, image, span in split.spans():
        objects = []
        for at in span:
            x, y, width, height = map(number_text, sides[at])
            box = f'{{"x": {x}, "y": {y}, "width": {width}, "height": {height}}}'
            objects.append(f'{{"label": {names[labels[at]]}, "coordinates": {box}}}')
        yield f'{"," if index else ""}\n{{"image": {json.dumps(image)}, "annotations": [{", ".join(objects)}]}}'
    yield "\n]\n"


WRITER = Writer("{split}", files)
