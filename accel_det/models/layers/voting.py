"""Box voting: what was kept is moved to where its overlapping candidates say.

Letters: D kept boxes, N candidates of one image.
"""

import torch
from torch import Tensor

from accel_det import boxes as box_ops

_ROWS = 64


def vote(
    kept_D4: Tensor,
    kept_labels_D: Tensor,
    *,
    boxes_N4: Tensor,
    scores_N: Tensor,
    labels_N: Tensor,
    vote_iou: float,
) -> Tensor:
    """The mean, weighted by score, of the candidates of its class that overlap each kept box more than `vote_iou`.

    Args:
        kept_D4, kept_labels_D: (D, 4) float64 xyxy and (D,) int64: survivors of suppression.
        boxes_N4, scores_N, labels_N: (N, 4) and (N,) float64, (N,) int64: all candidates of the image before suppression,
            the kept ones among them, with the scores that they had.
        vote_iou: in (0, 1]; with 1 every box votes for itself alone.

    Returns:
        (D, 4) float64, xyxy.

    Source: Gidaris and Komodakis, Object detection via a multi-region CNN, 2015, section 5 (0.5 there).
    """
    means = [torch.zeros_like(kept_D4[:0])]
    # Some rows at a time: 300 kept boxes against 30,000 candidates would take half a gigabyte.
    for boxes, labels in zip(kept_D4.split(_ROWS), kept_labels_D.split(_ROWS), strict=True):
        votes = (box_ops.pairwise_iou(boxes, boxes_N4) > vote_iou) & (labels[:, None] == labels_N)
        weights = votes * scores_N
        total = weights.sum(dim=1, keepdim=True)
        mean = (weights @ boxes_N4) / total.clamp(min=torch.finfo(total.dtype).tiny)
        means.append(torch.where(total > 0, mean, boxes))
    return torch.cat(means)
