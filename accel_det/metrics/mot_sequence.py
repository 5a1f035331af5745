"""One sequence as every tracking metric reads it: rows by frame and identity, and the pairs of boxes that overlap.

Letters: T boxes of the truth, R boxes of the results, P pairs of overlapping boxes of one frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from accel_det.metrics.detection import Flags, Floats, Integers
from accel_det.metrics.mot_assignment import assign
from accel_det.metrics.mot_files import MOST_PX, MotBoxes, MotTruth, first_repeat

PEDESTRIAN = 1
DISTRACTORS = (2, 7, 8, 12)
"""Person on a vehicle, static person, distractor, reflection, in MOT16 and MOT17; MOT20 adds 6, other vehicles."""
EPSILON = float(np.finfo(np.float64).eps)
"""An overlap may miss its threshold by so much, as in TrackEval."""

_DISTRACTOR_IOU = 0.5
_PAIRS_AT_ONCE = 2**16
# More than is lost where so many frames are laid side by side that float64 has no place for every digit.
_MARGIN_PX = 1.0


@dataclass(frozen=True)
class MotRule:
    """What is evaluated, and how.

    Attributes:
        iou: overlap from which a box counts as found, for MOTA and IDF1; HOTA goes through 0.05 to 0.95.
        preprocess: do as MOTChallenge does since MOT16: count `classes` alone, and leave out results that lie on
            distractors. Truth without classes stays as it is. Off, boxes of all classes count.
        classes: of the truth, that count.
        distractors: classes of the truth that nobody has to find, unless they count; results on them are no mistakes.
        min_visibility: boxes of the truth that are in sight with a smaller share are treated as distractors; 0 is the
            challenge's own rule.

    Raises:
        ValueError: a number out of range, or no class.
    """

    iou: float = 0.5
    preprocess: bool = True
    classes: tuple[int, ...] = (PEDESTRIAN,)
    distractors: tuple[int, ...] = DISTRACTORS
    min_visibility: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou is {self.iou}, expected above 0 and up to 1; 0.5 is usual")
        if not 0 <= self.min_visibility <= 1:
            raise ValueError(f"min_visibility is {self.min_visibility}, expected 0 to 1; 0 is MOTChallenge's own rule")
        if self.preprocess and not self.classes:
            raise ValueError("classes is empty, expected at least one class of the truth, such as 1 for pedestrians")


class Tracks(NamedTuple):
    """Boxes of one side, by frame and identity.

    Attributes:
        frames: (N,) ascending.
        ids: (N,) from 0 to num_ids - 1, every one of them occurs.
        num_ids: how many identities there are.
    """

    frames: Integers
    ids: Integers
    num_ids: int


class Pairs(NamedTuple):
    """A box of the truth and a result of the same frame that overlap, ascending by row of the truth.

    Attributes:
        frames: (P,).
        truth: (P,) row of the truth.
        found: (P,) row of the results.
        iou: (P,) above 0.
    """

    frames: Integers
    truth: Integers
    found: Integers
    iou: Floats

    def keep(self, kept: Flags) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.frames[kept], self.truth[kept], self.found[kept], self.iou[kept])


class TrackedSequence(NamedTuple):
    """Truth and results of one sequence, and their overlaps."""

    truth: Tracks
    found: Tracks
    pairs: Pairs


def compare(truth: MotTruth, found: MotBoxes, rule: MotRule) -> TrackedSequence:
    """Truth and results with what the rule leaves of them.

    Boxes whose flag is 0 are left out of the truth; results on them count, as in TrackEval.

    Raises:
        ValueError: an identity twice in a frame, or a box that is none.
    """
    for what, side in (("truth", truth), ("results", found)):
        _check_boxes(what, side.frames, side.ids, side.boxes)
    truth_order, order = np.lexsort((truth.ids, truth.frames)), np.lexsort((found.ids, found.frames))
    frames, found_frames = truth.frames[truth_order], found.frames[order]
    pairs = _overlapping(frames, truth.boxes[truth_order], found_frames, found.boxes[order])
    counted, distracting = (column[truth_order] for column in _roles(truth, rule))
    on_distractor = np.zeros(len(order), dtype=np.bool_)
    if distracting.any():
        near = pairs.keep(pairs.iou >= _DISTRACTOR_IOU - EPSILON)
        matched = assign(near.truth, near.found, scores=near.iou, groups=near.frames)
        on_distractor[near.found[matched & distracting[near.truth]]] = True
    left = pairs.keep(counted[pairs.truth] & ~on_distractor[pairs.found])
    return TrackedSequence(
        _tracks(frames[counted], truth.ids[truth_order][counted]),
        _tracks(found_frames[~on_distractor], found.ids[order][~on_distractor]),
        left._replace(
            truth=(np.cumsum(counted) - 1)[left.truth],
            found=(np.cumsum(~on_distractor) - 1)[left.found],
        ),
    )


def _roles(truth: MotTruth, rule: MotRule) -> tuple[Flags, Flags]:
    """(T,) boxes that are to be found, and (T,) boxes on which results are no mistakes."""
    if not rule.preprocess or truth.classes is None or truth.visibility is None:
        return truth.counted, np.zeros(len(truth.frames), dtype=np.bool_)
    hidden = (truth.visibility >= 0) & (truth.visibility < rule.min_visibility)
    of_class = np.isin(truth.classes, rule.classes)
    distracting = hidden | (np.isin(truth.classes, rule.distractors) & ~of_class)
    return truth.counted & of_class & ~hidden, distracting


def _tracks(frames: Integers, ids: Integers) -> Tracks:
    known, numbers = np.unique(ids, return_inverse=True)
    return Tracks(frames, numbers, len(known))


def _overlapping(frames: Integers, boxes: Floats, found_frames: Integers, found_boxes: Floats) -> Pairs:
    """All pairs of one frame with an overlap; both sides are ascending by frame."""
    parts = [Pairs(*(np.zeros(0, dtype=np.int64),) * 3, np.zeros(0))]
    corners, found_corners = (np.concatenate((b[:, :2], b[:, :2] + b[:, 2:]), axis=1) for b in (boxes, found_boxes))
    firsts, counts, order = _candidates(frames, corners, found_frames, found_corners)
    for rows in _portions(counts):
        truth = np.repeat(np.arange(len(frames))[rows], counts[rows])
        ends = np.cumsum(counts[rows])
        found = order[np.arange(len(truth)) + np.repeat(firsts[rows] - (ends - counts[rows]), counts[rows])]
        iou = _iou(corners[truth], found_corners[found])
        part = Pairs(frames[truth], truth, found, iou)
        parts.append(part.keep(iou > 0))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _candidates(
    frames: Integers, corners: Floats, found_frames: Integers, found_corners: Floats
) -> tuple[Integers, Integers, Integers]:
    """(T,) and (T,) first place and number of the results that may overlap a box, and (R,) results by place.

    The frames are laid side by side, further apart than any box is wide, and the results sorted by their left side: what
    begins left of a box by more than the widest result, or right of it, does not overlap it.
    """
    if not len(frames) or not len(found_frames):
        return np.zeros(len(frames), dtype=np.int64), np.zeros(len(frames), dtype=np.int64), np.zeros(0, dtype=np.int64)
    sides = np.concatenate((corners[:, [0, 2]], found_corners[:, [0, 2]]))
    widest = (found_corners[:, 2] - found_corners[:, 0]).max() + _MARGIN_PX
    stride = np.ptp(sides) + 2 * widest
    known = np.unique(found_frames)
    place = np.searchsorted(known, frames)
    shared = known[place.clip(max=len(known) - 1)] == frames
    offset = place * stride
    lefts = found_corners[:, 0] + np.searchsorted(known, found_frames) * stride
    order = np.argsort(lefts, kind="stable")
    firsts = np.searchsorted(lefts[order], corners[:, 0] + offset - widest)
    counts = np.searchsorted(lefts[order], corners[:, 2] + offset + _MARGIN_PX) - firsts
    return firsts, counts * shared, order


def _portions(counts: Integers) -> Iterator[slice]:
    """Rows in portions of so many pairs that what is computed of them stays in the cache."""
    portion = np.cumsum(counts) // _PAIRS_AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(portion)) + 1), len(counts)]
    yield from (slice(*ends) for ends in pairwise(bounds))


def _iou(first: Floats, second: Floats) -> Floats:
    """(P, 4) and (P, 4) xyxy -> (P,); boxes without an area overlap nothing."""
    left, top, right, bottom = first.T
    other_left, other_top, other_right, other_bottom = second.T
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    common = np.maximum(width, 0) * np.maximum(height, 0)
    area, other_area = (right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top)
    common[(area <= EPSILON) | (other_area <= EPSILON)] = 0
    union = area + other_area - common
    found: Floats = common / np.where(union > EPSILON, union, 1)
    return found


def _check_boxes(what: str, frames: Integers, ids: Integers, boxes: Floats) -> None:
    if boxes.shape != (len(frames), 4) or ids.shape != frames.shape:
        raise ValueError(
            f"{what}: frames {frames.shape}, ids {ids.shape}, boxes {boxes.shape}, expected (N,), (N,) and (N, 4)"
        )
    flawed = ~((np.abs(boxes) <= MOST_PX).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1))
    if flawed.any():
        bad = int(np.flatnonzero(flawed)[0])
        raise ValueError(
            f"{what}: frame {frames[bad]}, id {ids[bad]}: box {boxes[bad].tolist()}, expected left, top, width, height "
            f"up to {MOST_PX:.0f}, the last two at least 0; correct what produces it"
        )
    repeat = first_repeat(frames, ids)
    if repeat is not None:
        raise ValueError(
            f"{what}: id {ids[repeat[1]]} is in frame {frames[repeat[1]]} twice, expected every id once in a frame; "
            "correct what produces it"
        )
