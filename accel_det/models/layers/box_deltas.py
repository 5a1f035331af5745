"""Boxes as differences from other boxes: what the two-stage detectors regress.

Letters: N boxes.
"""

import math

import torch
from torch import Tensor

from accel_det.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

MAX_LOG_GROWTH = math.log(1000 / 16)
"""A box grows by this factor at most, so that no exponential overflows; Girshick's own limit."""

Spread = tuple[float, float, float, float]


def encode(boxes: Tensor, *, reference: Tensor, spread: Spread) -> Tensor:
    """(..., 4) xyxy boxes as differences from (..., 4) reference boxes of positive extent.

    Args:
        spread: what each difference is divided by, usually its standard deviation over a training set.

    Returns:
        (..., 4): shift of the center in widths and heights of the reference, log of the growth in width and height.

    Source: Girshick et al., R-CNN, 2013, appendix C; widths are x2 - x1, not x2 - x1 + 1 as in the Caffe code.
    """
    center_size, of_reference = xyxy_to_cxcywh(boxes), xyxy_to_cxcywh(reference)
    shift = (center_size[..., :2] - of_reference[..., :2]) / of_reference[..., 2:]
    growth = (center_size[..., 2:] / of_reference[..., 2:]).log()
    return torch.cat((shift, growth), dim=-1) / _spread(spread, like=boxes)


def decode(deltas: Tensor, *, reference: Tensor, spread: Spread) -> Tensor:
    """(..., 4) xyxy boxes from their differences, the inverse of `encode` up to its limit of growth."""
    deltas = deltas * _spread(spread, like=deltas)
    of_reference = xyxy_to_cxcywh(reference)
    center = of_reference[..., :2] + deltas[..., :2] * of_reference[..., 2:]
    size = of_reference[..., 2:] * deltas[..., 2:].clamp(max=MAX_LOG_GROWTH).exp()
    return cxcywh_to_xyxy(torch.cat((center, size), dim=-1))


def _spread(spread: Spread, *, like: Tensor) -> Tensor:
    """(4,), filled on the device: a copy from the host would wait for it."""
    return torch.stack([torch.full((), value, dtype=like.dtype, device=like.device) for value in spread])
