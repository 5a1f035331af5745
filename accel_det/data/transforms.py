"""From a decoded image to the pixels that a batch holds: resize, random scale and crop, mirror and color.

Everything stays uint8. Each image is resampled once: the base resize, the random scale, the crop and the mirror are one
placement. Brightness, contrast, saturation and hue are one 3x3 matrix, because all four are linear in RGB.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from accel_det import boxes
from accel_det.data.collate import PADDING_VALUE
from accel_det.types import BoxTarget, Placement

ResizeMode = Literal["letterbox", "shortest_edge", "stretch"]


class ResizeRule(NamedTuple):
    """How an image gets the size that the network sees.

    Attributes:
        mode: "letterbox" keeps the aspect inside a square of `size_px`, padded with grey; "shortest_edge" scales the
            shorter side to `size_px`, the longer to at most `max_size_px`; "stretch" makes a square and distorts.
        size_px: pixels.
        max_size_px: pixels; used by "shortest_edge" alone.
        multiple: a batch is padded to a multiple of this many pixels, the stride of the network.
    """

    mode: ResizeMode
    size_px: int
    max_size_px: int = 1333
    multiple: int = 32


class Augmentation(NamedTuple):
    """The ranges of the random changes in training; the defaults change nothing.

    Attributes:
        flip: probability of mirroring left and right.
        scale: the image is enlarged by a factor drawn log-uniformly from (smallest, largest); beyond 1 it is cropped.
        translate: in letterbox mode, 0 keeps the image centered, 1 puts it anywhere on the canvas.
        brightness, contrast, saturation: a factor is drawn from 1 - x .. 1 + x.
        hue: the color wheel is turned by up to this share of a full turn, either way.
        min_visible: an object of which less than this share of the area remains after the crop is dropped.
        min_side_px: an object with a shorter side in the batch image is dropped.
    """

    flip: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    min_visible: float = 0.2
    min_side_px: float = 1.0


def prepare_image(image: Tensor, rule: ResizeRule) -> tuple[Tensor, Placement]:
    """Resize one image as in evaluation.

    Args:
        image: (3, H, W) uint8 RGB.

    Returns:
        The image (3, h, w) uint8, and where its pixels came to lie.
    """
    height, width = image.shape[-2:]
    new_height, new_width, placement = _base_size(height, width, rule)
    resized = _resize(image, new_height, new_width)
    if rule.mode != "letterbox":
        return resized, placement
    return _paste(resized, rule.size_px, int(placement.offset_x), int(placement.offset_y)), placement


def augment(
    image: Tensor, target: BoxTarget, *, rule: ResizeRule, augmentation: Augmentation, seed: int
) -> tuple[Tensor, BoxTarget, Placement]:
    """Resize and change one image for training; all randomness comes from `seed`.

    Args:
        image: (3, H, W) uint8 RGB.
        target: boxes in pixels of the file.

    Returns:
        The image (3, h, w) uint8, the target in its pixels, and the placement.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    pixels, placement = _augment_geometry(image, rule, augmentation, rng)
    pixels = _augment_color(pixels, augmentation, rng)
    if rng.random() < augmentation.flip:
        pixels = pixels.flip(-1)
        placement = boxes.compose(placement, Placement(-1.0, 1.0, float(pixels.shape[-1]), 0.0))
    size = (pixels.shape[-2], pixels.shape[-1])
    return pixels.contiguous(), place_target(target, placement, size, augmentation), placement


def place_target(
    target: BoxTarget, placement: Placement, size: tuple[int, int], augmentation: Augmentation
) -> BoxTarget:
    """Boxes from file to batch pixels, cut to (height, width); what is hardly visible any more is dropped."""
    whole = boxes.place(target.boxes.float(), placement)
    visible = boxes.clip(whole, height=size[0], width=size[1])
    sides = visible[:, 2:] - visible[:, :2]
    kept = (boxes.area(visible) >= augmentation.min_visible * boxes.area(whole)) & (
        sides.amin(dim=-1) >= augmentation.min_side_px
    )
    return BoxTarget(visible, target.labels, target.crowd, target.areas).keep(kept)


def color_matrix(*, brightness: float, contrast: float, saturation: float, hue_turn: float) -> NDArray[np.float64]:
    """The 3x3 matrix that changes saturation, hue, contrast and brightness of RGB values, in this order.

    Args:
        brightness, contrast, saturation: factors; 1 changes nothing. Contrast is about mid-grey, see `_augment_color`.
        hue_turn: share of a full turn about the grey axis, in YIQ space, where hue is an angle.
    """
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    angle = 2 * math.pi * hue_turn
    turn = np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    turn[1:] *= saturation
    matrix: NDArray[np.float64] = contrast * brightness * (np.linalg.inv(to_yiq) @ turn @ to_yiq)
    return matrix


