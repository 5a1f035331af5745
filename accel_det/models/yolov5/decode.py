"""YOLOv5's predictions as scored boxes.

Letters: B images, A anchors of a level, K classes, H and W cells of a level, N cells that may hold an object.
"""

import torch
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.layers.nms import Candidates
from accel_det.models.layers.precision import precise
from accel_det.models.yolov5.loss import decode_relative
from accel_det.models.yolov5.network import BOX_CHANNELS


def level_candidates(raw: Tensor, anchors_px: Tensor, *, stride: int, score_threshold: float) -> Candidates:
    """Boxes of one level with a score, objectness times class probability, above the threshold; one per such class.

    Args:
        raw: (B, A, 5 + K, H, W) logits.
        anchors_px: (A, 2) float, width and height in pixels.
        stride: pixels per cell.
        score_threshold: in [0, 1].
    """
    with torch.autocast(raw.device.type, enabled=False):
        # No class probability is above 1: a cell whose objectness is too low cannot reach the threshold.
        objectness = precise(raw[:, :, BOX_CHANNELS - 1]).sigmoid()
        cell = (objectness > score_threshold).nonzero()
        image, anchor, row, column = cell.unbind(dim=1)
        picked = precise(raw[image, anchor, :, row, column])
        relative = decode_relative(picked[:, :4], anchors=anchors_px.to(picked.dtype)[anchor] / stride)
        center = relative[:, :2] + torch.stack((column, row), dim=1)
        boxes = box_ops.cxcywh_to_xyxy(torch.cat((center, relative[:, 2:]), dim=1) * stride)
        scores = objectness[image, anchor, row, column][:, None] * picked[:, BOX_CHANNELS:].sigmoid()
        which, label = (scores > score_threshold).nonzero().unbind(dim=1)
        return Candidates(image[which], boxes[which], scores[which, label], label)
