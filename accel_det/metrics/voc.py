"""Pascal VOC average precision.

Source: Everingham et al., The Pascal Visual Object Classes Challenge, 2010, section 4.2 (eleven points, 2007 to 2009),
and the development kit of 2012 (all points).
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from accel_det.metrics.detection import DetectionTable, Flags, Floats, Integers, image_bounds, tabulate
from accel_det.types import DetectionRow

Interpolation = Literal["all_points", "eleven_points"]

UNDEFINED = -1.0


def voc_scores(
    rows: Iterable[DetectionRow],
    *,
    classes: Sequence[str],
    iou: float = 0.5,
    interpolation: Interpolation = "all_points",
) -> dict[str, float]:
    """Mean average precision, and that of every class.

    A detection belongs to the object of its class that it overlaps most. It is right if the overlap reaches `iou` and
    no better detection has that object; it counts neither way if the object is an ignored region (VOC's "difficult").
    Boxes are continuous: a VOC file's inclusive pixels 1 to 10 are read as the box from 0 to 10, so that overlaps are
    those of the development kit, which adds 1 to every width.

    Args:
        rows: one per image, in any order; repeated images count once.
        classes: names, by label.
        iou: least overlap of a right detection, in (0, 1].
        interpolation: "eleven_points" as in VOC 2007, "all_points" as in VOC 2010 and later.

    Returns:
        "mAP" in [0, 1], or -1 if the split has no object; "AP/<class>" of every class that has one: a class without any
        is left out, as it is from the mean.

    Raises:
        ValueError: see `tabulate`; or iou is out of range.
    """
    return voc_scores_of_table(
        tabulate(rows, num_classes=len(classes)), classes=classes, iou=iou, interpolation=interpolation
    )


def voc_scores_of_table(
    table: DetectionTable, *, classes: Sequence[str], iou: float = 0.5, interpolation: Interpolation = "all_points"
) -> dict[str, float]:
    """The same as `voc_scores`, of rows that are already in canonical order."""
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou}, expected above 0 and at most 1; VOC's own value is 0.5")
    overlaps, owners = _most_overlapped(table)
    ranked = np.argsort(-table.scores, kind="stable")  # equal scores keep the canonical order
    counted = table.num_counted(len(classes))
    scores: dict[str, float] = {}
    for label, name in enumerate(classes):
        if not counted[label]:
            continue
        of_class = ranked[table.labels[ranked] == label]
        right = _right(overlaps[of_class] >= iou, owners[of_class], crowd=table.truth_crowd)
        scores[f"AP/{name}"] = average_precision(right, num_truth=int(counted[label]), interpolation=interpolation)
    mean = float(np.mean(list(scores.values()))) if scores else UNDEFINED
    return {"mAP": mean, **scores}


def average_precision(right: Flags, *, num_truth: int, interpolation: Interpolation) -> float:
    """Area under precision over recall, precision being the best that is reached at that recall or a higher one.

    Args:
        right: (D,) whether each detection of one class is right, best score first.
        num_truth: objects of that class, at least 1.
        interpolation: the area itself, or the mean of precision at the recalls 0, 0.1, ..., 1. Those are compared in
            floating point (3 of 10 does not reach 0.30000000000000004), as all published implementations do.
    """
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    recall = hits / num_truth
    if interpolation == "eleven_points":
        first = np.searchsorted(recall, np.linspace(0, 1, 11), side="left")
        return float(np.append(precision, 0.0)[first].mean())
    return float(np.sum(precision[right]) / num_truth)


def _right(overlaps: Flags, truth: Integers, *, crowd: Flags) -> Flags:
    """Detections of one class by rank -> which are right, those that count neither way being left out."""
    belongs = np.flatnonzero(overlaps)
    on_crowd = np.zeros(len(overlaps), dtype=np.bool_)
    on_crowd[belongs] = crowd[truth[belongs]]
    right = np.zeros(len(overlaps), dtype=np.bool_)
    right[belongs[np.unique(truth[belongs], return_index=True)[1]]] = True
    return right[~on_crowd]


def _most_overlapped(table: DetectionTable) -> tuple[Floats, Integers]:
    """(D,) largest overlap of each detection with an object of its class and image, 0 without any; (D,) that object."""
    overlaps = np.zeros(len(table.labels))
    owners = np.zeros(len(table.labels), dtype=np.int64)
    num_images = len(table.sample_ids)
    begins = image_bounds(table.images, num_images=num_images)
    truth_begins = image_bounds(table.truth_images, num_images=num_images)
    for image in range(num_images):
        found = slice(begins[image], begins[image + 1])
        objects = slice(truth_begins[image], truth_begins[image + 1])
        if found.start == found.stop or objects.start == objects.stop:
            continue
        iou = _pairwise_iou(table.boxes[found], table.truth_boxes[objects])
        iou[table.labels[found, None] != table.truth_labels[None, objects]] = 0
        best = iou.argmax(axis=1)
        overlaps[found] = iou[np.arange(len(best)), best]
        owners[found] = best + objects.start
    return overlaps, owners


def _pairwise_iou(first: Floats, second: Floats) -> Floats:
    """(N, 4) and (M, 4) xyxy -> (N, M); 0 where both are without extent."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clip(min=0).prod(axis=-1)
    first_area, second_area = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (first, second))
    union = first_area[:, None] + second_area[None, :] - common
    iou: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou
