"""Random changes of one picture of a person, a vehicle or a thing, for learning who or which it is.

The whole picture is resized to the size of the batch, whatever its own: its parts are cut away only by the changes that are
for that. A picture is a function of (image, seed), and each change has a generator of its own.

Letters: H and W height and width of the file's picture, h and w those of the batch, in pixels.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from accel_det.data.augment.color import Recolor, grey_out, random_blur, random_jitter, recolor
from accel_det.data.augment.layers import Bounds, random_warp, warp_pixels
from accel_det.data.augment.settings import Augmentation, generator
from accel_det.data.resize import resize
from accel_det.draws import mix

MEAN_COLOR = (124, 116, 104)
"""The mean red, green and blue of ImageNet, which networks that begin with its weights see as nothing."""

_CROP_ASPECT = 4 / 3
_CROP_TRIALS = 10
_RECTANGLE_TRIALS = 100
# Height over width of grey and of erased rectangles is drawn from x .. 1 / x.
_RECTANGLE_ASPECT = 0.3
_LOCAL_GRAY_AREA = (0.02, 0.4)


class IdentityAugmentation(NamedTuple):
    """What training changes at random; the defaults change nothing. In this order, beside the order of colors.

    Attributes:
        crop: the smallest share of the picture's area, up to 1, that is cut out before it is resized; 1 takes it whole.
        degrees: the picture is turned by up to so much, either way; what comes into it is its own mirror image.
        auto_augment: probability of one of the 25 policies that AutoAugment found for ImageNet (Cubuk et al., 2019).
        brightness, contrast, saturation: a factor is drawn from 1 - x .. 1 + x.
        hue: the color wheel is turned by up to this share of a full turn, either way.
        gray: probability that the whole picture becomes grey.
        local_gray: probability that a rectangle, of 2 to 40 % of the picture, becomes grey (Gong et al., 2021).
        blur: probability.
        flip: probability of mirroring left and right.
        pad_px: pixels of black around the picture, from which its size is cut out again at a random place.
        erase: probability that a rectangle is painted over (Zhong et al., 2020).
        erase_area: smallest and largest share of the picture that it covers.
        erase_fill: "mean" paints the mean color of ImageNet, as usual where networks begin with its weights; "random" gives
            every value a draw of its own, which its authors found to be the best of four.
    """

    crop: float = 1.0
    degrees: float = 0.0
    auto_augment: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    local_gray: float = 0.0
    blur: float = 0.0
    flip: float = 0.0
    pad_px: int = 0
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_fill: Literal["mean", "random"] = "mean"


class IdentityPurpose:
    """What a generator is for; the numbers are part of what a seed means, never change, and differ from `Purpose`."""

    CROP = 20
    AUTO_AUGMENT = 21
    COLOR = 22
    GRAY = 23
    LOCAL_GRAY = 24
    BLUR = 25
    FLIP = 26
    PAD = 27
    ERASE = 28
    TURN = 29


class Part(NamedTuple):
    """A rectangle of whole pixels; it has at least one."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """A view of the part of an image (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def prepare_identity(image: Tensor, *, size_px: tuple[int, int]) -> Tensor:
    """Resize one picture as in evaluation.

    Args:
        image: (3, H, W) uint8 RGB.
        size_px: height and width of the result; the aspect is not kept.

    Returns:
        (3, h, w) uint8.
    """
    return resize(image, *size_px)


def augment_identity(
    image: Tensor, *, size_px: tuple[int, int], augmentation: IdentityAugmentation, seed: int
) -> Tensor:
    """Resize and change one picture for training.

    Args:
        image: (3, H, W) uint8 RGB; stays as it is.
        size_px: height and width of the result; the aspect is not kept.
        seed: all randomness comes from it.

    Returns:
        (3, h, w) uint8, contiguous.
    """
    size = int(image.shape[-2]), int(image.shape[-1])
    if augmentation.crop < 1:
        part = random_part(*size, least_area=augmentation.crop, rng=generator(seed, IdentityPurpose.CROP))
        image = part.of(image)
    image = prepare_identity(image, size_px=size_px)
    image = _turned(image, augmentation.degrees, generator(seed, IdentityPurpose.TURN))
    if _chosen(augmentation.auto_augment, seed, IdentityPurpose.AUTO_AUGMENT) is not None:
        image = _auto_augment(image, seed=mix(seed, IdentityPurpose.AUTO_AUGMENT, 1))
    image = recolor(image, _color(augmentation, seed))
    if (rng := _chosen(augmentation.local_gray, seed, IdentityPurpose.LOCAL_GRAY)) is not None:
        image = _gray_part(image, rng)
    if (rng := _chosen(augmentation.blur, seed, IdentityPurpose.BLUR)) is not None:
        image = random_blur(image, rng)
    if _chosen(augmentation.flip, seed, IdentityPurpose.FLIP) is not None:
        image = image.flip(-1)
    if augmentation.pad_px:
        image = _moved(image, augmentation.pad_px, generator(seed, IdentityPurpose.PAD))
    if (rng := _chosen(augmentation.erase, seed, IdentityPurpose.ERASE)) is not None:
        image = _erased(image, augmentation, rng)
    return image.contiguous()


def random_part(height: int, width: int, *, least_area: float, rng: np.random.Generator) -> Part:
    """A part of a picture: its share of the area is uniform, its aspect 3/4 to 4/3 of the picture's own, log-uniform.

    Source: the random resized crop of Szegedy et al., 2015; there the aspect is 3/4 to 4/3 by itself, which is not that of a
    person. Where none of ten trials lies within the picture, the part is all of it.
    """
    for _ in range(_CROP_TRIALS):
        share = rng.uniform(least_area, 1.0)
        taller = math.exp(rng.uniform(-math.log(_CROP_ASPECT), math.log(_CROP_ASPECT)))
        part_height, part_width = round(height * math.sqrt(share * taller)), round(width * math.sqrt(share / taller))
        if 0 < part_height <= height and 0 < part_width <= width:
            return _anywhere(height, width, part_height, part_width, rng)
    return Part(0, 0, height, width)


def random_rectangle(
    height: int, width: int, *, area: tuple[float, float], aspect: float, rng: np.random.Generator
) -> Part | None:
    """A rectangle within a picture: its share of the area and its height over its width are uniform.

    Args:
        area: smallest and largest share.
        aspect: smallest height over width; the largest is its inverse.

    Returns:
        The first that fits into the picture, at any place of it; None where none of 100 does.

    Source: Zhong et al., Random Erasing Data Augmentation, 2020, algorithm 1; there the place is drawn with the shape, and
    both again until they fit.
    """
    for _ in range(_RECTANGLE_TRIALS):
        pixels = rng.uniform(*area) * height * width
        ratio = rng.uniform(aspect, 1 / aspect)
        part_height, part_width = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < part_height <= height and 0 < part_width <= width:
            return _anywhere(height, width, part_height, part_width, rng)
    return None


def _anywhere(height: int, width: int, part_height: int, part_width: int, rng: np.random.Generator) -> Part:
    top, left = rng.integers(0, (height - part_height + 1, width - part_width + 1)).tolist()
    return Part(top, left, part_height, part_width)


def _chosen(probability: float, seed: int, purpose: int) -> np.random.Generator | None:
    """The generator of a change, where its first draw says that the change happens."""
    if not probability:
        return None
    rng = generator(seed, purpose)
    return rng if rng.random() < probability else None


def _color(augmentation: IdentityAugmentation, seed: int) -> Recolor | None:
    jitter = Augmentation(
        brightness=augmentation.brightness,
        contrast=augmentation.contrast,
        saturation=augmentation.saturation,
        hue=augmentation.hue,
    )
    change = None if jitter == Augmentation() else random_jitter(jitter, generator(seed, IdentityPurpose.COLOR))
    return change if _chosen(augmentation.gray, seed, IdentityPurpose.GRAY) is None else grey_out(change)


def _turned(image: Tensor, degrees: float, rng: np.random.Generator) -> Tensor:
    height, width = int(image.shape[-2]), int(image.shape[-1])
    middle, whole = (width / 2, height / 2), Bounds(0, 0, width, height)
    turn = random_warp(Augmentation(degrees=degrees), center=middle, bounds=whole, rng=rng)
    return image if turn is None else warp_pixels(image, turn, (height, width), outside="mirrored")


def _gray_part(image: Tensor, rng: np.random.Generator) -> Tensor:
    height, width = image.shape[-2:]
    part = random_rectangle(height, width, area=_LOCAL_GRAY_AREA, aspect=_RECTANGLE_ASPECT, rng=rng)
    if part is None:
        return image
    changed = image.clone()
    part.of(changed).copy_(recolor(part.of(image), grey_out(None)))
    return changed


def _moved(image: Tensor, pad_px: int, rng: np.random.Generator) -> Tensor:
    """The picture with black around it, and its size cut out again: it moves by up to pad_px, either way."""
    height, width = image.shape[-2:]
    top, left = rng.integers(0, 2 * pad_px + 1, size=2).tolist()
    return Part(top, left, height, width).of(torch.nn.functional.pad(image, [pad_px] * 4))


def _erased(image: Tensor, augmentation: IdentityAugmentation, rng: np.random.Generator) -> Tensor:
    height, width = image.shape[-2:]
    part = random_rectangle(height, width, area=augmentation.erase_area, aspect=_RECTANGLE_ASPECT, rng=rng)
    if part is None:
        return image
    changed = image.clone()
    if augmentation.erase_fill == "mean":
        fill = torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None]
    else:
        fill = torch.from_numpy(rng.integers(0, 256, (3, part.height, part.width), dtype=np.uint8))
    part.of(changed).copy_(fill)
    return changed


def _auto_augment(image: Tensor, *, seed: int) -> Tensor:
    """One policy of AutoAugment, whose draws come from torch's own generator: it is put back as it was.

    `torch.manual_seed` would seed the generators of GPUs as well.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        changed: Tensor = _imagenet_policies()(image)
    return changed


@lru_cache(maxsize=1)
def _imagenet_policies() -> torch.nn.Module:
    policies: torch.nn.Module = v2.AutoAugment()  # type: ignore[attr-defined]
    return policies
