"""Rows of a detection run in one canonical order: what every detection metric computes from.

Rows arrive in any order and some arrive twice, because processes finish in any order and pad their last batch. A metric
of the table is the same number, bit for bit, for every such arrival.

Letters: R images, T ground-truth objects and D detections of all images together.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from accel_det.types import DetectionRow

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class DetectionTable(NamedTuple):
    """Truth and predictions of all images, flat; an image is its position in `sample_ids`. Boxes are xyxy, file pixels.

    Attributes:
        sample_ids: (R,) ascending, each once.
        truth_images: (T,) ascending; objects of one image keep the order of their file.
        truth_boxes: (T, 4).
        truth_labels: (T,) 0-based class index.
        truth_crowd: (T,) regions to be ignored.
        truth_areas: (T,) square pixels.
        images: (D,) ascending; within an image the best score comes first, equal scores in the order of the model,
            which is what COCO's evaluation does.
        boxes: (D, 4).
        scores: (D,).
        labels: (D,) 0-based class index.
    """

    sample_ids: Integers
    truth_images: Integers
    truth_boxes: Floats
    truth_labels: Integers
    truth_crowd: Flags
    truth_areas: Floats
    images: Integers
    boxes: Floats
    scores: Floats
    labels: Integers

    def num_counted(self, num_classes: int) -> Integers:
        """(num_classes,) objects of each class that can be found or missed: all but the ignored regions."""
        return np.bincount(self.truth_labels[~self.truth_crowd], minlength=num_classes).astype(np.int64)


def tabulate(rows: Iterable[DetectionRow], *, num_classes: int) -> DetectionTable:
    """Drop repeated rows, check the rest and put it in the canonical order.

    Args:
        rows: in any order; an image may come several times if its copies are equal.
        num_classes: labels must lie in [0, num_classes).

    Raises:
        ValueError: copies of one image differ, lengths do not fit, or a value is not finite or out of range.
    """
    kept = _without_repeats(rows)
    truth = [row.truth for row in kept]
    found = [row.detections for row in kept]
    table = DetectionTable(
        sample_ids=np.array([row.sample_id for row in kept], dtype=np.int64),
        truth_images=_owners([len(target.labels) for target in truth]),
        truth_boxes=_joined([target.boxes for target in truth], dtype=np.float64, columns=4),
        truth_labels=_joined([target.labels for target in truth], dtype=np.int64),
        truth_crowd=_joined([target.crowd for target in truth], dtype=np.bool_),
        truth_areas=_joined([target.areas for target in truth], dtype=np.float64),
        images=_owners([len(detections.labels) for detections in found]),
        boxes=_joined([detections.boxes for detections in found], dtype=np.float64, columns=4),
        scores=_joined([detections.scores for detections in found], dtype=np.float64),
        labels=_joined([detections.labels for detections in found], dtype=np.int64),
    )
    _check_values(table, num_classes=num_classes)
    order = np.lexsort((-table.scores, table.images))  # stable: equal scores of an image keep the model's order
    return table._replace(
        images=table.images[order], boxes=table.boxes[order], scores=table.scores[order], labels=table.labels[order]
    )


def image_bounds(owners: Integers, *, num_images: int) -> Integers:
    """(num_images + 1,) where the entries of each image begin and end in an ascending (N,) column of images."""
    return np.searchsorted(owners, np.arange(num_images + 1)).astype(np.int64)


def _without_repeats(rows: Iterable[DetectionRow]) -> list[DetectionRow]:
    """Each image once, by ascending sample id."""
    first: dict[int, DetectionRow] = {}
    for row in rows:
        known = first.setdefault(row.sample_id, row)
        if known is row:
            _check_lengths(row)
        elif not _same(known, row):
            raise ValueError(
                f"sample {row.sample_id}: two rows with this id differ, expected copies of one image; "
                "give every image of the split its own sample_id and predict it once"
            )
    return [first[sample_id] for sample_id in sorted(first)]


def _same(first: DetectionRow, second: DetectionRow) -> bool:
    tensors = zip((*first.truth, *first.detections), (*second.truth, *second.detections), strict=True)
    return (first.height, first.width) == (second.height, second.width) and all(
        one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other) for one, other in tensors
    )


def _check_lengths(row: DetectionRow) -> None:
    truth, found = row.truth, row.detections
    for what, boxes, columns in (
        ("truth", truth.boxes, (truth.labels, truth.crowd, truth.areas)),
        ("detections", found.boxes, (found.labels, found.scores)),
    ):
        number = len(columns[0])
        if tuple(boxes.shape) != (number, 4) or any(tuple(column.shape) != (number,) for column in columns):
            shapes = ", ".join(str(tuple(column.shape)) for column in (boxes, *columns))
            raise ValueError(
                f"sample {row.sample_id}: columns of {what} have shapes {shapes}, expected boxes (N, 4) and the others "
                "(N,) with one N; give every box one value in each column"
            )


def _owners(lengths: list[int]) -> Integers:
    """Number of entries of each image -> for each entry its image."""
    return np.repeat(np.arange(len(lengths), dtype=np.int64), np.array(lengths, dtype=np.int64))


def _joined(parts: list[Tensor], *, dtype: type[Any], columns: int = 0) -> npt.NDArray[Any]:
    """Parts one under the other; (0,) or (0, columns) if there are none."""
    if not parts:
        return np.zeros((0, columns) if columns else 0, dtype=dtype)
    return np.concatenate([part.detach().cpu().numpy() for part in parts]).astype(dtype, copy=False)


def _check_values(table: DetectionTable, *, num_classes: int) -> None:
    for what, images, boxes, labels, numbers in (
        ("truth", table.truth_images, table.truth_boxes, table.truth_labels, table.truth_areas),
        ("detection", table.images, table.boxes, table.labels, table.scores),
    ):
        flawed = (
            ~np.isfinite(boxes).all(axis=1)
            | ~np.isfinite(numbers)
            | (labels < 0)
            | (labels >= num_classes)
            | (boxes[:, :2] > boxes[:, 2:]).any(axis=1)
        )
        if flawed.any():
            bad = int(np.flatnonzero(flawed)[0])
            named = "area" if what == "truth" else "score"
            raise ValueError(
                f"sample {table.sample_ids[images[bad]]}: a {what} has box {boxes[bad].tolist()}, {named} "
                f"{numbers[bad]} and label {labels[bad]}, expected finite x1 <= x2 and y1 <= y2, a finite {named} and "
                f"a label from 0 to {num_classes - 1}; correct what produces it"
            )
