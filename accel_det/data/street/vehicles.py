"""Cars and buses: convex solids in the world, whose visible faces are drawn as flat polygons.

A vehicle is built in its own frame: forward, left, up; metres from the ground below its center.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accel_det.data.street.light import Colour, mixed, shaded
from accel_det.data.street.looks import BusLook, CarLook
from accel_det.data.street.people import Local, Place, to_world
from accel_det.data.street.shapes import Polygon, Shape
from accel_det.data.street.view import Point, View

GLASS: Colour = (62, 84, 102)
RUBBER: Colour = (28, 28, 30)
RIM: Colour = (176, 178, 182)


class _Rim(NamedTuple):
    """One edge of a solid that runs across the vehicle: at forward and up, half_width metres to each side."""

    forward: float
    up: float
    half_width: float


class _Face(NamedTuple):
    """A visible face: its pixels, its shade, and its place in the solid: -1 right side, -2 left side, else the strip's number."""

    points: list[Point]
    shade: float
    number: int


class Frame3(NamedTuple):
    """A vehicle's place, the view and the direction of the sun: what every part of it needs.

    Attributes:
        sun: azimuth shadows fall to, radians from +x.
        left_visible, front_visible: which side and which end look at the camera.
    """

    place: Place
    view: View
    sun: float
    left_visible: bool
    front_visible: bool

    def quad(self, corners: Sequence[Local]) -> list[Point]:
        return self.view.outline(to_world(corners, self.place))


def frame_of(place: Place, *, view: View, sun: float) -> Frame3:
    """Which side and end of a vehicle a camera sees."""
    to_x, to_y = view.x - place.x, view.y - place.y
    cos, sin = math.cos(place.heading), math.sin(place.heading)
    return Frame3(place, view, sun, -sin * to_x + cos * to_y > 0, cos * to_x + sin * to_y > 0)


def _faces(rims: Sequence[_Rim], frame: Frame3) -> list[_Face]:
    """The faces of a convex solid that look at the camera; rims run around it."""
    left = to_world([(rim.forward, rim.half_width, rim.up) for rim in rims], frame.place)
    right = to_world([(rim.forward, -rim.half_width, rim.up) for rim in rims], frame.place)
    center = ((left + right).mean(axis=0) / 2).tolist()
    corners = [(-2, left), (-1, right)]
    corners += [(i, np.array((left[i - 1], left[i], right[i], right[i - 1]))) for i in range(len(rims))]
    faces = []
    for number, polygon in corners:
        points = polygon.tolist()
        normal = _normal(points)
        if _dot(normal, _from(center, points[0])) < 0:
            normal = (-normal[0], -normal[1], -normal[2])
        if _dot(normal, _from(points[0], (frame.view.x, frame.view.y, frame.view.z))) <= 0:
            continue
        sunny = -(normal[0] * math.cos(frame.sun) + normal[1] * math.sin(frame.sun))
        faces.append(_Face(frame.view.outline(polygon), 0.84 + 0.14 * sunny + 0.2 * normal[2], number))
    return faces


def _from(start: Sequence[float], end: Sequence[float]) -> Local:
    return end[0] - start[0], end[1] - start[1], end[2] - start[2]


def _dot(first: Local, second: Local) -> float:
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def _normal(polygon: Sequence[Sequence[float]]) -> Local:
    """Unit normal, to one side, of a polygon that need not be quite flat. Source: Newell's method."""
    x = y = z = 0.0
    for i, (x2, y2, z2) in enumerate(polygon):
        x1, y1, z1 = polygon[i - 1]
        x += (y1 - y2) * (z1 + z2)
        y += (z1 - z2) * (x1 + x2)
        z += (x1 - x2) * (y1 + y2)
    length = math.sqrt(x * x + y * y + z * z) or 1.0
    return x / length, y / length, z / length


