"""From scored boxes of a batch to detections: suppression, hard or soft, and box voting.

Letters: K candidates of all images together, N candidates of one image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from accel_det import boxes as box_ops
from accel_det.models.base import Inference
from accel_det.models.layers.soft_nms import soft_nms
from accel_det.models.layers.voting import vote
from accel_det.types import Detections

FIRST_PREFIX = 1024
MAX_CLASSES = 1 << 20


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
    """Cut candidates to the image, then keep the best as `inference.nms` says, and let all candidates vote if asked to.

    Boxes are cut before they are compared, because the cut box is the one that is reported; what lies outside the image
    altogether is dropped. Equal scores keep the order in which they came.

    Args:
        candidates: of the whole batch, in any order; scores below the threshold are expected to be gone.
        inference: what it says of suppression, voting and the number of detections is used; score_threshold by soft
            suppression alone, for the scores that it lowers.
        num_images: images of the batch.
        height, width: of the batch image in pixels.
        max_candidates: the best so many of one image take part.

    Returns:
        One per image, best score first, float32.
    """
    cut = candidates._replace(boxes=box_ops.clip(candidates.boxes, height=height, width=width))
    cut = cut.keep((cut.boxes[:, 2:] > cut.boxes[:, :2]).all(dim=1))
    everything = by_image(cut, num_images=num_images, limit=max_candidates)
    detections = []
    for found, rows in zip(_survivors(everything, inference, side=max(height, width)), everything, strict=True):
        boxes = found.boxes
        if inference.vote_iou is not None:
            boxes = vote(
                boxes.double(),
                found.labels,
                boxes_N4=rows.boxes.double(),
                scores_N=rows.scores.double(),
                labels_N=rows.labels,
                vote_iou=inference.vote_iou,
            )
        detections.append(Detections(boxes.float(), found.scores.float(), found.labels))
    return detections


def join(parts: Sequence[Candidates]) -> Candidates:
    """Candidates one under the other; at least one part."""
    return Candidates(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def by_image(candidates: Candidates, *, num_images: int, limit: int) -> list[Candidates]:
    """The best `limit` of each image, best score first; equal scores in the order in which they came."""
    by_score = torch.sort(candidates.scores, descending=True, stable=True).indices
    by_image = torch.sort(candidates.image[by_score], stable=True).indices
    ordered = candidates.keep(by_score[by_image])
    lengths: list[int] = torch.bincount(ordered.image, minlength=num_images).tolist()
    columns = zip(*(column.split(lengths) for column in ordered), strict=True)
    return [Candidates(*(column[:limit] for column in of_image)) for of_image in columns]


def cut_to_images(candidates: Candidates, sizes: Sequence[tuple[int, int]], *, least_px: float = 0.0) -> Candidates:
    """Boxes cut to the part of the batch image that is their own image; without those narrower or flatter than least_px.

    Args:
        sizes: (height, width) of each image before padding, pixels of the batch image.
    """
    limits = candidates.boxes.new_tensor([(width, height, width, height) for height, width in sizes])
    boxes = torch.minimum(candidates.boxes.clamp(min=0), limits[candidates.image])
    return candidates._replace(boxes=boxes).keep((boxes[:, 2:] - boxes[:, :2] >= least_px).all(dim=1))


def _survivors(everything: list[Candidates], inference: Inference, *, side: int) -> list[Candidates]:
    """What is left of each image, best first, at most max_detections.

    Args:
        everything: of each image, best first.
        side: of the batch image in pixels, the longer one.
    """
    limit = inference.max_detections
    if inference.nms == "none":
        return [Candidates(*(column[:limit] for column in rows)) for rows in everything]
    if inference.nms == "hard":
        return [
            rows.keep(
                _greedy(
                    _separated(rows, inference, side=side),
                    rows.scores,
                    nms_iou=inference.nms_iou,
                    max_detections=limit,
                )
            )
            for rows in everything
        ]
    rows = join(everything)
    label = torch.zeros_like(rows.labels) if inference.agnostic_nms else rows.labels
    groups = torch.unique(rows.image * MAX_CLASSES + label, return_inverse=True)[1]
    index, scores = soft_nms(
        rows.boxes.double(),
        rows.scores.double(),
        groups,
        kind=inference.nms,
        nms_iou=inference.nms_iou,
        sigma=inference.soft_nms_sigma,
        score_threshold=inference.score_threshold,
        max_picks=limit,
    )
    lowered = rows.keep(index)._replace(scores=scores)
    return by_image(lowered, num_images=len(everything), limit=limit)


def _separated(rows: Candidates, inference: Inference, *, side: int) -> Tensor:
    """(N, 4) float64 boxes, each class moved to a place of its own where classes do not suppress each other."""
    if inference.agnostic_nms:
        return rows.boxes.double()
    return rows.boxes.double() + rows.labels.double()[:, None] * (side + 1)


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
