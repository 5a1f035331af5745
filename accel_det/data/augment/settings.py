"""The ranges of the random changes in training, and the generators that draw from them."""

from typing import Literal, NamedTuple

import numpy as np

from accel_det.draws import mix

PROPOSAL_LABEL = -1
"""The label under which a given region travels among the objects of an image, so that it follows their geometry."""


class Augmentation(NamedTuple):
    """What training changes at random; the defaults change nothing.

    Attributes:
        flip, flip_vertical: probability of mirroring left and right, top and bottom.
        scale: zoom factor (smallest, largest), beyond 1 the image is cropped: log-uniform for a single image, uniform, as
            published, for a mosaic.
        translate: of a single image in letterbox mode: 0 keeps a smaller image centered, 1 puts it anywhere on the
            canvas. Of a mosaic: its center moves by up to this share of the canvas, either way.
        brightness, contrast, saturation: a factor is drawn from 1 - x .. 1 + x.
        hue: the color wheel is turned by up to this share of a full turn, either way.
        degrees, shear, perspective: see `layers.random_warp`.
        aspect: width and height are stretched by a factor of 1 - x .. 1 + x each.
        mosaic: probability of a mosaic in place of a single image; for letterbox mode alone.
        mosaic_tiles: 4 or 9 images.
        mixup: probability that a mosaic is blended with another one.
        mixup_beta: both parameters of the beta distribution of the share.
        copy_paste: probability that an object of another image is pasted, for each of them.
        distort: probability of each photometric distortion of SSD; see `color.random_distortion`.
        zoom_out, iou_crop: probability of the two changes of geometry of SSD; for single images alone.
        gray, blur: probability.
        min_visible: an object of which less than this share of the area remains is dropped.
        min_side_px: an object with a shorter side in the batch image is dropped.
        max_aspect: an object whose longer side is so many times the shorter is dropped.
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    degrees: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    aspect: float = 0.0
    mosaic: float = 0.0
    mosaic_tiles: Literal[4, 9] = 4
    mixup: float = 0.0
    mixup_beta: float = 32.0
    copy_paste: float = 0.0
    distort: float = 0.0
    zoom_out: float = 0.0
    iou_crop: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    min_visible: float = 0.2
    min_side_px: float = 1.0
    max_aspect: float = 100.0

    def plain(self) -> "Augmentation":
        """Without what puts several images into one."""
        return self._replace(mosaic=0.0, mixup=0.0, copy_paste=0.0)


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """A generator of its own for one purpose, so that switching a change on leaves the draws of the others alone."""
    return np.random.Generator(np.random.Philox(key=mix(seed, *purpose) if purpose else seed))


class Purpose:
    """What a generator is for; the numbers are part of what a seed means, and never change."""

    ASPECT = 1
    WARP = 2
    MOSAIC = 3
    MIXUP = 4
    COPY_PASTE = 5
    DISTORT = 6
    ZOOM_OUT = 7
    IOU_CROP = 8
    FILTERS = 9
    FLIP_VERTICAL = 10
