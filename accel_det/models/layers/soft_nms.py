"""Soft non-maximum suppression: a better box that overlaps lowers a score, instead of dropping its box.

Letters: N boxes, G groups that suppress each other (a class of an image, say), P picks.
"""

from typing import Literal

import torch
from torch import Tensor

from accel_det import boxes as box_ops

_TAKEN = -1.0


def soft_nms(
    boxes_N4: Tensor,
    scores_N: Tensor,
    groups_N: Tensor,
    *,
    kind: Literal["soft_linear", "soft_gaussian"],
    nms_iou: float,
    sigma: float,
    score_threshold: float,
    max_picks: int,
) -> tuple[Tensor, Tensor]:
    """Take the best box of every group, lower the scores of what it overlaps, and again; all groups at once.

    Scores only fall, so the picks of a group come in descending order, and the best `max_picks` of several groups
    together are among the first `max_picks` of each: that many rounds give the exact answer, each of a cost in
    proportion to N, with nothing copied to the host.

    Args:
        boxes_N4: (N, 4) float64, xyxy.
        scores_N: (N,) float64 in [0, 1]; of equal scores of a group the first is taken first.
        groups_N: (N,) int64, 0 to G - 1, each of them used.
        kind: "soft_linear" multiplies by 1 - IoU where the IoU is above nms_iou, "soft_gaussian" by
            exp(-IoU^2 / sigma) everywhere.
        score_threshold: a box whose score falls below it is dropped.
        max_picks: rounds at most.

    Returns:
        (P,) int64 index of the picked boxes, round by round, and their (P,) lowered scores.

    Source: Bodla et al., Soft-NMS, 2017, figure 2 and equations 2 and 3; at an IoU of exactly nms_iou nothing changes,
    as in hard suppression here.
    """
    num_boxes = len(scores_N)
    if num_boxes == 0:
        return groups_N, scores_N
    group_sizes = torch.bincount(groups_N)
    positions = torch.arange(num_boxes, device=groups_N.device)
    scores = scores_N.clone()
    picked, picked_scores = [], []
    for _ in range(min(max_picks, int(group_sizes.max()))):
        best = scores.new_full(group_sizes.shape, _TAKEN).scatter_reduce_(0, groups_N, scores, "amax")
        is_best = scores == best[groups_N]
        first = group_sizes.new_full(group_sizes.shape, num_boxes)
        first.scatter_reduce_(0, groups_N, torch.where(is_best, positions, num_boxes), "amin")
        picked.append(first)
        picked_scores.append(best)
        iou = box_ops.paired_iou(boxes_N4, boxes_N4[first][groups_N])
        if kind == "soft_linear":
            factor = torch.where(iou > nms_iou, 1 - iou, torch.ones_like(iou))
        else:
            factor = torch.exp(-iou.square() / sigma)
        scores = torch.where(scores == _TAKEN, scores, scores * factor)
        scores[first] = _TAKEN
    index, lowered = torch.cat(picked), torch.cat(picked_scores)
    # A group that ran out picks a taken box again; its score of -1 is below every threshold.
    kept = lowered >= max(score_threshold, 0.0)
    return index[kept], lowered[kept]
