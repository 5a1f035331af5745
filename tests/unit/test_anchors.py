"""Anchors from data: k-means, evolution, recall, and their picture."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from accel_det.cli.auto_anchors import replace_poor_anchors
from accel_det.data.anchors import (
    ENOUGH_RECALL,
    MAX_RATIO,
    best_possible_recall,
    evolve,
    find_anchors,
    fit_of,
    input_sizes,
    kmeans,
    ratio_fitness,
    shape_iou,
)
from accel_det.data.transforms import ResizeRule
from accel_det.models import zoo
from accel_det.report.anchors import SIDE_PX, draw_anchors
from accel_det.types import BoxTarget

Array = NDArray[np.float64]
RULE = ResizeRule("letterbox", 100)


def boxes_around(*centers: tuple[float, float], count: int = 60, seed: int = 0) -> Array:
    """Sizes spread by a tenth about each center."""
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(0, 0.1, (len(centers), count, 2)))
    sizes: Array = (np.array(centers)[:, None] * spread).reshape(-1, 2)
    return sizes


def rectangle_iou(a: Array, b: Array) -> float:
    common = min(a[0], b[0]) * min(a[1], b[1])
    return float(common / (a[0] * a[1] + b[0] * b[1] - common))


@dataclasses.dataclass
class Table:
    """As much of a data table as anchors need: images with (height, width), boxes (width, height) and crowds."""

    images: list[tuple[tuple[int, int], list[tuple[float, float]], list[bool]]]

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        return self.images[index][0]

    def truth(self, index: int) -> BoxTarget:
        _, sides, crowd = self.images[index]
        corners = torch.tensor([(1.0, 2.0, 1 + w, 2 + h) for w, h in sides]).view(len(sides), 4)
        labels = torch.zeros(len(sides), dtype=torch.int64)
        return BoxTarget(corners, labels, torch.tensor(crowd, dtype=torch.bool), torch.ones(len(sides)))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RULE, [(10, 20), (30, 5), (40, 40)]),
        (ResizeRule("stretch", 100), [(10, 40), (30, 10), (80, 40)]),
        (ResizeRule("shortest_edge", 100, 180), [(18, 36), (54, 9), (72, 72)]),
    ],
)
def test_sizes_are_those_that_the_network_sees_without_crowds_and_empty_boxes(
    rule: ResizeRule, expected: list[tuple[float, float]]
) -> None:
    """An image of 200x100 pixels at 100 pixels, and one of 50x100."""
    wide = ((100, 200), [(20.0, 40.0), (60.0, 10.0), (50.0, 50.0), (0.0, 9.0)], [False, False, True, False])
    tall = ((100, 50), [(40.0, 40.0)], [False])
    empty: tuple[tuple[int, int], list[tuple[float, float]], list[bool]] = ((10, 10), [], [])
    found = input_sizes(Table([wide, empty, tall]), rule)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx(np.array(expected))


def test_best_possible_recall_and_overlap_equal_a_search_over_every_pair() -> None:
    rng = np.random.default_rng(1)
    sizes, anchors = np.exp(rng.normal(3, 1, (300, 2))), np.exp(rng.normal(3, 1, (4, 2)))
    learnable = overlapping = 0
    total = 0.0
    for w, h in sizes:
        ratios = [max(w / a, a / w, h / b, b / h) for a, b in anchors]
        overlaps = [rectangle_iou(np.array((w, h)), anchor) for anchor in anchors]
        learnable += min(ratios) < MAX_RATIO
        overlapping += max(overlaps) >= 0.5
        total += max(overlaps)
    assert 0 < learnable < 300
    assert fit_of(sizes, anchors) == pytest.approx((learnable / 300, total / 300, overlapping / 300))
    assert best_possible_recall(sizes, anchors) == learnable / 300


@pytest.mark.parametrize("seed", range(4))
def test_centers_of_k_means_are_the_means_of_the_boxes_that_are_nearest_to_them(seed: int) -> None:
    sizes = np.exp(np.random.default_rng(seed).normal(3, 0.8, (400, 2)))
    centers = kmeans(
        sizes, number=5, distance=lambda a, b: 1 - shape_iou(a, b), rng=np.random.default_rng(seed), restarts=1
    )
    nearest = [max(range(5), key=lambda k: rectangle_iou(size, centers[k])) for size in sizes]
    for k in range(5):
        members = sizes[[n == k for n in nearest]]
        assert len(members) > 0
        assert members.mean(axis=0) == pytest.approx(centers[k], rel=1e-12)


@pytest.mark.parametrize("method", ["kmeans_iou", "evolve"])
def test_groups_that_lie_apart_are_found_by_both_methods(method: str) -> None:
    centers = [(10.0, 20.0), (60.0, 40.0), (200.0, 220.0)]
    sizes = boxes_around(*centers)
    found = find_anchors(sizes, number=3, method=method, seed=0)  # type: ignore[arg-type]
    assert found == pytest.approx(np.array(centers), rel=0.1)
    assert fit_of(sizes, found).recall == 1.0


@pytest.mark.parametrize("method", ["kmeans_iou", "evolve"])
def test_anchors_are_sorted_by_area_the_same_for_a_seed_and_grow_with_the_boxes(method: str) -> None:
    sizes = np.exp(np.random.default_rng(2).normal(3, 0.8, (250, 2)))
    found, again, other = (find_anchors(sizes, number=6, method=method, seed=s) for s in (0, 0, 1))  # type: ignore[arg-type]
    assert found.shape == (6, 2)
    assert (found == again).all()
    assert not (found == other).all()
    assert (np.diff(found.prod(axis=1)) > 0).all()
    larger = find_anchors(sizes * 4, number=6, method=method, seed=0)  # type: ignore[arg-type]
    assert larger == pytest.approx(found * 4, rel=1e-9)


def test_evolution_never_lowers_the_fitness_and_raises_that_of_poor_anchors() -> None:
    sizes = boxes_around((10, 20), (60, 40), (200, 220))
    poor = np.array([(20.0, 20.0), (30.0, 80.0), (150.0, 150.0)])
    history = [poor]
    for generations in (10, 100):
        history.append(evolve(sizes, poor, rng=np.random.default_rng(0), generations=generations))
    fitness = [ratio_fitness(sizes, anchors) for anchors in history]
    assert fitness == sorted(fitness)
    assert fitness[0] + 0.1 < fitness[-1] <= 1
    expected = []
    for w, h in sizes:
        best = max(min(w / a, a / w, h / b, b / h) for a, b in poor)
        expected.append(best if best > 1 / MAX_RATIO else 0.0)
    assert fitness[0] == pytest.approx(math.fsum(expected) / len(sizes))


def test_fewer_sizes_than_anchors_are_refused_in_one_line() -> None:
    sizes = np.array([(10.0, 20.0)] * 30 + [(20.0, 20.0)])
    with pytest.raises(
        ValueError, match=r"^anchors: the training data has 2 boxes of different sizes, expected at least 3"
    ):
        find_anchors(sizes, number=3, method="evolve", seed=0)
    assert len(find_anchors(sizes, number=2, method="evolve", seed=0)) == 2


@pytest.mark.parametrize("name", ["yolov3_tiny", "yolov5n"])
def test_anchors_below_a_recall_of_98_percent_are_replaced_alike_in_every_process(name: str) -> None:
    sides = boxes_around((3, 4), (6, 3), (8, 8), (2, 9), count=12)
    images = [((100, 100), [tuple(pair)], [False]) for pair in sides.tolist()]
    reports = []
    for _ in range(2):
        model = zoo.build(name, num_classes=2)
        before = model.state_dict()["anchors_px"].clone()
        reports.append(replace_poor_anchors(model, Table(images), rule=RULE, seed=3))  # type: ignore[arg-type]
        after = model.state_dict()["anchors_px"]
        assert after.shape == before.shape
        assert not torch.equal(after, before)
        assert after.flatten().tolist() == pytest.approx(reports[0].anchors_px, rel=1e-6)
    assert reports[0] == reports[1]
    assert reports[0].replaced
    assert reports[0].before.recall < ENOUGH_RECALL < reports[0].after.recall
    assert (
        reports[0]
        .line()
        .startswith(f"anchors: replaced, best possible recall {reports[0].before.recall:.4f} of 48 boxes")
    )


def test_anchors_that_suit_the_data_are_kept() -> None:
    model = zoo.build("yolov3_tiny", num_classes=2)
    before = model.state_dict()["anchors_px"].clone()
    table = Table([((100, 100), [(20.0 + i, 30.0)], [False]) for i in range(20)])
    report = replace_poor_anchors(model, table, rule=RULE, seed=0)  # type: ignore[arg-type]
    assert not report.replaced
    assert report.before.recall == 1.0
    assert torch.equal(model.state_dict()["anchors_px"], before)
    assert report.line() == "anchors: kept, best possible recall 1.0000 of 20 boxes"
    none = replace_poor_anchors(model, Table([]), rule=RULE, seed=0)  # type: ignore[arg-type]
    assert (none.boxes, none.replaced) == (0, False)


def test_a_network_without_anchors_in_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="only the YOLOv3 and YOLOv5 networks have anchors that are fitted to data"):
        replace_poor_anchors(torch.nn.Linear(1, 1), Table([]), rule=RULE, seed=0)  # type: ignore[arg-type]


def test_the_picture_has_its_size_and_marks_boxes_and_both_kinds_of_anchors() -> None:
    sizes = boxes_around((10, 20), (60, 40))
    old = np.array([(30.0, 30.0)])
    bare = draw_anchors(sizes, old, before=old, title="a title")
    full = draw_anchors(sizes, np.array([(10.0, 20.0), (60.0, 40.0)]), before=old, title="a title")
    assert bare.size == full.size == (SIDE_PX, SIDE_PX)
    pixels = np.asarray(full).reshape(-1, 3)
    red, orange = (pixels == (230, 57, 70)).all(axis=1).sum(), (pixels == (240, 150, 0)).all(axis=1).sum()
    blue = (pixels[:, 2] > pixels[:, 0] + 30).sum()
    assert red > 300
    assert orange > 60
    assert blue > 300
    assert np.asarray(bare).tobytes() != np.asarray(full).tobytes()
