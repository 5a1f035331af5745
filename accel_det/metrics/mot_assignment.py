"""Which rows and columns belong together, each at most once, so that the sum of their scores is greatest.

P pairs of a row and a column are given, all others are out of the question. Most pairs have no rival and need no search.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from accel_det.metrics.detection import Flags, Floats, Integers


def assign(rows: Integers, columns: Integers, *, scores: Floats, groups: Integers) -> Flags:
    """The pairs of the best assignment.

    Args:
        rows, columns: (P,) from 0, no pair twice.
        scores: (P,) above 0.
        groups: (P,) pairs of different groups share neither row nor column: each group is searched alone.

    Returns:
        (P,) whether a pair is in it. Of assignments that are equally good it is one of them.
    """
    chosen = without_rival(rows, columns)
    rest = np.flatnonzero(~chosen)
    for group in grouped(groups[rest]):
        members = rest[group]
        chosen[members] = best_pairs(rows[members], columns[members], scores=scores[members])
    return chosen


def without_rival(rows: Integers, columns: Integers) -> Flags:
    """(P,) whether row and column of a pair are in no other one."""
    found: Flags = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    return found


def grouped(groups: Integers) -> list[Integers]:
    """The places of each group, ascending, the groups ascending too."""
    if not len(groups):
        return []
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def best_pairs(rows: Integers, columns: Integers, *, scores: Floats) -> Flags:
    """As `assign`, of one group."""
    _, row = np.unique(rows, return_inverse=True)
    _, column = np.unique(columns, return_inverse=True)
    table = np.zeros((row.max() + 1, column.max() + 1))
    table[row, column] = scores
    taken = np.zeros(table.shape, dtype=np.bool_)
    taken[linear_sum_assignment(table, maximize=True)] = True
    chosen: Flags = taken[row, column]
    return chosen
