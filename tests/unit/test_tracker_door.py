"""What a frame must not hold: refused by name, or left out, before anything is computed with it."""

import dataclasses
import warnings

import numpy as np
import pytest
from tracking_cases import empty_frame, frame_of

from accel_det.tracking.frames import FrameDetections, admit
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

PLAIN = TrackerSettings(max_cosine_distance=None, n_init=1)
GOOD = (10.0, 10.0, 30.0, 50.0)
BAD_BOXES = {
    "not a number": (10.0, np.nan, 30.0, 50.0),
    "infinite": (10.0, 10.0, np.inf, 50.0),
    "without height": (10.0, 50.0, 30.0, 50.0),
    "without width": (30.0, 10.0, 30.0, 50.0),
    "inside out": (30.0, 50.0, 10.0, 10.0),
    "far out": (1e8, 10.0, 2e8, 50.0),
    "thinner than anything": (10.0, 10.0, 10.0 + 1e-9, 50.0),
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_a_bad_box_is_refused_with_its_frame_and_row_and_the_tracker_stays_as_it_was(name: str) -> None:
    tracker = Tracker(PLAIN)
    tracker.update(frame_of(GOOD))
    with pytest.raises(
        ValueError, match=r"^frame 2: detection 1 has box \[.+\], expected x1 < x2 and y1 < y2, .+ skip$"
    ):
        tracker.update(frame_of(GOOD, BAD_BOXES[name]))
    assert tracker.update(frame_of(GOOD)).ids.tolist() == [1]


def test_bad_rows_are_left_out_where_asked_and_the_others_keep_their_numbers() -> None:
    tracker = Tracker(dataclasses.replace(PLAIN, on_bad_box="skip"))
    boxes = [*BAD_BOXES.values(), GOOD, *BAD_BOXES.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            found = tracker.update(frame_of(*boxes))
            assert (found.ids.tolist(), found.detections.tolist()) == ([1], [len(BAD_BOXES)])


def test_scores_and_embeddings_that_are_none_are_refused() -> None:
    frame = frame_of(GOOD, GOOD)
    with pytest.raises(ValueError, match=r"^frame 1: detection 1 has score nan, expected a number in \[0, 1\]: mend"):
        Tracker(PLAIN).update(frame._replace(scores=np.array((0.5, np.nan))))
    with pytest.raises(ValueError, match=r"^frame 1: detection 0 has score 37, expected"):
        Tracker(PLAIN).update(frame._replace(scores=np.array((37.0, 0.5))))
    unit = np.eye(2, 4)
    for wrong, told in ((np.zeros(4), "0"), (np.full(4, 2.0), "4"), (np.full(4, np.nan), "nan")):
        embeddings = np.vstack((unit[0], wrong))
        with pytest.raises(
            ValueError, match=f"^frame 1: detection 1 has an embedding of length {told}, expected length 1"
        ):
            Tracker(PRESETS["deepsort"]).update(frame._replace(embeddings=embeddings))


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    frame, deepsort = frame_of(GOOD, GOOD), PRESETS["deepsort"]
    with pytest.raises(ValueError, match=r"frame 1: expected boxes \(N, 4\), .+ got \(2, 4\), \(1,\) and \(2,\)"):
        Tracker(PLAIN).update(frame._replace(scores=np.ones(1)))
    with pytest.raises(ValueError, match=r"frame 1: expected labels that are whole numbers, got float64"):
        Tracker(PLAIN).update(frame._replace(labels=np.zeros(2)))  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(
        ValueError, match=r"frame 1: 2 detections without embeddings, but max_cosine_distance is 0.2: give"
    ):
        Tracker(deepsort).update(frame)
    with pytest.raises(ValueError, match=r"frame 1: expected embeddings \(2, D\), got \(3, 8\)"):
        Tracker(deepsort).update(frame._replace(embeddings=np.eye(3, 8)))
    tracker = Tracker(deepsort)
    tracker.update(frame._replace(embeddings=np.eye(2, 8)))
    with pytest.raises(ValueError, match=r"frame 2: embeddings of 4 numbers, and those of the frames before had 8"):
        tracker.update(frame._replace(embeddings=np.eye(2, 4)))


def test_frames_without_detections_count_as_frames_from_the_first_on() -> None:
    tracker = Tracker(PRESETS["deepsort"])
    for _ in range(3):
        assert [len(column) for column in tracker.update(empty_frame())] == [0] * 5
    assert len(tracker.update(empty_frame(None)).ids) == 0
    nothing: list[float] = []
    assert len(tracker.update(FrameDetections(nothing, nothing, nothing)).ids) == 0  # type: ignore[arg-type]  # as lists
    with pytest.raises(ValueError, match=r"^frame 6: detection 0 has box"):
        tracker.update(frame_of(BAD_BOXES["infinite"])._replace(embeddings=np.eye(1, 8)))


def test_suppression_keeps_the_best_of_a_class_and_says_which_rows_are_left() -> None:
    boxes = np.array(((0, 0, 10, 10), (0, 0, 10, 6), (0, 0, 10, 10), (0, 5, 10, 15.0)))
    frame = FrameDetections(boxes, np.array((0.6, 0.9, 0.8, 0.5)), np.array((1, 1, 2, 1)))
    admitted = admit(frame, dataclasses.replace(PLAIN, nms_iou=0.5), frame=1)  # IoU of the first two: 0.6
    assert admitted.rows.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(admitted.boxes, boxes[1:])
    assert admit(frame, dataclasses.replace(PLAIN, nms_iou=0.61), frame=1).rows.tolist() == [0, 1, 2, 3]
    equal = frame._replace(scores=np.full(4, 0.5))
    assert admit(equal, dataclasses.replace(PLAIN, nms_iou=0.5), frame=1).rows.tolist() == [0, 2, 3]


def test_small_and_doubtful_detections_are_left_out() -> None:
    boxes = np.array(((0, 0, 10, 10), (20, 0, 30, 9.9), (40, 0, 50, 20), (60, 0, 70, 20)))
    frame = FrameDetections(boxes, np.array((0.9, 0.9, 0.29, 0.3)), np.zeros(4, dtype=np.int64))
    assert admit(frame, dataclasses.replace(PLAIN, min_height_px=10), frame=1).rows.tolist() == [0, 3]
    assert admit(frame, dataclasses.replace(PLAIN, low_confidence=0.2), frame=1).rows.tolist() == [0, 1, 2, 3]
