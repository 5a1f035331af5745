"""Recall of proposals: how many objects have a box near them, whatever its class.

Letters: N objects and P proposals of one image, T thresholds.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from accel_det.types import DetectionRow

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
LIMITS = (100, 300, 1000)

Floats = NDArray[np.float64]


def proposal_recall(rows: Iterable[DetectionRow], *, limits: Sequence[int] = LIMITS) -> dict[str, float]:
    """The share of objects that the best proposals of their image find, at IoU 0.5 to 0.95 in steps of 0.05.

    Objects and proposals are paired one to one, always the pair that overlaps most among those that are left; an object
    is found at a threshold where it overlaps its partner by that much at least. Crowd regions are no objects.

    Args:
        rows: one per image; detections sorted by score, best first; labels are not read.
        limits: so many of the best proposals of an image count.

    Returns:
        For each limit L: "AR@L", the mean over the thresholds, then "R50@L" to "R95@L"; in [0, 1], or -1 where there is
        no object at all.

    Source: Hosang et al., What makes for effective detection proposals, 2015, section 3 (average recall); pairing as in
    Girshick's published evaluation of recall.
    """
    table = [(_objects(row), row.detections.boxes.double().numpy()) for row in rows]
    scores: dict[str, float] = {}
    for limit in limits:
        found = [paired_overlaps(pairwise_overlaps(objects, boxes[:limit])) for objects, boxes in table]
        overlaps = np.concatenate([np.zeros(0), *found])
        recalls = [float((overlaps >= threshold).mean()) if len(overlaps) else -1.0 for threshold in THRESHOLDS]
        scores[f"AR@{limit}"] = float(np.mean(recalls))
        scores |= {f"R{round(100 * t)}@{limit}": recall for t, recall in zip(THRESHOLDS, recalls, strict=True)}
    return scores


def paired_overlaps(iou: Floats) -> Floats:
    """(N, P) overlaps -> (N,) overlap of each object with its partner, 0 without one; in the order of pairing."""
    left = iou.copy()
    found = np.zeros(len(iou))
    for number in range(min(iou.shape)):
        row, column = np.unravel_index(np.argmax(left), left.shape)
        if left[row, column] <= 0:
            break
        found[number] = left[row, column]
        left[row, :] = -1
        left[:, column] = -1
    return found


def pairwise_overlaps(objects: Floats, boxes: Floats) -> Floats:
    """(N, 4) and (P, 4) xyxy -> (N, P) intersection over union."""
    top_left = np.maximum(objects[:, None, :2], boxes[None, :, :2])
    bottom_right = np.minimum(objects[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    union = _areas(objects)[:, None] + _areas(boxes)[None, :] - common
    overlaps: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlaps


def _objects(row: DetectionRow) -> Floats:
    objects: Floats = row.truth.boxes[~row.truth.crowd].double().numpy()
    return objects


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas
