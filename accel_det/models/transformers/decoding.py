"""Outputs -> detections: the scored pairs of query and class, best first, suppressed where that is asked for.

Letters: B images, Q queries, C classes.
"""

import torch
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.base import Inference
from accel_det.models.layers.nms import Candidates, suppress
from accel_det.types import Detections


def detections(
    logits: Tensor, boxes: Tensor, *, frames: Tensor, no_object: bool, inference: Inference
) -> list[Detections]:
    """The answer for each image.

    With sigmoids every pair of query and class competes; with a softmax each query gives its best class. Sets are
    trained to hold each object once, so by default no box suppresses another; see `asks_for_suppression`.

    Args:
        logits: (B, Q, C), or (B, Q, C + 1) with `no_object`, the last one that of no object.
        boxes: (B, Q, 4) center x, center y, width, height as shares of the frame.
        frames: (B, 2) height and width in pixels.
    """
    limits = frames.flip(1).repeat(1, 2)[:, None]
    corners = torch.minimum((box_ops.cxcywh_to_xyxy(boxes) * limits).clamp(min=0), limits)
    if no_object:
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        query = torch.arange(logits.shape[1], device=logits.device).expand_as(scores)
    else:
        num_classes = logits.shape[-1]
        scores = logits.sigmoid().flatten(1)
        pair = torch.arange(scores.shape[1], device=logits.device).expand_as(scores)
        labels, query = pair % num_classes, pair // num_classes
    if asks_for_suppression(inference):
        height, width = (int(side) for side in frames.amax(dim=0).ceil().tolist())
        candidates = _candidates(scores, labels, query, corners, score_threshold=inference.score_threshold)
        return suppress(candidates, inference, num_images=len(scores), height=height, width=width)
    best, order = scores.topk(min(inference.max_detections, scores.shape[1]), dim=1)
    labels = labels.gather(1, order)
    chosen = corners.gather(1, query.gather(1, order)[..., None].expand(-1, -1, 4))
    kept = best >= inference.score_threshold
    return [
        Detections(of_boxes[mask].float(), of_scores[mask].float(), of_labels[mask])
        for of_boxes, of_scores, of_labels, mask in zip(chosen, best, labels, kept, strict=True)
    ]


def asks_for_suppression(inference: Inference) -> bool:
    """Whether what is asked for goes beyond the two ways of suppression that change nothing about a set without repeats.

    Hard suppression within a class is the default of all detectors, so it counts as asked for only together with
    suppression across classes or voting.
    """
    soft = inference.nms in ("soft_linear", "soft_gaussian")
    return soft or inference.vote_iou is not None or (inference.agnostic_nms and inference.nms == "hard")


def _candidates(
    scores: Tensor, labels: Tensor, query: Tensor, corners: Tensor, *, score_threshold: float
) -> Candidates:
    """What is not below the threshold, as every detector hands it on.

    Args:
        scores, labels, query: (B, N).
        corners: (B, Q, 4) xyxy, pixels of the batch image, cut to the frames.
    """
    image, place = torch.nonzero(scores >= score_threshold, as_tuple=True)
    return Candidates(image, corners[image, query[image, place]], scores[image, place], labels[image, place])
