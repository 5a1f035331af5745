"""What is pasted with an object: everything labelled that its cut holds, measured and cut as everywhere else."""

import numpy as np
import pytest
import torch
from painted_pictures import rectangle, redness, target_of, thick

from accel_det import boxes
from accel_det.data.augment.layers import Bounds, Layer, Scene, draw, random_warp
from accel_det.data.transforms import Augmentation, ResizeRule, augment_from
from accel_det.types import BoxTarget, Placement

LETTERBOX = ResizeRule("letterbox", 96)
PASTE = Augmentation(copy_paste=0.5, min_visible=0.0)
OUTER, INNER = (10, 10, 70, 70), (20, 24, 40, 50)
# Shares a tenth of its area, 40 x 4 pixels, with the outer object.
BESIDE = (20, 66, 60, 106)


class Partner:
    """An empty picture, and one with the given objects, of which those at `painted` are red."""

    def __init__(self, target: BoxTarget, *, painted: tuple[int, int, int, int]) -> None:
        self._target = target
        self._painted = painted

    def __len__(self) -> int:
        return 2

    def size(self, index: int) -> tuple[int, int]:
        return (120, 120) if index else (400, 400)

    def image(self, index: int) -> torch.Tensor:
        return rectangle(*self.size(index), *([self._painted] if index else []))

    def target(self, index: int) -> BoxTarget:
        return self._target if index else target_of()


@pytest.mark.parametrize("change", ["nothing", "mosaic", "warp"])
def test_an_object_inside_of_a_pasted_one_has_its_box_wherever_its_pixels_are(change: str) -> None:
    augmentation = {
        "nothing": PASTE,
        "mosaic": PASTE._replace(mosaic=1.0, scale=(0.6, 1.2)),
        "warp": PASTE._replace(degrees=15, shear=5),
    }[change]
    pictures = Partner(target_of(OUTER, INNER), painted=INNER)
    carried = 0
    for seed in range(80):
        image, target, _ = augment_from(pictures, 0, rule=LETTERBOX, augmentation=augmentation, seed=seed)
        unexplained = redness(image) >= 128
        inner = target.boxes[target.labels == 1]
        for left, top, right, bottom in inner.tolist():
            unexplained[max(0, int(top - 1)) : int(bottom + 2), max(0, int(left - 1)) : int(right + 2)] = False
        # A mosaic drops objects below two pixels.
        assert not thick(unexplained), f"seed {seed}"
        carried += len(inner)
    assert carried >= 20


@pytest.mark.parametrize(("min_visible", "is_kept"), [(0.07, True), (0.13, False)])
def test_a_neighbour_is_cut_to_what_was_pasted_and_counts_by_its_whole_area(min_visible: float, is_kept: bool) -> None:
    pictures = Partner(target_of(OUTER, BESIDE), painted=OUTER)
    partly = whole = 0
    for seed in range(60):
        augmentation = PASTE._replace(min_visible=min_visible)
        found = augment_from(pictures, 0, rule=LETTERBOX, augmentation=augmentation, seed=seed).target
        outer, beside = found.boxes[found.labels == 0], found.boxes[found.labels == 1]
        # At 96 of 120 pixels, each side is 0.8 of that in the file.
        sides = beside[:, 2:] - beside[:, :2]
        cut = beside[sides[:, 1] < 10]
        assert torch.allclose(cut[:, 2:] - cut[:, :2], torch.tensor([32.0, 3.2]), atol=1.5)
        # The part of the outer object that comes with its neighbour is below either limit: 160 of 3600 pixels.
        assert len(cut) == (len(outer) if is_kept else 0)
        for box in cut:
            inside = boxes.pairwise_iou(outer, box[None]).amax()
            assert float(inside) == pytest.approx(32 * 3.2 / 48**2, abs=0.03)
        partly += len(cut)
        whole += len(beside) - len(cut)
    assert whole >= 8
    assert partly >= 8 or not is_kept


def test_a_crowd_is_carried_as_soon_as_anything_of_it_is_seen_and_never_pasted_itself() -> None:
    target = target_of(OUTER, BESIDE)._replace(crowd=torch.tensor([False, True]))
    pictures = Partner(target, painted=OUTER)
    carried = 0
    for seed in range(60):
        augmentation = PASTE._replace(min_visible=0.9)
        found = augment_from(pictures, 0, rule=LETTERBOX, augmentation=augmentation, seed=seed).target
        assert found.labels[found.crowd].tolist() == [1] * int((found.labels == 0).sum())
        carried += int(found.crowd.sum())
    assert carried >= 8


def test_a_crowd_outside_of_what_was_pasted_stays_behind_also_where_the_scene_is_turned() -> None:
    target = target_of(OUTER, (80, 0, 120, 120))._replace(crowd=torch.tensor([False, True]))
    pictures = Partner(target, painted=OUTER)
    pasted = 0
    for seed in range(30):
        augmentation = PASTE._replace(degrees=40)
        found = augment_from(pictures, 0, rule=LETTERBOX, augmentation=augmentation, seed=seed).target
        assert not bool(found.crowd.any())
        pasted += len(found.labels)
    assert pasted >= 4


def test_a_crowd_behind_the_edge_of_a_picture_is_gone_also_where_the_scene_is_turned() -> None:
    """Cut to a line, it would be a box again as the hull of that line turned by 30 degrees."""
    crowds = target_of((30, 20, 45, 40), (10, 20, 45, 40))._replace(crowd=torch.tensor([True, True]))
    shown = Bounds(0, 0, 25, 60)
    layer = Layer(lambda: rectangle(60, 60), 60, 60, crowds, Placement(), shown)
    turn = random_warp(Augmentation(degrees=30), center=(30, 30), bounds=shown, rng=np.random.default_rng(0))
    found = draw(Scene([layer], shown, turn), (60, 60), Augmentation()).target
    assert turn is not None and abs(turn[0, 1]) > 0.05
    assert found.labels.tolist() == [1]
