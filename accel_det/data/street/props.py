"""Things that stand in the street: they hide objects, and some resemble them."""

import math

import numpy as np

from accel_det.data.street.draws import Draws
from accel_det.data.street.layout import Prop
from accel_det.data.street.light import Colour, shaded
from accel_det.data.street.shapes import Disc, Polygon, Shape, Stroke
from accel_det.data.street.view import Point, View

LAMP_HEIGHT = 5.2
# What would hide much of the picture is not put right before the camera.
_NEAREST_M = {"tree": 10.0, "lamp": 7.0, "sign": 6.0, "parasol": 8.0}


class _Pen:
    """Upright shapes in metres around the foot of a thing, which always faces the camera."""

    def __init__(self, foot: Point, scale: float) -> None:
        self.foot, self.scale, self.shapes = foot, scale, list[Shape]()

    def at(self, x: float, z: float) -> Point:
        """Metres to the right of and above the foot -> pixels."""
        return self.foot[0] + x * self.scale, self.foot[1] - z * self.scale

    def line(self, *points: Point, width: float, colour: Colour) -> None:
        self.shapes.append(Stroke([self.at(*point) for point in points], width * self.scale, colour))

    def area(self, *points: Point, colour: Colour) -> None:
        self.shapes.append(Polygon([self.at(*point) for point in points], colour))

    def box(self, left: float, right: float, low: float, high: float, colour: Colour) -> None:
        self.area((left, low), (right, low), (right, high), (left, high), colour=colour)

    def disc(
        self, x: float, z: float, radius_x: float, radius_z: float, colour: Colour, *, shines: bool = False
    ) -> None:
        self.shapes.append(Disc(self.at(x, z), radius_x * self.scale, radius_z * self.scale, colour, shines))


def prop_shapes(prop: Prop, *, view: View, lamps_lit: bool) -> tuple[list[Shape], float]:
    """The thing, back to front, and its depth in metres; nothing where it is out of sight."""
    pixels, depths = view.project(np.array((prop.x, prop.y, 0.0)))
    depth = float(depths)
    if depth < _NEAREST_M.get(prop.kind, 4.0):
        return [], depth
    pen = _Pen((float(pixels[0]), float(pixels[1])), view.focal * prop.size / depth)
    reach = (2.0 if prop.kind == "tree" else 1.2) * pen.scale
    faint = pen.scale < view.height / 40 and prop.kind not in ("tree", "lamp")
    if faint or pen.foot[0] < -reach or pen.foot[0] > view.width + reach:
        return [], depth
    draws = Draws(prop.number)
    if prop.kind == "tree":
        _tree(pen, draws)
    elif prop.kind in ("lamp", "signal", "sign", "bollard", "cone"):
        _post(pen, draws, prop, lamps_lit=lamps_lit)
    else:
        _furniture(pen, draws, prop.kind)
    return pen.shapes, depth


def _tree(pen: _Pen, draws: Draws) -> None:
    green = draws.choice(((64, 120, 52), (88, 136, 60), (52, 102, 66), (150, 138, 48), (196, 120, 44), (206, 150, 172)))
    trunk = (92, 68, 50)
    pen.line((0.0, 0.0), (0.05, 2.6), width=0.2, colour=trunk)
    pen.line((0.0, 2.2), (0.4, 3.3), width=0.12, colour=shaded(trunk, 0.9))
    pen.line((0.0, 2.3), (-0.4, 3.4), width=0.12, colour=shaded(trunk, 0.8))
    for ring, shade in ((1.0, 0.72), (0.8, 0.9), (0.55, 1.08)):
        for _ in range(7):
            angle, reach = draws.uniform(0, 2 * math.pi), draws.uniform(0.3, 0.95) * ring
            size = draws.uniform(0.4, 0.65)
            pen.disc(
                reach * 1.15 * math.cos(angle), 4.2 + (1 - ring) * 0.5 + reach * math.sin(angle), size, size * 0.85,
                shaded(green, shade * draws.uniform(0.92, 1.08)),
            )  # fmt: skip


