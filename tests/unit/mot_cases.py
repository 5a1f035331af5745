"""Sequences for the tests of tracking: drawn at random, written by hand, or read from files."""

import numpy as np
import numpy.typing as npt
from detection_cases import data_folder

from accel_det.metrics.mot_files import MotBoxes, MotTruth, read_results, read_truth

TUD = ("TUD-Campus", "TUD-Stadtmitte")
Row = tuple[int, int, float]


def tud(sequence: str) -> tuple[MotTruth, MotBoxes]:
    folder = data_folder("tracking/tud") / sequence
    return read_truth(folder / "gt.txt"), read_results(folder / "test.txt")


def boxes_at(rows: list[Row], *, width: float = 10.0) -> MotBoxes:
    """Boxes of 10 px in height whose left is given: (frame, id, left)."""
    frames, ids = (np.array([row[column] for row in rows], dtype=np.int64) for column in (0, 1))
    boxes = np.array([[row[2], 0.0, width, 10.0] for row in rows]).reshape(-1, 4)
    return MotBoxes(frames, ids, boxes, np.ones(len(rows)))


def truth_at(rows: list[Row], *, classes: list[int] | None = None, counted: list[bool] | None = None) -> MotTruth:
    found = boxes_at(rows)
    seen = None if classes is None else np.ones(len(rows))
    flags = np.ones(len(rows), dtype=np.bool_) if counted is None else np.array(counted)
    return MotTruth(*found[:3], flags, None if classes is None else np.array(classes), seen)


def random_sequence(
    seed: int, *, num_frames: int = 20, num_tracks: int = 8, with_classes: bool = True, side_px: float = 120.0
) -> tuple[MotTruth, MotBoxes]:
    """Crowded tracks that are born, pause and end; results that miss, jitter, swap identities, double and invent boxes.

    Some frames have no truth, some no results; some tracks are of other classes, and some boxes are not counted. With each
    tenth seed there is no result at all, and with each eleventh no truth that counts.
    """
    draw = np.random.default_rng(seed)
    truth_rows: list[list[float]] = []
    rows: list[list[float]] = []
    empty_truth, empty_found = (set(draw.integers(1, num_frames + 1, 2).tolist()) for _ in range(2))
    names = draw.permutation(1000)[:num_tracks]
    for track, name in enumerate(names.tolist()):
        birth, death = sorted(draw.integers(1, num_frames + 1, 2).tolist())
        label = int(draw.choice([1, 1, 1, 1, 2, 3, 7, 8, 12]))
        box = np.concatenate((draw.random(2) * side_px, 15 + draw.random(2) * 40))
        speed, identity = draw.normal(size=2) * 3, 2 * track + int(draw.integers(5)) * 100
        for frame in range(birth, death + 1):
            box = box + np.concatenate((speed + draw.normal(size=2), draw.normal(size=2) * 0.5))
            if draw.random() < 0.07:
                identity = int(draw.integers(2 * num_tracks))
            if frame not in empty_truth and draw.random() < 0.93:
                truth_rows.append([frame, name, *box, draw.random() < 0.9, label, draw.random()])
            if frame not in empty_found and draw.random() < 0.85:
                rows.append([frame, identity, *(box + draw.normal(size=4) * draw.choice([1, 2, 6])), draw.random()])
    for frame in draw.integers(1, num_frames + 1, 2 * num_tracks).tolist():
        if frame not in empty_found:
            rows.append([frame, int(draw.integers(2 * num_tracks)), *(draw.random(4) * side_px / 2), draw.random()])
    return (
        _truth(_once(truth_rows, 9, draw), with_classes=with_classes, all_hidden=seed % 11 == 10),
        _found(_once([] if seed % 10 == 9 else rows, 7, draw)),
    )


def _once(rows: list[list[float]], width: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Rows in random order, without those whose identity is already in their frame, sides at least 0, to 1/1000 px."""
    kept = {(row[0], row[1]): row for row in rows}
    table = np.array(list(kept.values()), dtype=np.float64).reshape(-1, width)
    table[:, 2:6] = table[:, 2:6].round(3)
    table[:, 4:6] = table[:, 4:6].clip(min=0)
    return draw.permutation(table)


def _truth(table: npt.NDArray[np.float64], *, with_classes: bool, all_hidden: bool) -> MotTruth:
    frames, ids, labels = (table[:, column].astype(np.int64) for column in (0, 1, 7))
    counted = (table[:, 6] != 0) & (not all_hidden)
    return MotTruth(frames, ids, table[:, 2:6], counted, *((labels, table[:, 8]) if with_classes else (None, None)))


def _found(table: npt.NDArray[np.float64]) -> MotBoxes:
    return MotBoxes(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6])
