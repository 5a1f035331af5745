"""Identity scores: how many boxes are right if every track of the truth is given the one track that suits it best.

Source: Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, 2016, section 3.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from accel_det.metrics.mot_assignment import assign
from accel_det.metrics.mot_sequence import TrackedSequence


class IdentityCounts(NamedTuple):
    """Sums of one sequence, or of several by addition: boxes of the right identity, boxes without, results without."""

    right: int
    missed: int
    false: int


def identity_counts(sequence: TrackedSequence, *, iou: float) -> IdentityCounts:
    """What IDF1 is made of."""
    truth, found = sequence.truth, sequence.found
    pairs = sequence.pairs.keep(sequence.pairs.iou >= iou)
    width = max(found.num_ids, 1)
    known, common = np.unique(truth.ids[pairs.truth] * width + found.ids[pairs.found], return_counts=True)
    rows, columns = known // width, known % width
    # Tracks that meet directly or by way of others.
    nodes = truth.num_ids + found.num_ids
    meetings = coo_array((np.ones(len(known)), (rows, truth.num_ids + columns)), shape=(nodes, nodes))
    groups = connected_components(meetings, directed=False)[1][rows] if nodes else rows
    chosen = assign(rows, columns, scores=common.astype(np.float64), groups=groups)
    right = int(common[chosen].sum())
    return IdentityCounts(right, len(truth.frames) - right, len(found.frames) - right)


def identity_scores(counts: IdentityCounts) -> dict[str, float]:
    """IDF1, its precision and recall, and the counts."""
    right, missed, false = counts
    return {
        "IDF1": right / max(1, right + (missed + false) / 2),
        "IDP": right / max(1, right + false),
        "IDR": right / max(1, right + missed),
        "IDTP": right,
        "IDFP": false,
        "IDFN": missed,
    }
