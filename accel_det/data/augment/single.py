"""One image as a scene: what of it is seen, how large and where."""

import math

import numpy as np
from torch import Tensor

from accel_det.data.augment.layers import Bounds, Layer, Scene, random_warp
from accel_det.data.augment.settings import Augmentation, Purpose, generator
from accel_det.data.augment.ssd import View, iou_crop, keep_centers, zoom_out
from accel_det.data.resize import Canvas, ResizeRule, base_size
from accel_det.types import BoxTarget, Placement


def single_scene(
    image: Tensor,
    target: BoxTarget,
    *,
    rule: ResizeRule,
    canvas: Canvas,
    augmentation: Augmentation,
    seed: int,
    rng: np.random.Generator,
) -> tuple[Scene, Canvas]:
    """Zoom out, crop, resize, zoom and move one image, in this order.

    Args:
        target: in pixels of the file.
        canvas: what the rule resizes to.
        seed: of the changes that have a generator of their own.
        rng: of zoom and place.

    Returns:
        The scene, and height and width of its canvas in pixels.
    """
    height, width = int(image.shape[-2]), int(image.shape[-1])
    view = View(0, 0, width, height)
    if augmentation.zoom_out and (own := generator(seed, Purpose.ZOOM_OUT)).random() < augmentation.zoom_out:
        view = zoom_out(view, own)
    if augmentation.iou_crop and (own := generator(seed, Purpose.IOU_CROP)).random() < augmentation.iou_crop:
        view = iou_crop(view, target, own)
        target = keep_centers(target, view)
    view_height, view_width = view.bottom - view.top, view.right - view.left
    base_height, base_width, _ = base_size(view_height, view_width, rule, canvas)
    low, high = augmentation.scale
    factor = math.exp(rng.uniform(math.log(low), math.log(high)))
    wider, higher = random_aspect(augmentation, seed)
    zoom = factor * wider, factor * higher
    new_height, new_width = max(1, round(base_height * zoom[1])), max(1, round(base_width * zoom[0]))
    size = canvas if rule.mode == "letterbox" else (base_height, base_width)
    left = _offset(size[1] - new_width, augmentation.translate, rng)
    top = _offset(size[0] - new_height, augmentation.translate, rng)
    scale_x, scale_y = new_width / view_width, new_height / view_height
    placement = Placement(scale_x, scale_y, left - view.left * scale_x, top - view.top * scale_y)
    bounds = Bounds(left, top, left + new_width, top + new_height)
    center = (size[1] / 2, size[0] / 2)
    warp = random_warp(augmentation, center=center, bounds=bounds, rng=generator(seed, Purpose.WARP))
    return Scene([Layer(lambda: image, height, width, target, placement, bounds)], bounds, warp, zoom), size


def random_aspect(augmentation: Augmentation, seed: int) -> tuple[float, float]:
    """Factors of width and height."""
    if not augmentation.aspect:
        return 1.0, 1.0
    own = generator(seed, Purpose.ASPECT)
    low, high = 1 - augmentation.aspect, 1 + augmentation.aspect
    return float(own.uniform(low, high)), float(own.uniform(low, high))


def _offset(room: int, translate: float, rng: np.random.Generator) -> int:
    """Where the image begins on the canvas: a crop (negative room) falls anywhere, padding is moved by `translate`."""
    freedom = translate if room > 0 else 1.0
    # Without freedom half of the room, rounded down as `boxes.letterbox` does; with all of it, rounded to the nearest.
    return math.floor(room * (0.5 + freedom * (rng.random() - 0.5)) + 0.5 * freedom)
