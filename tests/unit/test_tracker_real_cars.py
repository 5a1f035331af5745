"""Cars from the air at two frames a second (KIT AIS): what the published noise loses, and settings of it find again."""

import dataclasses

import numpy as np
import pytest
from identity_trees import shared_data

from accel_det.metrics.mot import MotCounts, mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, boxes_of, corners_of, read_detections, read_truth
from accel_det.metrics.mot_sequence import MotRule
from accel_det.tracking.frames import FrameDetections
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

SEQUENCES = ("Crossroad01", "MunichStreet02")
NUM_FRAMES = 20
BY_OVERLAP = dataclasses.replace(PRESETS["deepsort"], max_cosine_distance=None)
FAST_CARS = dataclasses.replace(
    BY_OVERLAP,
    motion_weight=1.0,
    n_init=1,
    max_age=3,
    min_confidence=0.5,
    initial_velocity_std=1.0,
    process_velocity_std=0.2,
    initial_height_velocity_std=10 / 160,
    process_height_velocity_std=1 / 160,
    measured_aspect_std=0.3,
    reported_box="detected",
)
"""A car may move by its own size between two frames, and turns; round numbers, not the best of a search."""


def tracked(name: str, settings: TrackerSettings) -> MotBoxes:
    found = read_detections(shared_data("tracking/kit") / name / "det" / "det.txt")
    tracker, told = Tracker(settings), []
    for frame in range(1, NUM_FRAMES + 1):
        here = found.frames == frame
        labels = np.zeros(here.sum(), dtype=np.int64)
        told.append(tracker.update(FrameDetections(corners_of(found.boxes[here]), found.scores[here], labels)))
    frames = np.repeat(np.arange(1, NUM_FRAMES + 1), [len(one.ids) for one in told])
    ids, boxes, scores, *_ = (np.concatenate(column) for column in zip(*told, strict=True))
    return MotBoxes(frames, ids, boxes_of(boxes), scores)


def counts_of(name: str, settings: TrackerSettings) -> MotCounts:
    truth = read_truth(shared_data("tracking/kit") / name / "gt" / "gt.txt")
    return mot_counts(truth, tracked(name, settings), MotRule(preprocess=False))


def test_settings_for_fast_cars_raise_hota_from_052_to_084() -> None:
    published = mot_scores([counts_of(name, BY_OVERLAP) for name in SEQUENCES])
    fast = mot_scores([counts_of(name, FAST_CARS) for name in SEQUENCES])
    assert published["HOTA"] == pytest.approx(0.524, abs=0.001)  # TrackEval 1.3.0 on the same boxes: 0.524
    assert fast["HOTA"] > 0.83 and fast["MOTA"] > 0.88 and fast["IDF1"] > 0.91, fast


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_published_noise_follows_no_car_that_moves_by_one_and_a_half_times_its_height_between_frames(
    name: str,
) -> None:
    """Its track is tentative, has no speed yet, and overlaps nothing in the next frame."""
    truth = read_truth(shared_data("tracking/kit") / name / "gt" / "gt.txt")
    center = truth.boxes[:, :2] + truth.boxes[:, 2:] / 2
    fast = []
    for one in np.unique(truth.ids):
        rows = np.flatnonzero(truth.ids == one)
        rows = rows[np.argsort(truth.frames[rows])]
        steps = np.linalg.norm(np.diff(center[rows], axis=0), axis=1) / np.diff(truth.frames[rows])
        fast += rows[1:][steps > 1.5 * truth.boxes[rows[1:], 3]].tolist()
    assert len(fast) >= 15
    share = {}
    for kind, settings in (("published", BY_OVERLAP), ("fast", FAST_CARS)):
        found = tracked(name, settings)
        near = [
            (np.abs(found.boxes[found.frames == truth.frames[row]] - truth.boxes[row]) < 8).all(axis=1).any()
            for row in fast
        ]
        share[kind] = np.mean(near)
    assert share["published"] == 0 and share["fast"] > 0.8, (share, len(fast))
