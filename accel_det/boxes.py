"""Geometry of boxes: formats, the IoU family, clipping and letterboxing, as pure tensor functions.

A box is (x1, y1, x2, y2) in continuous pixels: a box that covers the first pixel alone is (0, 0, 1, 1).
Letters: N and M boxes.
"""

import math

import torch
from torch import Tensor

from accel_det.types import Placement


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) left, top, width, height -> corners (COCO's annotation format to ours)."""
    return torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners -> left, top, width, height."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) center x, center y, width, height -> corners."""
    half = boxes[..., 2:] / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners -> center x, center y, width, height."""
    return torch.cat(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (...) area; 0 for a box without extent."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """(N, 4) and (M, 4) xyxy -> (N, M) intersection over union; 0 where both are empty."""
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    union = area(first)[:, None] + area(second)[None, :] - intersection
    return torch.where(
        union > 0, intersection / union.clamp(min=torch.finfo(union.dtype).tiny), torch.zeros_like(union)
    )


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """(N, 4) and (N, 4) xyxy -> (N,) intersection over union, pair by pair; 0 where both are empty."""
    top_left = torch.maximum(first[:, :2], second[:, :2])
    bottom_right = torch.minimum(first[:, 2:], second[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    union = area(first) + area(second) - intersection
    return torch.where(
        union > 0, intersection / union.clamp(min=torch.finfo(union.dtype).tiny), torch.zeros_like(union)
    )


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """(..., 4) and (..., 4) xyxy, pair by pair or broadcast -> (...) in [-1, 1], differentiable; finite for empty boxes.

    Source: Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1.
    """
    tiny = torch.finfo(first.dtype).tiny
    inner = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    outer = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    intersection, hull = inner.clamp(min=0).prod(dim=-1), outer.clamp(min=0).prod(dim=-1)
    areas = (first[..., 2:] - first[..., :2]).prod(dim=-1) + (second[..., 2:] - second[..., :2]).prod(dim=-1)
    union = areas - intersection
    return intersection / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def complete_iou(predicted: Tensor, truth: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Complete IoU of boxes pair by pair: overlap, less center distance, less difference in shape.

    Args:
        predicted, truth: (N, 4) xyxy, floating point, at least float32.
        eps: keeps divisions finite for boxes without extent.

    Returns:
        (N,) in about [-1.5, 1], differentiable.

    Source: Zheng et al., Distance-IoU Loss, 2020, equations 10 to 12; the trade-off weight alpha carries no gradient.
    """
    size_p = predicted[:, 2:] - predicted[:, :2]
    size_t = truth[:, 2:] - truth[:, :2]
    overlap = torch.minimum(predicted[:, 2:], truth[:, 2:]) - torch.maximum(predicted[:, :2], truth[:, :2])
    intersection = overlap.clamp(min=0).prod(dim=-1)
    union = size_p.prod(dim=-1) + size_t.prod(dim=-1) - intersection + eps
    iou = intersection / union
    hull = torch.maximum(predicted[:, 2:], truth[:, 2:]) - torch.minimum(predicted[:, :2], truth[:, :2])
    diagonal = hull.square().sum(dim=-1) + eps
    distance = ((predicted[:, :2] + predicted[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2).square().sum(dim=-1)
    angle = torch.atan(size_t[:, 0] / (size_t[:, 1] + eps)) - torch.atan(size_p[:, 0] / (size_p[:, 1] + eps))
    shape = (4 / math.pi**2) * angle.square()
    with torch.no_grad():
        alpha = shape / (1 - iou + shape + eps)
    return iou - distance / diagonal - alpha * shape


def clip(boxes: Tensor, *, height: float, width: float) -> Tensor:
    """(..., 4) xyxy, cut to the image [0, width] x [0, height]."""
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def letterbox(*, height: int, width: int, canvas_height: int, canvas_width: int) -> tuple[int, int, Placement]:
    """Fit an image into a canvas, keeping its aspect, centered.

    Returns:
        Height and width in pixels of the resized image, and its placement on the canvas.
    """
    scale = min(canvas_height / height, canvas_width / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    left, top = (canvas_width - new_width) // 2, (canvas_height - new_height) // 2
    return new_height, new_width, Placement(new_width / width, new_height / height, float(left), float(top))


def place(boxes: Tensor, placement: Placement) -> Tensor:
    """(N, 4) xyxy, pixels of the file -> pixels of the batch image."""
    scale = boxes.new_tensor((placement.scale_x, placement.scale_y))
    offset = boxes.new_tensor((placement.offset_x, placement.offset_y))
    return _ordered(boxes[:, :2] * scale + offset, boxes[:, 2:] * scale + offset)


def unplace(boxes: Tensor, placement: Placement) -> Tensor:
    """(N, 4) xyxy, pixels of the batch image -> pixels of the file."""
    scale = boxes.new_tensor((placement.scale_x, placement.scale_y))
    offset = boxes.new_tensor((placement.offset_x, placement.offset_y))
    return _ordered((boxes[:, :2] - offset) / scale, (boxes[:, 2:] - offset) / scale)


def compose(first: Placement, second: Placement) -> Placement:
    """The placement that does first, then second."""
    return Placement(
        first.scale_x * second.scale_x,
        first.scale_y * second.scale_y,
        first.offset_x * second.scale_x + second.offset_x,
        first.offset_y * second.scale_y + second.offset_y,
    )


def _ordered(corner: Tensor, opposite: Tensor) -> Tensor:
    """Two opposite corners -> xyxy; a mirrored placement swaps left and right."""
    return torch.cat((torch.minimum(corner, opposite), torch.maximum(corner, opposite)), dim=-1)
