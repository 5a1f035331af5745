"""Non-maximum suppression of a batch against plain loops."""

import torch

from accel_det.models.base import Inference
from accel_det.models.layers.nms import Candidates, suppress
from accel_det.types import Detections

SIDE = 200


def random_candidates(seed: int, count: int, num_images: int = 3, num_classes: int = 4) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * SIDE
    boxes = torch.cat((corner - 10, corner + torch.rand(count, 2, generator=generator) * 60), dim=1)
    return Candidates(
        torch.randint(0, num_images, (count,), generator=generator),
        boxes,
        torch.rand(count, generator=generator),
        torch.randint(0, num_classes, (count,), generator=generator),
    )


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def reference(candidates: Candidates, image: int, inference: Inference) -> list[tuple[float, int, list[float]]]:
    rows = []
    for i in (candidates.image == image).nonzero().flatten().tolist():
        box = candidates.boxes[i].clamp(0, SIDE).tolist()
        if box[2] > box[0] and box[3] > box[1]:
            rows.append((candidates.scores[i].item(), int(candidates.labels[i]), box))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(rows, key=lambda row: -row[0]):
        if all(label != other or overlap(box, better) <= inference.nms_iou for _, other, better in kept):
            kept.append((score, label, box))
    return kept[: inference.max_detections]


def as_rows(detections: Detections) -> list[tuple[float, int, list[float]]]:
    return list(zip(detections.scores.tolist(), detections.labels.tolist(), detections.boxes.tolist(), strict=True))


def run(candidates: Candidates, inference: Inference, *, max_candidates: int = 30_000) -> list[Detections]:
    return suppress(candidates, inference, num_images=3, height=SIDE, width=SIDE, max_candidates=max_candidates)


def test_survivors_equal_the_greedy_rule_written_as_loops() -> None:
    inference = Inference(score_threshold=0.0, nms_iou=0.4, max_detections=50)
    candidates = random_candidates(0, 400)
    for image, detections in enumerate(run(candidates, inference)):
        expected = reference(candidates, image, inference)
        assert len(expected) > 20
        assert as_rows(detections) == expected


def test_survivors_are_exact_when_far_down_the_list_of_candidates() -> None:
    # 1500 near-copies score above the others: fewer survivors than asked for are among the first 1024.
    inference = Inference(score_threshold=0.0, nms_iou=0.5, max_detections=20)
    copies = torch.tensor([[20.0, 20.0, 120.0, 120.0]]) + torch.rand(
        1500, 4, generator=torch.Generator().manual_seed(1)
    )
    others = random_candidates(2, 300, num_images=1)
    candidates = Candidates(
        torch.zeros(1800, dtype=torch.int64),
        torch.cat((copies, others.boxes)),
        torch.cat((torch.linspace(0.99, 0.9, 1500), others.scores * 0.5)),
        torch.cat((torch.zeros(1500, dtype=torch.int64), others.labels)),
    )
    first = run(candidates, inference)[0]
    assert as_rows(first) == reference(candidates, 0, inference)
    assert first.scores.shape == (20,)


def test_equal_boxes_of_two_classes_both_survive() -> None:
    box = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    candidates = Candidates(
        torch.zeros(2, dtype=torch.int64), box.repeat(2, 1), torch.tensor([0.5, 0.9]), torch.tensor([0, 79])
    )
    detections = run(candidates, Inference())[0]
    assert detections.labels.tolist() == [79, 0]


def test_boxes_are_cut_to_the_image_and_those_outside_it_dropped() -> None:
    boxes = torch.tensor([[-20.0, -20.0, 30.0, 30.0], [-50.0, 10.0, -5.0, 40.0]])
    candidates = Candidates(torch.zeros(2).long(), boxes, torch.tensor([0.5, 0.9]), torch.zeros(2).long())
    detections = run(candidates, Inference())[0]
    assert detections.boxes.tolist() == [[0.0, 0.0, 30.0, 30.0]]


def test_an_image_without_candidates_gets_an_empty_answer() -> None:
    candidates = random_candidates(4, 20, num_images=1)
    answers = run(candidates, Inference())
    assert [len(a.scores) > 0 for a in answers] == [True, False, False]
    assert answers[2].boxes.shape == (0, 4)
    nothing = run(candidates.keep(torch.zeros(20, dtype=torch.bool)), Inference())
    assert [a.boxes.shape for a in nothing] == [(0, 4)] * 3


def test_only_the_best_candidates_of_each_image_take_part() -> None:
    candidates = random_candidates(5, 300)
    inference = Inference(nms_iou=1.0, max_detections=100)
    for image, detections in enumerate(run(candidates, inference, max_candidates=10)):
        best = sorted((score for score, _, _ in reference(candidates, image, inference)), reverse=True)[:10]
        assert detections.scores.tolist() == best
