"""CLEAR MOT: MOTA and its parts, and how much of each track was followed.

Source: Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics, 2008; mostly
tracked and mostly lost after Li et al., Learning to Associate, 2009; details as in TrackEval, which MOTChallenge uses.
"""

from typing import NamedTuple

import numpy as np

from accel_det.metrics.detection import Integers
from accel_det.metrics.mot_assignment import best_pairs, grouped, without_rival
from accel_det.metrics.mot_sequence import EPSILON, Pairs, TrackedSequence, Tracks

_MOSTLY, _PARTLY = 0.8, 0.2
# No sum of overlaps of a frame that tells two assignments apart comes near it: what was matched before stays matched.
_KEPT = 1000.0


class ClearCounts(NamedTuple):
    """Sums of one sequence, or of several by addition.

    Attributes:
        found: boxes that were found.
        missed: boxes that were not.
        false: results that found nothing.
        overlap: sum of the overlaps of what was found.
        switches: boxes found by another identity than the one that last found their track.
        fragments: times that a track is followed again after it was lost.
        mostly_tracked, partly_tracked, mostly_lost: tracks that were followed in more than 80 % of their frames; in 20 to
            80 %; in less.
    """

    found: int
    missed: int
    false: int
    overlap: float
    switches: int
    fragments: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int


def clear_counts(sequence: TrackedSequence, *, iou: float) -> ClearCounts:
    """What MOTA is made of.

    In each frame the pairs of the frame before are kept where they still overlap; the others are assigned so that the sum of
    overlaps is greatest. Frames without truth or without results are passed over: what came before them is "before".
    """
    truth, found = sequence.truth, sequence.found
    pairs = sequence.pairs.keep(sequence.pairs.iou >= iou - EPSILON)
    before = _row_before(truth, found)
    matched = _match(pairs, found.ids, before)
    rows, partners = pairs.truth[matched], found.ids[pairs.found[matched]]

    is_found = np.zeros(len(truth.frames), dtype=np.bool_)
    is_found[rows] = True
    is_new = is_found & ~((before >= 0) & is_found[before])
    by_track = np.lexsort((rows, truth.ids[rows]))
    same_track = np.diff(truth.ids[rows][by_track]) == 0
    lengths = np.bincount(truth.ids, minlength=truth.num_ids)
    num_found = np.bincount(truth.ids[rows], minlength=truth.num_ids)
    share = num_found / lengths
    mostly, at_least_partly = int((share > _MOSTLY).sum()), int((share >= _PARTLY).sum())
    return ClearCounts(
        found=len(rows),
        missed=len(truth.frames) - len(rows),
        false=len(found.frames) - len(rows),
        overlap=float(pairs.iou[matched].sum()),
        switches=int((same_track & (np.diff(partners[by_track]) != 0)).sum()),
        fragments=int(is_new.sum() - (num_found > 0).sum()),
        mostly_tracked=mostly,
        partly_tracked=at_least_partly - mostly,
        mostly_lost=truth.num_ids - at_least_partly,
    )


def clear_scores(counts: ClearCounts) -> dict[str, float]:
    """MOTA of no truth at all is 0, whatever was found; MOTP is the mean overlap of what was found."""
    num_truth = counts.found + counts.missed
    mistakes = counts.missed + counts.false + counts.switches
    return {
        "MOTA": 1 - mistakes / num_truth if num_truth else 0.0,
        "MOTP": counts.overlap / max(1, counts.found),
        "recall": counts.found / max(1, num_truth),
        "precision": counts.found / max(1, counts.found + counts.false),
        "TP": counts.found,
        "FP": counts.false,
        "FN": counts.missed,
        "IDSW": counts.switches,
        "Frag": counts.fragments,
        "MT": counts.mostly_tracked,
        "PT": counts.partly_tracked,
        "ML": counts.mostly_lost,
    }


def _match(pairs: Pairs, found_ids: Integers, before: Integers) -> Integers:
    """Places of the pairs that are matched."""
    matched = without_rival(pairs.truth, pairs.found)
    partner = np.full(len(before) + 1, -1)  # by row of the truth; the last one is that of no row
    partner[pairs.truth[matched]] = found_ids[pairs.found[matched]]
    contested = np.flatnonzero(~matched)
    for group in grouped(pairs.frames[contested]):
        members = contested[group]
        rows, ids = pairs.truth[members], found_ids[pairs.found[members]]
        scores = pairs.iou[members] + _KEPT * (ids == partner[before[rows]])
        best = best_pairs(rows, pairs.found[members], scores=scores)
        matched[members] = best
        partner[rows[best]] = ids[best]
    return np.flatnonzero(matched)


def _row_before(truth: Tracks, found: Tracks) -> Integers:
    """(T,) row of the same identity in the last frame before this one that has truth and results; -1 where there is none."""
    shared = np.intersect1d(truth.frames, found.frames)
    rows = np.flatnonzero(np.isin(truth.frames, shared))
    places = np.searchsorted(shared, truth.frames[rows])
    order = np.lexsort((places, truth.ids[rows]))
    rows, places = rows[order], places[order]
    follows = (np.diff(truth.ids[rows]) == 0) & (np.diff(places) == 1)
    before = np.full(len(truth.frames), -1)
    before[rows[1:][follows]] = rows[:-1][follows]
    return before
