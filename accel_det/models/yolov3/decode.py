"""YOLOv3's predictions as boxes.

Letters: B images, A anchors of a level, K classes, H and W cells of a level, M predictions, N cells that may hold an
object.
"""

import math

import torch
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.layers.nms import Candidates
from accel_det.models.layers.precision import precise
from accel_det.models.yolov3.network import BOX_CHANNELS

# No box is a thousand times its anchor, and beyond that its area would soon be infinite.
LARGEST_LOG_RATIO = math.log(1000)


def decode_boxes(logits: Tensor, *, anchors: Tensor, corners: Tensor, stride: int) -> Tensor:
    """Logits of boxes -> boxes in pixels.

    Args:
        logits: (M, 4) float, at least float32: x, y, width, height.
        anchors: (M, 2) width and height in pixels.
        corners: (M, 2) column and row of the predicting cell.
        stride: pixels per cell.

    Returns:
        (M, 4) xyxy, pixels of the batch image.

    Source: Redmon and Farhadi, YOLOv3, 2018, section 2.1, with a bound on the exponent.
    """
    center = (logits[:, :2].sigmoid() + corners) * stride
    size = anchors * logits[:, 2:].clamp(max=LARGEST_LOG_RATIO).exp()
    return box_ops.cxcywh_to_xyxy(torch.cat((center, size), dim=1))


def decode_level(raw: Tensor, anchors_px: Tensor, *, stride: int) -> Tensor:
    """(B, A, 5 + K, H, W) logits and (A, 2) anchors in pixels -> (B, A * H * W, 4) xyxy, pixels of the batch image."""
    num_images, num_anchors, _, height, width = raw.shape
    logits = precise(raw[:, :, :4]).permute(0, 1, 3, 4, 2).reshape(-1, 4)
    rows, columns = torch.arange(height, device=raw.device), torch.arange(width, device=raw.device)
    corners = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    shape = (num_images, num_anchors, height, width, 2)
    boxes = decode_boxes(
        logits,
        anchors=anchors_px.to(logits.dtype)[:, None, None].expand(shape).reshape(-1, 2),
        corners=corners.expand(shape).reshape(-1, 2),
        stride=stride,
    )
    return boxes.view(num_images, -1, 4)


def level_candidates(
    raw: Tensor, anchors_px: Tensor, *, stride: int, score_threshold: float, softmax: bool
) -> Candidates:
    """Boxes of one level with a score, objectness times class probability, above the threshold; one per such class.

    Args:
        raw: (B, A, 5 + K, H, W) logits.
        anchors_px: (A, 2) float, width and height in pixels.
        stride: pixels per cell.
        score_threshold: in [0, 1].
        softmax: whether the classes exclude each other.
    """
    with torch.autocast(raw.device.type, enabled=False):
        # No class probability is above 1: a cell whose objectness is too low cannot reach the threshold.
        objectness = precise(raw[:, :, BOX_CHANNELS - 1]).sigmoid()
        image, anchor, row, column = (objectness > score_threshold).nonzero().unbind(dim=1)
        picked = precise(raw[image, anchor, :, row, column])
        boxes = decode_boxes(
            picked[:, :4],
            anchors=anchors_px.to(picked.dtype)[anchor],
            corners=torch.stack((column, row), dim=1),
            stride=stride,
        )
        classes = picked[:, BOX_CHANNELS:]
        probabilities = classes.softmax(dim=1) if softmax else classes.sigmoid()
        scores = objectness[image, anchor, row, column][:, None] * probabilities
        which, label = (scores > score_threshold).nonzero().unbind(dim=1)
        return Candidates(image[which], boxes[which], scores[which, label], label)
