"""COCO's JSON files as rows: annotations as truth, results as detections. No pixel is read.

Images and categories of results are found by their id, or by the name of the file and of the category.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from accel_det.metrics.saved import checked_detections
from accel_det.types import BoxTarget, Detections

Identifier = int | str


class TruthFile(NamedTuple):
    """The truth of a split, by image.

    Attributes:
        classes: names, in the order of the category ids.
        category_ids: by label; empty where the truth does not come from a COCO file.
        names: of the image files.
        image_ids: by image; empty likewise.
        sizes: (height, width) in pixels, 0 where the file does not say.
        targets: boxes in pixels of the file, float64.
    """

    classes: tuple[str, ...]
    category_ids: tuple[Identifier, ...]
    names: list[str]
    image_ids: list[Identifier]
    sizes: list[tuple[int, int]]
    targets: list[BoxTarget]


def read_annotations(file: Path) -> TruthFile:
    """COCO instances. Crowd regions are ignored regions; an annotation without area has that of its box.

    Raises:
        ValueError: no such file, no JSON, or a record that makes no sense.
    """
    document = _load(file)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"{file}: no COCO annotations, expected an object with images, annotations and categories")
    for key, needed in (
        ("images", ("id",)),
        ("categories", ("id", "name")),
        ("annotations", ("image_id", "category_id")),
    ):
        for position, entry in enumerate(document[key]):
            if not isinstance(entry, dict) or not all(isinstance(entry.get(field), int | str) for field in needed):
                raise ValueError(f"{file}: {key}[{position}] needs {' and '.join(needed)}; correct the file")
    # By id, as COCO's own evaluation has them: the order decides between equal scores of two images.
    categories, images = (
        sorted(document[key], key=lambda entry: (isinstance(entry["id"], str), entry["id"]))
        for key in ("categories", "images")
    )
    ids = [str(entry["id"]) for entry in categories]
    place = {str(entry["id"]): index for index, entry in enumerate(images)}  # some tools write ids as text
    objects: list[list[tuple[list[float], int, bool, float]]] = [[] for _ in images]
    for position, entry in enumerate(document["annotations"]):
        where = f"{file}: annotations[{position}]"
        owner, category = str(entry["image_id"]), str(entry["category_id"])
        if owner not in place or category not in ids:
            raise ValueError(f"{where}: image_id {owner} or category_id {category} is not in the file; correct it")
        box = _corners(entry.get("bbox"), where)
        area = float(entry.get("area") or (box[2] - box[0]) * (box[3] - box[1]))
        objects[place[owner]].append((box, ids.index(category), bool(entry.get("iscrowd", 0)), area))
    return TruthFile(
        classes=tuple(str(entry["name"]) for entry in categories),
        category_ids=tuple(ids),
        names=[str(entry.get("file_name", entry["id"])) for entry in images],
        image_ids=[entry["id"] for entry in images],
        sizes=[(int(entry.get("height") or 0), int(entry.get("width") or 0)) for entry in images],
        targets=[_target(of_image) for of_image in objects],
    )


def read_results(file: Path, truth: TruthFile) -> list[Detections]:
    """COCO results, by image of the truth; images that are not in them have no detections.

    Raises:
        ValueError: no such file, no list of results, a number that is not finite, an image or category that the truth
            does not have.
    """
    records = _load(file)
    if not isinstance(records, list):
        raise ValueError(f"{file}: a {type(records).__name__}, expected a list of COCO results")
    images = _Names(truth.names, truth.image_ids)
    categories = _Names(truth.classes, truth.category_ids)
    columns: list[tuple[list[list[float]], list[float], list[int]]] = [([], [], []) for _ in truth.names]
    for position, record in enumerate(records):
        where = f"{file}: result {position}"
        if not isinstance(record, dict) or not {"image_id", "bbox", "score"} <= set(record):
            raise ValueError(f"{where}: {str(record)[:80]}, expected image_id, category_id, bbox and score")
        label = categories.find(record.get("category_name"))
        label = categories.find_id(record.get("category_id")) if label is None else label
        if label is None:
            raise ValueError(
                f"{where}: category {record.get('category_name', record.get('category_id'))!r} is none of the truth's "
                f"({', '.join(truth.classes[:8])}{', ...' if len(truth.classes) > 8 else ''}); choose the annotations that "
                "the results are of"
            )
        image = images.find_id(record["image_id"])
        image = images.find(record["image_id"]) if image is None else image
        if image is None:
            raise ValueError(
                f"{where}: image {record['image_id']!r} is none of the truth's {len(truth.names)}, by id or by file "
                "name; choose the annotations that the results are of, with --truth for ids"
            )
        score = record["score"]
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise ValueError(f"{where}: score is {score!r}, expected a finite number; correct what wrote it")
        boxes, scores, labels = columns[image]
        boxes.append(_corners(record["bbox"], where))
        scores.append(float(score))
        labels.append(label)
    return [
        checked_detections(*of_image, num_classes=len(truth.classes), where=f"{file}: image {name}")
        for name, of_image in zip(truth.names, columns, strict=True)
    ]


class _Names:
    """Things that are found by id, or by name; a file also by the end of its path, where that is the only such one."""

    def __init__(self, names: Sequence[str], ids: Iterable[Identifier]) -> None:
        self._by_id: Mapping[str, int] = {str(identifier): index for index, identifier in enumerate(ids)}
        self._by_name = {name: index for index, name in enumerate(names)}
        self._by_end: dict[str, int | None] = {}
        for index, name in enumerate(names):
            for end in _ends(name):
                self._by_end[end] = None if end in self._by_end else index

    def find_id(self, identifier: object) -> int | None:
        if isinstance(identifier, bool) or not isinstance(identifier, int | str):
            return None
        return self._by_id.get(str(identifier))

    def find(self, name: object) -> int | None:
        if not isinstance(name, str):
            return None
        if name in self._by_name:
            return self._by_name[name]
        matches = (self._by_end[end] for end in _ends(name) if end in self._by_end)
        return next(matches, None)


def _ends(path: str) -> list[str]:
    """a/b/c.jpg, b/c.jpg and c.jpg of a path."""
    parts = path.replace("\\", "/").split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); correct the path") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no JSON ({error}); write it again") from None


def _corners(box: object, where: str) -> list[float]:
    """COCO's left, top, width, height -> xyxy."""
    numbers = box if isinstance(box, list) and len(box) == 4 else []
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ValueError(f"{where}: bbox is {box!r}, expected [left, top, width, height]; correct what wrote it")
    left, top, width, height = (float(number) for number in numbers)
    if not all(map(math.isfinite, (left, top, width, height))) or width < 0 or height < 0:
        raise ValueError(
            f"{where}: bbox is {box!r}, expected finite numbers, width and height at least 0; correct what wrote it"
        )
    return [left, top, left + width, top + height]


def _target(objects: list[tuple[list[float], int, bool, float]]) -> BoxTarget:
    return BoxTarget(
        torch.tensor([box for box, _, _, _ in objects], dtype=torch.float64).reshape(-1, 4),
        torch.tensor([label for _, label, _, _ in objects], dtype=torch.int64),
        torch.tensor([crowd for _, _, crowd, _ in objects], dtype=torch.bool),
        torch.tensor([area for _, _, _, area in objects], dtype=torch.float64),
    )
