"""From decoded images to the pixels and boxes that a batch holds, in training and in evaluation.

Everything is a function of (image, seed) or, where several images make one, of (data set, index, seed). Everything stays
uint8 where it can.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from accel_det import boxes
from accel_det.data.augment.color import color_matrix, grey_out, random_blur, random_distortion, random_jitter, recolor
from accel_det.data.augment.layers import Scene, draw, place_target
from accel_det.data.augment.mosaic import Pictures, mosaic_scene, paste_objects
from accel_det.data.augment.settings import Augmentation, Purpose, generator
from accel_det.data.augment.single import single_scene
from accel_det.data.resize import Canvas, ResizeMode, ResizeRule, prepare_image
from accel_det.draws import mix
from accel_det.types import BoxTarget, Placement

__all__ = [
    "Augmentation",
    "Augmented",
    "Canvas",
    "Pictures",
    "ResizeMode",
    "ResizeRule",
    "augment",
    "augment_from",
    "color_matrix",
    "place_target",
    "prepare_image",
]

MOSAIC_MIN_SIDE_PX = 2.0
"""Objects of a mosaic with a shorter side are dropped, as in YOLOv5's recipe."""


class Augmented(NamedTuple):
    """One training image.

    Attributes:
        image: (3, h, w) uint8.
        target: in its pixels.
        placement: of the pixels of the file; `Placement()` where no scale and shift says it: in a mosaic, and after
            rotation, shear or perspective.
    """

    image: Tensor
    target: BoxTarget
    placement: Placement


class _Alone:
    """A data set of one image that is in memory."""

    def __init__(self, image: Tensor, target: BoxTarget) -> None:
        self._image = image
        self._target = target

    def __len__(self) -> int:
        return 1

    def size(self, index: int) -> tuple[int, int]:
        return int(self._image.shape[-2]), int(self._image.shape[-1])

    def image(self, index: int) -> Tensor:
        return self._image

    def target(self, index: int) -> BoxTarget:
        return self._target


def augment(
    image: Tensor,
    target: BoxTarget,
    *,
    rule: ResizeRule,
    augmentation: Augmentation,
    seed: int,
    canvas: Canvas | None = None,
) -> Augmented:
    """Resize and change one image for training; all randomness comes from `seed`.

    Args:
        image: (3, H, W) uint8 RGB.
        target: boxes in pixels of the file.
        canvas: another size than that of the rule.
    """
    return augment_from(_Alone(image, target), 0, rule=rule, augmentation=augmentation, seed=seed, canvas=canvas)


def augment_from(
    pictures: Pictures,
    index: int,
    *,
    rule: ResizeRule,
    augmentation: Augmentation,
    seed: int,
    canvas: Canvas | None = None,
) -> Augmented:
    """Make one training image of image `index`, and of others where the augmentation says so.

    In this order: zoom out, crop by overlap, or mosaic; resize, zoom, move; pasted objects; SSD's color of each picture, pasted
    ones too; rotation, shear, perspective; blending with a second mosaic; color jitter and grey of the canvas with its bars;
    blur; mirrors.
    """
    size = canvas or rule.square
    rng = generator(seed)
    filters = generator(seed, Purpose.FILTERS)
    if augmentation.mosaic and generator(seed, Purpose.MOSAIC, 0).random() < augmentation.mosaic:
        augmentation = augmentation._replace(min_side_px=max(augmentation.min_side_px, MOSAIC_MIN_SIDE_PX))
        pixels, target, placement = _mosaic(pictures, index, rule=rule, size=size, augmentation=augmentation, seed=seed)
    else:
        pixels, target, placement = _single(
            pictures, index, rule=rule, size=size, augmentation=augmentation, seed=seed, rng=rng
        )
    change = random_jitter(augmentation, rng)
    if augmentation.gray and filters.random() < augmentation.gray:
        change = grey_out(change)
    pixels = recolor(pixels, change)
    if augmentation.blur and filters.random() < augmentation.blur:
        pixels = random_blur(pixels, filters)
    mirror = rng.random() < augmentation.flip
    vertical = augmentation.flip_vertical
    upside_down = vertical > 0 and generator(seed, Purpose.FLIP_VERTICAL).random() < vertical
    return _mirrored(Augmented(pixels, target, placement), mirror=mirror, upside_down=upside_down)


def _single(
    pictures: Pictures,
    index: int,
    *,
    rule: ResizeRule,
    size: Canvas,
    augmentation: Augmentation,
    seed: int,
    rng: np.random.Generator,
) -> Augmented:
    image, target = pictures.image(index), pictures.target(index)
    scene, size = single_scene(image, target, rule=rule, canvas=size, augmentation=augmentation, seed=seed, rng=rng)
    drawn, placements = _draw(scene, pictures, rule=rule, size=size, augmentation=augmentation, seed=seed)
    return drawn._replace(placement=placements[0]) if scene.warp is None else drawn


def _mosaic(
    pictures: Pictures, index: int, *, rule: ResizeRule, size: Canvas, augmentation: Augmentation, seed: int
) -> Augmented:
    def make(index: int, seed: int) -> Augmented:
        scene = mosaic_scene(index, pictures, canvas=size, augmentation=augmentation, seed=seed)
        return _draw(scene, pictures, rule=rule, size=size, augmentation=augmentation, seed=seed)[0]

    first = make(index, seed)
    own = generator(seed, Purpose.MIXUP)
    if own.random() >= augmentation.mixup:
        return first
    share = float(own.beta(augmentation.mixup_beta, augmentation.mixup_beta))
    second = make(int(own.integers(0, len(pictures))), mix(seed, Purpose.MIXUP, 1))
    blended = torch.lerp(second.image.float(), first.image.float(), share).add_(0.5).to(torch.uint8)
    target = BoxTarget(*(torch.cat(both) for both in zip(first.target, second.target, strict=True)))
    return Augmented(blended, target, Placement())


def _draw(
    scene: Scene, pictures: Pictures, *, rule: ResizeRule, size: Canvas, augmentation: Augmentation, seed: int
) -> tuple[Augmented, list[Placement]]:
    if augmentation.copy_paste:
        scene = paste_objects(scene, pictures, rule=rule, canvas=size, augmentation=augmentation, seed=seed)
    color = None
    if augmentation.distort:
        color = random_distortion(augmentation.distort, generator(seed, Purpose.DISTORT))
    image, target, placements = draw(scene, size, augmentation, color=color)
    return Augmented(image, target, Placement()), placements


def _mirrored(given: Augmented, *, mirror: bool, upside_down: bool) -> Augmented:
    if not mirror and not upside_down:
        return given._replace(image=given.image.contiguous())
    height, width = given.image.shape[-2:]
    flip = Placement(
        -1.0 if mirror else 1.0,
        -1.0 if upside_down else 1.0,
        float(width) if mirror else 0.0,
        float(height) if upside_down else 0.0,
    )
    pixels = given.image.flip([axis for axis, turned in ((-1, mirror), (-2, upside_down)) if turned])
    target = given.target._replace(boxes=boxes.place(given.target.boxes, flip))
    return Augmented(pixels, target, boxes.compose(given.placement, flip))
