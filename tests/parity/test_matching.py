"""Which anchor answers for which object, against plain loops written from the papers, in float64, 0 to 200 objects."""

import math

import pytest
import torch
from torch import Tensor

from accel_det.models.layers.matching import (
    BACKGROUND,
    IGNORED,
    match_by_iou,
    match_default_boxes,
    match_points,
    overlaps,
)
from accel_det.types import BoxTarget

Box = list[float]
HEIGHT, WIDTH = 96, 128
OBJECTS = (0, 1, 7, 200)
STRIDES = (4, 8, 16)
RADIUS = 1.5


def objects(count: int, *, seed: int = 1) -> BoxTarget:
    """Every seventh one a crowd, the first of them the second object."""
    draw = torch.Generator().manual_seed(seed)
    extent = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    corner = torch.rand(count, 2, generator=draw, dtype=torch.float64) * extent * 0.8
    side = (0.02 + 0.9 * torch.rand(count, 2, generator=draw, dtype=torch.float64) ** 2) * extent
    labels = torch.randint(0, 20, (count,), generator=draw)
    return BoxTarget(torch.cat((corner, corner + side), dim=1), labels, torch.arange(count) % 7 == 1, side.prod(dim=1))


def anchors_of_levels() -> tuple[Tensor, list[int]]:
    """Squares as wide as their level's stride around the middle of every cell."""
    found: list[Box] = []
    numbers = []
    for stride in STRIDES:
        before = len(found)
        for row in range(HEIGHT // stride):
            for column in range(WIDTH // stride):
                found.append([column * stride, row * stride, (column + 1) * stride, (row + 1) * stride])
        numbers.append(len(found) - before)
    return torch.tensor(found, dtype=torch.float64), numbers


def shapes_everywhere() -> Tensor:
    """Squares, wide and tall boxes of three sizes, a little off the grid so that no two overlaps are equal."""
    points = [(x, y) for x in range(4, WIDTH, 8) for y in range(4, HEIGHT, 8)]
    sides = [(8.0, 8.0), (24.0, 12.0), (12.0, 24.0), (48.0, 40.0)]
    draw = torch.Generator().manual_seed(3)
    centers = torch.tensor(points, dtype=torch.float64).repeat_interleave(len(sides), dim=0)
    centers = centers + 0.01 * torch.rand(centers.shape, generator=draw, dtype=torch.float64)
    half = torch.tensor(sides, dtype=torch.float64).repeat(len(points), 1) / 2
    return torch.cat((centers - half, centers + half), dim=1)


def common(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def size(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(a: Box, b: Box) -> float:
    return common(a, b) / (size(a) + size(b) - common(a, b))


def split(target: BoxTarget) -> tuple[list[tuple[int, Box]], list[Box]]:
    """The numbered objects, and the crowds."""
    every = list(zip(target.boxes.tolist(), target.crowd.tolist(), strict=True))
    return [(i, box) for i, (box, crowd) in enumerate(every) if not crowd], [box for box, crowd in every if crowd]


def without_crowds(match: int, anchor: Box, crowds: list[Box]) -> int:
    """Background that at least half lies in one crowd is not known to be background."""
    hidden = any(common(anchor, crowd) >= 0.5 * size(anchor) for crowd in crowds)
    return IGNORED if match == BACKGROUND and hidden else match


def by_iou(anchors: list[Box], target: BoxTarget, *, foreground: float, background: float, keep: bool) -> list[int]:
    """Ren et al., Faster R-CNN, 2015, section 3.1.2."""
    real, crowds = split(target)
    best_of_object = {i: max(iou(box, anchor) for anchor in anchors) for i, box in real}
    found = []
    for anchor in anchors:
        best, owner, is_best = -1.0, BACKGROUND, False
        for i, box in real:
            overlap = iou(box, anchor)
            is_best |= overlap == best_of_object[i] > 0
            if overlap > best:
                best, owner = overlap, i
        match = owner if best >= foreground or (keep and is_best) else BACKGROUND if best < background else IGNORED
        found.append(without_crowds(match, anchor, crowds))
    return found


def default_boxes(anchors: list[Box], target: BoxTarget, *, foreground: float) -> list[int]:
    """Liu et al., SSD, 2016, section 2.2: first each object its best box, the later one where two want the same."""
    real, crowds = split(target)
    found = []
    for anchor in anchors:
        best, owner = max(((iou(box, anchor), -i) for i, box in real), default=(0.0, 0))
        found.append(-owner if real and best >= foreground else BACKGROUND)
    for i, box in real:
        scores = [iou(box, anchor) for anchor in anchors]
        found[scores.index(max(scores))] = i
    return [without_crowds(match, anchor, crowds) for match, anchor in zip(found, anchors, strict=True)]


def points(anchors: list[Box], target: BoxTarget) -> list[int]:
    """Tian et al., FCOS, 2020, section 3: level i takes sides up to 8 strides, from 4 strides on, the ends without limit."""
    real, crowds = split(target)
    found = []
    for anchor in anchors:
        stride = anchor[2] - anchor[0]
        x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
        lower = 0 if stride == STRIDES[0] else 4 * stride
        upper = math.inf if stride == STRIDES[-1] else 8 * stride
        smallest, owner = math.inf, BACKGROUND
        for i, box in real:
            edges = (x - box[0], y - box[1], box[2] - x, box[3] - y)
            off = max(abs(x - (box[0] + box[2]) / 2), abs(y - (box[1] + box[3]) / 2))
            fits = off < RADIUS * stride and min(edges) > 0 and lower < max(edges) < upper
            if fits and size(box) < smallest:
                smallest, owner = size(box), i
        found.append(without_crowds(owner, anchor, crowds))
    return found


@pytest.mark.parametrize("count", OBJECTS)
@pytest.mark.parametrize(("foreground", "background", "keep"), [(0.5, 0.4, True), (0.7, 0.3, True), (0.5, 0.5, False)])
def test_matches_by_overlap_are_those_of_a_loop(count: int, foreground: float, background: float, keep: bool) -> None:
    target, anchors = objects(count), shapes_everywhere()
    found = match_by_iou(
        overlaps(target, anchors), foreground_iou=foreground, background_iou=background, keep_best=keep
    )
    expected = by_iou(anchors.tolist(), target, foreground=foreground, background=background, keep=keep)
    assert found.tolist() == expected
    if count == 200:
        assert {BACKGROUND, IGNORED} < set(expected) and len(set(expected)) > 20
    elif count == 0:
        assert set(expected) == {BACKGROUND}


@pytest.mark.parametrize("count", OBJECTS)
def test_matches_of_default_boxes_are_those_of_a_loop(count: int) -> None:
    target, anchors = objects(count), shapes_everywhere()
    expected = default_boxes(anchors.tolist(), target, foreground=0.5)
    assert match_default_boxes(overlaps(target, anchors), foreground_iou=0.5).tolist() == expected
    if count == 1:
        assert expected.count(0) >= 1
    if count == 200:
        # An object without a box of its own is one of those whose best box a later one took.
        assert 100 < len({match for match in expected if match >= 0}) < int((~target.crowd).sum())


@pytest.mark.parametrize("count", OBJECTS)
def test_matches_of_points_are_those_of_a_loop(count: int) -> None:
    target = objects(count)
    anchors, numbers = anchors_of_levels()
    found = match_points(target, anchors, anchors_per_level=numbers, center_radius=RADIUS)
    expected = points(anchors.tolist(), target)
    assert found.tolist() == expected
    if count == 200:
        starts = (0, numbers[0], numbers[0] + numbers[1])
        assert all(max(expected[start : start + number]) >= 0 for start, number in zip(starts, numbers, strict=True))
        assert BACKGROUND in expected and IGNORED in expected
