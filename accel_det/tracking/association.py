"""Which detection continues which track: costs in, pairs out.

Letters: T tracks, N detections, P pairs. A cost is infinite where a pair is refused.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import chdtri

from accel_det.tracking.settings import TrackerSettings

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

GATED_PARTS = {"full": 4, "position": 2}


class Pairs(NamedTuple):
    """Tracks and the detections that continue them: (P,) rows and (P,) columns of a cost matrix."""

    tracks: Indices
    detections: Indices


NO_PAIRS = Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def pairwise_iou(first: Floats, second: Floats) -> Floats:
    """(N, 4) and (M, 4) xyxy with positive sides -> (N, M); in numpy several times faster than tensors of this size."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = first.T[:, :, None], second.T
    width, height = np.minimum(x2, u2) - np.maximum(x1, u1), np.minimum(y2, v2) - np.maximum(y1, v1)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    return np.asarray(intersection / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection))


def assign(cost_TN: Floats, limits_T: Floats) -> Pairs:
    """The pairs of least total cost, where a track that stays alone costs as much as its limit; no pair costs more than that."""
    admitted = cost_TN <= limits_T[:, None]
    rows, columns = np.flatnonzero(admitted.any(axis=1)), np.flatnonzero(admitted.any(axis=0))
    with np.errstate(invalid="ignore"):
        gain = np.where(admitted, cost_TN - limits_T[:, None], 1e-5)[np.ix_(rows, columns)]
    chosen_rows, chosen_columns = linear_sum_assignment(gain)
    tracks, detections = rows[chosen_rows], columns[chosen_columns]
    good = admitted[tracks, detections]
    return Pairs(tracks[good], detections[good])


def cascade(cost_TN: Floats, limits_T: Floats, ages_T: Indices) -> Pairs:
    """Assign to the tracks that were seen last first, then to older ones what is left.

    Args:
        ages_T: frames since the last detection of each track.

    Source: Wojke et al., 2017, listing 1.
    """
    free = np.ones(cost_TN.shape[1], dtype=bool)
    has_choice = (cost_TN <= limits_T[:, None]).any(axis=1)
    parts = [NO_PAIRS]
    for age in np.unique(ages_T[has_choice]):
        rows, columns = np.flatnonzero(has_choice & (ages_T == age)), np.flatnonzero(free)
        found = assign(cost_TN[np.ix_(rows, columns)], limits_T[rows])
        parts.append(Pairs(rows[found.tracks], columns[found.detections]))
        free[parts[-1].detections] = False
    return join(parts)


def join(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def gates(ages_T: Indices, settings: TrackerSettings) -> Floats:
    """(T,) largest squared Mahalanobis distance of a pair: the chi-square quantile, wider by each frame that was missed."""
    if settings.gate == "none":
        return np.full(len(ages_T), np.inf)
    quantile = float(chdtri(GATED_PARTS[settings.gate], 1 - settings.gate_level))
    return np.asarray(quantile * (1 + settings.gate_widening * (ages_T - 1)))
