"""A picture of box sizes with the anchors among them."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from accel_det.report.pictures import INK, MUTED, PAPER, Color

Array = NDArray[np.float64]

SIDE_PX = 900
_MARGIN_PX = 70
_TEXT_PX = 15
_FEW, _MANY = np.array((190, 208, 230)), np.array((12, 44, 96))
_FOUND: Color = (230, 57, 70)
_OLD: Color = (240, 150, 0)
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def draw_anchors(sizes: Array, anchors: Array, *, before: Array, title: str) -> Image.Image:
    """Width against height on logarithmic axes: the darker a dot, the more boxes have that size.

    Args:
        sizes: (N, 2) width and height of boxes in pixels, above 0.
        anchors: (K, 2) drawn as filled circles.
        before: (M, 2) the anchors they would replace, drawn as hollow squares.
        title: above the picture.

    Returns:
        A square picture of `SIDE_PX`.
    """
    everything = np.concatenate((sizes, anchors, before))
    axis = _Axis(float(everything.min()) / 1.25, float(everything.max()) * 1.25)
    picture = Image.fromarray(_density(axis.place(sizes)))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=_TEXT_PX)
    _draw_axes(draw, axis, font)
    for x, y in axis.place(before):
        draw.rectangle((x - 6, y - 6, x + 6, y + 6), outline=_OLD, width=2)
    for number, (x, y) in enumerate(axis.place(anchors)):
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=_FOUND, outline=PAPER)
        draw.text((x, y), str(number), PAPER, font, anchor="mm")
    draw.text((_MARGIN_PX, _MARGIN_PX * 0.3), title, INK, font, anchor="lm")
    draw.text((_MARGIN_PX, _MARGIN_PX * 0.7), f"circles: {len(anchors)} fitted anchors", _FOUND, font, anchor="lm")
    draw.text(
        (SIDE_PX / 2, _MARGIN_PX * 0.7), f"squares: {len(before)} anchors of the network", _OLD, font, anchor="lm"
    )
    return picture


class _Axis:
    """From pixels of the network's input to those of the picture, the same on both axes."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.highest = lowest, highest
        self._scale = (SIDE_PX - 2 * _MARGIN_PX) / math.log(highest / lowest)

    def place(self, sizes: Array) -> Array:
        """(N, 2) width and height -> x from the left and y from the top of the picture."""
        along = _MARGIN_PX + np.log(sizes / self.lowest) * self._scale
        placed: Array = np.stack((along[:, 0], SIDE_PX - along[:, 1]), axis=1)
        return placed


def _density(places: Array) -> NDArray[np.uint8]:
    """(SIDE, SIDE, 3) paper with a dot of 3x3 pixels for each place, darker where there are many."""
    counts = np.zeros((SIDE_PX, SIDE_PX))
    columns, rows = places.round().astype(np.int64).T
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            np.add.at(counts, (rows + dy, columns + dx), 1)
    share = np.log1p(counts) / max(math.log1p(float(counts.max())), 1e-9)
    colors = _FEW + (_MANY - _FEW) * share[..., None]
    return np.where(counts[..., None] > 0, colors, np.array(PAPER)).round().astype(np.uint8)


def _draw_axes(draw: ImageDraw.ImageDraw, axis: _Axis, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    low, high = _MARGIN_PX, SIDE_PX - _MARGIN_PX
    draw.rectangle((low, low, high, high), outline=MUTED)
    for tick in _TICKS:
        if not axis.lowest <= tick <= axis.highest:
            continue
        x, y = axis.place(np.array([[tick, tick]], dtype=np.float64))[0]
        draw.line((x, high, x, high + 6), MUTED)
        draw.line((low - 6, y, low, y), MUTED)
        draw.text((x, high + 16), str(tick), MUTED, font, anchor="mm")
        draw.text((low - 10, y), str(tick), MUTED, font, anchor="rm")
    draw.text(((low + high) / 2, high + 40), "width, pixels of the network's input", INK, font, anchor="mm")
    draw.text((8, low - 14), "height", INK, font, anchor="lm")
