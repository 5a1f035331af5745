"""Soft suppression, suppression across classes, none at all, and box voting, against plain loops."""

import math
import random
from typing import NamedTuple

import pytest
import torch

from accel_det.models.base import Inference, NmsKind
from accel_det.models.layers.nms import Candidates, suppress
from accel_det.types import Detections

SIDE = 60.0


class Box(NamedTuple):
    """One scored box in plain numbers."""

    score: float
    label: int
    corners: tuple[float, float, float, float]


def scene(seed: int) -> list[Box]:
    """Up to 60 boxes of 1 to 3 classes, some of them near copies, some exact ones, some scores equal."""
    rng = random.Random(seed)
    found: list[Box] = []
    for _ in range(rng.choice([0, 1, 2, 10, 30, 60])):
        if found and rng.random() < 0.4:
            old = rng.choice(found).corners
            shift = rng.choice([0.0, 1.0, 4.0])
            corners = tuple(min(SIDE, max(0.0, side + rng.uniform(-shift, shift))) for side in old)
        else:
            x, y = rng.uniform(0, 45), rng.uniform(0, 45)
            corners = (x, y, x + rng.uniform(2, 15), y + rng.uniform(2, 15))
        if corners[0] < corners[2] and corners[1] < corners[3]:
            score = rng.choice([rng.random(), 0.5])
            found.append(Box(score, rng.randrange(1 + seed % 3), corners))  # type: ignore[arg-type]
    return found


def overlap(a: Box, b: Box) -> float:
    width = min(a.corners[2], b.corners[2]) - max(a.corners[0], b.corners[0])
    height = min(a.corners[3], b.corners[3]) - max(a.corners[1], b.corners[1])
    if width <= 0 or height <= 0:
        return 0.0

    def area(box: Box) -> float:
        return (box.corners[2] - box.corners[0]) * (box.corners[3] - box.corners[1])

    return width * height / (area(a) + area(b) - width * height)


def factor(iou: float, inference: Inference) -> float:
    if inference.nms == "soft_linear":
        return 1 - iou if iou > inference.nms_iou else 1.0
    if inference.nms == "soft_gaussian":
        return math.exp(-(iou**2) / inference.soft_nms_sigma)
    return 0.0 if iou > inference.nms_iou else 1.0


def bodla(boxes: list[Box], inference: Inference) -> list[Box]:
    """Figure 2 of Soft-NMS, a list at a time: pick the best, rescore the rest, drop what falls below the threshold."""
    left, picked = list(boxes), []
    while left:
        best = max(left, key=lambda box: box.score)  # the first of equals
        left.remove(best)
        picked.append(best)
        left = [box._replace(score=box.score * factor(overlap(best, box), inference)) for box in left]
        left = [box for box in left if box.score >= max(inference.score_threshold, 1e-300)]
    return picked


def reference(boxes: list[Box], inference: Inference) -> list[Box]:
    classes = [0] if inference.agnostic_nms else sorted({box.label for box in boxes})
    found = []
    for one in classes:
        found += bodla([box for box in boxes if inference.agnostic_nms or box.label == one], inference)
    if inference.nms == "none":
        found = list(boxes)
    return sorted(found, key=lambda box: -box.score)[: inference.max_detections]


def voted(box: Box, boxes: list[Box], vote_iou: float) -> tuple[float, ...]:
    """Section 5 of Gidaris and Komodakis: the mean of the neighbors, weighted by score."""
    neighbors = [other for other in boxes if other.label == box.label and overlap(box, other) > vote_iou]
    total = sum(other.score for other in neighbors)
    if not total:
        return box.corners
    return tuple(sum(other.score * other.corners[side] for other in neighbors) / total for side in range(4))


def run(scenes: list[list[Box]], inference: Inference, *, shuffle_seed: int = 0) -> list[Detections]:
    rows = [(image, box) for image, boxes in enumerate(scenes) for box in boxes]
    random.Random(shuffle_seed).shuffle(rows)
    rows.sort(key=lambda row: row[0] % 2)  # images mixed, boxes of an image in another order than that of their scores
    candidates = Candidates(
        torch.tensor([image for image, _ in rows], dtype=torch.int64),
        torch.tensor([box.corners for _, box in rows], dtype=torch.float64).reshape(-1, 4),
        torch.tensor([box.score for _, box in rows], dtype=torch.float64),
        torch.tensor([box.label for _, box in rows], dtype=torch.int64),
    )
    return suppress(candidates, inference, num_images=len(scenes), height=int(SIDE), width=int(SIDE))


