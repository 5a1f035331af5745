"""What anchors and regions are to learn: functions of boxes and of the image's own draw.

Letters: N objects of one image, A anchors, R regions of one image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from accel_det.models.layers.box_deltas import Spread, encode
from accel_det.models.layers.matching import BACKGROUND, IGNORED, Overlaps, look_up, match_by_iou, overlaps
from accel_det.models.layers.sampling import ROI_STREAM, RPN_STREAM, sample_balanced
from accel_det.types import BoxTarget

ANCHOR_FOREGROUND_IOU, ANCHOR_BACKGROUND_IOU = 0.7, 0.3
ANCHOR_FOREGROUND_SHARE = 0.5
REGION_FOREGROUND_IOU = 0.5


class AnchorTargets(NamedTuple):
    """The sampled anchors of one image.

    Attributes:
        positive, negative: (P,) and (M,) int64, indices of anchors.
        deltas: (P, 4) the object encoded for each positive anchor.
    """

    positive: Tensor
    negative: Tensor
    deltas: Tensor


class RegionTargets(NamedTuple):
    """What the regions of one image are.

    Attributes:
        boxes: (R, 4) xyxy, pixels of the batch image.
        classes: (R,) int64, 0 for background, else 1 + label; -1 for regions that take no part.
        deltas: (R, 4) the object encoded for the region; finite for all.
    """

    boxes: Tensor
    classes: Tensor
    deltas: Tensor


def anchor_targets(
    anchors: Tensor,
    targets: list[BoxTarget],
    *,
    inside: list[Tensor] | None,
    per_image: int,
    spread: Spread,
    draw_seeds: list[int],
) -> list[AnchorTargets]:
    """Match anchors with objects, and sample as many objects as background as there are, up to per_image.

    An anchor is an object from IoU 0.7 on, or if no other overlaps some object more; background below 0.3.

    Args:
        anchors: (A, 4).
        inside: (A,) bool per image, the anchors that take part; None: all.

    Source: Ren et al., Faster R-CNN, 2015, section 3.1.2; what lies in a crowd region is no background.
    """
    matches = []
    for index, target in enumerate(targets):
        found = overlaps(target, anchors)
        if inside is not None:
            found = Overlaps(found.iou.masked_fill(~inside[index], -1.0), found.in_crowd)
        matched = match_by_iou(
            found, foreground_iou=ANCHOR_FOREGROUND_IOU, background_iou=ANCHOR_BACKGROUND_IOU, keep_best=True
        )
        matches.append(matched if inside is None else matched.masked_fill(~inside[index], IGNORED))
    sampled = sample_balanced(
        [of_image - BACKGROUND for of_image in matches],  # object index + 1, background 0, ignored below
        per_image=per_image,
        positive_fraction=ANCHOR_FOREGROUND_SHARE,
        draw_seeds=draw_seeds,
        stream=RPN_STREAM,
    )
    found_targets = []
    for target, matched, (positive, negative) in zip(targets, matches, sampled, strict=True):
        _, boxes = look_up(target, matched[positive], boxes=anchors[positive])
        deltas = encode(boxes, reference=anchors[positive], spread=spread)
        found_targets.append(AnchorTargets(positive, negative, deltas))
    return found_targets


def region_targets(boxes: Tensor, target: BoxTarget, *, background_iou: float, spread: Spread) -> RegionTargets:
    """Say what each of (R, 4) regions is: an object from IoU 0.5 on, else background.

    Args:
        background_iou: regions that overlap every object less are neither; an image without objects has none to overlap,
            so there all regions are background.

    Source: Girshick, Fast R-CNN, 2015, section 2.3, where background_iou is 0.1.
    """
    found = overlaps(target, boxes)
    matched = match_by_iou(
        found, foreground_iou=REGION_FOREGROUND_IOU, background_iou=REGION_FOREGROUND_IOU, keep_best=False
    )
    if background_iou > 0 and found.iou.shape[0] > 0:
        nearest = found.iou.amax(dim=0)  # -1 where there are crowds alone
        matched = matched.masked_fill((nearest >= 0) & (nearest < background_iou), IGNORED)
    labels, objects = look_up(target, matched, boxes=boxes)
    classes = torch.where(matched >= 0, labels + 1, matched - BACKGROUND)
    return RegionTargets(boxes, classes, encode(objects, reference=boxes, spread=spread))


def sample_regions(
    regions: list[RegionTargets], *, per_image: int, foreground_share: float, draw_seeds: list[int]
) -> list[RegionTargets]:
    """At most per_image regions of every image, at most foreground_share of them objects, drawn by the image's seed.

    Source: Girshick, Fast R-CNN, 2015, section 2.3.
    """
    sampled = sample_balanced(
        [of_image.classes for of_image in regions],
        per_image=per_image,
        positive_fraction=foreground_share,
        draw_seeds=draw_seeds,
        stream=ROI_STREAM,
    )
    return [
        RegionTargets(*(column[torch.cat(chosen)] for column in of_image))
        for of_image, chosen in zip(regions, sampled, strict=True)
    ]