def _wheels(frame: Frame3, *, axles: Sequence[float], half_width: float, radius: float) -> list[Shape]:
    side = half_width if frame.left_visible else -half_width
    shapes: list[Shape] = []
    for axle in axles:
        for reach, colour in ((radius, RUBBER), (radius * 0.55, RIM)):
            rim = [
                (axle + reach * math.cos(a), side * 1.01, radius + reach * math.sin(a))
                for a in (math.pi * i / 8 for i in range(16))
            ]
            shapes.append(Polygon(frame.quad(rim), colour))
    return shapes


_CAR_BODY: dict[str, tuple[tuple[float, float], ...]] = {
    "hatch": ((-1.95, 0.3), (-2.0, 0.7), (-1.9, 0.95), (0.95, 0.98), (1.85, 0.8), (2.0, 0.6), (1.95, 0.28)),
    "sedan": ((-2.25, 0.3), (-2.3, 0.75), (-2.2, 0.95), (0.95, 0.97), (2.1, 0.8), (2.25, 0.6), (2.2, 0.28)),
    "estate": ((-2.25, 0.3), (-2.3, 0.7), (-2.25, 0.95), (1.0, 0.97), (2.1, 0.8), (2.25, 0.6), (2.2, 0.28)),
    "suv": ((-2.15, 0.36), (-2.2, 0.8), (-2.15, 1.08), (1.1, 1.1), (2.05, 0.98), (2.2, 0.7), (2.15, 0.36)),
}
_CAR_CABIN: dict[str, tuple[tuple[float, float], ...]] = {
    "hatch": ((-1.88, 0.93), (-1.6, 1.5), (0.2, 1.52), (1.0, 0.95)),
    "sedan": ((-1.7, 0.93), (-1.0, 1.44), (0.25, 1.46), (1.05, 0.95)),
    "estate": ((-2.22, 0.93), (-2.0, 1.48), (0.3, 1.5), (1.1, 0.95)),
    "suv": ((-2.1, 1.06), (-1.9, 1.74), (0.35, 1.76), (1.15, 1.08)),
}


def car(look: CarLook, place: Place, *, view: View, sun: float) -> list[Shape]:
    """A car, back to front; sun: azimuth shadows fall to, radians from +x."""
    frame = frame_of(place, view=view, sun=sun)
    body, cabin = _CAR_BODY[look.model], _CAR_CABIN[look.model]
    half = 0.9
    shapes: list[Shape] = [
        Polygon(face, RUBBER) for face in [_underside(frame, length=body[-1][0] * 1.7, half_width=half)]
    ]
    body_rims = [_Rim(x, z, half if 0.4 < z < 0.9 else half - 0.05) for x, z in body]
    shapes += [Polygon(face.points, shaded(look.paint, face.shade)) for face in _faces(body_rims, frame)]
    shapes += _car_ends(body, frame, half_width=half)
    shapes += _car_side(look, body, frame, half_width=half)
    shapes += _wheels(frame, axles=(body[0][0] * 0.64, body[-1][0] * 0.66), half_width=half, radius=0.33)
    cabin_rims = [_Rim(x, z, 0.84 if z < 1.2 else 0.66) for x, z in cabin]
    for face in _faces(cabin_rims, frame):
        colour = look.roof if face.number == 2 else look.paint
        shapes.append(Polygon(face.points, shaded(colour, face.shade)))
        if face.number in (-1, -2):
            side = 1 if face.number == -2 else -1
            shapes += _car_windows(cabin, frame, side=side)
        elif face.number in (1, 3):
            shapes.append(Polygon(_shrunk(face.points, 0.86), shaded(mixed(GLASS, (150, 190, 215), 0.25), face.shade)))
    if look.roof_box:
        top = cabin[1][1]
        box = [_Rim(-1.1, top, 0.3), _Rim(-1.0, top + 0.3, 0.28), _Rim(0.1, top + 0.3, 0.28), _Rim(0.3, top, 0.3)]
        shapes += [Polygon(face.points, shaded((44, 46, 50), face.shade)) for face in _faces(box, frame)]
    return shapes


