"""Anchors, and the proposals that are made of them.

Boxes are xyxy in continuous pixels: the Caffe code counts pixels, with widths of x2 - x1 + 1, and rounds its anchors to
whole ones; here nothing is rounded.

Letters: B images, N anchors of the whole map.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from accel_det import boxes as box_ops
from accel_det.models.layers.box_deltas import Spread, decode
from accel_det.models.rfcn.backbone import STRIDE


class ProposalRule(NamedTuple):
    """Which of the regressed anchors become proposals.

    Attributes:
        before_nms, after_nms: the best so many are kept.
        nms_iou: of two that overlap more, the worse is dropped.
        min_px: narrower or lower ones are dropped, pixels of the batch image.
        spread: what the deltas were divided by.
    """

    before_nms: int
    after_nms: int
    nms_iou: float
    min_px: float
    spread: Spread


class Proposals(NamedTuple):
    """Of one image, best first: boxes (P, 4) xyxy, pixels of the batch image, and scores (P,) in [0, 1]."""

    boxes: Tensor
    scores: Tensor


def make_anchors(
    rows: int,
    columns: int,
    *,
    scales: tuple[float, ...],
    ratios: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """(rows * columns * ratios * scales, 4) anchors around the middles of cells; ratio before scale in each cell.

    An anchor of scale s and ratio r has the area (16 s)^2 and r times its width as height.

    Source: Ren et al., Faster R-CNN, 2015, section 3.1.1.
    """
    shapes = [(STRIDE * scale / ratio**0.5, STRIDE * scale * ratio**0.5) for ratio in ratios for scale in scales]
    half = torch.tensor(shapes, dtype=dtype).to(device, non_blocking=True) / 2
    y, x = torch.meshgrid(
        (torch.arange(rows, dtype=dtype, device=device) + 0.5) * STRIDE,
        (torch.arange(columns, dtype=dtype, device=device) + 0.5) * STRIDE,
        indexing="ij",
    )
    centers = torch.stack((x, y), dim=-1)[:, :, None]
    return torch.cat((centers - half, centers + half), dim=-1).reshape(-1, 4)


@torch.no_grad()
def choose_proposals(
    objectness: Tensor, deltas: Tensor, *, anchors: Tensor, sizes: list[tuple[int, int]], rule: ProposalRule
) -> list[Proposals]:
    """Shift the anchors, cut them to their image, and keep the best that do not overlap; equal scores in order.

    Args:
        objectness: (B, N) log odds.
        deltas: (B, N, 4).
        anchors: (N, 4).
        sizes: (height, width) of each image inside the batch image, pixels.

    Source: Ren et al., Faster R-CNN, 2015, section 3.3.
    """
    kept = min(rule.before_nms, objectness.shape[1])
    order = objectness.sort(dim=1, descending=True, stable=True).indices[:, :kept]
    chosen = []
    for of_image, scores, shift, (height, width) in zip(order, objectness, deltas, sizes, strict=True):
        boxes = decode(shift[of_image], reference=anchors[of_image], spread=rule.spread)
        boxes = box_ops.clip(boxes, height=height, width=width)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= rule.min_px).all(dim=1)
        boxes, best = boxes[large], scores[of_image][large]
        survivors = nms(boxes, best, rule.nms_iou)[: rule.after_nms]
        chosen.append(Proposals(boxes[survivors], best[survivors].sigmoid()))
    return chosen
