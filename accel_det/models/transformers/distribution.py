"""D-FINE's losses about the sides of boxes as distributions over bins.

Letters: L decoder layers, B images, Q queries, M matched pairs, N bins.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det import boxes as box_ops
from accel_det.models.transformers.losses import Matched
from accel_det.models.transformers.matching import Matches
from accel_det.models.transformers.outputs import Refinement

_TEMPERATURE = 5.0


class BinRule(NamedTuple):
    """The bins and the weights of the losses.

    Attributes:
        last: number of the last bin; there is one more.
        up, curvature: the outermost offset is 2 * up * curvature, and bins lie denser around 0 the larger it is.
        fine: weight of the fine-grained localisation loss.
        distill: weight of the decoupled distillation focal loss.
    """

    last: int
    up: float
    curvature: float
    fine: float
    distill: float


def bin_offsets(rule: BinRule) -> list[float]:
    """The offset that each bin stands for.

    Source: Peng et al., D-FINE, 2024, equation 3.
    """
    near = abs(rule.up) * abs(rule.curvature)
    step = (near + 1) ** (2 / (rule.last - 2))
    rising = [step**number - 1 for number in range(1, rule.last // 2)]
    return [-2 * near, *(-value for value in reversed(rising)), 0.0, *rising, 2 * near]


def fine_loss(refinement: Refinement, matched: Matched, matches: Matches, rule: BinRule) -> Tensor:
    """(M,) of every pair: cross-entropy to the two bins around the true offset of each side, weighted by the IoU.

    Args:
        matches: their stage is the layer of the refinement.

    Source: Peng et al., D-FINE, 2024, equation 4.
    """
    place = (matches.stage, matches.image, matches.query)
    start = refinement.start[place]
    offsets = start.new_tensor(bin_offsets(rule))
    truth = box_ops.cxcywh_to_xyxy(matched.truth)
    limit = 2 * abs(rule.up) * abs(rule.curvature)
    reach = start[:, 2:].repeat(1, 2) / rule.curvature + 1e-16
    outward = torch.cat((start[:, :2] - truth[:, :2], truth[:, 2:] - start[:, :2]), dim=1)
    wanted = (outward / reach - 0.5 * rule.curvature).clamp(-limit, limit)
    left = (torch.bucketize(wanted, offsets, right=True) - 1).clamp(0, rule.last - 1)
    right_share = (wanted - offsets[left]) / (offsets[left + 1] - offsets[left])
    scores = refinement.corners[place].unflatten(1, (4, rule.last + 1)).log_softmax(-1)
    left_score = scores.gather(2, left[..., None]).squeeze(2)
    right_score = scores.gather(2, left[..., None] + 1).squeeze(2)
    loss = -(1 - right_share) * left_score - right_share * right_score
    weighted: Tensor = loss.sum(1) * matched.quality
    return weighted


def distill_loss(
    refinement: Refinement,
    matched: Matched,
    matches: Matches,
    rule: BinRule,
    *,
    counted: Tensor,
    positives: Tensor,
) -> Tensor:
    """() sum over images: how far the distributions of each layer are from those of the last one.

    Matched and other queries are averaged apart, and the two means weighted by the roots of their numbers. The original
    does so for all images of a process together, which no other number of processes could repeat; here each image is
    averaged on its own. The two are equal where all images have as many objects.

    Args:
        matches: of every layer; the last layer, the teacher, is left out.
        counted: (B, Q) bool, queries that take part.
        positives: (B,) number of matched queries that the weights are taken from; the others are Q less that.

    Source: Peng et al., D-FINE, 2024, equation 6.
    """
    layers, _, num_queries = refinement.corners.shape[:3]
    if layers == 1:
        return refinement.corners.sum() * 0
    bins = refinement.corners.unflatten(3, (4, rule.last + 1)) / _TEMPERATURE
    divergence = _divergence(bins[:-1], bins[-1].detach())
    weight = refinement.logits[-1].detach().sigmoid().amax(-1).expand(layers, -1, -1).clone()
    is_object = torch.zeros_like(weight, dtype=torch.bool)
    place = (matches.stage, matches.image, matches.query)
    weight[place] = matched.quality
    is_object[place] = True
    loss = weight[:-1] * _TEMPERATURE**2 * divergence.mean(-1)
    root = positives.sqrt(), (num_queries - positives).clamp(min=0).sqrt()
    parts = []
    for share, chosen in zip(root, (is_object[:-1], counted & ~is_object[:-1]), strict=True):
        number = chosen.sum(-1)
        mean = (loss * chosen).sum(-1) / number.clamp(min=1)
        parts.append(share * mean)
    return ((parts[0] + parts[1]) / (root[0] + root[1])).sum()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """(L, ..., N) and (..., N) logits -> (L, ...) Kullback-Leibler divergence of the student from the teacher.

    Its gradient is written down, the difference of the two distributions: 0 where they are equal, as they are at the
    start. Through logarithms, rounding alone would be left there, and teach an update without an object.
    """
    with torch.no_grad():
        wanted = teacher.softmax(-1)
        value = F.kl_div(student.log_softmax(-1), wanted.expand_as(student), reduction="none").sum(-1)
        difference = student.softmax(-1) - wanted
    slope = (difference * student).sum(-1)
    return value + (slope - slope.detach())
