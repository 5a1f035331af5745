"""The losses of torchvision's detectors as sums and counts: pure functions of predictions and assignments.

A stock loss divides by a number of its own batch. Here the numerator and the divisor come apart, so that sums and
counts of several processes add up to those of one. All inputs are float32 or float64. Letters: B images, A anchors, K
classes, R regions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from accel_det.boxes import area
from accel_det.models.layers.matching import Assignment
from accel_det.types import Losses, LossTerm

RCNN_BETA = 1 / 9


def retinanet_losses(logits: Tensor, box_losses: Tensor, *, assigned: Assignment) -> Losses:
    """Each image's sum over anchors, divided by that image's number of foreground anchors; averaged over images.

    Args:
        logits: (B, A, K) class scores before the sigmoid.
        box_losses: (B, A) loss of each anchor's regressed box; read where an anchor is foreground.

    Source: Lin et al., Focal Loss, 2017, section 4.1; torchvision.models.detection.retinanet (BSD).
    """
    per_image = assigned.foreground.sum(dim=1).clamp(min=1)
    per_image_focal = _focal(logits, assigned).sum(dim=(1, 2)) / per_image
    per_image_box = (box_losses * assigned.foreground).sum(dim=1) / per_image
    count = _constant(len(logits), like=logits)
    return {
        "classification": LossTerm(per_image_focal.sum(), count),
        "bbox_regression": LossTerm(per_image_box.sum(), count),
    }


def fcos_losses(logits: Tensor, boxes: Tensor, centerness: Tensor, *, assigned: Assignment, anchors: Tensor) -> Losses:
    """Focal, generalized IoU and centerness loss; all three averaged over the foreground points of the whole batch.

    Args:
        logits: (B, A, K) class scores before the sigmoid.
        boxes: (B, A, 4) decoded, xyxy, pixels.
        centerness: (B, A) before the sigmoid.
        anchors: (A, 4) squares around the points.

    Source: Tian et al., FCOS, 2020, section 3.3; torchvision.models.detection.fcos (BSD).
    """
    foreground = assigned.foreground
    points = (anchors[:, :2] + anchors[:, 2:]) / 2
    before, after = points - assigned.boxes[..., :2], assigned.boxes[..., 2:] - points
    balance = torch.minimum(before, after) / torch.maximum(before, after)
    centrality = balance.prod(dim=-1).sqrt()
    off_center = F.binary_cross_entropy_with_logits(centerness, centrality, reduction="none")
    count = foreground.sum().to(logits.dtype)
    return {
        "classification": LossTerm(_focal(logits, assigned).sum(), count),
        "bbox_regression": LossTerm((generalized_iou_loss(boxes, assigned.boxes) * foreground).sum(), count),
        "bbox_ctrness": LossTerm((off_center * foreground).sum(), count),
    }


def ssd_losses(
    logits: Tensor, deltas: Tensor, *, assigned: Assignment, delta_targets: Tensor, negatives_per_positive: float
) -> Losses:
    """Cross-entropy over matched and hardest background boxes, smooth L1 over matched ones; averaged over matched ones.

    The hardest background boxes are chosen image by image, so the choice does not depend on the batch. An image without
    objects contributes nothing.

    Args:
        logits: (B, A, 1 + K) class scores before the softmax, background first.
        deltas, delta_targets: (B, A, 4) encoded boxes.

    Source: Liu et al., SSD, 2016, section 2.2; torchvision.models.detection.ssd (BSD), which counts a matched box
    twice where an image has fewer background boxes than asked for; here it counts once.
    """
    foreground = assigned.foreground
    classes = torch.where(foreground, assigned.labels + 1, 0)
    entropy = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(classes)
    not_negative = foreground | assigned.ignored
    hardness = entropy.detach().masked_fill(not_negative, -torch.inf)
    rank = hardness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    is_hard = (rank < negatives_per_positive * foreground.sum(dim=1, keepdim=True)) & ~not_negative
    distance = F.smooth_l1_loss(deltas, delta_targets, reduction="none").sum(dim=-1)
    count = foreground.sum().to(logits.dtype)
    return {
        "bbox_regression": LossTerm((distance * foreground).sum(), count),
        "classification": LossTerm((entropy * (foreground | is_hard)).sum(), count),
    }


def rpn_losses(objectness: Tensor, *, is_object: Tensor, deltas: Tensor, delta_targets: Tensor) -> Losses:
    """Binary cross-entropy over sampled anchors, smooth L1 over those of them that are objects; averaged over sampled
    ones.

    Args:
        objectness: (R,) of the sampled anchors, before the sigmoid.
        is_object: (R,) 1 for an object, 0 for background.
        deltas, delta_targets: (P, 4) encoded boxes of the sampled anchors that are objects.

    Source: Ren et al., Faster R-CNN, 2015, section 3.1.2; torchvision.models.detection.rpn (BSD).
    """
    count = _constant(objectness.numel(), like=objectness)
    entropy = F.binary_cross_entropy_with_logits(objectness, is_object, reduction="sum")
    distance = F.smooth_l1_loss(deltas, delta_targets, beta=RCNN_BETA, reduction="sum")
    return {"loss_objectness": LossTerm(entropy, count), "loss_rpn_box_reg": LossTerm(distance, count)}


def roi_losses(logits: Tensor, deltas: Tensor, *, classes: Tensor, delta_targets: Tensor) -> Losses:
    """Cross-entropy over sampled regions, smooth L1 over those of them that are objects; averaged over sampled ones.

    Args:
        logits: (R, 1 + K) class scores before the softmax, background first.
        deltas: (R, (1 + K) * 4) encoded boxes, one per class.
        classes: (R,) int64, 0 for background.
        delta_targets: (R, 4) encoded boxes; finite for background too.

    Source: Girshick, Fast R-CNN, 2015, section 2.3; torchvision.models.detection.roi_heads (BSD).
    """
    count = _constant(classes.numel(), like=logits)
    entropy = F.cross_entropy(logits, classes, reduction="sum")
    num_regions, num_outputs = deltas.shape  # no region at all is possible, so no -1 in the view
    of_class = deltas.view(num_regions, num_outputs // 4, 4)[torch.arange(num_regions, device=deltas.device), classes]
    distance = F.smooth_l1_loss(of_class, delta_targets, beta=RCNN_BETA, reduction="none").sum(dim=-1)
    return {
        "loss_classifier": LossTerm(entropy, count),
        "loss_box_reg": LossTerm((distance * (classes > 0)).sum(), count),
    }


def generalized_iou_loss(predicted: Tensor, truth: Tensor, *, eps: float = 1e-7) -> Tensor:
    """1 - generalized IoU of (..., 4) xyxy boxes pair by pair, in [0, 2].

    Source: Rezatofighi et al., Generalized IoU, 2019, algorithm 1; eps placed as in
    torchvision.ops.generalized_box_iou_loss.
    """
    top_left = torch.maximum(predicted[..., :2], truth[..., :2])
    bottom_right = torch.minimum(predicted[..., 2:], truth[..., 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    union = (predicted[..., 2:] - predicted[..., :2]).prod(dim=-1) + area(truth) - intersection
    hull_corner = torch.minimum(predicted[..., :2], truth[..., :2])
    hull = (torch.maximum(predicted[..., 2:], truth[..., 2:]) - hull_corner).prod(dim=-1)
    return 1 - intersection / (union + eps) + (hull - union) / (hull + eps)


def _focal(logits: Tensor, assigned: Assignment) -> Tensor:
    """(B, A, K) focal loss of every class of every anchor, 0 where the anchor is ignored."""
    classes = torch.arange(logits.shape[-1], device=logits.device)
    is_class = (assigned.labels[..., None] == classes) & assigned.foreground[..., None]
    loss: Tensor = sigmoid_focal_loss(logits, is_class.to(logits.dtype), reduction="none")
    return loss.masked_fill(assigned.ignored[..., None], 0.0)


def _constant(value: float, *, like: Tensor) -> Tensor:
    """A scalar filled on the device: a copy from the host would wait for it."""
    return torch.full((), float(value), dtype=like.dtype, device=like.device)
