"""Non-maximum suppression of scored boxes, class by class, for a whole batch.

Letters: K candidates of all images together, N candidates of one image.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from accel_det import boxes as box_ops
from accel_det.models.base import Inference
from accel_det.types import Detections

FIRST_PREFIX = 1024


class Candidates(NamedTuple):
    """Scored boxes of a batch, one row per (box, class); a box may appear under several classes.

    Attributes:
        image: (K,) int64, position of the image in the batch.
        boxes: (K, 4) float, xyxy, pixels of the batch image.
        scores: (K,) float in [0, 1].
        labels: (K,) int64, 0-based class index.
    """

    image: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def keep(self, index: Tensor) -> "Candidates":
        """The rows for which the (K,) boolean mask, or index, holds."""
        return Candidates(*(column[index] for column in self))


def suppress(
    candidates: Candidates,
    inference: Inference,
    *,
    num_images: int,
    height: int,
    width: int,
    max_candidates: int = 30_000,
) -> list[Detections]:
    """Cut candidates to the image, then keep of every class of every image those that no better one overlaps.

    Boxes are cut before they are compared, because the cut box is the one that is reported; what lies outside the image
    altogether is dropped. Equal scores keep the order in which they came.

    Args:
        candidates: of the whole batch, in any order; scores below the threshold are expected to be gone.
        inference: nms_iou and max_detections are used.
        num_images: images of the batch.
        height, width: of the batch image in pixels.
        max_candidates: the best so many of one image take part.

    Returns:
        One per image, best score first, float32.
    """
    cut = candidates._replace(boxes=box_ops.clip(candidates.boxes, height=height, width=width))
    cut = cut.keep((cut.boxes[:, 2:] > cut.boxes[:, :2]).all(dim=1))
    by_score = torch.sort(cut.scores, descending=True, stable=True).indices
    by_image = torch.sort(cut.image[by_score], stable=True).indices
    cut = cut.keep(by_score[by_image])
    lengths: list[int] = torch.bincount(cut.image, minlength=num_images).tolist()
    detections = []
    for start, length in zip(torch.tensor([0, *lengths]).cumsum(0).tolist(), lengths, strict=False):
        rows = slice(start, start + min(length, max_candidates))
        boxes, scores, labels = cut.boxes[rows], cut.scores[rows], cut.labels[rows]
        separated = boxes.double() + labels.double()[:, None] * (max(height, width) + 1)
        kept = _greedy(separated, scores, nms_iou=inference.nms_iou, max_detections=inference.max_detections)
        detections.append(Detections(boxes[kept].float(), scores[kept].float(), labels[kept]))
    return detections


def _greedy(boxes: Tensor, scores: Tensor, *, nms_iou: float, max_detections: int) -> Tensor:
    """Index of the survivors among (N, 4) boxes sorted by score, at most max_detections.

    Whether a box survives depends on better boxes alone, so a prefix that yields enough survivors gives the exact
    answer, at a small part of the quadratic cost. Boxes are float64: classes are kept apart by an offset in pixels,
    which would cost float32 its precision.
    """
    prefix = max(FIRST_PREFIX, 4 * max_detections)
    while True:
        kept: Tensor = nms(boxes[:prefix], scores[:prefix].to(boxes.dtype), nms_iou)
        if kept.shape[0] >= max_detections or prefix >= boxes.shape[0]:
            return kept[:max_detections]
        prefix *= 4
