"""The losses of R-FCN as sums and counts.

Letters: R regions of a batch, C classes with background, D regressed boxes per region.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det.models.rfcn.network import ScoredAnchors
from accel_det.models.rfcn.targets import AnchorTargets
from accel_det.types import Losses, LossTerm

ANCHOR_BETA = 1 / 9  # smooth L1 with sigma 3 in Caffe's words: beta is 1 / sigma^2


def anchor_losses(scored: ScoredAnchors, targets: list[AnchorTargets]) -> Losses:
    """Cross-entropy over the sampled anchors, smooth L1 over those of them that are objects; means over all sampled.

    Source: Ren et al., Faster R-CNN, 2015, section 3.1.2, with both terms averaged alike, as in its published code.
    """
    logits, truth, deltas = [], [], []
    for index, (positive, negative, _) in enumerate(targets):
        logits += [scored.objectness[index, positive], scored.objectness[index, negative]]
        truth += [torch.ones_like(logits[-2]), torch.zeros_like(logits[-1])]
        deltas.append(scored.deltas[index, positive])
    every_logit = torch.cat(logits)
    entropy = F.binary_cross_entropy_with_logits(every_logit, torch.cat(truth), reduction="sum")
    wanted = torch.cat([of_image.deltas for of_image in targets])
    distance = F.smooth_l1_loss(torch.cat(deltas), wanted, beta=ANCHOR_BETA, reduction="sum")
    count = torch.full_like(entropy.detach(), every_logit.numel())
    return {"rpn_objectness": LossTerm(entropy, count), "rpn_box": LossTerm(distance, count)}


def region_losses(
    logits: Tensor,
    deltas: Tensor,
    *,
    classes: Tensor,
    delta_targets: Tensor,
    per_image: list[int],
    hardest: int | None,
    box_weight: float,
) -> Losses:
    """Cross-entropy and smooth L1 over the regions, or over the hardest of each image.

    Regions are ranked by the sum of both losses among all regions of their own image, of equals the first counts: what
    an image teaches does not depend on its neighbours. The class loss is a mean over the regions that are learnt from;
    so is the box loss, but with `hardest` its divisor is that number for every image, as published, even where an image
    has fewer regions.

    Args:
        logits: (R, C), background first.
        deltas: (R, D, 4); with D = 2 the second one is that of every object, else there is one per class.
        classes: (R,) int64; 0 is background, below 0 takes no part.
        delta_targets: (R, 4).
        per_image: how many of the R regions each image has.
        hardest: learn from so many regions of each image; None learns from all.

    Source: Girshick, Fast R-CNN, 2015, section 2.3; Shrivastava et al., OHEM, 2016, section 4; Dai et al., R-FCN, 2016,
    section 2 (selection among all regions).
    """
    takes_part = classes >= 0
    known = classes.clamp(min=0)
    entropy = F.cross_entropy(logits, known, reduction="none")
    column = known.clamp(max=deltas.shape[1] - 1)
    regressed = deltas.gather(1, column[:, None, None].expand(-1, 1, 4)).squeeze(1)
    distance = F.smooth_l1_loss(regressed, delta_targets, reduction="none").sum(dim=1)
    distance = box_weight * torch.where(known > 0, distance, torch.zeros_like(distance))
    chosen = takes_part
    if hardest is not None:
        hardness = (entropy + distance).detach().masked_fill(~takes_part, -torch.inf)
        ranked = [_among_hardest(of_image, count=hardest) for of_image in hardness.split(per_image)]
        chosen = takes_part & torch.cat(ranked)
    count = chosen.sum().to(entropy.dtype)
    fixed = count if hardest is None else torch.full_like(count, hardest * len(per_image))
    zero = torch.zeros_like(entropy)
    return {
        "class": LossTerm(torch.where(chosen, entropy, zero).sum(), count),
        "box": LossTerm(torch.where(chosen, distance, zero).sum(), fixed),
    }


def _among_hardest(hardness: Tensor, *, count: int) -> Tensor:
    """(R,) bool, whether a region is one of the `count` hardest."""
    order = hardness.argsort(descending=True, stable=True)
    return torch.zeros_like(hardness, dtype=torch.bool).index_fill_(0, order[:count], True)
