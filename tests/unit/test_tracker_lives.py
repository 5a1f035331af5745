"""Births, confirmations, misses and ends of tracks; ids, classes and what is told of a frame."""

from typing import Any

import numpy as np
import pytest
from tracking_cases import empty_frame, frame_of

from accel_det.tracking.frames import FrameDetections
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

BOX = (100.0, 100.0, 140.0, 180.0)
FAR = (600.0, 100.0, 640.0, 180.0)


def tracker_of(**changes: Any) -> Tracker:
    """A tracker by motion and overlap; its cascade takes tracks up to max_age."""
    return Tracker(TrackerSettings(**{"max_cosine_distance": None, "motion_weight": 1.0, **changes}))


def ids_of(tracker: Tracker, frame: FrameDetections) -> list[int]:
    ids: list[int] = tracker.update(frame).ids.tolist()
    return ids


def shifted(box: tuple[float, ...], x_px: float) -> tuple[float, float, float, float]:
    return box[0] + x_px, box[1], box[2] + x_px, box[3]


def test_a_track_is_told_of_from_its_third_detection_in_a_row_on() -> None:
    tracker = tracker_of()
    assert [ids_of(tracker, frame_of(BOX)) for _ in range(5)] == [[], [], [1], [1], [1]]


def test_a_tentative_track_ends_with_its_first_miss() -> None:
    tracker = tracker_of()
    told = [ids_of(tracker, frame) for frame in [frame_of(BOX), frame_of(BOX), empty_frame(None), *[frame_of(BOX)] * 3]]
    assert told == [[], [], [], [], [], [1]]


@pytest.mark.parametrize(("num_missed", "id_after"), [(4, 1), (5, 2)])
def test_a_confirmed_track_is_continued_up_to_max_age_frames_after_its_last_detection(
    num_missed: int, id_after: int
) -> None:
    tracker = tracker_of(max_age=5, n_init=1)
    for _ in range(10):
        tracker.update(frame_of(BOX))
    for _ in range(num_missed):
        assert ids_of(tracker, empty_frame(None)) == []
    assert ids_of(tracker, frame_of(BOX)) == [id_after]


def test_false_alarms_burn_no_ids() -> None:
    """Tentative tracks must not take numbers, or those of real ones jump."""
    tracker, rng = tracker_of(), np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.uniform(200, 5000, 2)
        tracker.update(frame_of(BOX, (x, y, x + 30, y + 50)))
    assert ids_of(tracker, frame_of(BOX, FAR)) == [1]
    tracker.update(frame_of(BOX, FAR))
    assert ids_of(tracker, frame_of(BOX, FAR)) == [1, 2]


def test_an_id_is_never_used_again() -> None:
    tracker, told = tracker_of(n_init=1, max_age=2), []
    for number in range(60):
        there = number % 6 < 3
        told += ids_of(tracker, frame_of(shifted(BOX, 7.0 * number)) if there else empty_frame(None))
    assert told == sorted(told) and set(told) == set(range(1, 11))


def test_the_first_frames_confirm_at_once_where_asked() -> None:
    tracker = tracker_of(confirm_at_once_frames=2)
    assert ids_of(tracker, frame_of(BOX)) == [1]
    assert ids_of(tracker, frame_of(BOX, FAR)) == [1, 2]
    later = (600.0, 400.0, 640.0, 480.0)
    assert [ids_of(tracker, frame_of(BOX, FAR, later)) for _ in range(3)] == [[1, 2], [1, 2], [1, 2, 3]]


def test_only_good_scores_start_tracks_and_doubtful_detections_only_continue_them() -> None:
    tracker = Tracker(PRESETS["bytetrack"])
    assert ids_of(tracker, frame_of(BOX, score=0.65)) == []  # below 0.7, above 0.6
    tracker = Tracker(PRESETS["bytetrack"])
    assert ids_of(tracker, frame_of(BOX, score=0.8)) == [1]
    assert ids_of(tracker, frame_of(BOX, score=0.2)) == [1]
    assert ids_of(tracker, frame_of(BOX, FAR, score=0.2)) == [1]
    assert ids_of(tracker, frame_of(BOX, FAR, score=0.05)) == []
    assert ids_of(tracker, frame_of(BOX, score=0.2)) == [], "a doubtful detection does not bring a lost track back"
    assert ids_of(tracker, frame_of(BOX, score=0.8)) == [1]