def _base_size(height: int, width: int, rule: ResizeRule) -> tuple[int, int, Placement]:
    if rule.mode == "letterbox":
        return boxes.letterbox(height=height, width=width, canvas_height=rule.size_px, canvas_width=rule.size_px)
    if rule.mode == "stretch":
        new_height = new_width = rule.size_px
    else:
        scale = min(rule.size_px / min(height, width), rule.max_size_px / max(height, width))
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    return new_height, new_width, Placement(new_width / width, new_height / height)


def _augment_geometry(
    image: Tensor, rule: ResizeRule, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Placement]:
    height, width = image.shape[-2:]
    base_height, base_width, _ = _base_size(height, width, rule)
    low, high = augmentation.scale
    factor = math.exp(rng.uniform(math.log(low), math.log(high)))
    new_height, new_width = max(1, round(base_height * factor)), max(1, round(base_width * factor))
    canvas_height, canvas_width = (rule.size_px,) * 2 if rule.mode == "letterbox" else (base_height, base_width)
    left = _offset(canvas_width - new_width, augmentation.translate, rng)
    top = _offset(canvas_height - new_height, augmentation.translate, rng)
    # Only the part that will be seen is resampled.
    x0, x1 = max(0, -left), min(new_width, canvas_width - left)
    y0, y1 = max(0, -top), min(new_height, canvas_height - top)
    scale_x, scale_y = new_width / width, new_height / height
    file_x0, file_x1 = _source_span(x0, x1, scale_x, width)
    file_y0, file_y1 = _source_span(y0, y1, scale_y, height)
    seen = _resize(image[:, file_y0:file_y1, file_x0:file_x1], max(1, y1 - y0), max(1, x1 - x0))
    scale_x, scale_y = seen.shape[-1] / (file_x1 - file_x0), seen.shape[-2] / (file_y1 - file_y0)
    at_x, at_y = max(0, left), max(0, top)
    placement = Placement(scale_x, scale_y, at_x - file_x0 * scale_x, at_y - file_y0 * scale_y)
    if seen.shape[-2:] == (canvas_height, canvas_width):
        return seen, placement
    canvas = image.new_full((3, canvas_height, canvas_width), PADDING_VALUE)
    canvas[:, at_y : at_y + seen.shape[-2], at_x : at_x + seen.shape[-1]] = seen
    return canvas, placement


def _source_span(start: int, stop: int, scale: float, length: int) -> tuple[int, int]:
    """The whole file pixels that cover start .. stop of the scaled image; at least one."""
    first = min(math.floor(start / scale), length - 1)
    return first, max(first + 1, min(length, math.ceil(stop / scale - 1e-6)))


def _offset(room: int, translate: float, rng: np.random.Generator) -> int:
    """Where the image begins on the canvas: a crop (negative room) falls anywhere, padding is moved by `translate`."""
    freedom = translate if room > 0 else 1.0
    # Without freedom half of the room, rounded down as `boxes.letterbox` does; with all of it, rounded to the nearest.
    return math.floor(room * (0.5 + freedom * (rng.random() - 0.5)) + 0.5 * freedom)


def _augment_color(image: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    brightness = rng.uniform(1 - augmentation.brightness, 1 + augmentation.brightness)
    contrast = rng.uniform(1 - augmentation.contrast, 1 + augmentation.contrast)
    saturation = rng.uniform(1 - augmentation.saturation, 1 + augmentation.saturation)
    hue_turn = rng.uniform(-augmentation.hue, augmentation.hue)
    if brightness == contrast == saturation == 1 and hue_turn == 0:
        return image
    matrix = torch.from_numpy(
        color_matrix(brightness=brightness, contrast=contrast, saturation=saturation, hue_turn=hue_turn)
    ).float()
    # Contrast keeps mid-grey where it is; 0.5 rounds to the nearest value.
    shift = 127.5 * brightness * (1 - contrast) + 0.5
    changed = torch.addmm(torch.full((3, 1), shift), matrix, image.reshape(3, -1).float())
    return changed.clamp_(0, 255).to(torch.uint8).reshape(image.shape)


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[-2:] == (height, width):
        return image
    resized: Tensor = functional.resize(image, [height, width], antialias=True)  # type: ignore[attr-defined]
    return resized


def _paste(image: Tensor, canvas_px: int, left: int, top: int) -> Tensor:
    if image.shape[-2:] == (canvas_px, canvas_px):
        return image
    canvas = image.new_full((3, canvas_px, canvas_px), PADDING_VALUE)
    canvas[:, top : top + image.shape[-2], left : left + image.shape[-1]] = image
    return canvas
