"""YOLOv3's losses of one level, as sums and counts.

Letters: B images, T boxes of the batch, A anchors of a level, K classes, H and W cells of a level.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det import boxes as box_ops
from accel_det.models.yolov3.assignment import Grid, LevelMatches
from accel_det.models.yolov3.decode import decode_boxes
from accel_det.models.yolov3.network import BOX_CHANNELS
from accel_det.models.yolov3.rules import LossRule
from accel_det.types import Losses, LossTerm

PARTS = ("box", "object", "background", "class")


class PartGains(NamedTuple):
    """Weights of the four parts of the loss of one level."""

    box: float
    object: float
    background: float
    classes: float


def level_counts(matches: LevelMatches, grid: Grid, *, rule: LossRule, level: str) -> dict[str, Tensor]:
    """What the sums of `level_losses` are divided by; known from the targets alone.

    Where the published loss divides by the cells that are not ignored, which depends on predictions, this counts the
    ignored ones as well: a difference of less than one cell in a hundred.
    """
    dtype = matches.areas.dtype
    if rule.mean_over == "images":
        images = torch.full((), grid.num_images, dtype=dtype, device=matches.areas.device)
        return {f"{part}/{level}": images for part in PARTS}
    num_matched = matches.matched.sum().to(dtype)
    if rule.choice == "of_all":
        cells = torch.full((), matches.holds_object.numel(), dtype=dtype, device=matches.areas.device)
        counts = (num_matched, cells, cells, num_matched * matches.classes.shape[1])
    else:
        background = (~(matches.holds_object | matches.spared)).sum().to(dtype)
        counts = (num_matched * 4, num_matched, background, num_matched)
    return {f"{part}/{level}": count for part, count in zip(PARTS, counts, strict=True)}


def level_losses(
    raw: Tensor,
    matches: LevelMatches,
    grid: Grid,
    *,
    anchors_px: Tensor,
    ignored: Tensor,
    rule: LossRule,
    gains: PartGains,
    level: str,
) -> Losses:
    """Sums and counts of one level; neither predictions nor targets are changed.

    Args:
        raw: (B, A, 5 + K, H, W) logits, any floating type; the loss is computed in that of `matches`.
        matches: of the same level.
        anchors_px: (A, 2) float, width and height in pixels.
        ignored: (B, A, H, W) bool, predictions that are not taught to be background.
        gains: weights.
        level: its name, part of the names of the terms.
    """
    with torch.autocast(raw.device.type, enabled=False):
        dtype = matches.areas.dtype
        picked = raw[matches.image, matches.anchor, :, matches.row, matches.column].to(dtype)
        truth = box_ops.cxcywh_to_xyxy(matches.boxes)
        predicted = decode_boxes(
            picked[:, :4],
            anchors=anchors_px.to(dtype)[matches.anchor],
            corners=torch.stack((matches.column, matches.row), dim=1),
            stride=grid.stride,
        )
        background = ~(matches.holds_object | matches.spared | ignored)
        empty = F.softplus(raw[:, :, BOX_CHANNELS - 1].to(dtype))
        per_match = {
            "box": gains.box * _box_loss(picked[:, :4], predicted, truth, matches, rule=rule),
            "object": gains.object * _object_loss(picked[:, BOX_CHANNELS - 1], predicted, truth, rule=rule),
            "class": gains.classes * _class_loss(picked[:, BOX_CHANNELS:], matches, rule=rule),
        }
        sums = {part: torch.where(matches.matched, loss, 0).sum() for part, loss in per_match.items()}
        sums["background"] = gains.background * torch.where(background, empty, 0).sum()
        counts = level_counts(matches, grid, rule=rule, level=level)
        return {name: LossTerm(sums[name.partition("/")[0]], count) for name, count in counts.items()}


def _box_loss(logits: Tensor, predicted: Tensor, truth: Tensor, matches: LevelMatches, *, rule: LossRule) -> Tensor:
    """(T,) loss of each candidate's box."""
    if rule.box == "giou":
        return 1 - box_ops.generalized_iou(predicted, truth)
    if rule.box == "logistic":
        center = F.binary_cross_entropy_with_logits(logits[:, :2], matches.offsets, reduction="none")
    else:
        center = (logits[:, :2].sigmoid() - matches.offsets).square() / 2
    size = (logits[:, 2:] - matches.log_ratios).square() / 2
    loss = (center + size).sum(dim=1)
    return loss * (2 - matches.areas) if rule.enlarges_small else loss


def _object_loss(logits: Tensor, predicted: Tensor, truth: Tensor, *, rule: LossRule) -> Tensor:
    """(T,) loss of each candidate's objectness."""
    if rule.object == "certain":
        return F.softplus(-logits)
    overlap = box_ops.paired_iou(predicted.detach(), truth)
    return (logits.sigmoid() - overlap).square() / 2


def _class_loss(logits: Tensor, matches: LevelMatches, *, rule: LossRule) -> Tensor:
    """(T,) loss of each candidate's classes."""
    if rule.classes == "softmax":
        return F.cross_entropy(logits, matches.labels, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, matches.classes, reduction="none").sum(dim=1)