def _underside(frame: Frame3, *, length: float, half_width: float) -> list[Point]:
    inner = half_width * 0.92
    side = inner if frame.left_visible else -inner
    return frame.quad(
        [(-length / 2, side, 0.04), (length / 2, side, 0.04), (length / 2, side, 0.5), (-length / 2, side, 0.5)]
    )


def _car_windows(cabin: Sequence[tuple[float, float]], frame: Frame3, *, side: int) -> list[Shape]:
    (x0, z0), (x1, z1), (x2, z2), (x3, z3) = cabin
    low, high = z0 + 0.08, z1 - 0.1

    def at(x: float, z: float) -> Local:
        return x, side * (0.845 + (0.66 - 0.84) * (z - z0) / (z1 - z0)), z

    slope_back, slope_front = (x1 - x0) / (z1 - z0), (x3 - x2) / (z2 - z3)
    post = x0 + 0.5 * (x3 - x0) - 0.05
    rear = [at(x0 + 0.28, low), at(x0 + 0.28 + slope_back * (high - low), high), at(post, high), at(post, low)]
    front = [
        at(post + 0.12, low),
        at(post + 0.12, high),
        at(x3 - 0.3 - slope_front * (high - low), high),
        at(x3 - 0.3, low),
    ]
    return [Polygon(frame.quad(pane), GLASS) for pane in (rear, front)]


def _car_ends(body: Sequence[tuple[float, float]], frame: Frame3, *, half_width: float) -> list[Shape]:
    """Lights, plate and grille of the end that is seen."""
    front = frame.front_visible
    (x0, z0), (x1, z1) = (body[5], body[4]) if front else (body[1], body[2])
    nose = x0 + (0.02 if front else -0.02)
    shapes: list[Shape] = []

    def patch(left: float, right: float, low: float, high: float, colour: Colour, *, shines: bool = False) -> None:
        slope = (x1 - x0) / (z1 - z0) * max(0.0, high - z0)
        corners = [(nose, left, low), (nose, right, low), (nose + slope, right, high), (nose + slope, left, high)]
        shapes.append(Polygon(frame.quad(corners), colour, shines))

    patch(-half_width * 0.95, half_width * 0.95, z0 - 0.3, z0 - 0.16, (48, 50, 54))
    patch(-0.26, 0.26, z0 - 0.14, z0 - 0.02, (236, 234, 224))
    for side in (-1, 1):
        patch(side * 0.52, side * 0.84, z0 - 0.02, z1 - 0.03, (255, 248, 214) if front else (220, 26, 28), shines=True)
    if front:
        patch(-0.45, 0.45, z0 + 0.0, z0 + 0.1, (40, 42, 46))
    return shapes


def _car_side(look: CarLook, body: Sequence[tuple[float, float]], frame: Frame3, *, half_width: float) -> list[Shape]:
    side = (half_width + 0.005) * (1 if frame.left_visible else -1)
    x0, x1 = body[1][0], body[5][0]
    sill = [(x0 * 0.96, side, 0.3), (x1 * 0.96, side, 0.3), (x1 * 0.96, side, 0.42), (x0 * 0.96, side, 0.42)]
    door = [(-0.1, side, 0.45), (-0.05, side, 0.45), (-0.05, side, 0.9), (-0.1, side, 0.9)]
    return [Polygon(frame.quad(sill), (52, 54, 58)), Polygon(frame.quad(door), shaded(look.paint, 0.6))]


def _shrunk(points: Sequence[Point], factor: float) -> list[Point]:
    if not points:
        return []
    x = sum(point[0] for point in points) / len(points)
    y = sum(point[1] for point in points) / len(points)
    return [(x + (px - x) * factor, y + (py - y) * factor) for px, py in points]


