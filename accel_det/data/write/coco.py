"""COCO instances JSON."""

import json
from collections.abc import Iterator, Sequence

from accel_det.data.write.split import TextFile, Writer, WrittenSplit, number_text


def files(splits: Sequence[WrittenSplit]) -> Iterator[TextFile]:
    """`annotations/instances_<split>.json`, with the images in `images/<split>`; ids count from 1."""
    for split in splits:
        yield TextFile(f"annotations/instances_{split.name}.json", _document(split))


def _document(split: WrittenSplit) -> Iterator[str]:
    categories = [{"id": label, "name": name} for label, name in enumerate(split.classes, start=1)]
    yield f'{{"categories": {json.dumps(categories)},\n"images": ['
    for index, image, _ in split.spans():
        height, width = split.sizes[index].tolist()
        entry = {"id": index + 1, "file_name": image, "width": width, "height": height}
        yield f"{',' if index else ''}\n{json.dumps(entry)}"
    yield '\n],\n"annotations": ['
    boxes, labels, crowd, areas = (
        column.tolist() for column in (split.boxes, split.labels, split.crowd.astype(int), split.areas)
    )
    for index, _, span in split.spans():
        for at in span:
            box = ", ".join(map(number_text, boxes[at]))
            yield (
                f'{"," if at else ""}\n{{"id": {at + 1}, "image_id": {index + 1}, "category_id": {labels[at] + 1}, '
                f'"bbox": [{box}], "area": {number_text(areas[at])}, "iscrowd": {crowd[at]}}}'
            )
    yield "\n]}\n"


WRITER = Writer("images/{split}", files, keeps_crowd=True, keeps_areas=True, keeps_classes=True)
