"""SSD's changes of geometry against the rules of the paper, written out in plain Python."""

import numpy as np
import pytest
import torch

from accel_det.data.augment.settings import PROPOSAL_LABEL, generator
from accel_det.data.augment.ssd import View, iou_crop, keep_centers, zoom_out
from accel_det.types import BoxTarget

WHOLE = View(0, 0, 200, 120)
OBJECTS = ((10, 10, 60, 50), (90, 30, 190, 110), (5, 90, 30, 115))


def target_of(*corners: tuple[float, float, float, float]) -> BoxTarget:
    count = len(corners)
    given = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return BoxTarget(given, torch.arange(count), torch.zeros(count, dtype=torch.bool), torch.ones(count))


def overlap(view: View, box: tuple[float, ...]) -> float:
    width = min(view.right, box[2]) - max(view.left, box[0])
    height = min(view.bottom, box[3]) - max(view.top, box[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = (view.right - view.left) * (view.bottom - view.top) + (box[2] - box[0]) * (box[3] - box[1])
    return shared / (areas - shared)


def holds_center(view: View, box: tuple[float, ...]) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return view.left < x < view.right and view.top < y < view.bottom


class OneRule(np.random.Generator):
    """Draws the given rule first, and then the rule that takes the whole view."""

    def __init__(self, rule: int, seed: int) -> None:
        super().__init__(np.random.Philox(key=seed))
        self._rules = iter((rule, 6))

    def integers(self, *_: object, **__: object) -> int:  # type: ignore[override]
        return next(self._rules)


@pytest.mark.parametrize(("rule", "least"), enumerate((0.0, 0.1, 0.3, 0.5, 0.7, 0.9)))
def test_a_crop_of_each_rule_overlaps_an_object_whose_center_it_holds(rule: int, least: float) -> None:
    cropped = 0
    for seed in range(150):
        view = iou_crop(WHOLE, target_of(*OBJECTS), OneRule(rule, seed))
        if view == WHOLE:
            continue
        cropped += 1
        held = [overlap(view, box) for box in OBJECTS if holds_center(view, box)]
        assert held and max(held) >= least
        width, height = (view.right - view.left) / 200, (view.bottom - view.top) / 120
        assert 0.29 <= width <= 1 and 0.29 <= height <= 1
        # Half and double, give or take a pixel of 36 to 200.
        assert 0.48 <= width / height <= 2.09
        assert view.left >= 0 and view.top >= 0 and view.right <= 200 and view.bottom <= 120
    # An overlap of 0.9 with the largest object alone is found seldom in 50 trials, one of 0 always.
    assert cropped == 150 if least == 0 else cropped >= 1
    assert cropped >= {0.0: 150, 0.1: 150, 0.3: 140, 0.5: 60, 0.7: 10, 0.9: 0}[least]


def test_the_rules_are_drawn_equally_often() -> None:
    whole = sum(iou_crop(WHOLE, target_of(*OBJECTS), generator(seed)) == WHOLE for seed in range(700))
    # One rule in seven, and more where the strictest find nothing and another is drawn: up to 2 in 5.
    assert 70 <= whole <= 280


def test_without_objects_only_the_rule_without_overlap_crops() -> None:
    crowd = target_of((0, 0, 100, 100))._replace(crowd=torch.tensor([True]))
    given = target_of((0, 0, 100, 100))._replace(labels=torch.tensor([PROPOSAL_LABEL]))
    for target in (target_of(), crowd, given):
        assert iou_crop(WHOLE, target, OneRule(0, 1)) != WHOLE
        assert all(iou_crop(WHOLE, target, OneRule(rule, 1)) == WHOLE for rule in range(1, 6))


def test_zooming_out_is_uniform_between_1_and_4_times_the_width_and_keeps_the_shape() -> None:
    ratios, places = [], []
    for seed in range(600):
        view = zoom_out(WHOLE, generator(seed))
        assert view.left <= 0 and view.top <= 0 and view.right >= 200 and view.bottom >= 120
        width, height = view.right - view.left, view.bottom - view.top
        ratios.append(width / 200)
        assert height / 120 == pytest.approx(width / 200, abs=0.01)
        if width > 220:
            places.append(-view.left / (width - 200))
    # Uniform on 1 .. 4: mean 2.5, deviation 0.87; the mean of 600 lies within 5 * 0.87 / sqrt(600).
    assert min(ratios) >= 1 and max(ratios) <= 4
    assert np.mean(ratios) == pytest.approx(2.5, abs=0.18)
    assert np.std(ratios) == pytest.approx(0.866, rel=0.1)
    assert np.mean(places) == pytest.approx(0.5, abs=0.06)


def test_objects_with_their_center_outside_are_dropped_and_crowds_and_given_regions_are_not() -> None:
    target = target_of((0, 0, 10, 10), (4, 4, 30, 30), (0, 0, 40, 40), (0, 0, 40, 40))
    target = target._replace(
        crowd=torch.tensor([False, False, True, False]), labels=torch.tensor([0, 1, 2, PROPOSAL_LABEL])
    )
    assert keep_centers(target, View(0, 0, 12, 12)).labels.tolist() == [0, 2, PROPOSAL_LABEL]
