"""Suppression and voting for networks that answer with sets: only where they are asked for, and then as for all others."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers_cases import build_tiny, scene

from accel_det.boxes import cxcywh_to_xyxy
from accel_det.models.base import Inference
from accel_det.models.layers.nms import Candidates, suppress
from accel_det.models.transformers.decoding import detections
from accel_det.types import Detections

QUERIES, CLASSES = 40, 3
FRAMES = torch.tensor([[200.0, 300.0], [120.0, 80.0]], dtype=torch.float64)
ASKED: dict[str, dict[str, Any]] = {
    "linear": {"nms": "soft_linear"},
    "gaussian": {"nms": "soft_gaussian", "soft_nms_sigma": 0.3},
    "gaussian, across classes": {"nms": "soft_gaussian", "agnostic_nms": True},
    "across classes": {"agnostic_nms": True},
    "voting": {"vote_iou": 0.5},
    "voting, across classes": {"vote_iou": 0.5, "agnostic_nms": True},
    "voting alone": {"nms": "none", "vote_iou": 0.6},
}
SAME: dict[str, dict[str, Any]] = {
    "hard": {},
    "none": {"nms": "none"},
    "none, across classes": {"nms": "none", "agnostic_nms": True},
}


def outputs(*, no_object: bool) -> tuple[Tensor, Tensor]:
    """Boxes in the middle that overlap each other and the frame's edges."""
    draw = torch.Generator().manual_seed(5)
    logits = torch.randn(2, QUERIES, CLASSES + no_object, generator=draw, dtype=torch.float64)
    centers = 0.1 + 0.8 * torch.rand(2, QUERIES, 2, generator=draw, dtype=torch.float64)
    sides = 0.3 + 0.2 * torch.rand(2, QUERIES, 2, generator=draw, dtype=torch.float64)
    return logits, torch.cat((centers, sides), dim=-1)


def by_loops(logits: Tensor, boxes: Tensor, *, no_object: bool, inference: Inference) -> list[Detections]:
    """Candidates gathered one by one, given to the suppression of every detector."""
    rows: list[tuple[int, list[float], float, int]] = []
    for image, (height, width) in enumerate(FRAMES.tolist()):
        for query in range(QUERIES):
            x1, y1, x2, y2 = cxcywh_to_xyxy(boxes[image, query]).tolist()
            corners = [max(0.0, x1) * width, max(0.0, y1) * height, min(1.0, x2) * width, min(1.0, y2) * height]
            scores = logits[image, query].softmax(0)[:-1] if no_object else logits[image, query].sigmoid()
            classes = [int(scores.argmax())] if no_object else range(CLASSES)
            rows += [(image, corners, float(scores[c]), c) for c in classes if scores[c] >= inference.score_threshold]
    images, corners_of, scores_of, labels = (list(column) for column in zip(*rows, strict=True))
    candidates = Candidates(
        torch.tensor(images),
        torch.tensor(corners_of, dtype=torch.float64),
        torch.tensor(scores_of, dtype=torch.float64),
        torch.tensor(labels),
    )
    return suppress(candidates, inference, num_images=2, height=200, width=300)


@pytest.mark.parametrize("no_object", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_for_acts_on_the_candidates_as_for_every_other_detector(name: str, no_object: bool) -> None:
    inference = Inference(score_threshold=0.2, max_detections=25, nms_iou=0.5, **ASKED[name])
    logits, boxes = outputs(no_object=no_object)
    found = detections(logits, boxes, frames=FRAMES, no_object=no_object, inference=inference)
    plain = detections(
        logits, boxes, frames=FRAMES, no_object=no_object, inference=Inference(score_threshold=0.2, max_detections=25)
    )
    expected = by_loops(logits, boxes, no_object=no_object, inference=inference)
    for one, other, without in zip(found, expected, plain, strict=True):
        assert len(one.scores) >= 3
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs)
        assert one.boxes.shape != without.boxes.shape or not torch.allclose(one.boxes, without.boxes)


@pytest.mark.parametrize("no_object", [False, True])
@pytest.mark.parametrize("name", SAME)
def test_without_such_a_wish_a_set_is_answered_as_it_is(name: str, no_object: bool) -> None:
    inference = Inference(score_threshold=0.2, max_detections=1000, nms_iou=0.5, **SAME[name])
    logits, boxes = outputs(no_object=no_object)
    found = detections(logits, boxes, frames=FRAMES, no_object=no_object, inference=inference)
    for image, one in enumerate(found):
        scores = logits[image].softmax(-1)[:, :-1].amax(-1) if no_object else logits[image].sigmoid().flatten()
        expected = scores[scores >= 0.2].sort(descending=True).values
        torch.testing.assert_close(one.scores, expected.float())


def test_a_set_without_a_candidate_above_the_threshold_is_empty() -> None:
    logits, boxes = outputs(no_object=False)
    inference = Inference(score_threshold=1.0, nms="soft_linear")
    found = detections(logits, boxes, frames=FRAMES, no_object=False, inference=inference)
    assert [one.boxes.shape for one in found] == [(0, 4), (0, 4)]


def test_a_network_follows_the_wish() -> None:
    model = build_tiny("rtdetr_v2_resnet18").eval()
    batch = scene((1, 2), size_px=64)
    with torch.no_grad():
        plain = model.predict(batch)
        model.inference = model.inference._replace(nms="soft_gaussian", agnostic_nms=True)
        soft = model.predict(batch)
    assert all(float(one.scores.sum()) > float(other.scores.sum()) for one, other in zip(plain, soft, strict=True))
