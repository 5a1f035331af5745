"""Which query answers for which object: the cheapest one-to-one assignment, found for all layers with one copy.

Letters: S stages that are matched (decoder layers and the encoder's proposals), B images, Q queries, C classes, T boxes
of all images together, M matched pairs.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.transformers.objects import Objects

Costs = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Table = npt.NDArray[np.int64]

_MAX_PAIRS = 1 << 20
"""Pairs of object and query whose cost is computed at a time: what is needed for it stays below 100 MB."""


class MatchRule(NamedTuple):
    """Weights of the parts of the cost.

    Attributes:
        score: of the class: "softmax" takes the probability itself, "focal" the difference of the focal loss.
        label, box, giou: weights.
        groups: queries come in so many groups of equal size, each matched to all objects on its own.
    """

    score: Literal["softmax", "focal"]
    label: float
    box: float
    giou: float
    groups: int = 1


class Matches(NamedTuple):
    """Matched pairs: (M,) int64 each, positions in the stages, images, queries and boxes."""

    stage: Tensor
    image: Tensor
    query: Tensor
    box: Tensor


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, objects: Objects, rule: MatchRule, *, union: bool) -> tuple[Matches, Matches]:
    """Match the queries of every stage. Waits for the device once.

    Args:
        logits: (S, B, Q, C) float32 or float64.
        boxes: (S, B, Q, 4) likewise, center x, center y, width, height as shares of the frame.
        union: whether the second result is asked for.

    Returns:
        The pairs of every stage, and the union of all stages' pairs, repeated for each stage; without `union` the pairs
        again. Both are ordered by stage.

    Source: Carion et al., End-to-End Object Detection with Transformers, 2020, section 3.1; the class cost "focal" is
    that of Zhu et al., Deformable DETR, 2021, appendix A.4; groups are those of Chen et al., Group DETR, 2023.
    """
    costs = torch.stack([_costs(*stage, objects, rule) for stage in zip(logits, boxes, strict=True)])
    pairs = _assign(costs.cpu().numpy(), objects.per_image, groups=rule.groups)
    own = pairs.shape[1]
    joint = _union(pairs, num_stages=len(logits)) if union else pairs[:, :0]
    both = torch.from_numpy(np.concatenate((pairs, joint), axis=1)).to(logits.device, non_blocking=True)
    matches = Matches(*both[:, :own])
    return matches, Matches(*both[:, own:]) if union else matches


def _costs(logits: Tensor, boxes: Tensor, objects: Objects, rule: MatchRule) -> Tensor:
    """(T, Q) cost of every query of the box's own image; infinite for crowd regions."""
    probabilities = logits.softmax(-1) if rule.score == "softmax" else logits.sigmoid()
    rows = max(1, _MAX_PAIRS // logits.shape[1])
    parts = [logits.new_zeros((0, logits.shape[1]))]
    for start in range(0, len(objects.image), rows):
        part = slice(start, start + rows)
        image, truth = objects.image[part], objects.boxes[part][:, None]
        score = probabilities[image, :, objects.labels[part]]
        label = -score if rule.score == "softmax" else _focal_cost(score)
        found = boxes[image]
        distance = (found - truth).abs().sum(-1)
        overlap = box_ops.generalized_iou(box_ops.cxcywh_to_xyxy(found), box_ops.cxcywh_to_xyxy(truth))
        parts.append(rule.box * distance + rule.label * label - rule.giou * overlap)
    largest = torch.finfo(logits.dtype).max
    cost = torch.cat(parts).nan_to_num(nan=largest, posinf=largest, neginf=largest)
    return cost.masked_fill(objects.crowd[:, None], torch.inf)


def _focal_cost(score: Tensor, *, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-8) -> Tensor:
    positive = alpha * (1 - score) ** gamma * -(score + eps).log()
    negative = (1 - alpha) * score**gamma * -(1 - score + eps).log()
    return positive - negative


def _assign(costs: Costs, per_image: tuple[int, ...], *, groups: int) -> Table:
    """(S, T, Q) costs -> (4, M) stage, image, query and box of every pair."""
    found = [np.zeros((4, 0), dtype=np.int64)]
    group_size = costs.shape[2] // groups
    for stage, of_stage in enumerate(costs):
        first = 0
        for image, number in enumerate(per_image):
            objects = first + np.flatnonzero(np.isfinite(of_stage[first : first + number, 0]))
            first += number
            for start in range(0, group_size * groups, group_size):
                row, query = linear_sum_assignment(of_stage[objects, start : start + group_size])
                pairs = (np.full_like(row, stage), np.full_like(row, image), query + start, objects[row])
                found.append(np.stack(pairs))
    return np.concatenate(found, axis=1)


def _union(pairs: Table, *, num_stages: int) -> Table:
    """Every query with the box that most stages matched it to, for all stages.

    Of boxes that equally many stages matched, the first.

    Source: Peng et al., D-FINE, 2024, section 4.2 and its code: the localisation losses of all layers share the union
    of their matches, as otherwise a query would be taught in some layers only.
    """
    unique, votes = np.unique(pairs[1:], axis=1, return_counts=True)
    order = np.argsort(-votes, kind="stable")
    _, first = np.unique(unique[:2, order], axis=1, return_index=True)
    chosen = unique[:, np.sort(order[first])]
    stage = np.repeat(np.arange(num_stages), chosen.shape[1])
    return np.concatenate((stage[None], np.tile(chosen, (1, num_stages))))
