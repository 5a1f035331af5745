"""HOTA: how well boxes are found and how well their identities are kept, in equal parts.

Source: Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, 2021, sections 4 to 6.

Letters: T boxes of the truth, R results, P pairs of them that overlap; K pairs of an identity of the truth and one of the
results that overlap anywhere; A thresholds.
"""

from typing import NamedTuple

import numpy as np

from accel_det.metrics.detection import Floats, Integers
from accel_det.metrics.mot_assignment import assign
from accel_det.metrics.mot_sequence import EPSILON, TrackedSequence

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""(A,) overlaps from which a box counts as found: 0.05 to 0.95."""


class HotaCounts(NamedTuple):
    """Sums of one sequence, or of several by addition; (A,) each.

    Attributes:
        found: boxes that were found.
        missed: boxes that were not.
        false: results that found nothing.
        overlap: sum of the overlaps of what was found.
        association, recall, precision: sums, over what was found, of the share of its two tracks that belongs together.
    """

    found: Floats
    missed: Floats
    false: Floats
    overlap: Floats
    association: Floats
    recall: Floats
    precision: Floats


class _Identities(NamedTuple):
    """Identities that overlap anywhere.

    Attributes:
        of_pair: (P,) which of them a pair of boxes belongs to.
        num_truth: (K,) boxes of the identity of the truth.
        num_found: (K,) boxes of the identity of the results.
    """

    of_pair: Integers
    num_truth: Integers
    num_found: Integers


def hota_counts(sequence: TrackedSequence) -> HotaCounts:
    """What HOTA is made of. In each frame one assignment decides for all thresholds, before any of them is asked."""
    pairs, identities = sequence.pairs, _identities(sequence)
    scores = _alignment(sequence, identities)[identities.of_pair] * pairs.iou
    matched = assign(pairs.truth, pairs.found, scores=scores, groups=pairs.frames)
    iou, identity = pairs.iou[matched], identities.of_pair[matched]

    num_passed = np.searchsorted(ALPHAS - EPSILON, iou, side="right")
    found = _at_thresholds(num_passed, np.ones(len(iou)))
    matches = np.zeros((len(identities.num_truth), len(ALPHAS)))
    for place in range(len(ALPHAS)):
        matches[:, place] = np.bincount(identity[num_passed > place], minlength=len(matches))
    num_truth, num_found = identities.num_truth[:, None], identities.num_found[:, None]
    return HotaCounts(
        found=found,
        missed=len(sequence.truth.frames) - found,
        false=len(sequence.found.frames) - found,
        overlap=_at_thresholds(num_passed, iou),
        association=(matches * matches / (num_truth + num_found - matches)).sum(axis=0),
        recall=(matches * matches / num_truth).sum(axis=0),
        precision=(matches * matches / num_found).sum(axis=0),
    )


def hota_scores(counts: HotaCounts) -> dict[str, float]:
    """Means over the thresholds. Where nothing was found at a threshold LocA is 1 there, as in TrackEval."""
    found = np.maximum(1, counts.found)
    detection = counts.found / np.maximum(1, counts.found + counts.missed + counts.false)
    association = counts.association / found
    curves = {
        "HOTA": np.sqrt(detection * association),
        "DetA": detection,
        "AssA": association,
        "DetRe": counts.found / np.maximum(1, counts.found + counts.missed),
        "DetPr": counts.found / np.maximum(1, counts.found + counts.false),
        "AssRe": counts.recall / found,
        "AssPr": counts.precision / found,
        "LocA": np.where(counts.found > 0, counts.overlap / found, 1),
    }
    return {name: float(curve.mean()) for name, curve in curves.items()}


def _identities(sequence: TrackedSequence) -> _Identities:
    truth, found, pairs = sequence.truth, sequence.found, sequence.pairs
    width = max(found.num_ids, 1)
    known, of_pair = np.unique(truth.ids[pairs.truth] * width + found.ids[pairs.found], return_inverse=True)
    return _Identities(
        of_pair,
        np.bincount(truth.ids, minlength=truth.num_ids)[known // width],
        np.bincount(found.ids, minlength=found.num_ids)[known % width],
    )


def _alignment(sequence: TrackedSequence, identities: _Identities) -> Floats:
    """(K,) how much of two tracks overlaps, where an overlap that others share counts for less."""
    pairs = sequence.pairs
    of_truth = np.bincount(pairs.truth, weights=pairs.iou, minlength=len(sequence.truth.frames))[pairs.truth]
    of_found = np.bincount(pairs.found, weights=pairs.iou, minlength=len(sequence.found.frames))[pairs.found]
    shares = pairs.iou / (of_truth + of_found - pairs.iou)
    common = np.bincount(identities.of_pair, weights=shares, minlength=len(identities.num_truth))
    found: Floats = common / (identities.num_truth + identities.num_found - common)
    return found


def _at_thresholds(num_passed: Integers, weights: Floats) -> Floats:
    """(A,) sum of the weights of what passes each threshold, of the number of thresholds that each passes."""
    by_number = np.bincount(num_passed, weights=weights, minlength=len(ALPHAS) + 1)
    found: Floats = by_number[:0:-1].cumsum()[::-1]
    return found