def _post(pen: _Pen, draws: Draws, prop: Prop, *, lamps_lit: bool) -> None:
    metal = draws.choice(((60, 64, 66), (96, 100, 102), (44, 66, 58)))
    if prop.kind == "lamp":
        pen.line((0.0, 0.0), (0.0, LAMP_HEIGHT / prop.size), width=0.13, colour=metal)
        pen.line((0.0, 0.0), (0.0, 0.8), width=0.22, colour=metal)
        lamp = (255, 232, 170) if lamps_lit else (206, 208, 204)
        pen.box(-0.2, 0.2, LAMP_HEIGHT / prop.size, LAMP_HEIGHT / prop.size + 0.1, metal)
        pen.disc(0.0, LAMP_HEIGHT / prop.size - 0.12, 0.24, 0.18, lamp, shines=lamps_lit)
    elif prop.kind == "signal":
        pen.line((0.0, 0.0), (0.0, 3.0), width=0.11, colour=metal)
        pen.box(-0.17, 0.17, 2.1, 3.1, (34, 36, 36))
        for z, colour in ((2.9, (110, 34, 30)), (2.6, (120, 92, 30)), (2.3, (60, 220, 120))):
            pen.disc(0.0, z, 0.1, 0.1, colour, shines=z < 2.5)
    elif prop.kind == "sign":
        pen.line((0.0, 0.0), (0.0, 2.5), width=0.08, colour=(140, 142, 144))
        style = draws.integer(0, 4)
        if style == 0:
            pen.disc(0.0, 2.4, 0.34, 0.34, (200, 34, 38))
            pen.box(-0.22, 0.22, 2.34, 2.46, (240, 240, 236))
        elif style == 1:
            pen.area((-0.4, 2.1), (0.4, 2.1), (0.0, 2.8), colour=(200, 34, 38))
            pen.area((-0.25, 2.18), (0.25, 2.18), (0.0, 2.62), colour=(240, 238, 230))
        elif style == 2:
            pen.box(-0.32, 0.32, 2.1, 2.74, (36, 84, 166))
            # A pedestrian on a sign is a person to a careless eye, and none in the truth.
            pen.disc(0.0, 2.62, 0.06, 0.06, (240, 240, 236))
            pen.line((0.0, 2.54), (0.0, 2.36), width=0.1, colour=(240, 240, 236))
            pen.line((-0.12, 2.16), (0.0, 2.36), (0.12, 2.16), width=0.07, colour=(240, 240, 236))
        else:
            pen.disc(0.0, 2.4, 0.34, 0.34, (36, 84, 166))
            pen.disc(0.0, 2.4, 0.2, 0.2, (232, 232, 230))
    elif prop.kind == "cone":
        pen.area((-0.2, 0.0), (0.2, 0.0), (0.05, 0.65), (-0.05, 0.65), colour=(236, 104, 34))
        pen.area((-0.14, 0.22), (0.14, 0.22), (0.1, 0.4), (-0.1, 0.4), colour=(244, 240, 232))
    else:
        pen.line((0.0, 0.05), (0.0, 0.85), width=0.18, colour=metal)
        pen.line((0.0, 0.62), (0.0, 0.7), width=0.19, colour=(226, 226, 220))


def _furniture(pen: _Pen, draws: Draws, kind: str) -> None:
    colour = draws.choice(((196, 50, 46), (232, 176, 48), (46, 104, 150), (60, 110, 80), (92, 94, 98)))
    if kind == "bin":
        pen.box(-0.24, 0.24, 0.0, 0.85, shaded(colour, 0.8))
        pen.box(-0.28, 0.28, 0.85, 0.98, shaded(colour, 0.6))
    elif kind == "box":
        pen.box(-0.05, 0.05, 0.0, 0.6, (70, 72, 76))
        pen.box(-0.3, 0.3, 0.55, 1.3, colour)
        pen.disc(0.0, 1.3, 0.3, 0.14, colour)
        pen.box(-0.2, 0.2, 1.05, 1.12, (40, 40, 42))
    elif kind == "planter":
        pen.area((-0.4, 0.5), (0.4, 0.5), (0.3, 0.0), (-0.3, 0.0), colour=(150, 96, 68))
        for _ in range(9):
            bloom = draws.choice(((70, 124, 58), (70, 124, 58), (90, 140, 66), (226, 80, 96), (240, 196, 70)))
            pen.disc(draws.uniform(-0.4, 0.4), draws.uniform(0.55, 1.0), 0.17, 0.15, bloom)
    elif kind == "parasol":
        pen.line((0.0, 0.0), (0.0, 2.2), width=0.07, colour=(120, 90, 60))
        pen.box(-0.4, 0.4, 0.68, 0.75, (220, 214, 204))
        for i in range(4):
            left, right = -1.0 + 0.5 * i, -0.5 + 0.5 * i
            stripe = colour if i % 2 else (240, 234, 220)
            pen.area((left, 1.95), (right, 1.95), (0.0, 2.6), colour=stripe)
    else:
        pen.area((-0.3, 0.0), (0.3, 0.0), (0.26, 1.0), (-0.26, 1.0), colour=(66, 50, 40))
        pen.area((-0.22, 0.15), (0.22, 0.15), (0.2, 0.92), (-0.2, 0.92), colour=(44, 52, 50))
        for z in (0.4, 0.55, 0.7):
            pen.line((-0.14, z), (0.14, z), width=0.03, colour=(226, 222, 210))
