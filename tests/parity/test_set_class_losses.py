"""The class losses of set prediction against loops over every query and class, in float64, 0 to 200 boxes in an image."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers_cases import NUM_CLASSES, scene

from accel_det.models.transformers.losses import ClassRule, class_loss, look_up, softmax_count
from accel_det.models.transformers.matching import Matches
from accel_det.models.transformers.objects import Objects, pack_objects

STAGES = 2
SCENES = ((0, 0), (1, 0), (3, 7), (200, 5))
RULES = {
    "softmax": ClassRule("softmax", no_object=0.1),
    "focal": ClassRule("focal", alpha=0.3, gamma=1.5),
    "varifocal": ClassRule("varifocal", alpha=0.75, gamma=2.0),
    "matchability": ClassRule("matchability", alpha=1.0, gamma=1.5),
    "iou_aware": ClassRule("iou_aware", alpha=0.25, gamma=2.0),
}
Place = tuple[int, int, int]


def num_queries(numbers: tuple[int, ...]) -> int:
    return 12 if max(numbers) < 12 else 205


def drawn(numbers: tuple[int, ...]) -> tuple[Tensor, Tensor, Objects, Matches]:
    """Logits, boxes near the objects they are matched with and far ones, and a query for every object in each stage."""
    draw = torch.Generator().manual_seed(sum(numbers))
    batch = scene(numbers, size_px=64)
    objects = pack_objects(batch.targets, batch.sizes.double())
    classes = NUM_CLASSES + 1
    logits = torch.randn(STAGES, len(numbers), num_queries(numbers), classes, generator=draw, dtype=torch.float64) * 2
    boxes = torch.rand(STAGES, len(numbers), num_queries(numbers), 4, generator=draw, dtype=torch.float64) * 0.4 + 0.2
    rows = []
    for stage in range(STAGES):
        first = 0
        for image, number in enumerate(numbers):
            queries = torch.randperm(num_queries(numbers), generator=draw)[:number].tolist()
            rows += [(stage, image, query, first + place) for place, query in enumerate(queries)]
            first += number
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 4).unbind(dim=1)
    matches = Matches(*columns)
    if len(rows):
        near = objects.boxes[matches.box]
        off = torch.rand(near.shape, generator=draw, dtype=torch.float64) * 0.05
        boxes[matches.stage, matches.image, matches.query] = near + off
    return logits, boxes, objects, matches


def iou(a: list[float], b: list[float]) -> float:
    """Of two boxes given as center x, center y, width, height."""
    sides = [
        max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2))
        for i in (0, 1)
    ]
    return sides[0] * sides[1] / (a[2] * a[3] + b[2] * b[3] - sides[0] * sides[1])


def taught(boxes: Tensor, objects: Objects, matches: Matches) -> dict[Place, tuple[int, float]]:
    """Stage, image and query -> label and overlap."""
    found = {}
    for stage, image, query, box in zip(*(column.tolist() for column in matches), strict=True):
        overlap = iou(boxes[stage, image, query].tolist(), objects.boxes[box].tolist())
        found[stage, image, query] = int(objects.labels[box]), overlap
    return found


def sigmoid_loss(kind: str, logit: Tensor, quality: float | None, rule: ClassRule) -> Tensor:
    """One query and class; `quality` is the overlap where the class is that of the matched object, else None."""
    p = 1 / (1 + torch.exp(-logit))
    held = p.item()
    if kind == "focal":  # Lin et al., 2017, equation 5
        if quality is None:
            return -(1 - rule.alpha) * p**rule.gamma * torch.log(1 - p)
        return -rule.alpha * (1 - p) ** rule.gamma * torch.log(p)
    if kind == "varifocal":  # Zhang et al., 2021, equation 2
        if quality is None:
            return -rule.alpha * held**rule.gamma * torch.log(1 - p)
        return -quality * (quality * torch.log(p) + (1 - quality) * torch.log(1 - p))
    if kind == "matchability":  # Huang et al., 2025, equation 4
        if quality is None:
            return -rule.alpha * held**rule.gamma * torch.log(1 - p)
        return -(quality**rule.gamma) * torch.log(p) - (1 - quality**rule.gamma) * torch.log(1 - p)
    if quality is None:  # Chen et al., LW-DETR, 2024, equation 1
        return -(p**rule.gamma) * torch.log(1 - p)
    t = max(held**rule.alpha * quality ** (1 - rule.alpha), 0.01)
    return -t * torch.log(p) - (1 - t) * torch.log(1 - p)


def by_loops(
    logits: Tensor, answers: dict[Place, tuple[int, float]], rule: ClassRule, weights: Tensor | None
) -> Tensor:
    parts = []
    for stage in range(STAGES):
        for image in range(logits.shape[1]):
            for query, of_query in enumerate(logits[stage, image].unbind()):
                label, quality = answers.get((stage, image, query), (None, 0.0))
                if rule.kind == "softmax":  # Carion et al., 2020, section 3.1: no object weighs a tenth
                    wanted = len(of_query) - 1 if label is None else label
                    weight = rule.no_object if label is None else 1.0
                    parts.append(weight * (torch.log(torch.exp(of_query).sum()) - of_query[wanted]))
                    continue
                weight = 1.0 if weights is None else float(weights[image, query])
                for number, logit in enumerate(of_query.unbind()):
                    overlap = quality if number == label else None
                    parts.append(weight * sigmoid_loss(rule.kind, logit, overlap, rule))
    return torch.stack(parts).sum()


@pytest.mark.parametrize("numbers", SCENES)
@pytest.mark.parametrize("kind", RULES)
def test_values_and_gradients_are_those_of_a_loop_over_queries_and_classes(kind: str, numbers: tuple[int, ...]) -> None:
    rule = RULES[kind]
    logits, boxes, objects, matches = drawn(numbers)
    weights = None
    if kind in ("varifocal", "matchability"):  # what denoising queries are weighted with
        weights = torch.rand(logits.shape[1:3], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    found = class_loss(logits, look_up(boxes, objects, matches), rule, weights=weights)
    expected = by_loops(logits, taught(boxes, objects, matches), rule, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found, logits)
    (reference,) = torch.autograd.grad(expected, logits)
    assert float((gradient - reference).norm() / reference.norm()) <= 1e-12
    assert len(matches.query) == STAGES * sum(numbers)


def test_overlaps_of_matched_boxes_are_those_of_plain_arithmetic() -> None:
    _, boxes, objects, matches = drawn((200, 5))
    expected = taught(boxes, objects, matches)
    places = zip(matches.stage.tolist(), matches.image.tolist(), matches.query.tolist(), strict=True)
    qualities = [expected[place][1] for place in places]
    assert look_up(boxes, objects, matches).quality.tolist() == pytest.approx(qualities, rel=1e-12)
    assert min(qualities) < 0.4 and max(qualities) > 0.8


@pytest.mark.parametrize("numbers", SCENES)
def test_the_weights_of_the_softmax_are_counted_query_by_query(numbers: tuple[int, ...]) -> None:
    _, boxes, objects, matches = drawn(numbers)
    answers: dict[Any, Any] = taught(boxes, objects, matches)
    places = [(0, image, query) for image in range(len(numbers)) for query in range(num_queries(numbers))]
    weights = [1.0 if place in answers else 0.1 for place in places]
    found = softmax_count(objects, num_queries=num_queries(numbers), no_object=0.1)
    assert found.item() == pytest.approx(math.fsum(weights), rel=1e-12)