def expect_same(found: Detections, expected: list[Box], corners: list[tuple[float, ...]]) -> None:
    assert found.scores.tolist() == pytest.approx([box.score for box in expected], abs=1e-6)
    assert sorted(found.labels.tolist()) == sorted(box.label for box in expected)
    # Boxes of equal score may change places.
    mine = sorted(zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True))
    assert len(mine) == len(corners)
    theirs = sorted(
        (torch.tensor(box.score).float().item(), box.label, list(sides))
        for box, sides in zip(expected, corners, strict=True)
    )
    for one, other in zip(mine, theirs, strict=True):
        assert one[2] == pytest.approx(other[2], abs=1e-4)


def without_ties(boxes: list[Box]) -> list[Box]:
    """Equal scores made different, so that the answer does not hang on the order of candidates."""
    return [box._replace(score=box.score * (1 - 1e-3 * place)) for place, box in enumerate(boxes)]


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("kind", ["hard", "soft_linear", "soft_gaussian", "none"])
def test_every_kind_equals_the_papers_loop_on_200_scenes(kind: NmsKind, agnostic: bool) -> None:
    scenes = [without_ties(scene(seed)) for seed in range(200)]
    inference = Inference(0.05, 0.3, 20, nms=kind, agnostic_nms=agnostic, soft_nms_sigma=0.4)
    scenes = [[box for box in boxes if box.score >= 0.05] for boxes in scenes]
    swept = 0
    for boxes, found in zip(scenes, run(scenes, inference), strict=True):
        expected = reference(boxes, inference)
        expect_same(found, expected, [box.corners for box in expected])
        swept += len(expected)
    assert swept > 1000


@pytest.mark.parametrize("kind", ["hard", "soft_linear"])
@pytest.mark.parametrize("vote_iou", [0.2, 0.5, 1.0])
def test_a_kept_box_becomes_the_mean_of_its_neighbors_by_their_first_scores(kind: NmsKind, vote_iou: float) -> None:
    inference = Inference(0.05, 0.3, 20, nms=kind, vote_iou=vote_iou)
    scenes = [[box for box in without_ties(scene(seed)) if box.score >= 0.05] for seed in range(100)]
    moved = 0
    for boxes, found in zip(scenes, run(scenes, inference), strict=True):
        expected = reference(boxes, inference)
        corners = [voted(box, boxes, vote_iou) for box in expected]
        expect_same(found, expected, corners)
        moved += sum(sides != pytest.approx(box.corners) for sides, box in zip(corners, expected, strict=True))
    assert moved > 80 if vote_iou < 1 else moved == 0


def test_two_near_boxes_keep_both_under_soft_suppression_with_the_scores_of_the_equations() -> None:
    boxes = [Box(0.9, 0, (0, 0, 10, 10)), Box(0.8, 0, (0, 0, 10, 6))]  # IoU 0.6
    linear = run([boxes], Inference(nms="soft_linear", nms_iou=0.3))[0]
    assert linear.scores.tolist() == pytest.approx([0.9, 0.8 * 0.4])
    gaussian = run([boxes], Inference(nms="soft_gaussian", soft_nms_sigma=0.5))[0]
    assert gaussian.scores.tolist() == pytest.approx([0.9, 0.8 * math.exp(-0.36 / 0.5)])
    assert len(run([boxes], Inference(nms="soft_linear", nms_iou=0.3, score_threshold=0.33))[0].scores) == 1
    assert len(run([boxes], Inference(nms="soft_linear", nms_iou=0.6001))[0].scores) == 2


def test_boxes_of_two_classes_suppress_each_other_only_where_asked() -> None:
    boxes = [Box(0.9, 0, (0, 0, 10, 10)), Box(0.8, 5, (0, 0, 10, 10))]
    for kind, left in (("hard", 1), ("soft_linear", 1), ("soft_gaussian", 2)):
        inference = Inference(nms=kind)  # type: ignore[arg-type]
        assert run([boxes], inference)[0].scores.tolist() == pytest.approx([0.9, 0.8])
        across = run([boxes], inference._replace(agnostic_nms=True))[0]
        assert len(across.scores) == left and across.labels[0] == 0
    assert across.scores[1].item() == pytest.approx(0.8 * math.exp(-1 / 0.5))


def test_more_images_than_candidates_change_nothing() -> None:
    boxes = without_ties(scene(5))
    assert len(boxes) >= 10
    for kind in ("hard", "soft_linear", "soft_gaussian", "none"):
        inference = Inference(0.0, 0.3, 10, nms=kind, vote_iou=0.5)  # type: ignore[arg-type]
        alone = run([boxes], inference)[0]
        among = run([[], boxes, []], inference)
        assert [len(one.scores) for one in among] == [0, len(alone.scores), 0]
        assert all(torch.equal(one, other) for one, other in zip(alone, among[1], strict=True))
        assert run([[], []], inference)[0].boxes.shape == (0, 4)
