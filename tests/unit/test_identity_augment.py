"""Pictures of identities: the whole picture reaches the network, and each random change is a function of the seed."""

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from accel_det.data.augment.identity import (
    MEAN_COLOR,
    IdentityAugmentation,
    IdentityPurpose,
    augment_identity,
    random_part,
    random_rectangle,
)
from accel_det.data.augment.settings import Purpose, generator

SIZE = (64, 32)
PLAIN = IdentityAugmentation()


def noise(height: int, width: int, *, seed: int = 0) -> Tensor:
    # No 0 and no 255, so that black and white are not of the picture.
    return torch.randint(1, 255, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def ramps(height: int, width: int) -> Tensor:
    """Red says how far right a pixel is, green how far down; blue is 255 everywhere."""
    across = ((torch.arange(width) + 0.5) * (255 / width)).round().expand(height, width)
    down = ((torch.arange(height) + 0.5) * (255 / height)).round()[:, None].expand(height, width)
    return torch.stack((across, down, torch.full((height, width), 255.0))).to(torch.uint8)


def change(image: Tensor, augmentation: IdentityAugmentation, seed: int) -> Tensor:
    return augment_identity(image, size_px=SIZE, augmentation=augmentation, seed=seed)


# In the order in which they happen; jitter and grey share one pass over the pixels, so here they are one.
CHANGES = {
    "crop": IdentityAugmentation(crop=0.5),
    "turn": IdentityAugmentation(degrees=30),
    "auto_augment": IdentityAugmentation(auto_augment=0.7),
    "color": IdentityAugmentation(brightness=0.3, contrast=0.2, saturation=0.4, hue=0.1, gray=0.3),
    "local_gray": IdentityAugmentation(local_gray=0.7),
    "blur": IdentityAugmentation(blur=0.5),
    "flip": IdentityAugmentation(flip=0.5),
    "pad": IdentityAugmentation(pad_px=5),
    "erase": IdentityAugmentation(erase=0.7, erase_fill="random"),
}


def together(names: tuple[str, ...]) -> IdentityAugmentation:
    found = PLAIN
    for name in names:
        own = {key: value for key, value in CHANGES[name]._asdict().items() if value != getattr(PLAIN, key)}
        found = found._replace(**own)
    return found


@pytest.mark.parametrize(
    "file", [(128, 64), (64, 128), (256, 128), (50, 300), (31, 17), (17, 31), (1, 1), (2, 500), (400, 400)]
)
@pytest.mark.parametrize("size", [(128, 64), (256, 128), (64, 64)])
def test_the_whole_picture_reaches_the_network_whatever_its_size(file: tuple[int, int], size: tuple[int, int]) -> None:
    """A crop of (128, 64) without resizing shows one part of a larger file and fails on a smaller one."""
    seen = augment_identity(ramps(*file), size_px=size, augmentation=PLAIN, seed=0)
    assert seen.shape == (3, *size) and seen.dtype == torch.uint8 and seen.is_contiguous()
    expected = ramps(*size).int()
    # As an upsampled edge repeats the outermost pixel, a value is off by at most half a pixel of the coarser grid.
    for channel, axis in ((0, 1), (1, 0)):
        tolerance = 255 / 2 / min(file[axis], size[axis]) + 2
        assert (seen[channel].int() - expected[channel]).abs().max() <= tolerance
    assert (seen[2] == 255).all(), "something that is not of the picture is in it"


def test_the_defaults_change_nothing_but_the_size() -> None:
    image = noise(*SIZE)
    assert torch.equal(change(image, PLAIN, 5), image)
    odd = noise(57, 91)
    assert all(torch.equal(change(odd, PLAIN, 0), change(odd, PLAIN, seed)) for seed in range(5))


def test_all_changes_together_are_a_function_of_the_seed_and_leave_the_file_alone() -> None:
    image = noise(80, 47)
    before = image.clone()
    everything = together(tuple(CHANGES))
    made = [change(image, everything, seed) for seed in range(30)]
    torch.manual_seed(99)  # nothing may depend on it
    assert all(torch.equal(change(image, everything, seed), made[seed]) for seed in reversed(range(30)))
    assert all(one.shape == (3, *SIZE) and one.dtype == torch.uint8 and one.is_contiguous() for one in made)
    assert len({one.numpy().tobytes() for one in made}) == 30
    assert torch.equal(image, before)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(CHANGES, 2)))
