"""Flat shapes in image pixels, and how they become an antialiased tile with transparency."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from accel_det.data.street.light import Colour, Light
from accel_det.data.street.view import Point

# A pixel belongs to a thing from this opacity (of 255) on: less is a fringe that nobody would draw a box around.
OPAQUE = 80


class Polygon(NamedTuple):
    """A filled outline; shines: it has its own light."""

    points: Sequence[Point]
    colour: Colour
    shines: bool = False


class Stroke(NamedTuple):
    """A line through the points with round ends; width in pixels."""

    points: Sequence[Point]
    width: float
    colour: Colour


class Disc(NamedTuple):
    """An upright ellipse."""

    center: Point
    radius_x: float
    radius_y: float
    colour: Colour
    shines: bool = False


Shape = Polygon | Stroke | Disc


class Tile(NamedTuple):
    """A drawn thing.

    Attributes:
        image: RGBA, its left upper pixel lies at (left, top) of the scene.
        mask: (h, w) bool, the pixels that belong to the thing.
        box: (x1, y1, x2, y2) pixels of the scene around the mask, not clipped to the image.
    """

    image: Image.Image
    left: int
    top: int
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]


def extent(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) pixels around shapes, not fewer than one."""
    across: list[float] = []
    upright: list[float] = []
    for shape in shapes:
        if isinstance(shape, Disc):
            (x, y), radius_x, radius_y = shape.center, shape.radius_x, shape.radius_y
            across += (x - radius_x, x + radius_x)
            upright += (y - radius_y, y + radius_y)
        elif shape.points:
            margin = shape.width / 2 if isinstance(shape, Stroke) else 0.0
            xs, ys = zip(*shape.points, strict=True)
            across += (min(xs) - margin, max(xs) + margin)
            upright += (min(ys) - margin, max(ys) + margin)
    return min(across), min(upright), max(across), max(upright)


def draw_shape(
    pen: ImageDraw.ImageDraw, shape: Shape, *, left: float, top: float, scale: float, light: Light, depth: float
) -> None:
    """Paint one shape on a canvas whose pixel (0, 0) is (left, top) of the scene, magnified by scale.

    Args:
        depth: metres from the camera, for the air between.
    """
    if isinstance(shape, Disc):
        colour = light.tint(shape.colour, depth, shines=shape.shines)
        x, y = (shape.center[0] - left) * scale, (shape.center[1] - top) * scale
        across, upright = shape.radius_x * scale, shape.radius_y * scale
        pen.ellipse((x - across, y - upright, x + across, y + upright), fill=colour)
        return
    points = [((x - left) * scale, (y - top) * scale) for x, y in shape.points]
    if isinstance(shape, Polygon):
        pen.polygon(points, fill=light.tint(shape.colour, depth, shines=shape.shines))
        return
    colour = light.tint(shape.colour, depth)
    width = shape.width * scale
    pen.line(points, fill=colour, width=max(1, round(width)))
    if width > 2.5:
        for x, y in points:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=colour)


def rasterize(shapes: Sequence[Shape], *, light: Light, depth: float) -> Tile | None:
    """Draw shapes back to front as one thing, at its full extent.

    Args:
        shapes: pixels of the scene.
        depth: of the thing, metres.

    Returns:
        The tile, or None if not a pixel of it would be visible.
    """
    x1, y1, x2, y2 = extent(shapes)
    left, top = math.floor(x1), math.floor(y1)
    width, height = math.ceil(x2) - left + 1, math.ceil(y2) - top + 1
    scale = 3 if max(width, height) < 80 else 2
    canvas = Image.new("RGBA", (width * scale, height * scale))
    pen = ImageDraw.Draw(canvas)
    for shape in shapes:
        draw_shape(pen, shape, left=left, top=top, scale=scale, light=light, depth=depth)
    tile = canvas.reduce(scale)
    mask = np.asarray(tile.getchannel("A")) >= OPAQUE
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(columns) == 0:
        return None
    box = (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)
    return Tile(tile, left, top, mask, box)
