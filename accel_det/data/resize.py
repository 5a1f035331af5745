"""How an image gets the size that a network sees."""

from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional

from accel_det import boxes
from accel_det.data.canvases import rectangle
from accel_det.data.collate import PADDING_VALUE
from accel_det.types import Placement

ResizeMode = Literal["letterbox", "shortest_edge", "stretch"]
Canvas = tuple[int, int]
"""Height and width in pixels that take the place of `ResizeRule.size_px` for one sample. In mode "shortest_edge" the
first is the shorter side, and the second is not read."""


class ResizeRule(NamedTuple):
    """How an image gets the size that the network sees.

    Attributes:
        mode: "letterbox" keeps the aspect inside a square of `size_px`, padded with grey; "shortest_edge" scales the
            shorter side to `size_px`, the longer to at most `max_size_px`; "stretch" makes a square and distorts.
        size_px: pixels.
        max_size_px: pixels; used by "shortest_edge" alone.
        multiple: a batch is padded to a multiple of this many pixels, the stride of the network.
        rectangular: outside training, "letterbox" pads to that multiple alone, not to a square.
    """

    mode: ResizeMode
    size_px: int
    max_size_px: int = 1333
    multiple: int = 32
    rectangular: bool = False

    @property
    def square(self) -> Canvas:
        return self.size_px, self.size_px

    def canvas(self, height: int, width: int) -> Canvas:
        """The canvas outside training of an image of this height and width."""
        if not self.rectangular:
            return self.square
        return rectangle(np.array([[height, width]]), size_px=self.size_px, multiple=self.multiple)


def prepare_image(image: Tensor, rule: ResizeRule, canvas: Canvas | None = None) -> tuple[Tensor, Placement]:
    """Resize one image as in evaluation.

    Args:
        image: (3, H, W) uint8 RGB.
        canvas: another size than that of the rule.

    Returns:
        The image (3, h, w) uint8, and where its pixels came to lie.
    """
    canvas = canvas or rule.canvas(image.shape[-2], image.shape[-1])
    new_height, new_width, placement = base_size(image.shape[-2], image.shape[-1], rule, canvas)
    resized = resize(image, new_height, new_width)
    if rule.mode != "letterbox" or resized.shape[-2:] == canvas:
        return resized, placement
    left, top = int(placement.offset_x), int(placement.offset_y)
    padded = image.new_full((3, *canvas), PADDING_VALUE)
    padded[:, top : top + new_height, left : left + new_width] = resized
    return padded, placement


def base_size(height: int, width: int, rule: ResizeRule, canvas: Canvas) -> tuple[int, int, Placement]:
    """Height and width of the resized image, without bars, and its placement."""
    if rule.mode == "letterbox":
        return boxes.letterbox(height=height, width=width, canvas_height=canvas[0], canvas_width=canvas[1])
    if rule.mode == "stretch":
        new_height, new_width = canvas
    else:
        scale = min(canvas[0] / min(height, width), rule.max_size_px / max(height, width))
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    return new_height, new_width, Placement(new_width / width, new_height / height)


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """(3, H, W) uint8 -> (3, height, width) uint8, contiguous, linear, and without aliasing where it shrinks."""
    if image.shape[-2:] == (height, width):
        return image.contiguous()
    resized: Tensor = functional.resize(image, [height, width], antialias=True)  # type: ignore[attr-defined]
    return resized.contiguous()
