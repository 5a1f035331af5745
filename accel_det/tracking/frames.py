"""What a tracker takes and gives for one frame, and the door: what is refused, left out, or suppressed before association.

Letters: N detections of a frame, M tracks told of a frame, D numbers of an embedding.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.tracking.association import pairwise_iou
from accel_det.tracking.kalman import SMALLEST_SIDE_PX
from accel_det.tracking.settings import TrackerSettings

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FARTHEST_PX = 1e7
LENGTH_TOLERANCE = 1e-2


class FrameDetections(NamedTuple):
    """What was found in one frame.

    Attributes:
        boxes: (N, 4) xyxy, pixels of the frame.
        scores: (N,) in [0, 1].
        labels: (N,) whole numbers, class index.
        embeddings: (N, D) of unit length; None where appearance is not used.
    """

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]
    embeddings: NDArray[np.floating] | None = None


class FrameTracks(NamedTuple):
    """The confirmed tracks that were seen in one frame, in order of their ids.

    Attributes:
        ids: (M,) int64, from 1 in order of confirmation; never used again.
        boxes: (M, 4) float64, xyxy, pixels of the frame.
        scores: (M,) float64, of the detections.
        labels: (M,) int64: what most detections of the track say, weighted by their scores.
        detections: (M,) int64, row of each track's detection in the frame.
    """

    ids: Indices
    boxes: Floats
    scores: Floats
    labels: Indices
    detections: Indices


class Candidates(NamedTuple):
    """The detections of a frame that take part.

    Attributes:
        boxes, scores, labels, embeddings: as in `FrameDetections`; embeddings only where appearance is used.
        rows: (N,) their places among all detections of the frame.
    """

    boxes: Floats
    scores: Floats
    labels: Indices
    embeddings: NDArray[np.float32] | None
    rows: Indices

    def take(self, rows: NDArray[np.bool_] | Indices) -> "Candidates":
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return Candidates(self.boxes[rows], self.scores[rows], self.labels[rows], embeddings, self.rows[rows])


def admit(
    detections: FrameDetections, settings: TrackerSettings, *, frame: int, embedding_size: int | None = None
) -> Candidates:
    """The detections that take part: sound, scored and high enough, and not suppressed by a better one.

    Args:
        frame: number of the frame, from 1, for messages.
        embedding_size: D of the frames before; None while there was none.

    Raises:
        ValueError: arrays do not belong together, embeddings are missing, or a row is bad and settings.on_bad_box is "stop".
    """
    found = _arrays(detections, settings, frame=frame)
    if found.embeddings is not None and embedding_size not in (None, found.embeddings.shape[1]):
        raise ValueError(
            f"frame {frame}: embeddings of {found.embeddings.shape[1]} numbers, and those of the frames before had "
            f"{embedding_size}: take one network for a whole sequence"
        )
    faults = _faults(found)
    if faults and settings.on_bad_box == "stop":
        row, (what, expected) = min(faults.items())
        raise ValueError(
            f"frame {frame}: detection {row} has {what}, expected {expected}: mend the detector, or set on_bad_box to skip"
        )
    fit = np.ones(len(found.boxes), dtype=bool)
    fit[list(faults)] = False
    fit &= found.scores >= settings.least_confidence
    fit &= found.boxes[:, 3] - found.boxes[:, 1] >= settings.min_height_px
    found = found.take(fit)
    return found.take(_survivors(found, nms_iou=settings.nms_iou)) if settings.nms_iou < 1 else found


def _arrays(detections: FrameDetections, settings: TrackerSettings, *, frame: int) -> Candidates:
    """All detections, as arrays of the right kinds and fitting shapes."""
    boxes = np.asarray(detections.boxes, dtype=np.float64)
    scores = np.asarray(detections.scores, dtype=np.float64)
    labels = np.asarray(detections.labels)
    number = len(boxes)
    boxes = boxes if number else np.zeros((0, 4))
    if boxes.shape != (number, 4) or scores.shape != (number,) or labels.shape != (number,):
        raise ValueError(
            f"frame {frame}: expected boxes (N, 4), scores (N,) and labels (N,), "
            f"got {boxes.shape}, {scores.shape} and {labels.shape}"
        )
    if number and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"frame {frame}: expected labels that are whole numbers, got {labels.dtype}")
    everything = Candidates(boxes, scores, labels.astype(np.int64), None, np.arange(number))
    if not settings.uses_appearance or not number:
        return everything
    if detections.embeddings is None:
        raise ValueError(
            f"frame {frame}: {number} detections without embeddings, but max_cosine_distance is "
            f"{settings.max_cosine_distance:g}: give embeddings, or set it to none"
        )
    embeddings = np.asarray(detections.embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != number:
        raise ValueError(f"frame {frame}: expected embeddings ({number}, D), got {embeddings.shape}")
    return everything._replace(embeddings=embeddings)


def _faults(found: Candidates) -> dict[int, tuple[str, str]]:
    """Row -> what is wrong with it, and what was expected."""
    faults: dict[int, tuple[str, str]] = {}
    if found.embeddings is not None:
        length = np.linalg.norm(found.embeddings, axis=1)
        for row in np.flatnonzero(~(np.abs(length - 1) <= LENGTH_TOLERANCE)):
            faults[int(row)] = (f"an embedding of length {length[row]:g}", "length 1")
    for row in np.flatnonzero(~((found.scores >= 0) & (found.scores <= 1))):
        faults[int(row)] = (f"score {found.scores[row]:g}", "a number in [0, 1]")
    with np.errstate(invalid="ignore"):
        near = (np.abs(found.boxes) <= FARTHEST_PX).all(axis=1)
        solid = (found.boxes[:, 2:] - found.boxes[:, :2] >= SMALLEST_SIDE_PX).all(axis=1)
    for row in np.flatnonzero(~(near & solid)):
        box = " ".join(f"{side:g}" for side in found.boxes[row])
        faults[int(row)] = (
            f"box [{box}]",
            f"x1 < x2 and y1 < y2, {SMALLEST_SIDE_PX:g} px apart or more, within {FARTHEST_PX:g} px of the origin",
        )
    return faults


def _survivors(found: Candidates, *, nms_iou: float) -> Indices:
    """Rows, in order, that no better detection of their class overlaps too much; of equals the first stays."""
    rivals = pairwise_iou(found.boxes, found.boxes) > nms_iou
    rivals &= found.labels[:, None] == found.labels[None, :]
    alive = np.ones(len(found.boxes), dtype=bool)
    for row in np.argsort(-found.scores, kind="stable"):
        if alive[row]:
            alive[rivals[row]] = False
            alive[row] = True
    return np.flatnonzero(alive)