def test_switching_a_change_on_leaves_the_draws_of_the_others_alone(first: str, second: str) -> None:
    """Both together are the second, done to what the first alone makes of the picture, under the same seed."""
    image = noise(*SIZE, seed=1)
    both_happened = 0
    for seed in range(12):
        alone = change(image, CHANGES[first], seed)
        expected = change(alone, CHANGES[second], seed)
        assert torch.equal(change(image, together((first, second)), seed), expected)
        both_happened += not torch.equal(alone, image) and not torch.equal(expected, alone)
    assert both_happened >= 1


def test_all_changes_in_one_call_are_the_changes_one_after_the_other() -> None:
    for seed in range(20):
        image = noise(*SIZE, seed=seed)
        expected = image
        for augmentation in CHANGES.values():
            expected = change(expected, augmentation, seed)
        assert torch.equal(change(image, together(tuple(CHANGES)), seed), expected)


def test_purposes_differ_from_each_other_and_from_those_of_detection() -> None:
    own, others = (
        [value for name, value in vars(kind).items() if name.isupper()] for kind in (IdentityPurpose, Purpose)
    )
    assert len(own) == 10 and len(others) == 10
    assert len(set(own + others)) == len(own + others)


def test_a_flip_mirrors_left_and_right_half_of_the_time() -> None:
    image = noise(*SIZE)
    flipped = [change(image, IdentityAugmentation(flip=0.5), seed) for seed in range(400)]
    mirrored = sum(torch.equal(one, image.flip(2)) for one in flipped)
    assert mirrored + sum(torch.equal(one, image) for one in flipped) == 400
    assert 150 < mirrored < 250  # 5 deviations
    assert torch.equal(change(image, IdentityAugmentation(flip=1.0), 0), image.flip(2))


def test_padding_and_cutting_moves_the_picture_over_black_to_every_place() -> None:
    image, pad = noise(*SIZE), 3
    places = {}
    for down, right in itertools.product(range(-pad, pad + 1), repeat=2):
        moved = torch.zeros_like(image)
        for y, x in itertools.product(range(SIZE[0]), range(SIZE[1])):
            if 0 <= y - down < SIZE[0] and 0 <= x - right < SIZE[1]:
                moved[:, y, x] = image[:, y - down, x - right]
        places[moved.numpy().tobytes()] = (down, right)
    seen = [places[change(image, IdentityAugmentation(pad_px=pad), seed).numpy().tobytes()] for seed in range(600)]
    assert len(set(seen)) == 49


def test_padding_wider_than_the_picture_may_leave_nothing_of_it() -> None:
    tiny = noise(4, 4)
    made = [
        augment_identity(tiny, size_px=(4, 4), augmentation=IdentityAugmentation(pad_px=6), seed=seed)
        for seed in range(50)
    ]
    assert all(one.shape == (3, 4, 4) for one in made)
    assert any(one.any() for one in made) and not all(one.any() for one in made)


