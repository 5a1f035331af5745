"""The vectorised assignment against plain loops over boxes, anchors and cells."""

import math

import pytest
import torch
from torch import Tensor

from accel_det.models.layers.targets import pack_targets
from accel_det.models.yolov5.assignment import LevelMatches, crowd_cells, match_level
from accel_det.types import BoxTarget

ANCHORS_PX = [(30.0, 61.0), (62.0, 45.0), (59.0, 119.0)]
HEIGHT, WIDTH, STRIDE = 5, 7, 16

Cell = tuple[int, int, int, int]  # image, anchor, row, column


def target(boxes: list[list[float]], crowd: list[bool] | None = None) -> BoxTarget:
    n = len(boxes)
    corners = torch.tensor(boxes, dtype=torch.float32).view(n, 4)
    return BoxTarget(corners, torch.arange(n), torch.tensor(crowd or [False] * n, dtype=torch.bool), torch.ones(n))


def match(targets: list[BoxTarget]) -> LevelMatches:
    return match_level(
        pack_targets(targets, device=torch.device("cpu"), dtype=torch.float64),
        torch.tensor(ANCHORS_PX),
        num_images=len(targets),
        height=HEIGHT,
        width=WIDTH,
        stride=STRIDE,
        max_ratio=4.0,
    )


def found_matches(matches: LevelMatches) -> list[tuple[Cell, int]]:
    columns = (matches.image, matches.anchor, matches.row, matches.column, matches.labels)
    rows = zip(*(column[matches.matched].tolist() for column in columns), strict=True)
    return sorted(((image, anchor, row, column), label) for image, anchor, row, column, label in rows)


def reference_matches(targets: list[BoxTarget]) -> list[tuple[Cell, int]]:
    """Every (cell, label) that the published rule names, by a test of each cell of the grid."""
    found = []
    for image, one in enumerate(targets):
        for box, label, crowd in zip(one.boxes.tolist(), one.labels.tolist(), one.crowd.tolist(), strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            center_x, center_y = (box[0] + box[2]) / 2 / STRIDE, (box[1] + box[3]) / 2 / STRIDE
            for anchor, (anchor_w, anchor_h) in enumerate(ANCHORS_PX):
                if crowd or min(width, height) <= 0:
                    continue
                if max(width / anchor_w, anchor_w / width, height / anchor_h, anchor_h / height) >= 4:
                    continue
                for row in range(HEIGHT):
                    for column in range(WIDTH):
                        # From the center to the cell, 0 inside: below a half for the nearer neighbor alone.
                        off_x = max(column - center_x, center_x - (column + 1), 0)
                        off_y = max(row - center_y, center_y - (row + 1), 0)
                        own_column = column == min(math.floor(center_x), WIDTH - 1)
                        own_row = row == min(math.floor(center_y), HEIGHT - 1)
                        beside = own_row and not own_column and off_x < 0.5
                        below = own_column and not own_row and off_y < 0.5
                        if (own_column and own_row) or beside or below:
                            found.append(((image, anchor, row, column), label))
    return sorted(found)


def random_targets(seed: int, counts: tuple[int, ...] = (4, 0, 9)) -> list[BoxTarget]:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) * STRIDE
        size = torch.rand(count, 2, generator=generator) * 80 + 1
        limit = torch.tensor([WIDTH * STRIDE, HEIGHT * STRIDE]).float()
        boxes = torch.cat((corner, torch.minimum(corner + size, limit)), dim=1)
        crowd = torch.rand(count, generator=generator) < 0.2
        targets.append(target(boxes.tolist(), crowd.tolist()))
    return targets


@pytest.mark.parametrize(("counts", "seeds", "least"), [((4, 0, 9), 20, 500), ((200, 1, 0), 3, 1500)])
def test_matches_equal_a_search_over_every_cell(counts: tuple[int, ...], seeds: int, least: int) -> None:
    total = 0
    for seed in range(seeds):
        targets = random_targets(seed, counts)
        expected = reference_matches(targets)
        assert found_matches(match(targets)) == expected
        total += len(expected)
    assert total > least


