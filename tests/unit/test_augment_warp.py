"""Rotation, shear and perspective: pixels against plain Python, points against the written-out formulas."""

import math

import numpy as np
import pytest
import torch

from accel_det.data.augment.layers import Bounds, Layer, Scene, draw, random_warp
from accel_det.data.augment.settings import Augmentation, generator
from accel_det.data.collate import PADDING_VALUE
from accel_det.types import BoxTarget, Placement

BOUNDS = Bounds(0, 0, 32, 32)


def scene(image: torch.Tensor, warp: np.ndarray, target: BoxTarget | None = None) -> Scene:
    height, width = image.shape[1:]
    bounds = Bounds(0, 0, width, height)
    layer = Layer(lambda: image, height, width, target or BoxTarget.empty(), Placement(), bounds)
    return Scene([layer], bounds, warp)


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def bilinear(image: torch.Tensor, warp: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each pixel of the canvas from its four neighbours in the image, grey outside, in float64."""
    inverse = np.linalg.inv(warp)
    values = image.double().numpy()
    found = np.zeros((3, height, width))
    for row in range(height):
        for column in range(width):
            x, y, w = inverse @ (column + 0.5, row + 0.5, 1)
            x, y = x / w - 0.5, y / w - 0.5
            left, top = math.floor(x), math.floor(y)
            for j, i in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                weight = (1 - abs(x - i)) * (1 - abs(y - j))
                inside = 0 <= j < image.shape[1] and 0 <= i < image.shape[2]
                found[:, row, column] += weight * (values[:, j, i] if inside else PADDING_VALUE)
    return found


def test_a_quarter_turn_moves_every_pixel_exactly() -> None:
    image = noise(32, 32)
    quarter = np.array([[0, -1, 32], [1, 0, 0], [0, 0, 1]], dtype=np.float64)
    corners = torch.tensor([[2.0, 4, 10, 30]])
    target = BoxTarget(corners, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool), torch.ones(1))
    turned = draw(scene(image, quarter, target), (32, 32), Augmentation())
    assert torch.equal(turned.image, image.rot90(-1, (1, 2)))
    # (x, y) -> (32 - y, x)
    assert turned.target.boxes.tolist() == [[2, 2, 28, 10]]


@pytest.mark.parametrize("seed", range(6))
def test_warped_pixels_match_a_plain_bilinear_reference_to_one_level(seed: int) -> None:
    limits = Augmentation(degrees=40, shear=20, perspective=0.002 if seed % 2 else 0.0)
    warp = random_warp(limits, center=(14, 18), bounds=Bounds(0, 0, 36, 30), rng=generator(seed))
    assert warp is not None
    image = noise(30, 36)
    found = draw(scene(image, warp), (28, 33), Augmentation()).image
    difference = np.abs(found.numpy() - bilinear(image, warp, 28, 33))
    assert difference.max() <= 0.51


def test_an_image_smaller_on_the_plane_than_its_file_is_not_aliased() -> None:
    stripes = torch.zeros((3, 120, 120), dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    turn = random_warp(Augmentation(degrees=5), center=(20, 20), bounds=Bounds(0, 0, 40, 40), rng=generator(3))
    layer = Layer(lambda: stripes, 120, 120, BoxTarget.empty(), Placement(1 / 3, 1 / 3), Bounds(0, 0, 40, 40))
    middle = draw(Scene([layer], Bounds(0, 0, 40, 40), turn), (40, 40), Augmentation()).image[:, 10:30, 10:30].float()
    # Stripes of one file pixel average to 127.5; picked by a warp alone they would be 0 and 255.
    assert float(middle.std()) < 30
    assert float(middle.mean()) == pytest.approx(127.5, abs=3)


def test_without_limits_there_is_no_warp_and_the_center_stays_where_it_is() -> None:
    assert random_warp(Augmentation(scale=(0.5, 2)), center=(1, 1), bounds=BOUNDS, rng=generator(0)) is None
    for seed in range(50):
        warp = random_warp(
            Augmentation(degrees=180, shear=30, perspective=0.001), center=(11, 7), bounds=BOUNDS, rng=generator(seed)
        )
        assert warp is not None
        x, y, w = warp @ (11, 7, 1)
        assert (x / w, y / w) == pytest.approx((11, 7), abs=1e-9)


def test_angles_are_uniform_within_their_limits() -> None:
    angles = []
    for seed in range(400):
        warp = random_warp(Augmentation(degrees=30), center=(16, 16), bounds=BOUNDS, rng=generator(seed))
        assert warp is not None
        assert np.allclose(warp[:2, :2] @ warp[:2, :2].T, np.eye(2), atol=1e-12), "a rotation keeps lengths"
        angles.append(math.degrees(math.atan2(warp[1, 0], warp[0, 0])))
    # The deviation of a uniform draw from -30 .. 30 is 60 / sqrt(12) = 17.3.
    assert min(angles) >= -30 and max(angles) <= 30
    assert np.std(angles) == pytest.approx(17.32, rel=0.1)
    assert abs(np.mean(angles)) < 4


def test_shear_keeps_areas_whatever_its_angles() -> None:
    for seed in range(100):
        warp = random_warp(Augmentation(shear=60), center=(16, 16), bounds=BOUNDS, rng=generator(seed))
        assert warp is not None
        assert np.linalg.det(warp) == pytest.approx(1, abs=1e-9)
        assert abs(warp[0, 1]) <= math.tan(math.radians(60)) + 1e-9


def test_perspective_never_enlarges_more_than_twofold_nor_reaches_the_horizon() -> None:
    smallest = 2.0
    for seed in range(200):
        bounds = Bounds(-300, -640, 2000, 1900)
        warp = random_warp(Augmentation(perspective=0.002), center=(640, 640), bounds=bounds, rng=generator(seed))
        assert warp is not None
        for x in (bounds.left, bounds.right):
            for y in (bounds.top, bounds.bottom):
                divisor = float((warp @ (x, y, 1))[2])
                smallest = min(smallest, divisor)
                assert 0.5 - 1e-9 <= divisor <= 1.5 + 1e-9
    assert smallest == pytest.approx(0.5, abs=0.01)