@pytest.mark.parametrize("size", [(128, 64), (64, 128), (90, 90)])
def test_a_turned_picture_shows_every_point_where_a_turn_about_the_middle_brings_it(size: tuple[int, int]) -> None:
    height, width = size
    augmentation = IdentityAugmentation(degrees=40)
    turns = []
    for seed in range(30):
        turned = augment_identity(ramps(*size), size_px=size, augmentation=augmentation, seed=seed).double()
        # Ramps say where each pixel was; the middle is seen whatever the turn, and its slopes are the turn.
        x, y = turned[0] * width / 255, turned[1] * height / 255
        middle = slice(height // 2 - 12, height // 2 + 12), slice(width // 2 - 12, width // 2 + 12)
        slopes = [
            float((part[middle][:, -1] - part[middle][:, 0]).mean() / 23)
            if across
            else float((part[middle][-1] - part[middle][0]).mean() / 23)
            for part, across in ((x, True), (y, True), (x, False), (y, False))
        ]
        angle = math.atan2(slopes[1], slopes[0])
        expected = [math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)]
        assert slopes == pytest.approx(expected, abs=0.06)
        assert float(x[middle].mean()) == pytest.approx(width / 2, abs=0.6)
        assert float(y[middle].mean()) == pytest.approx(height / 2, abs=0.6)
        assert (turned[2] == 255).all()
        turns.append(math.degrees(angle))
    assert -42 < min(turns) < -30 and 30 < max(turns) < 42


