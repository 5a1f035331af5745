"""Random sequences of detections for the tests of the tracker, from a seed."""

import numpy as np

from accel_det.tracking.frames import FrameDetections


def empty_frame(size: int | None = 8) -> FrameDetections:
    embeddings = None if size is None else np.zeros((0, size), dtype=np.float32)
    return FrameDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64), embeddings)


def frame_of(*boxes: tuple[float, float, float, float], score: float = 0.9, label: int = 0) -> FrameDetections:
    """Detections without appearance, one score and one label."""
    number = len(boxes)
    return FrameDetections(
        np.array(boxes, dtype=np.float64).reshape(-1, 4), np.full(number, score), np.full(number, label, dtype=np.int64)
    )


def sequence(
    seed: int, *, num_frames: int = 12, num_objects: int = 9, num_classes: int = 2, missed: float = 0.15
) -> list[FrameDetections]:
    """Objects that are born, walk, are missed and leave, several of like looks, among false alarms.

    There are exact duplicates, labels that change, and frames without a detection.
    """
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(4, 8))[rng.integers(0, 4, num_objects)] + rng.normal(0, 0.4, (num_objects, 8))
    starts, ends = rng.integers(-3, num_frames, num_objects), rng.integers(3, 2 * num_frames, num_objects)
    at, speed = rng.uniform(0, 120, (num_objects, 2)), rng.normal(0, 4, (num_objects, 2))
    size = rng.uniform((15, 30), (30, 70), (num_objects, 2))
    labels = rng.integers(0, num_classes, num_objects)
    frames = []
    for number in range(num_frames):
        here = (starts <= number) & (number < starts + ends) & (rng.random(num_objects) >= missed)
        here &= rng.random() >= 0.05
        rows = np.concatenate((np.flatnonzero(here), np.flatnonzero(here)[: rng.integers(0, 2)]))
        center = (at + speed * number)[rows] + rng.normal(0, 1, (len(rows), 2))
        sides = size[rows] * rng.normal(1, 0.03, (len(rows), 2))
        alarms = rng.integers(0, 2)
        center = np.vstack((center, rng.uniform(0, 120, (alarms, 2))))
        sides = np.vstack((sides, rng.uniform(15, 60, (alarms, 2))))
        look = np.vstack((looks[rows], rng.normal(size=(alarms, 8)))) + rng.normal(0, 0.3, (len(rows) + alarms, 8))
        label = np.concatenate((labels[rows], rng.integers(0, num_classes, alarms)))
        label = np.where(rng.random(len(label)) < 0.1, rng.integers(0, num_classes, len(label)), label)
        frames.append(
            FrameDetections(
                np.hstack((center - sides / 2, center + sides / 2)),
                rng.uniform(0.05, 1, len(label)),
                label,
                (look / np.linalg.norm(look, axis=1, keepdims=True)).astype(np.float32),
            )
        )
    return frames
