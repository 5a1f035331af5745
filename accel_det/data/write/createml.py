"""CreateML JSON."""

import json
from collections.abc import Iterator, Sequence

from accel_det.data.formats.createml import FILE
from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`<split>/_annotations.createml.json`, beside the images."""
    for split in splits:
        yield TextFile(f"{split.name}/{FILE}", _document(split))


def _document(split: WrittenSplit) -> Iterator[str]:
    centers, labels = split.centers().tolist(), split.labels.tolist()
    names = [json.dumps(name) for name in split.classes]
    yield "["
    for index, image, span in split.spans():
        objects = []
        for at in span:
            x, y, width, height = map(number_text, centers[at])
            box = f'{{"x": {x}, "y": {y}, "width": {width}, "height": {height}}}'
            objects.append(f'{{"label": {names[labels[at]]}, "coordinates": {box}}}')
        yield f'{"," if index else ""}\n{{"image": {json.dumps(image)}, "annotations": [{", ".join(objects)}]}}'
    yield "\n]\n"


WRITER = Writer("{split}", files)
