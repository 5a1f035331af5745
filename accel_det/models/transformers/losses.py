"""Losses of set prediction as sums; what they are divided by is counted apart.

Letters: S stages, B images, Q queries, C classes, M matched pairs.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det import boxes as box_ops
from accel_det.models.transformers.matching import Matches
from accel_det.models.transformers.objects import Objects

ClassKind = Literal["softmax", "focal", "varifocal", "matchability", "iou_aware"]


class ClassRule(NamedTuple):
    """How classes are learnt.

    Attributes:
        kind: "softmax" is DETR's, with a last logit for no object; all others are sigmoids per class.
        alpha: weight of objects (focal) or of background (varifocal, matchability), or exponent of the score (iou_aware).
        gamma: exponent of the score that background is weighted with, and of an object's IoU (matchability).
        no_object: weight of queries without an object; "softmax" alone has it.
    """

    kind: ClassKind
    alpha: float = 0.25
    gamma: float = 2.0
    no_object: float = 0.1


class Matched(NamedTuple):
    """What the matched queries said and should have said.

    Attributes:
        found, truth: (M, 4) center x, center y, width, height as shares of the frame.
        quality: (M,) IoU of the two, without gradient.
        place: index of the matched logits in (S, B, Q, C): stage, image, query and label.
    """

    found: Tensor
    truth: Tensor
    quality: Tensor
    place: tuple[Tensor, Tensor, Tensor, Tensor]

    def keep(self, part: slice) -> "Matched":
        """Some of the pairs."""
        stage, image, query, label = self.place
        place = stage[part], image[part], query[part], label[part]
        return Matched(self.found[part], self.truth[part], self.quality[part], place)


def look_up(boxes: Tensor, objects: Objects, matches: Matches) -> Matched:
    """(S, B, Q, 4) boxes and the matches -> the pairs."""
    found = boxes[matches.stage, matches.image, matches.query]
    truth = objects.boxes[matches.box]
    quality = box_ops.paired_iou(box_ops.cxcywh_to_xyxy(found.detach()), box_ops.cxcywh_to_xyxy(truth))
    return Matched(found, truth, quality, (matches.stage, matches.image, matches.query, objects.labels[matches.box]))


def class_loss(logits: Tensor, matched: Matched, rule: ClassRule, *, weights: Tensor | None = None) -> Tensor:
    """() sum over all stages, images, queries and classes.

    Args:
        logits: (S, B, Q, C), float32 or float64.
        weights: (B, Q) of each query, or None for 1.
    """
    stage, image, query, label = matched.place
    if rule.kind == "softmax":
        wanted = torch.full(logits.shape[:3], logits.shape[3] - 1, device=logits.device)
        wanted[stage, image, query] = label
        per_class = torch.ones_like(logits[0, 0, 0])
        per_class[-1] = rule.no_object
        return F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), weight=per_class, reduction="sum")
    loss = _BY_KIND[rule.kind](logits, matched, rule)
    return (loss if weights is None else loss * weights[:, :, None]).sum()


def box_losses(matched: Matched, *, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """() sums over the matched pairs: absolute difference of the four numbers, and 1 - GIoU.

    Args:
        weights: (M,) of each pair, or None for 1.

    Source: Carion et al., 2020, equation 7.
    """
    distance = (matched.found - matched.truth).abs().sum(1)
    overlap = box_ops.generalized_iou(box_ops.cxcywh_to_xyxy(matched.found), box_ops.cxcywh_to_xyxy(matched.truth))
    if weights is None:
        return distance.sum(), (1 - overlap).sum()
    return (distance * weights).sum(), ((1 - overlap) * weights).sum()


def softmax_count(objects: Objects, *, num_queries: int, no_object: float) -> Tensor:
    """() the sum of the weights of DETR's cross-entropy over a batch: it is a weighted mean over queries."""
    matched = objects.number_of_each().clamp(max=num_queries)
    return (matched + no_object * (num_queries - matched)).sum()


def _focal(logits: Tensor, matched: Matched, rule: ClassRule) -> Tensor:
    """Source: Lin et al., Focal Loss for Dense Object Detection, 2017, equation 5."""
    wanted = torch.zeros_like(logits)
    wanted[matched.place] = 1
    score = logits.sigmoid()
    missed = score + wanted - 2 * score * wanted
    weight = 1 - rule.alpha + (2 * rule.alpha - 1) * wanted
    return weight * missed**rule.gamma * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def _varifocal(logits: Tensor, matched: Matched, rule: ClassRule) -> Tensor:
    """Source: Zhang et al., VarifocalNet, 2021, equation 2; the target of an object is its IoU."""
    wanted, is_object = torch.zeros_like(logits), torch.zeros_like(logits)
    wanted[matched.place] = matched.quality
    is_object[matched.place] = 1
    weight = rule.alpha * logits.detach().sigmoid() ** rule.gamma * (1 - is_object) + wanted
    return F.binary_cross_entropy_with_logits(logits, wanted, weight=weight, reduction="none")


def _matchability(logits: Tensor, matched: Matched, rule: ClassRule) -> Tensor:
    """Source: Huang et al., DEIM, 2025, equation 4; the target of an object is a power of its IoU, its weight is 1."""
    wanted, is_object = torch.zeros_like(logits), torch.zeros_like(logits)
    wanted[matched.place] = matched.quality**rule.gamma
    is_object[matched.place] = 1
    weight = rule.alpha * logits.detach().sigmoid() ** rule.gamma * (1 - is_object) + is_object
    return F.binary_cross_entropy_with_logits(logits, wanted, weight=weight, reduction="none")


def _iou_aware(logits: Tensor, matched: Matched, rule: ClassRule) -> Tensor:
    """Source: Chen et al., LW-DETR, 2024, equation 1; the weight of background carries a gradient, as published."""
    score = logits.sigmoid()
    quality = score.detach()[matched.place] ** rule.alpha * matched.quality ** (1 - rule.alpha)
    quality = quality.clamp(min=0.01)
    positive = torch.zeros_like(logits)
    positive[matched.place] = quality
    is_object = torch.zeros_like(logits)
    is_object[matched.place] = 1
    negative = torch.where(is_object > 0, 1 - positive, score**rule.gamma)
    return -positive * F.logsigmoid(logits) - negative * F.logsigmoid(-logits)


_BY_KIND = {"focal": _focal, "varifocal": _varifocal, "matchability": _matchability, "iou_aware": _iou_aware}
