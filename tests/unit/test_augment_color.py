"""SSD's photometric distortion, grey and blur."""

import numpy as np
import torch

from accel_det.data.augment.color import UNCHANGED, color_matrix, grey_out, random_blur, random_distortion, recolor
from accel_det.data.augment.settings import Augmentation, generator
from accel_det.data.transforms import ResizeRule, augment
from accel_det.types import BoxTarget

RULE = ResizeRule("stretch", 24)
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def noise(height: int, width: int, *, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.randint(low, high, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def apply(change: object, color: tuple[float, float, float]) -> np.ndarray:
    return change.matrix @ np.array(color) + change.shift  # type: ignore[attr-defined, no-any-return]


def test_no_distortion_with_probability_0_and_each_half_of_the_time_with_one_half() -> None:
    assert all(random_distortion(0.0, generator(seed)) is None for seed in range(50))
    unchanged = sum(random_distortion(0.5, generator(seed)) is None for seed in range(640))
    # None of five coins: 1 / 32 of 640 is 20, within 5 deviations.
    assert 1 <= unchanged <= 42
    shifted = [c for s in range(400) if (c := random_distortion(0.5, generator(s))) is not None and c.shift.any()]
    assert 150 <= len(shifted) <= 250


def test_the_distortions_of_ssd_done_one_after_the_other_in_plain_python() -> None:
    for seed in range(200):
        found = random_distortion(1.0, generator(seed))
        assert found is not None
        rng = generator(seed)
        rng.random(5)
        levels = rng.uniform(-32, 32)
        contrast, saturation, hue = rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5), rng.uniform(-18, 18) / 360
        contrast_first, order = rng.random() < 0.5, rng.permutation(3)
        for color in ((10.0, 200.0, 90.0), (255.0, 0.0, 0.0), (77.0, 77.0, 77.0)):
            red_green_blue = [value + levels for value in color]
            if contrast_first:
                red_green_blue = [contrast * value for value in red_green_blue]
            grey = sum(weight * value for weight, value in zip(LUMINANCE, red_green_blue, strict=True))
            colored = color_matrix(brightness=1, contrast=1, saturation=saturation, hue_turn=hue) @ red_green_blue
            # Hue and saturation keep the luminance.
            assert abs(sum(w * v for w, v in zip(LUMINANCE, colored, strict=True)) - grey) < 1e-3
            if not contrast_first:
                colored = contrast * colored
            assert np.allclose(apply(found, color), [colored[channel] for channel in order], atol=1e-6)


def test_every_order_of_the_channels_comes_up_and_greys_stay_grey() -> None:
    orders = set()
    for seed in range(100):
        found = random_distortion(1.0, generator(seed))
        assert found is not None
        orders.add(tuple(np.argsort(np.argsort(apply(found, (0, 100, 200))))))
        assert np.ptp(apply(found, (90, 90, 90))) < 1e-2
    # Hue by at most 18 degrees seldom changes which channel is the brightest: the six orders are those of the swap.
    assert len(orders) == 6


def test_brightness_moves_by_at_most_32_levels_and_contrast_by_half() -> None:
    black = [apply(c, (0, 0, 0)).mean() for s in range(500) if (c := random_distortion(1.0, generator(s))) is not None]
    # (b + 0) * contrast: at most 32 * 1.5.
    assert -48 <= min(black) < -38
    assert 38 < max(black) <= 48


def test_distortion_leaves_the_grey_of_the_bars_and_the_zoomed_out_canvas() -> None:
    image = torch.full((3, 24, 24), 250, dtype=torch.uint8)
    changed = 0
    for seed in range(60):
        found, *_ = augment(
            image, BoxTarget.empty(), rule=RULE, augmentation=Augmentation(distort=1.0, zoom_out=1.0), seed=seed
        )
        levels = found[0].unique().tolist()
        assert 114 in levels or len(levels) == 1, "a ratio near 1 leaves no bars"
        changed += levels != [114, 250]
    assert changed >= 50


def test_greyed_images_have_three_equal_channels_of_the_luminance() -> None:
    image = noise(24, 24)
    found, *_ = augment(image, BoxTarget.empty(), rule=RULE, augmentation=Augmentation(gray=1.0), seed=0)
    expected = sum(weight * channel.double() for weight, channel in zip(LUMINANCE, image, strict=True))
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
    assert float((found[0].double() - expected).abs().max()) <= 0.51


def test_gray_and_blur_come_as_often_as_they_should() -> None:
    image = noise(24, 24)
    outcomes = []
    for seed in range(300):
        found, *_ = augment(
            image, BoxTarget.empty(), rule=RULE, augmentation=Augmentation(gray=0.3, blur=0.3), seed=seed
        )
        grey = torch.equal(found[0], found[1])
        sharp = torch.equal(found, image) or torch.equal(found, recolor(image, grey_out(None)))
        outcomes.append((grey, not sharp))
    # 300 draws of 0.3: 90, within 5 deviations of 7.9; both together 27 within 5 of 5.
    assert 51 <= sum(grey for grey, _ in outcomes) <= 129
    assert 51 <= sum(blurred for _, blurred in outcomes) <= 129
    assert 3 <= sum(grey and blurred for grey, blurred in outcomes) <= 51


def test_a_blur_keeps_flat_color_and_takes_noise_away() -> None:
    flat = torch.full((3, 20, 20), 77, dtype=torch.uint8)
    rough = noise(40, 40)
    for seed in range(10):
        assert torch.equal(random_blur(flat, generator(seed)), flat)
        blurred = random_blur(rough, generator(seed))
        assert blurred.dtype == torch.uint8 and blurred.shape == rough.shape
        assert float(blurred.float().std()) < 0.75 * float(rough.float().std())
        assert abs(float(blurred.float().mean()) - float(rough.float().mean())) < 2
    assert random_blur(noise(1, 1), generator(0)).shape == (3, 1, 1)


def test_the_unchanged_color_changes_nothing() -> None:
    image = noise(9, 7)
    assert torch.equal(recolor(image, UNCHANGED), image)
    assert recolor(image, None) is image
