"""Outputs -> detections: the scored pairs of query and class, best first, without suppression.

Letters: B images, Q queries, C classes.
"""

import torch
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.base import Inference
from accel_det.types import Detections


def detections(
    logits: Tensor, boxes: Tensor, *, frames: Tensor, no_object: bool, inference: Inference
) -> list[Detections]:
    """The answer for each image.

    With sigmoids every pair of query and class competes; with a softmax each query gives its best class. Sets are
    trained to hold each object once, so no box suppresses another.

    Args:
        logits: (B, Q, C), or (B, Q, C + 1) with `no_object`, the last one that of no object.
        boxes: (B, Q, 4) center x, center y, width, height as shares of the frame.
        frames: (B, 2) height and width in pixels.
    """
    corners = box_ops.cxcywh_to_xyxy(boxes) * frames.flip(1).repeat(1, 2)[:, None]
    if no_object:
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        query = torch.arange(logits.shape[1], device=logits.device).expand_as(scores)
    else:
        num_classes = logits.shape[-1]
        scores = logits.sigmoid().flatten(1)
        pair = torch.arange(scores.shape[1], device=logits.device).expand_as(scores)
        labels, query = pair % num_classes, pair // num_classes
    best, order = scores.topk(min(inference.max_detections, scores.shape[1]), dim=1)
    labels = labels.gather(1, order)
    chosen = corners.gather(1, query.gather(1, order)[..., None].expand(-1, -1, 4))
    limits = frames.flip(1).repeat(1, 2)[:, None]
    chosen = torch.minimum(chosen.clamp(min=0), limits)
    kept = best >= inference.score_threshold
    return [
        Detections(of_boxes[mask].float(), of_scores[mask].float(), of_labels[mask])
        for of_boxes, of_scores, of_labels, mask in zip(chosen, best, labels, kept, strict=True)
    ]
