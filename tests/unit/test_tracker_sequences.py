"""Random sequences with everything that goes wrong: what must hold of every frame, whatever the settings."""

import dataclasses
import warnings

import numpy as np
import pytest
from tracking_cases import sequence

from accel_det.tracking.frames import FrameDetections, FrameTracks
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

NUM_FAST = 150
NUM_ALL = 10_000
NUM_PARTS = 10


def spoiled(frame: FrameDetections, rng: np.random.Generator) -> FrameDetections:
    """The same with rows added that are degenerate, infinite, tiny, huge, or not numbers."""
    kinds = np.array(
        (
            (0, 0, 0, 0),
            (5, 5, 5, 9),
            (9, 9, 1, 1),
            (np.nan, 0, 9, 9),
            (-np.inf, 0, 9, 9),
            (0, 0, 1e-3, 2e-3),
            (-9e6, -9e6, 9e6, 9e6),
        ),
        dtype=np.float64,
    )
    rows = kinds[rng.integers(0, len(kinds), rng.integers(0, 4))]
    number = len(rows)
    look = np.zeros((number, 8), dtype=np.float32)
    look[:, 0] = rng.choice((1.0, 0.0, np.nan), number, p=(0.8, 0.1, 0.1))
    scores = rng.choice((0.0, 1.0, np.nan), number, p=(0.1, 0.8, 0.1))
    added = (rows, scores, rng.integers(0, 3, number), look)
    order = rng.permutation(len(frame.boxes) + number)
    return FrameDetections(*(np.concatenate(both)[order] for both in zip(frame, added, strict=True)))


def random_settings(rng: np.random.Generator) -> TrackerSettings:
    preset = PRESETS[str(rng.choice(list(PRESETS)))]
    n_init, max_age = (int(value) for value in rng.integers(1, 4, 2))
    changed = dataclasses.replace(
        preset,
        on_bad_box="skip",
        n_init=n_init,
        max_age=max_age if rng.random() < 0.5 else preset.max_age,
        nms_iou=float(rng.choice((0.5, 1.0))),
        reupdate_after_gap=bool(rng.random() < 0.5),
        class_switch_iou=float(rng.choice((0.0, 0.5))),
        gate_widening=float(rng.choice((0.0, 0.2))),
    )
    return changed if changed.uses_appearance else dataclasses.replace(changed, motion_weight=float(rng.integers(0, 2)))


def track(seed: int) -> tuple[TrackerSettings, list[FrameDetections], list[FrameTracks]]:
    """A sequence of 8 to 16 frames through a tracker of random settings, the camera shaking now and then."""
    rng = np.random.default_rng(seed)
    settings = random_settings(rng)
    frames = [spoiled(frame, rng) for frame in sequence(seed, num_frames=int(rng.integers(8, 17)), missed=0.25)]
    tracker, told = Tracker(settings), []
    for frame in frames:
        shake = np.hstack((np.eye(2) + rng.normal(0, 0.01, (2, 2)), rng.normal(0, 2, (2, 1))))
        told.append(tracker.update(frame, motion=shake if rng.random() < 0.3 else None))
    return settings, frames, told


def expect_sound(settings: TrackerSettings, frames: list[FrameDetections], told: list[FrameTracks]) -> int:
    """Ids without gaps, in order of confirmation, never used again; rows of the frame, each at most once; finite boxes."""
    last_seen: dict[int, int] = {}
    for number, (frame, tracks) in enumerate(zip(frames, told, strict=True)):
        ids = tracks.ids.tolist()
        assert ids == sorted(set(ids))
        new = [one for one in ids if one not in last_seen]
        assert new == list(range(len(last_seen) + 1, len(last_seen) + 1 + len(new)))
        assert all(number - last_seen[one] <= settings.max_age for one in ids if one in last_seen)
        last_seen |= dict.fromkeys(ids, number)
        rows = tracks.detections.tolist()
        assert len(set(rows)) == len(rows) and all(0 <= row < len(frame.boxes) for row in rows)
        np.testing.assert_array_equal(tracks.scores, frame.scores[tracks.detections])
        assert np.isfinite(tracks.boxes).all() and (tracks.boxes[:, 2:] > tracks.boxes[:, :2]).all()
    return len(last_seen)


def expect_all_sound(seeds: range) -> None:
    tracks = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in seeds:
            tracks += expect_sound(*track(seed))
    assert tracks > 3 * len(seeds)


def test_tracks_are_sound_on_150_random_sequences() -> None:
    expect_all_sound(range(NUM_FAST))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_tracks_are_sound_on_all_10000_random_sequences(part: int) -> None:
    expect_all_sound(range(part, NUM_ALL, NUM_PARTS))


def test_the_same_sequence_gives_the_same_tracks_bit_for_bit() -> None:
    for seed in range(20):
        for one, again in zip(track(seed)[2], track(seed)[2], strict=True):
            for first, second in zip(one, again, strict=True):
                assert first.dtype == second.dtype and np.array_equal(first, second)
