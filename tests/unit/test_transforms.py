"""Resizing and augmentation: boxes follow their pixels, seeds decide everything, and no size is too odd."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from accel_det import boxes
from accel_det.data.collate import PADDING_VALUE
from accel_det.data.transforms import (
    Augmentation,
    ResizeMode,
    ResizeRule,
    augment,
    color_matrix,
    place_target,
    prepare_image,
)
from accel_det.types import BoxTarget, Placement

MODES: tuple[ResizeMode, ...] = ("letterbox", "shortest_edge", "stretch")
EVERYTHING = Augmentation(
    flip=0.5, scale=(0.5, 2.0), translate=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5
)
ODD_SIZES = [(1, 1), (1, 2000), (2000, 1), (1, 2), (2, 3), (3, 700), (64, 64), (63, 65), (500, 499)]


def target_of(*corners: tuple[float, float, float, float]) -> BoxTarget:
    given = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    count = len(given)
    return BoxTarget(given, torch.arange(count), torch.zeros(count, dtype=torch.bool), boxes.area(given))


def noise(height: int, width: int, *, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def painted(height: int, width: int, corners: tuple[int, int, int, int]) -> Tensor:
    """Black, with one white rectangle in the red channel."""
    image = torch.zeros((3, height, width), dtype=torch.uint8)
    left, top, right, bottom = corners
    image[0, top:bottom, left:right] = 255
    return image


def extent(image: Tensor) -> tuple[float, float, float, float]:
    """xyxy of the pixels that are at least half covered by the rectangle of `painted`."""
    rows, columns = torch.nonzero(image[0] >= 128, as_tuple=True)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_box_follows_its_pixels_through_300_random_augmentations(mode: ResizeMode) -> None:
    rng = random.Random(0)
    augmentation = Augmentation(flip=0.5, scale=(0.4, 2.5), translate=1.0, min_visible=0.0)
    seen = cropped = mirrored = 0
    for seed in range(300):
        height, width = rng.randint(40, 160), rng.randint(40, 160)
        left, top = rng.randint(0, width - 20), rng.randint(0, height - 20)
        corners = (left, top, rng.randint(left + 15, width), rng.randint(top + 15, height))
        rule = ResizeRule(mode, size_px=rng.choice((64, 96)), max_size_px=150)
        image, target, placement = augment(
            painted(height, width, corners), target_of(corners), rule=rule, augmentation=augmentation, seed=seed
        )
        whole = boxes.place(target_of(corners).boxes, placement)[0]
        cropped += not torch.equal(boxes.clip(whole, height=image.shape[1], width=image.shape[2]), whole)
        mirrored += placement.scale_x < 0
        if not len(target.boxes) or float((target.boxes[0, 2:] - target.boxes[0, :2]).min()) < 3:
            continue
        seen += 1
        assert extent(image) == pytest.approx(target.boxes[0].tolist(), abs=1), f"seed {seed}"
    assert seen >= 200
    assert cropped >= 50
    assert 110 <= mirrored <= 190


@pytest.mark.parametrize("mode", MODES)
def test_a_box_follows_its_pixels_in_evaluation(mode: ResizeMode) -> None:
    rng = random.Random(1)
    for _ in range(60):
        height, width = rng.randint(30, 200), rng.randint(30, 200)
        corners = (rng.randint(0, 10), rng.randint(0, 10), rng.randint(25, width), rng.randint(25, height))
        image, placement = prepare_image(painted(height, width, corners), ResizeRule(mode, 96, max_size_px=180))
        placed = boxes.place(target_of(corners).boxes, placement)[0]
        assert extent(image) == pytest.approx(placed.tolist(), abs=1)
        whole = boxes.place(torch.tensor([[0.0, 0, width, height]]), placement)
        assert float(whole[0, :2].min()) >= 0
        assert float(whole[0, 2]) <= image.shape[2] + 1e-3
        assert float(whole[0, 3]) <= image.shape[1] + 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_the_default_augmentation_is_the_resize_of_evaluation(mode: ResizeMode) -> None:
    for height, width in ODD_SIZES:
        rule = ResizeRule(mode, 64, max_size_px=160)
        image = noise(height, width)
        plain, placement = prepare_image(image, rule)
        changed, _, same_placement = augment(image, target_of(), rule=rule, augmentation=Augmentation(), seed=3)
        assert torch.equal(plain, changed)
        assert same_placement == pytest.approx(placement, abs=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), ODD_SIZES)
def test_any_size_of_image_gives_uint8_pixels_of_the_ruled_size(mode: ResizeMode, height: int, width: int) -> None:
    rule = ResizeRule(mode, 64, max_size_px=160)
    target = target_of((0, 0, width, height))
    plain, _ = prepare_image(noise(height, width), rule)
    for seed in range(30):
        image, placed, placement = augment(noise(height, width), target, rule=rule, augmentation=EVERYTHING, seed=seed)
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert image.shape == plain.shape
        assert all(math.isfinite(value) for value in placement)
        assert placement.scale_y > 0
        assert bool((placed.boxes >= 0).all())
        assert bool((placed.boxes <= torch.tensor([image.shape[2], image.shape[1]] * 2)).all())
    if mode != "shortest_edge":
        assert plain.shape == (3, 64, 64)
    else:
        scale = min(64 / min(height, width), 160 / max(height, width))
        assert plain.shape == (3, max(1, round(height * scale)), max(1, round(width * scale)))


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(mode: ResizeMode) -> None:
    rule, image, target = ResizeRule(mode, 64), noise(90, 70), target_of((5, 6, 50, 60))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    results = []
    for seed in (1, 2, 1, (1 << 63) - 1):
        pixels, placed, placement = augment(image, target, rule=rule, augmentation=EVERYTHING, seed=seed)
        results.append((pixels.numpy().tobytes(), placed.boxes.tolist(), placement))
    assert results[0] == results[2]
    assert len({pixels for pixels, *_ in results}) == 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(image, noise(90, 70)), "the given image was changed"


def test_padding_is_grey_and_nothing_else_is_added() -> None:
    image = torch.zeros((3, 20, 40), dtype=torch.uint8)
    plain, _ = prepare_image(image, ResizeRule("letterbox", 40))
    assert plain[:, 10:30].max() == 0
    assert set(plain[:, :10].unique().tolist()) == set(plain[:, 30:].unique().tolist()) == {PADDING_VALUE}
    for seed in range(20):
        moved, _, placement = augment(
            image, target_of(), rule=ResizeRule("letterbox", 40), augmentation=Augmentation(translate=1.0), seed=seed
        )
        assert int((moved == PADDING_VALUE).sum()) == 3 * 20 * 40
        assert 0 <= placement.offset_y <= 20


def test_an_image_of_the_right_size_passes_through_unchanged() -> None:
    image = noise(64, 64)
    for mode in MODES:
        pixels, placement = prepare_image(image, ResizeRule(mode, 64))
        assert torch.equal(pixels, image)
        assert placement == Placement()


def test_the_zoom_is_log_uniform_in_its_range() -> None:
    augmentation = Augmentation(scale=(0.5, 2.0))
    factors = [
        augment(noise(64, 64), target_of(), rule=ResizeRule("stretch", 64), augmentation=augmentation, seed=seed)[
            2
        ].scale_x
        for seed in range(400)
    ]
    # Sides are whole pixels: 1/64 of the image. A fair coin says how many of 400 enlarge: 200 within 5 deviations.
    assert 0.5 - 1 / 64 <= min(factors) < 0.55
    assert 1.85 < max(factors) <= 2.0 + 1 / 16
    assert 150 <= sum(factor > 1 for factor in factors) <= 250


def test_hardly_visible_objects_are_dropped_and_others_are_cut() -> None:
    target = target_of((0, 0, 10, 10), (-8, 0, 2, 10), (5, 5, 25, 15), (3, 3, 3.5, 9))
    kept = place_target(target, Placement(), (20, 20), Augmentation(min_visible=0.5))
    assert kept.labels.tolist() == [0, 2]
    assert kept.boxes.tolist() == [[0, 0, 10, 10], [5, 5, 20, 15]]
    assert kept.areas.tolist() == [100, 200]
    every = place_target(target, Placement(), (20, 20), Augmentation(min_visible=0.0, min_side_px=0.0))
    assert every.labels.tolist() == [0, 1, 2, 3]
    assert place_target(target_of(), Placement(), (20, 20), Augmentation()).boxes.shape == (0, 4)


def test_color_changes_that_change_nothing_are_the_identity() -> None:
    same = color_matrix(brightness=1, contrast=1, saturation=1, hue_turn=0)
    assert np.allclose(same, np.eye(3), atol=1e-12)
    for turns in (1, -1, 2):
        assert np.allclose(color_matrix(brightness=1, contrast=1, saturation=1, hue_turn=turns), same, atol=1e-12)


def test_without_saturation_every_color_becomes_its_luminance() -> None:
    grey = color_matrix(brightness=1, contrast=1, saturation=0, hue_turn=0.3)
    # ITU-R BT.601, section 2.5.1.
    assert np.allclose(grey, np.tile([0.299, 0.587, 0.114], (3, 1)), atol=1e-5)


def test_greys_stay_grey_whatever_hue_and_saturation() -> None:
    for hue_turn in np.linspace(-0.5, 0.5, 9):
        for saturation in (0.0, 0.5, 1.0, 1.7):
            matrix = color_matrix(brightness=1, contrast=1, saturation=saturation, hue_turn=float(hue_turn))
            assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)


def test_two_turns_of_the_hue_are_one_of_their_sum() -> None:
    def turn(share: float) -> np.ndarray:
        return color_matrix(brightness=1, contrast=1, saturation=1, hue_turn=share)

    assert np.allclose(turn(0.1) @ turn(0.25), turn(0.35), atol=1e-12)
    assert np.allclose(turn(0.2) @ turn(-0.2), np.eye(3), atol=1e-12)


def test_brightness_and_contrast_scale_all_channels() -> None:
    assert np.allclose(color_matrix(brightness=1.2, contrast=0.5, saturation=1, hue_turn=0), 0.6 * np.eye(3))


def test_contrast_keeps_mid_grey_and_brightness_moves_it() -> None:
    grey, rule = torch.full((3, 16, 16), 128, dtype=torch.uint8), ResizeRule("stretch", 16)
    found: dict[str, set[int]] = {"contrast": set(), "brightness": set()}
    for name, levels in found.items():
        augmentation = Augmentation()._replace(**{name: 0.4})
        for seed in range(100):
            lit, *_ = augment(grey, target_of(), rule=rule, augmentation=augmentation, seed=seed)
            levels.add(int(lit.unique()))
    assert found["contrast"] <= {127, 128, 129}
    # 0.6 * 128 to 1.4 * 128, drawn uniformly.
    assert 76 <= min(found["brightness"]) < 84
    assert 172 < max(found["brightness"]) <= 180


def test_one_color_change_of_known_factors_matches_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draws are replaced by the upper end of their ranges; the rest is done again in float64."""
    image = noise(24, 24)
    upper = Augmentation(brightness=0.3, contrast=0.2, saturation=0.5, hue=0.05)

    class UpperEnd(np.random.Generator):
        def uniform(self, low: float = 0.0, high: float = 1.0, size: None = None) -> float:  # type: ignore[override]
            return high

    monkeypatch.setattr(np.random, "Generator", UpperEnd)
    changed, *_ = augment(image, target_of(), rule=ResizeRule("stretch", 24), augmentation=upper, seed=0)
    matrix = color_matrix(brightness=1.3, contrast=1.2, saturation=1.5, hue_turn=0.05)
    values = matrix @ image.reshape(3, -1).double().numpy() + 127.5 * 1.3 * (1 - 1.2)
    expected = np.clip(np.floor(values + 0.5), 0, 255).reshape(3, 24, 24)
    difference = np.abs(changed.numpy().astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001