def bus(look: BusLook, place: Place, *, view: View, sun: float) -> list[Shape]:
    """A city bus, back to front; sun: azimuth shadows fall to, radians from +x."""
    frame = frame_of(place, view=view, sun=sun)
    half, end, top = 1.25, look.length / 2, 3.0
    rims = [
        _Rim(-end, 0.34, half), _Rim(-end, top - 0.15, half), _Rim(-end + 0.2, top, half - 0.1),
        _Rim(end - 0.45, top, half - 0.1), _Rim(end - 0.12, top - 0.2, half), _Rim(end, 1.2, half), _Rim(end, 0.34, half),
    ]  # fmt: skip
    shapes: list[Shape] = [Polygon(_underside(frame, length=look.length * 0.9, half_width=half), RUBBER)]
    for face in _faces(rims, frame):
        colour = look.roof if face.number in (2, 3) else look.paint
        shapes.append(Polygon(face.points, shaded(colour, face.shade)))
    shapes += _bus_side(look, frame, half_width=half, end=end)
    shapes += _bus_end(look, frame, half_width=half, end=end)
    return shapes + _wheels(frame, axles=(-end * 0.55, end * 0.6), half_width=half, radius=0.46)


def _bus_side(look: BusLook, frame: Frame3, *, half_width: float, end: float) -> list[Shape]:
    side = (half_width + 0.01) * (1 if frame.left_visible else -1)

    def pane(x0: float, x1: float, low: float, high: float, colour: Colour) -> Polygon:
        return Polygon(frame.quad([(x0, side, low), (x1, side, low), (x1, side, high), (x0, side, high)]), colour)

    count = round(look.length / 1.4)
    pitch = (2 * end - 0.7) / count
    shapes: list[Shape] = [pane(-end + 0.02, end - 0.02, 0.85, 1.15, look.stripe)]
    shapes.append(pane(-end + 0.2, end - 0.25, 1.4, 2.55, (38, 42, 48)))
    for i in range(count):
        x0 = -end + 0.35 + i * pitch
        shapes.append(pane(x0, x0 + pitch - 0.16, 1.48, 2.47, mixed(GLASS, (170, 205, 224), 0.35 if i % 2 else 0.22)))
    if not frame.left_visible:
        for x0 in (end - 1.35, -0.4):
            shapes.append(pane(x0, x0 + 1.0, 0.42, 2.5, (44, 48, 54)))
            shapes += [
                pane(x0 + 0.08 + t, x0 + 0.46 + t, 0.6, 2.4, mixed(GLASS, (170, 205, 224), 0.3)) for t in (0.0, 0.46)
            ]
    return shapes


def _bus_end(look: BusLook, frame: Frame3, *, half_width: float, end: float) -> list[Shape]:
    front = frame.front_visible
    x = (end + 0.01) if front else -(end + 0.01)

    def pane(left: float, right: float, low: float, high: float, colour: Colour, *, shines: bool = False) -> Polygon:
        lean = (0.12 / 1.6) if front else 0.0
        near, far = x - lean * max(0.0, low - 1.2), x - lean * max(0.0, high - 1.2)
        return Polygon(
            frame.quad([(near, left, low), (near, right, low), (far, right, high), (far, left, high)]), colour, shines
        )

    glass = mixed(GLASS, (170, 205, 224), 0.3)
    shapes: list[Shape] = [pane(-half_width, half_width, 0.34, 0.6, (46, 48, 52))]
    if front:
        shapes += [pane(-1.14, 1.14, 1.2, 2.4, glass), pane(-1.0, 1.0, 2.45, 2.74, (24, 24, 26))]
        shapes += [pane(t, t + 0.22, 2.52, 2.67, (255, 176, 44), shines=True) for t in (-0.8, -0.4, -0.12, 0.2, 0.56)]
        shapes.append(pane(-0.03, 0.03, 1.2, 2.4, (38, 42, 48)))
    else:
        shapes += [pane(-0.95, 0.95, 1.55, 2.45, glass), pane(-0.7, 0.7, 0.75, 1.25, shaded(look.paint, 0.7))]
    lamp = (255, 248, 214) if front else (220, 26, 28)
    shapes += [pane(side * 0.75, side * 1.15, 0.68, 0.9, lamp, shines=True) for side in (-1, 1)]
    return shapes
