"""Which anchor answers for which object: the rules of R-FCN and of torchvision's detectors, without waiting for the device.

torchvision's own matchers index with boolean masks, which stops the host at every image until the device has caught
up; here every result has a shape that is known beforehand. A crowd region is never an object, and an anchor that is no
object but lies mostly inside a crowd region is ignored: neither rewarded nor punished.

Letters: N objects of one image, A anchors, B images. Boxes are xyxy in pixels of the batch image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from accel_det.boxes import area
from accel_det.types import BoxTarget

BACKGROUND = -1
IGNORED = -2
CROWD_COVERAGE = 0.5


class Overlaps(NamedTuple):
    """How the boxes of one image lie on its objects.

    Attributes:
        iou: (N, A) intersection over union, -1 in the rows of crowd regions.
        in_crowd: (A,) bool, at least half of the box's area lies inside one crowd region.
    """

    iou: Tensor
    in_crowd: Tensor


class Assignment(NamedTuple):
    """What each anchor of each image is trained towards.

    Attributes:
        foreground: (B, A) bool, the anchor answers for an object.
        ignored: (B, A) bool, the anchor takes no part in the loss.
        labels: (B, A) int64, 0-based class where foreground, else 0.
        boxes: (B, A, 4) the object's box where foreground, else the anchor itself, so that every encoding stays finite.
    """

    foreground: Tensor
    ignored: Tensor
    labels: Tensor
    boxes: Tensor


def overlaps(target: BoxTarget, boxes: Tensor) -> Overlaps:
    """IoU of one image's objects with (A, 4) boxes, and which boxes a crowd region covers."""
    top_left = torch.maximum(target.boxes[:, None, :2], boxes[None, :, :2])
    bottom_right = torch.minimum(target.boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    box_area = area(boxes)
    iou = intersection / (area(target.boxes)[:, None] + box_area - intersection)
    is_crowd = target.crowd[:, None]
    in_crowd = (is_crowd & (intersection >= CROWD_COVERAGE * box_area)).any(dim=0)
    return Overlaps(iou.masked_fill(is_crowd, -1.0), in_crowd)


def match_by_iou(found: Overlaps, *, foreground_iou: float, background_iou: float, keep_best: bool) -> Tensor:
    """Give every anchor the object that it overlaps most.

    Args:
        foreground_iou: from this overlap on, an anchor answers for the object.
        background_iou: below this overlap, an anchor is background; in between it is ignored.
        keep_best: the anchors that overlap an object most answer for an object however small the overlap.

    Returns:
        (A,) int64, index of the object, BACKGROUND or IGNORED.

    Source: torchvision.models.detection._utils.Matcher (BSD); beyond it, what lies in a crowd region is ignored, and an
    object that no anchor overlaps is learnt by none, where torchvision gives it every anchor.
    """
    iou, in_crowd = found
    if iou.shape[0] == 0:
        return torch.full_like(in_crowd, BACKGROUND, dtype=torch.int64)
    best_iou, best_object = iou.max(dim=0)
    unmatched = torch.where(best_iou < background_iou, BACKGROUND, IGNORED)
    matches = torch.where(best_iou >= foreground_iou, best_object, unmatched)
    if keep_best:
        row_best = iou.amax(dim=1, keepdim=True)
        is_best = ((iou == row_best) & (row_best > 0)).any(dim=0)  # what nothing overlaps has no best anchor
        matches = torch.where(is_best, best_object, matches)
    return _ignore_crowds(matches, in_crowd)


def match_default_boxes(found: Overlaps, *, foreground_iou: float) -> Tensor:
    """Give every default box the object that it overlaps most, and every object the default box that suits it best.

    Returns:
        (A,) int64, index of the object, BACKGROUND or IGNORED.

    Source: Liu et al., SSD, 2016, section 2.2; torchvision.models.detection._utils.SSDMatcher (BSD). Where two objects
    share their best default box, the later one has it; torchvision leaves that to the device.
    """
    iou, in_crowd = found
    num_objects, num_anchors = iou.shape
    if num_objects == 0:
        return torch.full_like(in_crowd, BACKGROUND, dtype=torch.int64)
    best_iou, best_object = iou.max(dim=0)
    matches = torch.where(best_iou >= foreground_iou, best_object, BACKGROUND)
    row_best, best_anchor = iou.max(dim=1)
    anchors = torch.arange(num_anchors, device=iou.device)
    objects = torch.arange(num_objects, device=iou.device)[:, None]
    is_owner = (best_anchor[:, None] == anchors) & (row_best >= 0)[:, None]
    forced = torch.where(is_owner, objects, BACKGROUND).amax(dim=0)
    return _ignore_crowds(torch.where(forced >= 0, forced, matches), in_crowd)


def match_points(target: BoxTarget, anchors: Tensor, *, anchors_per_level: list[int], center_radius: float) -> Tensor:
    """Give every point of a pyramid the smallest object around it whose size belongs to the point's level.

    Args:
        anchors: (A, 4) squares as wide as their level's stride, around the points.
        anchors_per_level: how many of the A belong to each level, finest level first.
        center_radius: a point must lie this many strides or less from the object's center, along both axes.

    Returns:
        (A,) int64, index of the object, BACKGROUND or IGNORED.

    Source: Tian et al., FCOS, 2020, section 3; torchvision.models.detection.fcos.FCOS.compute_loss (BSD). Areas are
    compared directly instead of subtracted from 1e8, which in float32 cannot tell areas apart that differ by less than
    8 px^2.
    """
    in_crowd = overlaps(target, anchors).in_crowd
    if target.boxes.shape[0] == 0:
        return torch.full_like(in_crowd, BACKGROUND, dtype=torch.int64)
    points = ((anchors[:, :2] + anchors[:, 2:]) / 2)[:, None]
    stride = (anchors[:, 2] - anchors[:, 0])[:, None]
    centers = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
    is_central = (points - centers).abs().amax(dim=2) < center_radius * stride
    to_edges = torch.cat((points - target.boxes[:, :2], target.boxes[:, 2:] - points), dim=2)
    reach = to_edges.amax(dim=2)
    lower, upper = stride * 4, stride * 8
    lower[: anchors_per_level[0]] = 0
    upper[-anchors_per_level[-1] :] = torch.inf
    fits = is_central & (to_edges.amin(dim=2) > 0) & (reach > lower) & (reach < upper) & ~target.crowd
    areas = area(target.boxes).expand_as(fits).masked_fill(~fits, torch.inf)
    smallest, best_object = areas.min(dim=1)
    return _ignore_crowds(torch.where(smallest < torch.inf, best_object, BACKGROUND), in_crowd)


def assignment(targets: list[BoxTarget], matches: list[Tensor], *, anchors: Tensor) -> Assignment:
    """Look up the objects that matches name, (A,) per image, for (A, 4) anchors shared by all images."""
    labels, boxes = [], []
    for target, of_image in zip(targets, matches, strict=True):
        found_labels, found_boxes = look_up(target, of_image, boxes=anchors)
        labels.append(found_labels)
        boxes.append(found_boxes)
    every_match = torch.stack(matches)
    return Assignment(every_match >= 0, every_match == IGNORED, torch.stack(labels), torch.stack(boxes))


def look_up(target: BoxTarget, matches: Tensor, *, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(A,) matches -> the objects' (A,) labels and (A, 4) boxes; without an object, 0 and the given (A, 4) boxes."""
    if target.boxes.shape[0] == 0:
        return torch.zeros_like(matches), boxes
    index = matches.clamp(min=0)
    is_object = matches >= 0
    return (
        torch.where(is_object, target.labels[index], 0),
        torch.where(is_object[:, None], target.boxes[index], boxes),
    )


def _ignore_crowds(matches: Tensor, in_crowd: Tensor) -> Tensor:
    """Background inside a crowd region is not known to be background."""
    return torch.where((matches == BACKGROUND) & in_crowd, IGNORED, matches)
