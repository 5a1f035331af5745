"""The canonical order of rows, and what is refused."""

import numpy as np
import pytest
import torch
from detection_cases import make_row, random_rows

from accel_det.metrics.detection import tabulate

BOX: list[float] = [0, 0, 10, 10]


def test_any_arrival_of_rows_gives_one_table() -> None:
    rows = random_rows(0, num_images=12, num_classes=3)
    shuffled = [rows[i] for i in torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist()]
    expected = tabulate(rows, num_classes=3)
    for column, other in zip(expected, tabulate([*shuffled, *rows[:5]], num_classes=3), strict=True):
        np.testing.assert_array_equal(column, other)
    assert expected.sample_ids.tolist() == sorted(row.sample_id for row in rows)


def test_equal_scores_of_an_image_keep_the_order_of_the_model() -> None:
    row = make_row(4, truth=[], found=[(BOX, 2, 0.5), (BOX, 0, 0.5), (BOX, 1, 0.7), (BOX, 1, 0.5)])
    assert tabulate([row], num_classes=3).labels.tolist() == [1, 2, 0, 1]


def test_two_different_images_with_one_id_are_refused() -> None:
    first = make_row(4, truth=[(BOX, 0, False)], found=[(BOX, 0, 0.5)])
    second = make_row(4, truth=[(BOX, 0, False)], found=[(BOX, 0, 0.6)])
    third = make_row(4, truth=[(BOX, 0, False)], found=[])
    for other in (second, third, first._replace(width=7)):
        with pytest.raises(ValueError, match="sample 4: two rows with this id differ"):
            tabulate([first, other], num_classes=1)


@pytest.mark.parametrize(
    "found",
    [(BOX, 2, 0.5), (BOX, -1, 0.5), (BOX, 0, float("nan")), ([0, 0, float("inf"), 1], 0, 0.5), ([5, 0, 4, 9], 0, 0.5)],
)
def test_a_prediction_out_of_range_is_refused_by_the_name_of_its_image(found: tuple[list[float], int, float]) -> None:
    rows = [make_row(3, truth=[], found=[(BOX, 0, 0.5)]), make_row(17, truth=[], found=[(BOX, 1, 0.5), found])]
    with pytest.raises(ValueError, match="sample 17: a detection has box"):
        tabulate(rows, num_classes=2)


def test_truth_out_of_range_is_refused_by_the_name_of_its_image() -> None:
    with pytest.raises(ValueError, match=r"sample 8: a truth has box .* label 2.* label from 0 to 1"):
        tabulate([make_row(8, truth=[(BOX, 2, False)], found=[])], num_classes=2)


def test_columns_of_different_lengths_are_refused() -> None:
    row = make_row(5, truth=[(BOX, 0, False)], found=[(BOX, 0, 0.5)])
    short = row._replace(detections=row.detections._replace(scores=torch.zeros(2)))
    with pytest.raises(ValueError, match="sample 5: columns of detections have shapes"):
        tabulate([short], num_classes=1)
