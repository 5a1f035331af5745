"""COCO average precision and recall of boxes: the twelve numbers of the COCO evaluation, and those of each class.

Source: Lin et al., Microsoft COCO, 2014, and the evaluation server's definition; computed by faster-coco-eval.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from accel_det.metrics.detection import DetectionTable, Floats, tabulate
from accel_det.types import DetectionRow

UNDEFINED = -1.0
"""COCO's own value where no object exists that could be found: JSON has no NaN."""

_AREAS = {"": 0, "s": 1, "m": 2, "l": 3}
"""Suffix of a number -> its position among the library's area ranges: all, small, medium, large."""


def coco_scores(rows: Iterable[DetectionRow], *, classes: Sequence[str], max_detections: int = 100) -> dict[str, float]:
    """The twelve COCO numbers, and AP and AP50 of every class.

    Args:
        rows: one per image, in any order; repeated images count once.
        classes: names, by label.
        max_detections: the best so many of each image and class are judged; at least 1.

    Returns:
        AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR<max_detections>, ARs, ARm, ARl, in [0, 1], or -1 where the split
        has no such object (the limits 1 and 10 appear if they do not exceed max_detections). Then "AP/<class>" and
        "AP50/<class>" of every class that has an object; a class without any is left out, as it is from the means.

    Raises:
        ValueError: see `tabulate`; or max_detections is below 1.
    """
    return coco_scores_of_table(
        tabulate(rows, num_classes=len(classes)), classes=classes, max_detections=max_detections
    )


def coco_scores_of_table(
    table: DetectionTable, *, classes: Sequence[str], max_detections: int = 100
) -> dict[str, float]:
    """The same as `coco_scores`, of rows that are already in canonical order."""
    if max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}, expected at least 1; COCO's own value is 100")
    limits = sorted({limit for limit in (1, 10, max_detections) if limit <= max_detections})
    precision, recall = _curves(table, num_classes=len(classes), limits=limits)

    scores = {"AP": _mean(precision[..., 0, -1])}
    scores["AP50"] = _mean(precision[0, ..., 0, -1])
    scores["AP75"] = _mean(precision[5, ..., 0, -1])
    scores |= {f"AP{suffix}": _mean(precision[..., area, -1]) for suffix, area in _AREAS.items() if suffix}
    scores |= {f"AR{limit}": _mean(recall[:, :, 0, position]) for position, limit in enumerate(limits)}
    scores |= {f"AR{suffix}": _mean(recall[..., area, -1]) for suffix, area in _AREAS.items() if suffix}
    counted = table.num_counted(len(classes))
    for label, name in enumerate(classes):
        if counted[label]:
            scores[f"AP/{name}"] = _mean(precision[:, :, label, 0, -1])
            scores[f"AP50/{name}"] = _mean(precision[0, :, label, 0, -1])
    return scores


def _curves(table: DetectionTable, *, num_classes: int, limits: list[int]) -> tuple[Floats, Floats]:
    """Precision (10 IoU thresholds, 101 recalls, classes, 4 areas, limits), and recall, the same without the second."""
    if not table.num_counted(num_classes).any():
        shape = (10, 101, num_classes, len(_AREAS), len(limits))
        return np.full(shape, UNDEFINED), np.full(shape[:1] + shape[2:], UNDEFINED)
    evaluation: Any = COCOeval_faster(
        _dataset(table, num_classes=num_classes, truth=True),
        _dataset(table, num_classes=num_classes, truth=False),
        "bbox",
    )
    evaluation.params.maxDets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _dataset(table: DetectionTable, *, num_classes: int, truth: bool) -> COCO:
    """Truth or detections as COCO's records: ids count from 1, because the library reads 0 as unmatched."""
    if truth:
        images, labels, boxes = table.truth_images, table.truth_labels, table.truth_boxes
        areas, crowd, scores = table.truth_areas, table.truth_crowd, np.ones(len(images))
    else:
        images, labels, boxes, scores = table.images, table.labels, table.boxes, table.scores
        areas, crowd = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.zeros(len(images), dtype=np.bool_)
    xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    columns = zip(
        (images + 1).tolist(),
        (labels + 1).tolist(),
        xywh.tolist(),
        areas.tolist(),
        crowd.astype(np.int64).tolist(),
        scores.tolist(),
        strict=True,
    )
    names = ("image_id", "category_id", "bbox", "area", "iscrowd", "score")
    annotations: list[dict[str, Any]] = [
        {"id": number, **dict(zip(names, values, strict=True))} for number, values in enumerate(columns, start=1)
    ]
    return COCO(
        {
            "images": [{"id": image + 1} for image in range(len(table.sample_ids))],
            "categories": [{"id": label + 1, "name": str(label)} for label in range(num_classes)],
            "annotations": annotations,
        }
    )


def _mean(values: Floats) -> float:
    """Mean of what is defined."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else UNDEFINED
