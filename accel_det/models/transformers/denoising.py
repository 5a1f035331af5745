"""Noisy copies of the true boxes as additional queries, which learn to find back to them.

Letters: B images, T boxes of all images together, P denoising queries of an image, Q others, D channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.layers.sampling import image_generator
from accel_det.models.transformers.objects import Objects

_STREAM = "denoising"


class NoiseRule(NamedTuple):
    """How much noise.

    Attributes:
        queries: positive ones of an image, about; its groups are as many as fit, and at least one.
        label_share: so many labels are drawn anew, in pairs of 2: half of this share.
        box_scale: corners move by up to this times half the side, for a positive; by up to twice that for a negative.
        num_classes: labels are drawn from so many.
    """

    queries: int
    label_share: float
    box_scale: float
    num_classes: int


class NoisyQueries(NamedTuple):
    """The denoising queries of a batch: per image its groups one after the other, each with a positive and then a
    negative copy of every box of the image; what is left up to the longest image is void.

    Attributes:
        box: (B, P) int64, position of the copied box in `Objects`.
        void: (B, P) bool: padding, and copies of crowd regions.
        negative: (B, P) bool.
        group: (B, P) int64; void padding has -1.
        labels: (B, P) int64 with noise; num_classes where void.
        boxes: (B, P, 4) with noise, center x, center y, width, height as shares of the frame, in [0, 1].
        share: (B,) float, 1 / number of groups.
        positive: (2, M) int64, image and place of every positive copy, those of crowd regions included.
    """

    box: Tensor
    void: Tensor
    negative: Tensor
    group: Tensor
    labels: Tensor
    boxes: Tensor
    share: Tensor
    positive: Tensor


class _Plan(NamedTuple):
    """Of one image, on the CPU: (P,) or (P, 4)."""

    box: Tensor
    void: Tensor
    negative: Tensor
    group: Tensor
    redraw: Tensor
    label: Tensor
    shift: Tensor


def noisy_queries(objects: Objects, draw_seeds: Sequence[int], rule: NoiseRule) -> NoisyQueries | None:
    """The queries of a batch, or None if no image has a box.

    An image has as many groups as it would have in a batch of its own, and each of its terms weighs 1 / groups: what an
    image contributes does not depend on its neighbours. transformers gives all images the groups of the most crowded
    one, pads them with copies of nothing that the others attend to, and draws from the global generator; for a batch of
    one image, both are the same.

    Source: Zhang et al., DINO, 2023, section 3.3, with the numbers of RT-DETR.
    """
    longest = max((2 * number * _groups(number, rule) for number in objects.per_image), default=0)
    if longest == 0:
        return None
    plans, first = [], 0
    for number, draw_seed in zip(objects.per_image, draw_seeds, strict=True):
        plans.append(_plan(number, first=first, length=longest, draw_seed=draw_seed, rule=rule))
        first += number
    device, dtype = objects.boxes.device, objects.boxes.dtype
    on_host = _Plan(*(torch.stack(column) for column in zip(*plans, strict=True)))
    positive = (~on_host.void & ~on_host.negative).nonzero().T.to(device, non_blocking=True)
    plan = _Plan(*(column.to(device, non_blocking=True) for column in on_host))
    shares = [1 / _groups(number, rule) for number in objects.per_image]
    void = plan.void | objects.crowd[plan.box]
    labels = torch.where(plan.redraw, plan.label, objects.labels[plan.box]).masked_fill(void, rule.num_classes)
    truth = objects.boxes[plan.box]
    reach = truth[..., 2:].repeat(1, 1, 2) * 0.5 * rule.box_scale
    corners = box_ops.cxcywh_to_xyxy(truth) + plan.shift.to(dtype) * reach
    boxes = box_ops.xyxy_to_cxcywh(corners.clamp(0, 1))
    share = torch.tensor(shares, dtype=dtype).to(device, non_blocking=True)
    return NoisyQueries(plan.box, void, plan.negative, plan.group, labels, boxes, share, positive)


def attention_mask(queries: NoisyQueries, *, num_queries: int) -> Tensor:
    """(B, 1, P + Q, P + Q) float, 0 where a row may look and minus infinity where not.

    A denoising query sees its own group and the others, the others never see a denoising query.
    """
    batch, length = queries.group.shape
    visible = queries.group[:, :, None] == queries.group[:, None, :]
    visible = visible & ~queries.void[:, None, :]
    mask = queries.boxes.new_zeros((batch, 1, length + num_queries, length + num_queries))
    mask[:, 0, :length, :length].masked_fill_(~visible, -torch.inf)
    mask[:, :, length:, :length] = -torch.inf
    return mask


def _groups(number: int, rule: NoiseRule) -> int:
    return max(1, rule.queries // max(number, 1))


def _plan(number: int, *, first: int, length: int, draw_seed: int, rule: NoiseRule) -> _Plan:
    """Of an image with `number` boxes, the first of which stands at `first`."""
    groups = _groups(number, rule)
    used = 2 * number * groups
    generator = image_generator(draw_seed, stream=_STREAM)
    position = torch.arange(length)
    void = position >= used
    per_group = max(2 * number, 1)
    negative = (position % per_group >= number) & ~void
    redraw, label = torch.zeros(length, dtype=torch.bool), torch.zeros(length, dtype=torch.int64)
    redraw[:used] = torch.rand(used, generator=generator) < 0.5 * rule.label_share
    label[:used] = torch.randint(rule.num_classes, (used,), generator=generator)
    shift = torch.zeros(length, 4)
    sign = 2.0 * torch.randint(2, (used, 4), generator=generator) - 1
    shift[:used] = sign * (torch.rand(used, 4, generator=generator) + negative[:used, None].float())
    box = torch.where(void, 0, first + position % max(number, 1))
    return _Plan(box, void, negative, torch.where(void, -1, position // per_group), redraw, label, shift)
