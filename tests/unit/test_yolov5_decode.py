"""YOLOv5's decoding against plain loops."""

import math

import pytest
import torch

from accel_det.models.yolov5.decode import level_candidates

ANCHORS_PX = torch.tensor([[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_candidates_equal_loops_over_cells_anchors_and_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn((2, 3, 7, 3, 4), generator=generator, dtype=torch.float64)
    expected = {}
    for image, anchor, row, column in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 3, 4))).tolist():
        x, y, w, h, objectness, *classes = raw[image, anchor, :, row, column].tolist()
        center_x, center_y = (2 * sigmoid(x) - 0.5 + column) * 8, (2 * sigmoid(y) - 0.5 + row) * 8
        width = (2 * sigmoid(w)) ** 2 * ANCHORS_PX[anchor, 0].item()
        height = (2 * sigmoid(h)) ** 2 * ANCHORS_PX[anchor, 1].item()
        box = [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2]
        for label, logit in enumerate(classes):
            score = sigmoid(objectness) * sigmoid(logit)
            if score > 0.3:
                expected[image, label, round(score, 12)] = box
    candidates = level_candidates(raw, ANCHORS_PX, stride=8, score_threshold=0.3)
    found = {
        (image, label, round(score, 12)): box
        for image, label, score, box in zip(
            candidates.image.tolist(),
            candidates.labels.tolist(),
            candidates.scores.tolist(),
            candidates.boxes.tolist(),
            strict=True,
        )
    }
    assert len(expected) > 20
    assert found.keys() == expected.keys()
    for key, box in expected.items():
        assert found[key] == pytest.approx(box, abs=1e-9)


def test_half_precision_logits_give_float32_boxes() -> None:
    raw = torch.full((1, 3, 6, 2, 2), 4.0, dtype=torch.bfloat16)
    candidates = level_candidates(raw, ANCHORS_PX, stride=8, score_threshold=0.1)
    assert candidates.boxes.dtype == candidates.scores.dtype == torch.float32
    assert candidates.boxes.shape == (12, 4)


def test_logits_that_are_not_numbers_give_no_candidates() -> None:
    raw = torch.full((1, 3, 6, 2, 2), math.nan)
    assert level_candidates(raw, ANCHORS_PX, stride=8, score_threshold=0.0).boxes.shape == (0, 4)