def test_a_center_in_the_middle_of_a_cell_has_no_neighbors_and_one_at_the_corner_of_the_image_neither() -> None:
    middle = target([[24.0, 8.0, 56.0, 72.0]])  # center (40, 40): cell column 2, row 2, its very middle
    assert [cell[2:] for cell, _ in found_matches(match([middle]))] == [(2, 2)] * 3
    corner = target([[0.0, 0.0, 15.5, 15.5]])  # smaller than half a cell from the corner; 15.5 is above 61 / 4
    assert {cell[2:] for cell, _ in found_matches(match([corner]))} == {(0, 0)}


def test_a_degenerate_box_matches_nothing_and_a_center_on_the_far_edge_stays_inside() -> None:
    flat = target([[20.0, 20.0, 20.0, 60.0]])
    assert found_matches(match([flat])) == []
    outside = target([[WIDTH * STRIDE - 20.0, 20.0, WIDTH * STRIDE + 20.0, 80.0]])
    cells = [cell for cell, _ in found_matches(match([outside]))]
    assert cells
    assert all(cell[3] == WIDTH - 1 for cell in cells)


def test_relative_boxes_and_anchors_lead_back_to_the_pixels() -> None:
    targets = random_targets(3)
    matches = match(targets)
    rebuilt = (matches.boxes[:, :2] + torch.stack((matches.column, matches.row), dim=1)) * STRIDE
    for image, label, center, size in zip(
        matches.image.tolist(), matches.labels.tolist(), rebuilt, matches.boxes[:, 2:] * STRIDE, strict=True
    ):
        box = targets[image].boxes[label].double()
        assert torch.allclose(center, (box[:2] + box[2:]) / 2, atol=1e-9)
        assert torch.allclose(size, box[2:] - box[:2], atol=1e-9)
    assert torch.allclose(matches.anchors * STRIDE, torch.tensor(ANCHORS_PX).double()[matches.anchor])


def reference_crowd(targets: list[BoxTarget]) -> Tensor:
    covered = torch.zeros((len(targets), HEIGHT, WIDTH), dtype=torch.bool)
    for image, one in enumerate(targets):
        for box, crowd in zip(one.boxes.tolist(), one.crowd.tolist(), strict=True):
            for row in range(HEIGHT):
                for column in range(WIDTH):
                    x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
                    covered[image, row, column] |= crowd and box[0] <= x < box[2] and box[1] <= y < box[3]
    return covered


@pytest.mark.parametrize(("counts", "seeds", "least"), [((4, 0, 9), 20, 100), ((200, 1, 0), 3, 1)])
def test_cells_in_a_crowd_are_ignored_unless_an_object_matches_them(
    counts: tuple[int, ...], seeds: int, least: int
) -> None:
    swept = 0
    for seed in range(seeds):
        targets = random_targets(seed, counts)
        packed = pack_targets(targets, device=torch.device("cpu"), dtype=torch.float64)
        covered = crowd_cells(packed, num_images=len(targets), height=HEIGHT, width=WIDTH, stride=STRIDE)
        assert torch.equal(covered, reference_crowd(targets))
        expected = (~covered).double()[:, None].repeat(1, len(ANCHORS_PX), 1, 1)
        for cell, _ in reference_matches(targets):
            expected[cell] = 1
        assert torch.equal(match(targets).cell_weight, expected)
        swept += int((expected == 0).sum())
    assert swept > least


def test_a_batch_without_boxes_has_no_candidates_and_every_cell_counts() -> None:
    matches = match([BoxTarget.empty(), BoxTarget.empty()])
    assert matches.matched.shape == (0,)
    assert matches.cell_weight.sum().item() == 2 * len(ANCHORS_PX) * HEIGHT * WIDTH
