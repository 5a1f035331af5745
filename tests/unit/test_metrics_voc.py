"""Pascal VOC numbers against published values and a direct computation."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from detection_cases import data_folder, make_row, random_rows

from accel_det.metrics.voc import Interpolation, average_precision, voc_scores
from accel_det.types import DetectionRow

LEFT: list[float] = [0, 0, 10, 10]
RIGHT: list[float] = [50, 0, 60, 10]


def published_case() -> list[DetectionRow]:
    """Files of left, top, width, height, where the source counts the last pixel in: a box ends at left + width + 1."""
    folder = data_folder("metrics/voc/test_case_1")

    def read(path: str) -> list[list[float]]:
        return [[float(value) for value in line.split()[1:]] for line in (folder / path).read_text().splitlines()]

    def corners(box: list[float]) -> list[float]:
        return [box[0], box[1], box[0] + box[2] + 1, box[1] + box[3] + 1]

    return [
        make_row(
            int(path.stem),
            truth=[(corners(box), 0, False) for box in read(f"gts/{path.name}")],
            found=[(corners(box), 0, score) for score, *box in read(f"dets/{path.name}")],
        )
        for path in sorted((folder / "gts").glob("*.txt"))
    ]


@pytest.mark.parametrize(
    ("interpolation", "published"),
    [
        ("eleven_points", [0.333333, 0.268398, 0.030303, 0.0]),
        ("all_points", [0.337198, 0.245687, 0.022222, 0.0]),
    ],
)
def test_the_published_numbers_come_out(interpolation: Interpolation, published: list[float]) -> None:
    # Source: the tests of review_object_detection_metrics, case 1.
    rows = published_case()
    scores = [
        voc_scores(rows, classes=["object"], iou=iou, interpolation=interpolation)["mAP"]
        for iou in (0.1, 0.3, 0.5, 0.75)
    ]
    assert len(rows) == 7
    assert scores == pytest.approx(published, abs=1e-6)


def direct_ap(rows: list[DetectionRow], label: int, *, iou: float, interpolation: str) -> float:
    """AP of one class as the VOC development kit words it, one detection after the other."""
    ranked = [
        (score, row, box)
        for row in sorted(rows, key=lambda row: row.sample_id)
        for box, score, of in zip(*(column.tolist() for column in row.detections), strict=True)
        if of == label
    ]
    ranked.sort(key=lambda entry: -entry[0])
    num_truth = sum(int(((row.truth.labels == label) & ~row.truth.crowd).sum()) for row in rows)
    taken: set[tuple[int, int]] = set()
    right = wrong = 0
    curve = [(0.0, 0.0)]
    for _, row, box in ranked:
        best, best_index = 0.0, -1
        for index, other in enumerate(row.truth.boxes.tolist()):
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if row.truth.labels[index] != label or width <= 0 or height <= 0:
                continue
            areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
            overlap = width * height / (areas - width * height)
            if overlap > best:
                best, best_index = overlap, index
        if best >= iou and bool(row.truth.crowd[best_index]):
            continue
        if best >= iou and (row.sample_id, best_index) not in taken:
            taken.add((row.sample_id, best_index))
            right += 1
        else:
            wrong += 1
        curve.append((right / num_truth, right / (right + wrong)))
    if interpolation == "eleven_points":
        return sum(max((p for r, p in curve if r >= level), default=0.0) for level in np.linspace(0, 1, 11)) / 11
    recalls = sorted({recall for recall, _ in curve})
    return sum((high - low) * max(p for r, p in curve if r >= high) for low, high in pairwise(recalls))


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("seed", range(6))
def test_random_rows_score_as_the_definition_says(seed: int, interpolation: Interpolation) -> None:
    rows = random_rows(seed, num_images=20, num_classes=3)
    iou = (0.3, 0.5, 0.75)[seed % 3]
    expected = [direct_ap(rows, label, iou=iou, interpolation=interpolation) for label in range(3)]
    scores = voc_scores(rows, classes=["a", "b", "c"], iou=iou, interpolation=interpolation)
    assert [scores[f"AP/{name}"] for name in "abc"] == pytest.approx(expected, abs=1e-12)
    assert scores["mAP"] == pytest.approx(sum(expected) / 3, abs=1e-12)
    assert any(bool(row.truth.crowd.any()) for row in rows)


def test_order_and_repetition_of_rows_change_no_bit() -> None:
    rows = random_rows(3, num_images=30, num_classes=3)
    scores = voc_scores(rows, classes=["a", "b", "c"])
    assert voc_scores([*rows[::-2], *rows[5:9], *rows[-2::-2]], classes=["a", "b", "c"]) == scores


def test_a_detection_on_a_difficult_object_counts_neither_way() -> None:
    truth = [(LEFT, 0, False), (RIGHT, 0, True)]
    once = make_row(1, truth=truth, found=[(RIGHT, 0, 0.9), (RIGHT, 0, 0.8), (LEFT, 0, 0.5)])
    assert voc_scores([once], classes=["a"])["mAP"] == 1.0
    missed = make_row(1, truth=truth, found=[(RIGHT, 0, 0.9)])
    assert voc_scores([missed], classes=["a"])["mAP"] == 0.0


def test_the_second_detection_of_an_object_is_wrong() -> None:
    row = make_row(
        1, truth=[(LEFT, 0, False), (RIGHT, 0, False)], found=[(LEFT, 0, 0.9), (LEFT, 0, 0.8), (RIGHT, 0, 0.7)]
    )
    # Right, wrong, right: precision 1 up to recall 1/2, then 2/3.
    assert voc_scores([row], classes=["a"])["mAP"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    eleven = voc_scores([row], classes=["a"], interpolation="eleven_points")["mAP"]
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11, abs=1e-15)


def test_a_class_without_objects_is_left_out_and_an_empty_split_is_undefined() -> None:
    row = make_row(1, truth=[(LEFT, 0, False)], found=[(LEFT, 0, 0.9), (LEFT, 1, 0.9)])
    assert voc_scores([row], classes=["a", "b"]) == {"mAP": 1.0, "AP/a": 1.0}
    assert voc_scores([], classes=["a"]) == {"mAP": -1.0}
    with pytest.raises(ValueError, match="iou is 0"):
        voc_scores([row], classes=["a", "b"], iou=0)


def test_a_class_without_detections_scores_zero() -> None:
    for interpolation in get_args(Interpolation):
        nothing = np.zeros(0, dtype=np.bool_)
        assert average_precision(nothing, num_truth=4, interpolation=interpolation) == 0.0
