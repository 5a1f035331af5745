"""Recall of proposals against cases by hand and against a slow search over pairs."""

import pytest
import torch
from torch import Tensor

from accel_det.metrics.recall import THRESHOLDS, proposal_recall
from accel_det.types import BoxTarget, DetectionRow, Detections


def row(objects: Tensor, boxes: Tensor, *, crowd: list[bool] | None = None, sample_id: int = 0) -> DetectionRow:
    objects, boxes = objects.double().reshape(-1, 4), boxes.double().reshape(-1, 4)
    labels = torch.zeros(len(objects), dtype=torch.int64)
    truth = BoxTarget(objects, labels, torch.tensor(crowd or [False] * len(objects), dtype=torch.bool), labels.double())
    scores = torch.linspace(1, 0.5, len(boxes), dtype=torch.float64)
    return DetectionRow(
        sample_id, 100, 100, truth, Detections(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64))
    )


def random_row(num_objects: int, num_boxes: int, seed: int) -> DetectionRow:
    generator = torch.Generator().manual_seed(seed)

    def boxes(count: int) -> Tensor:
        corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 70
        return torch.cat(
            (corner, corner + 5 + 25 * torch.rand(count, 2, generator=generator, dtype=torch.float64)), dim=1
        )

    objects = boxes(num_objects)
    near = objects.repeat(3, 1) + 4 * torch.randn(3 * num_objects, 4, generator=generator, dtype=torch.float64)
    mixed = torch.cat((boxes(num_boxes), near))
    return row(objects, mixed[torch.randperm(len(mixed), generator=generator)], sample_id=seed)


def slow_recall(rows: list[DetectionRow], *, limit: int) -> dict[float, float]:
    overlaps = []
    for one in rows:
        objects, boxes = one.truth.boxes.tolist(), one.detections.boxes[:limit].tolist()
        pairs = sorted(
            ((slow_iou(o, b), i, j) for i, o in enumerate(objects) for j, b in enumerate(boxes)), reverse=True
        )
        free_objects, free_boxes, best = set(range(len(objects))), set(range(len(boxes))), [0.0] * len(objects)
        for overlap, i, j in pairs:
            if i in free_objects and j in free_boxes:
                best[i] = overlap
                free_objects.remove(i)
                free_boxes.remove(j)
        overlaps += best
    return {t: sum(overlap >= t for overlap in overlaps) / len(overlaps) for t in THRESHOLDS}


def slow_iou(a: list[float], b: list[float]) -> float:
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_recall_equals_a_slow_search_over_all_pairs() -> None:
    rows = [random_row(count, boxes, seed) for seed, (count, boxes) in enumerate([(12, 40), (0, 5), (3, 0), (25, 100)])]
    scores = proposal_recall(rows, limits=(10, 50, 1000))
    assert len(scores) == 3 * 11
    for limit in (10, 50, 1000):
        expected = slow_recall(rows, limit=limit)
        for threshold, recall in expected.items():
            assert scores[f"R{round(100 * threshold)}@{limit}"] == pytest.approx(recall, abs=1e-12)
        assert scores[f"AR@{limit}"] == pytest.approx(sum(expected.values()) / 10, abs=1e-12)
    assert 0.1 < scores["R50@10"] < scores["R50@50"] < 1
    assert 0.1 < scores["R95@1000"] + 0.3 < scores["R50@1000"]


def test_one_proposal_finds_one_object_and_the_object_that_it_overlaps_most() -> None:
    objects = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12]])
    scores = proposal_recall([row(objects, torch.tensor([[0.0, 0, 10, 12]]))], limits=(100,))
    assert scores["R50@100"] == scores["R95@100"] == scores["AR@100"] == 0.5


def test_crowds_are_no_objects_and_without_objects_recall_is_undefined() -> None:
    objects = torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]])
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    assert proposal_recall([row(objects, boxes, crowd=[False, True])])["AR@100"] == 1.0
    assert proposal_recall([row(objects, boxes, crowd=[True, True])])["AR@100"] == -1.0
    assert proposal_recall([row(objects, boxes[:0])])["AR@1000"] == 0.0


def test_only_the_best_proposals_count() -> None:
    objects = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.cat((torch.tensor([[60.0, 60, 70, 70]]).repeat(3, 1), torch.tensor([[0.0, 0, 10, 10]])))
    scores = proposal_recall([row(objects, boxes)], limits=(3, 4))
    assert (scores["AR@3"], scores["AR@4"]) == (0.0, 1.0)