def found_rectangle(changed: Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what is True, which must be all of a rectangle."""
    rows, columns = changed.any(1).nonzero().flatten().tolist(), changed.any(0).nonzero().flatten().tolist()
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert changed.sum() == height * width
    return rows[0], columns[0], height, width


@pytest.mark.parametrize(
    ("name", "options", "low", "high"),
    [("erase", {"erase_area": (0.05, 0.3)}, 0.05, 0.3), ("local_gray", {}, 0.02, 0.4)],
)
def test_a_rectangle_has_the_share_that_was_asked_for_and_the_published_aspect(
    name: str, options: dict[str, Any], low: float, high: float
) -> None:
    height, width = 128, 64
    image = torch.tensor([200, 30, 90], dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()
    augmentation = IdentityAugmentation(**{name: 1.0}, **options)
    shares, corners = [], set()
    for seed in range(300):
        made = augment_identity(image, size_px=(height, width), augmentation=augmentation, seed=seed)
        top, left, tall, wide = found_rectangle((made != image).any(0))
        # The sides are rounded to whole pixels.
        assert (tall + 0.5) * (wide + 0.5) >= low * height * width
        assert (tall - 0.5) * (wide - 0.5) <= high * height * width
        assert 0.3 * (wide - 0.5) - 0.5 <= tall <= (wide + 0.5) / 0.3 + 0.5
        inside = made[:, top : top + tall, left : left + wide].reshape(3, -1)
        if name == "erase":
            assert (inside == torch.tensor(MEAN_COLOR)[:, None]).all()
        else:
            # ITU-R BT.601: 0.299 x 200 + 0.587 x 30 + 0.114 x 90 = 87.7
            assert (inside == 88).all()
        shares.append(tall * wide / (height * width))
        corners.add((top, left))
    assert min(shares) < low + 0.02 and max(shares) > high - 0.05
    assert len(corners) > 250


def test_rectangles_and_colors_come_as_often_as_asked() -> None:
    image = noise(*SIZE)
    for name in ("erase", "local_gray", "gray", "blur", "auto_augment"):
        changed = sum(not torch.equal(change(image, PLAIN._replace(**{name: 0.3}), seed), image) for seed in range(400))
        # 120 expected, 5 deviations are 46; policies of AutoAugment may do nothing.
        assert (40 if name == "auto_augment" else 74) < changed < 166


def test_erased_pixels_are_random_values_where_that_is_asked_for() -> None:
    image = torch.zeros((3, 128, 64), dtype=torch.uint8)
    augmentation = IdentityAugmentation(erase=1.0, erase_fill="random", erase_area=(0.3, 0.4))
    values = [augment_identity(image, size_px=(128, 64), augmentation=augmentation, seed=seed) for seed in range(20)]
    painted = torch.cat([one[:, (one != 0).any(0)].flatten() for one in values]).double()
    # Uniform on 0 .. 255: mean 127.5, deviation 73.9; more than 100,000 of them.
    assert len(painted) > 100_000
    assert abs(float(painted.mean()) - 127.5) < 5 * 73.9 / math.sqrt(len(painted))
    assert abs(float(painted.std()) - 73.9) < 1


def test_a_rectangle_that_cannot_fit_is_left_out_and_one_that_can_is_within() -> None:
    assert random_rectangle(2, 400, area=(0.9, 1.0), aspect=0.9, rng=generator(0)) is None
    wide = noise(4, 200)
    augmentation = IdentityAugmentation(erase=1.0, erase_area=(0.9, 1.0))
    assert torch.equal(augment_identity(wide, size_px=(4, 200), augmentation=augmentation, seed=0), wide)
    rng = random.Random(0)
    for seed in range(500):
        height, width = rng.randint(1, 60), rng.randint(1, 60)
        part = random_rectangle(height, width, area=(0.02, 0.4), aspect=0.3, rng=generator(seed))
        if part is not None:
            assert part.height > 0 and part.width > 0
            assert 0 <= part.top <= height - part.height and 0 <= part.left <= width - part.width


def test_a_crop_keeps_its_least_share_and_about_the_aspect_of_the_picture() -> None:
    height, width = 400, 200
    areas = []
    for seed in range(500):
        part = random_part(height, width, least_area=0.4, rng=generator(seed))
        assert 0 <= part.top <= height - part.height and 0 <= part.left <= width - part.width
        areas.append(part.height * part.width / (height * width))
        assert 0.4 - 0.01 <= areas[-1] <= 1
        assert 0.74 <= part.height / part.width / 2 <= 1.35
    assert min(areas) < 0.45 and max(areas) > 0.8
    assert random_part(3, 3, least_area=1.0, rng=generator(0)).height == 3


def test_a_cropped_picture_shows_that_part_at_the_full_size() -> None:
    """The ramps of a part begin and end where the part does, and are as even as those of the whole."""
    for seed in range(50):
        part = random_part(300, 150, least_area=0.3, rng=generator(seed, IdentityPurpose.CROP))
        seen = change(ramps(300, 150), IdentityAugmentation(crop=0.3), seed).int()
        low, high = seen.amin(dim=(1, 2)), seen.amax(dim=(1, 2))
        for channel, start, length, whole in ((0, part.left, part.width, 150), (1, part.top, part.height, 300)):
            step = length / SIZE[1 - channel] / 2
            assert abs(low[channel] - 255 * (start + step) / whole) < 3
            assert abs(high[channel] - 255 * (start + length - step) / whole) < 3


def test_grey_is_the_luminance_of_the_jittered_picture() -> None:
    image = noise(*SIZE)
    grey = change(image, IdentityAugmentation(gray=1.0), 0)
    luminance = (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * image).sum(0).round()
    assert (grey.float() - luminance).abs().max() <= 1
    assert (grey == grey[0]).all()
    jittered = change(image, IdentityAugmentation(brightness=0.5, gray=1.0), 3)
    assert (jittered == jittered[0]).all() and not torch.equal(jittered, grey)


def test_autoaugment_draws_from_its_seed_and_leaves_every_global_generator_untouched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine with a GPU, seeding torch as a whole would seed its generator too: here that would raise."""

    def refuse(_: int) -> None:
        raise AssertionError("the generators of the GPUs were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    image, augmentation = noise(*SIZE), IdentityAugmentation(auto_augment=1.0)
    torch.default_generator.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    first = [change(image, augmentation, seed) for seed in range(40)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]
    assert random.getstate() == before[2]
    torch.default_generator.manual_seed(4)
    assert all(torch.equal(change(image, augmentation, seed), one) for seed, one in enumerate(first))
    # 40 draws of 25 policies, of which about 20 come up.
    assert len({one.numpy().tobytes() for one in first}) > 12
