"""The vectorised tracker and a plain one, a step and a track at a time: the same tracks on random sequences."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from plain_tracker import PlainTracker
from tracking_cases import sequence

from accel_det.tracking.settings import PRESETS
from accel_det.tracking.tracker import Tracker

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "deepsort": ("deepsort", {}),
    "deepsort of longer patience": ("deepsort_pytorch", {"nms_iou": 1.0, "min_confidence": 0.3}),
    "sort": ("sort", {"min_confidence": 0.2, "n_init": 2}),
    "bytetrack": ("bytetrack", {}),
    "motion and appearance mixed": ("deepsort", {"motion_weight": 0.05, "max_cosine_distance": 0.7}),
    "motion alone": (
        "deepsort",
        {"motion_weight": 1.0, "max_cosine_distance": None, "n_init": 1, "measured_aspect_std": 0.3},
    ),
    "all ages at once": ("deepsort", {"cascade_by_age": False, "motion_weight": 0.5, "gate_widening": 0.3}),
    "gated by position": ("deepsort", {"gate": "position", "gate_widening": 0.5, "budget": 3, "n_init": 2}),
    "not gated": ("deepsort", {"gate": "none", "max_cosine_distance": 0.3, "n_init": 2}),
    "a moving average": ("deepsort", {"appearance_momentum": 0.9, "n_init": 2}),
    "overlap and appearance": ("deepsort", {"overlap_max_cosine_distance": 0.3, "overlap_max_age": 3, "n_init": 2}),
    "classes may change": ("deepsort", {"class_switch_iou": 0.4, "low_confidence": 0.1, "lost_size_damping": 0.5}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_tracks_of_15_sequences_equal_those_of_plain_loops(name: str) -> None:
    preset, changes = VARIANTS[name]
    settings = dataclasses.replace(PRESETS[preset], **changes)
    told, ids = 0, 0
    for seed in range(15):
        tracker, plain = Tracker(settings), PlainTracker(settings)
        for frame in sequence(seed):
            found, expected = tracker.update(frame), plain.update(frame)
            assert found.ids.tolist() == [one[0] for one in expected], f"sequence {seed}"
            assert found.labels.tolist() == [one[2] for one in expected]
            assert found.detections.tolist() == [one[3] for one in expected]
            np.testing.assert_allclose(found.boxes, np.array([one[1] for one in expected]).reshape(-1, 4), atol=1e-6)
            assert found.scores.tolist() == frame.scores[found.detections].tolist()
            told += len(expected)
        ids += plain.last_id
    assert told > 150 and ids > 40, (told, ids)
