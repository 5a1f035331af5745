"""Tracking: HOTA, CLEAR MOT and identity scores of one sequence, and of several together.

Boxes are counted in each sequence, and the counts of all sequences are added before anything is divided: the numbers of a
benchmark are not means of the numbers of its sequences.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accel_det.metrics.mot_clear import ClearCounts, clear_counts, clear_scores
from accel_det.metrics.mot_files import MotBoxes, MotTruth
from accel_det.metrics.mot_hota import HotaCounts, hota_counts, hota_scores
from accel_det.metrics.mot_identity import IdentityCounts, identity_counts, identity_scores
from accel_det.metrics.mot_sequence import MotRule, compare


class MotCounts(NamedTuple):
    """What the numbers of a sequence are made of.

    Attributes:
        num_tracks: identities of the truth that count.
        num_found_tracks: identities of the results.
    """

    hota: HotaCounts
    clear: ClearCounts
    identity: IdentityCounts
    num_tracks: int
    num_found_tracks: int


def mot_counts(truth: MotTruth, found: MotBoxes, rule: MotRule | None = None) -> MotCounts:
    """Count what the scores of one sequence are made of. Neither the order of rows nor the names of identities matter.

    Raises:
        ValueError: see `compare`.
    """
    rule = rule or MotRule()
    sequence = compare(truth, found, rule)
    return MotCounts(
        hota_counts(sequence),
        clear_counts(sequence, iou=rule.iou),
        identity_counts(sequence, iou=rule.iou),
        sequence.truth.num_ids,
        sequence.found.num_ids,
    )


def mot_scores(counts: Sequence[MotCounts]) -> dict[str, float]:
    """The scores of one sequence, or of several together.

    Args:
        counts: of each sequence, at least one.

    Returns:
        HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr, LocA: means over 19 overlaps from 0.05 to 0.95, in [0, 1].
        MOTA (at most 1, negative where mistakes outnumber boxes), MOTP, recall, precision; TP, FP, FN, IDSW, Frag, MT, PT, ML.
        IDF1, IDP, IDR; IDTP, IDFP, IDFN.
        tracks: of the truth; found_tracks: of the results.
    """
    hota = HotaCounts(*(np.sum(column, axis=0) for column in zip(*(c.hota for c in counts), strict=True)))
    clear = ClearCounts(*(sum(column) for column in zip(*(c.clear for c in counts), strict=True)))
    identity = IdentityCounts(*(sum(column) for column in zip(*(c.identity for c in counts), strict=True)))
    return {
        **hota_scores(hota),
        **clear_scores(clear),
        **identity_scores(identity),
        "tracks": sum(c.num_tracks for c in counts),
        "found_tracks": sum(c.num_found_tracks for c in counts),
    }
