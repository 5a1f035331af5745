"""YOLOv5's loss of one level, as sums and counts.

Letters: B images, A anchors of a level, K classes, H and W cells of a level, M candidates (see assignment.py).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det import boxes as box_ops
from accel_det.models.yolov5.assignment import LevelMatches
from accel_det.models.yolov5.network import BOX_CHANNELS
from accel_det.types import Losses, LossTerm

FOCAL_ALPHA = 0.25


class LevelGains(NamedTuple):
    """Weights of the three parts of the loss of one level."""

    box: float
    objectness: float
    classes: float


class Teaching(NamedTuple):
    """What is taught, and how mistakes weigh against each other.

    Attributes:
        label_smoothing: in [0, 1); the truth of a class becomes 1 - smoothing / 2 and smoothing / 2.
        focal_gamma: exponent of the focal factor of objectness and classes; 0 for plain cross-entropy.
        class_positive_weight, objectness_positive_weight: weights of the cross-entropy's part for what is there.
        objectness_by_overlap: share of objectness that follows the overlap of the predicted box; the rest is 1.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_positive_weight: float = 1.0
    objectness_positive_weight: float = 1.0
    objectness_by_overlap: float = 1.0


def level_counts(matches: LevelMatches, *, level: str, num_classes: int) -> dict[str, Tensor]:
    """What the sums of `level_losses` are divided by: matches, cells that count, matches times classes."""
    num_matched = matches.matched.sum().to(matches.cell_weight.dtype)
    return {
        f"box/{level}": num_matched,
        f"objectness/{level}": matches.cell_weight.sum(),
        f"class/{level}": num_matched * num_classes,
    }


def level_losses(raw: Tensor, matches: LevelMatches, *, level: str, gains: LevelGains, teaching: Teaching) -> Losses:
    """Sums and counts of one level.

    box: 1 - complete IoU of matches. objectness: binary cross-entropy of every cell against the complete IoU of its
    match, without gradient through it, 0 without a match; where several boxes match one cell, the largest, whatever
    their order. class: binary cross-entropy of matches, class by class.

    Args:
        raw: (B, A, 5 + K, H, W) logits, any floating type; the loss is computed in that of `matches`.
        matches: of the same level.
        level: its name, part of the names of the terms.
        gains: weights.
        teaching: truth and its weights.
    """
    with torch.autocast(raw.device.type, enabled=False):
        dtype = matches.cell_weight.dtype
        picked = raw[matches.image, matches.anchor, :, matches.row, matches.column].to(dtype)
        class_logits = picked[:, BOX_CHANNELS:]
        iou = box_ops.complete_iou(
            box_ops.cxcywh_to_xyxy(decode_relative(picked[:, :4], anchors=matches.anchors)),
            box_ops.cxcywh_to_xyxy(matches.boxes),
        )
        zero = iou.new_zeros(())
        overlap = 1 - teaching.objectness_by_overlap * (1 - iou.detach().clamp(min=0))
        objectness = _entropy(
            raw[:, :, BOX_CHANNELS - 1].to(dtype),
            _objectness_targets(overlap, matches),
            positive_weight=teaching.objectness_positive_weight,
            focal_gamma=teaching.focal_gamma,
        )
        truth = F.one_hot(matches.labels, class_logits.shape[1]).to(dtype)
        classes = _entropy(
            class_logits,
            truth * (1 - teaching.label_smoothing) + teaching.label_smoothing / 2,
            positive_weight=teaching.class_positive_weight,
            focal_gamma=teaching.focal_gamma,
        ).sum(dim=1)
        counts = level_counts(matches, level=level, num_classes=class_logits.shape[1])
        sums = {
            f"box/{level}": gains.box * torch.where(matches.matched, 1 - iou, zero).sum(),
            f"objectness/{level}": gains.objectness * (objectness * matches.cell_weight).sum(),
            f"class/{level}": gains.classes * torch.where(matches.matched, classes, zero).sum(),
        }
        return {name: LossTerm(total, counts[name]) for name, total in sums.items()}


def decode_relative(logits: Tensor, *, anchors: Tensor) -> Tensor:
    """Logits of boxes -> boxes in cells, relative to the corner of the predicting cell.

    Args:
        logits: (M, 4) x, y, width, height.
        anchors: (M, 2) width and height in cells.

    Returns:
        (M, 4) center x, center y in (-0.5, 1.5), width, height in (0, 4) anchors.
    """
    squashed = logits.sigmoid() * 2
    return torch.cat((squashed[:, :2] - 0.5, squashed[:, 2:].square() * anchors), dim=1)


def _entropy(logits: Tensor, truth: Tensor, *, positive_weight: float, focal_gamma: float) -> Tensor:
    """Binary cross-entropy of each logit; with the focal factor (1 - p_t)^gamma where gamma is above 0.

    Truth lies in [0, 1]: between its ends, p_t and the weight 0.25 or 0.75 are blended in its proportion.

    Source: Lin et al., Focal Loss, 2017, section 3.2; the blend is of YOLOv5's published design.
    """
    weight = None if positive_weight == 1 else logits.new_full((), positive_weight)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none")
    if focal_gamma == 0:
        return entropy
    probability = logits.sigmoid()
    wrong = 1 - (truth * probability + (1 - truth) * (1 - probability))
    balance = truth * FOCAL_ALPHA + (1 - truth) * (1 - FOCAL_ALPHA)
    return entropy * balance * wrong.pow(focal_gamma)


def _objectness_targets(overlap: Tensor, matches: LevelMatches) -> Tensor:
    """(B, A, H, W): the largest overlap of a match with its cell's prediction, 0 without a match."""
    overlap = torch.where(matches.matched, overlap, torch.zeros_like(overlap))
    targets = torch.zeros_like(matches.cell_weight)
    _, num_anchors, height, width = targets.shape
    index = ((matches.image * num_anchors + matches.anchor) * height + matches.row) * width + matches.column
    return targets.view(-1).scatter_reduce_(0, index, overlap, "amax").view_as(targets)