def test_a_detection_of_another_class_continues_no_track_unless_it_overlaps_as_much_as_is_asked() -> None:
    apart = tracker_of(n_init=1)
    assert [ids_of(apart, frame_of(BOX, label=label)) for label in (3, 3, 7, 3)] == [[1], [1], [2], [1]]
    half = tracker_of(n_init=1, class_switch_iou=0.5)
    assert [ids_of(half, frame_of(BOX, label=label)) for label in (3, 3, 7, 3)] == [[1], [1], [1], [1]]
    moved = shifted(BOX, 15.0)  # IoU 25 / 55
    assert ids_of(half, frame_of(moved, label=7)) == [2]
    anything = tracker_of(n_init=1, class_switch_iou=0.0)
    assert [ids_of(anything, frame_of(BOX, label=3)), ids_of(anything, frame_of(moved, label=7))] == [[1], [1]]


def test_the_class_is_a_vote_weighted_by_scores_and_not_that_of_the_birth() -> None:
    tracker = tracker_of(n_init=1, class_switch_iou=0.0)
    said = [(9, 0.5), (2, 0.4), (2, 0.4), (9, 0.35), (9, 0.6), (4, 1.0), (4, 1.0)]
    votes = {9: 0.0, 2: 0.0, 4: 0.0}
    for label, score in said:
        votes[label] += score
        found = tracker.update(frame_of(BOX, score=score, label=label))
        assert found.labels.tolist() == [max(votes, key=lambda one: votes[one])]
        assert found.scores.tolist() == [score]
    assert found.labels.tolist() == [4]
    unsure = tracker_of(n_init=1, min_confidence=0.0)
    assert unsure.update(frame_of(BOX, score=1.0, label=1)).labels.tolist() == [1]
    assert unsure.update(frame_of(BOX, FAR, score=0.0, label=5)).labels.tolist() == [5, 5], "a score of 0 is a vote too"


def test_the_box_is_filtered_unless_that_of_the_detection_is_wanted() -> None:
    boxes = [shifted(BOX, step) for step in (0.0, 2.0, 9.0)]
    filtered, detected = tracker_of(n_init=1), tracker_of(n_init=1, reported_box="detected")
    for box in boxes:
        smooth, exact = filtered.update(frame_of(box)), detected.update(frame_of(box))
    np.testing.assert_array_equal(exact.boxes, [boxes[-1]])
    assert boxes[1][0] < smooth.boxes[0, 0] < boxes[2][0]


def test_a_shifted_camera_takes_tracks_along_that_would_be_lost_without_its_motion() -> None:
    shift = np.array(((1.0, 0, 300.0), (0, 1.0, 0)))
    told = {}
    for name, motion in (("told", shift), ("not told", None)):
        tracker = tracker_of(n_init=1)
        for _ in range(4):
            tracker.update(frame_of(BOX, FAR))
        tracker.update(empty_frame(None), motion=motion)
        told[name] = tracker.update(frame_of(shifted(BOX, 300.0), shifted(FAR, 300.0))).ids.tolist()
    assert told == {"told": [1, 2], "not told": [3, 4]}


def test_the_order_of_detections_does_not_change_the_tracks() -> None:
    boxes = np.array([shifted(BOX, 37.0 * step) for step in range(8)])
    tracker, mixed = tracker_of(n_init=1), tracker_of(n_init=1)
    rng = np.random.default_rng(0)
    for number in range(10):
        order = rng.permutation(8) if number else np.arange(8)
        straight = tracker.update(frame_of(*(boxes + number)))
        turned = mixed.update(frame_of(*(boxes + number)[order]))
        np.testing.assert_allclose(straight.boxes, turned.boxes)
        assert straight.ids.tolist() == turned.ids.tolist()
        assert order[turned.detections].tolist() == straight.detections.tolist()


def test_two_trackers_know_nothing_of_each_other() -> None:
    first, second = tracker_of(n_init=1), tracker_of(n_init=1)
    assert ids_of(first, frame_of(BOX, FAR)) == [1, 2]
    assert ids_of(second, frame_of(FAR)) == [1]
