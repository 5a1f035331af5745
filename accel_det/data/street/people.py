"""People on foot and on bicycles, as jointed figures in the world that are drawn as flat shapes.

A figure is built in its own frame (forward, left, up; metres from the ground below it), then turned, placed and projected.
Letters: J joints.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accel_det.data.street.light import Colour, mixed, shaded
from accel_det.data.street.looks import CyclistLook, PersonLook
from accel_det.data.street.shapes import Disc, Polygon, Shape, Stroke
from accel_det.data.street.view import Array, Point, View

Local = tuple[float, float, float]


class Place(NamedTuple):
    """Where something stands: metres, and the direction it faces in radians from +x."""

    x: float
    y: float
    heading: float


class _Aspect(NamedTuple):
    """How a figure is seen.

    Attributes:
        front: 1 if it faces the camera, -1 if it shows its back; turn: 1 if it faces the right edge of the image, -1 the left.
        left_is_near: whether its left side is the nearer one.
        scale: pixels per metre at the figure.
    """

    front: float
    turn: float
    left_is_near: bool
    scale: float


def to_world(local: Sequence[Local], place: Place) -> Array:
    """(J) forward, left, up -> (J, 3) world metres."""
    points = np.array(local)
    cos, sin = math.cos(place.heading), math.sin(place.heading)
    x = place.x + points[:, 0] * cos - points[:, 1] * sin
    y = place.y + points[:, 0] * sin + points[:, 1] * cos
    return np.stack((x, y, points[:, 2]), axis=1)


def _pixels(local: Sequence[Local], place: Place, view: View) -> list[Point]:
    pixels, _ = view.project(to_world(local, place))
    return [(x, y) for x, y in pixels.tolist()]


def _aspect(place: Place, view: View) -> _Aspect:
    away_x, away_y = place.x - view.x, place.y - view.y
    distance = max(math.hypot(away_x, away_y), 1e-6)
    cos, sin = math.cos(place.heading), math.sin(place.heading)
    front = -(cos * away_x + sin * away_y) / distance
    turn = (cos * away_y - sin * away_x) / distance
    depth = float(view.camera_space(np.array((place.x, place.y, 0.9)))[2])
    return _Aspect(front, turn, turn < 0, view.focal / max(depth, 0.4))


def _leg(hip: Local, *, swing: float, bend: float, height: float) -> tuple[Local, Local, Local]:
    """Knee, ankle and toe of a leg; swing: of the thigh forward, radians; bend: of the knee, radians."""
    forward, left, up = hip
    knee = (forward + math.sin(swing) * 0.245 * height, left, up - math.cos(swing) * 0.245 * height)
    shank = swing - bend
    ankle = (knee[0] + math.sin(shank) * 0.225 * height, left, knee[2] - math.cos(shank) * 0.225 * height)
    return knee, ankle, (ankle[0] + 0.075 * height, left, ankle[2] - 0.012 * height)


def _walker_joints(look: PersonLook, *, phase: float, walking: bool) -> dict[str, Local]:
    height, build = look.height, look.build
    reach = 0.5 if walking else 0.04
    joints: dict[str, Local] = {
        "neck": (0.0, 0.0, 0.815 * height),
        "waist": (0.0, 0.0, 0.49 * height),
        "head": (0.015 * height, 0.0, 0.905 * height),
        "pack": (-0.095 * height, 0.0, 0.69 * height),
    }
    for name, side, shift in (("left", 1, 0.0), ("right", -1, math.pi)):
        step = math.sin(phase + shift)
        hip = (0.0, side * 0.055 * height * build, 0.49 * height)
        bend = 0.12 + (0.75 * max(0.0, math.cos(phase + shift)) if walking else 0.0)
        joints[f"{name} hip"] = hip
        joints[f"{name} knee"], joints[f"{name} ankle"], joints[f"{name} toe"] = _leg(
            hip, swing=reach * step, bend=bend, height=height
        )
        shoulder = (0.0, side * 0.118 * height * build, 0.795 * height)
        arm = -0.75 * reach * step
        elbow = (math.sin(arm) * 0.165 * height, shoulder[1] * 1.12, shoulder[2] - math.cos(arm) * 0.165 * height)
        fore = arm + 0.35
        joints[f"{name} shoulder"], joints[f"{name} elbow"] = shoulder, elbow
        joints[f"{name} hand"] = (
            elbow[0] + math.sin(fore) * 0.15 * height,
            elbow[1],
            elbow[2] - math.cos(fore) * 0.15 * height,
        )
    sole = min(joints["left ankle"][2], joints["right ankle"][2]) - 0.025 * height
    return {name: (forward, left, up - sole) for name, (forward, left, up) in joints.items()}


def walker(look: PersonLook, place: Place, *, phase: float, walking: bool, view: View) -> list[Shape]:
    """A person on foot, back to front.

    Args:
        phase: of the gait, radians; one turn is two steps.
        walking: False stands still.
    """
    joints = _walker_joints(look, phase=phase, walking=walking)
    pixels = dict(zip(joints, _pixels(list(joints.values()), place, view), strict=True))
    aspect = _aspect(place, view)
    unit = aspect.scale * look.height
    near, far = ("left", "right") if aspect.left_is_near else ("right", "left")
    behind, before = _pack(look, pixels, aspect)
    shapes: list[Shape] = [*_long_hair(look, pixels, aspect, behind=True), *behind]
    shapes += _arm(look, pixels, far, unit=unit, shade=0.82)
    shapes += _leg_shapes(look, pixels, far, unit=unit, shade=0.8)
    shapes += _leg_shapes(look, pixels, near, unit=unit, shade=1.0)
    shapes += _torso(look, pixels, aspect)
    shapes += before
    shapes += _head(look, pixels["head"], aspect, helmet=None)
    shapes += _long_hair(look, pixels, aspect, behind=False)
    shapes += _arm(look, pixels, near, unit=unit, shade=1.0)
    if look.bag == "tote":
        x, y = pixels[f"{near} hand"]
        size = 0.07 * unit
        corners = [
            (x - size, y + size * 0.5),
            (x + size, y + size * 0.5),
            (x + size, y + size * 2.3),
            (x - size, y + size * 2.3),
        ]
        shapes += [
            Stroke([corners[0], (x, y), corners[1]], 0.012 * unit, look.bag_colour),
            Polygon(corners, look.bag_colour),
        ]
    return shapes


def _arm(look: PersonLook, pixels: dict[str, Point], side: str, *, unit: float, shade: float) -> list[Shape]:
    shoulder, elbow, hand = pixels[f"{side} shoulder"], pixels[f"{side} elbow"], pixels[f"{side} hand"]
    sleeve = shaded(look.second if look.pattern == "block" else look.top, 0.92 * shade)
    bare = look.legs_style == "shorts"
    fore = look.skin if bare else sleeve
    width = 0.058 * unit * look.build
    return [
        Stroke((elbow, hand), width * 0.85, shaded(fore, shade)),
        Stroke((shoulder, elbow), width, sleeve),
        Disc(hand, width * 0.5, width * 0.55, shaded(look.skin, shade)),
    ]


def _leg_shapes(look: PersonLook, pixels: dict[str, Point], side: str, *, unit: float, shade: float) -> list[Shape]:
    hip, knee, ankle, toe = (pixels[f"{side} {joint}"] for joint in ("hip", "knee", "ankle", "toe"))
    cloth, skin = shaded(look.legs, shade), shaded(look.skin, shade)
    bare_below = look.legs_style in ("shorts", "skirt")
    width = 0.085 * unit * look.build
    return [
        Stroke((ankle, toe), width * 0.6, shaded(look.shoes, shade)),
        Stroke((knee, ankle), width * 0.78, skin if bare_below else cloth),
        Stroke((hip, knee), width, skin if look.legs_style == "skirt" else cloth),
    ]


def _torso(look: PersonLook, pixels: dict[str, Point], aspect: _Aspect) -> list[Shape]:
    unit = aspect.scale * look.height
    half = math.hypot(0.122 * aspect.front, 0.08 * aspect.turn) * unit * look.build
    (neck_x, neck_y), (waist_x, waist_y) = pixels["neck"], pixels["waist"]

    def band(upper: float, lower: float, colour: Colour, *, left: float = -1.0, right: float = 1.0) -> Polygon:
        points: list[Point] = []
        for t, edge in ((upper, left), (upper, right), (lower, right), (lower, left)):
            reach = half * (1.0 - 0.22 * min(t, 1.0) + 0.3 * max(t - 1.0, 0.0))
            points.append((neck_x + (waist_x - neck_x) * t + edge * reach, neck_y + (waist_y - neck_y) * t))
        return Polygon(points, colour)

    shapes: list[Shape] = []
    if look.legs_style == "skirt":
        shapes.append(band(0.9, 1.75, look.legs))
    if look.legs_style == "coat":
        shapes.append(band(0.9, 1.85, shaded(look.top, 0.9)))
    shapes += [Disc((neck_x, neck_y + 0.03 * unit), half * 0.93, 0.045 * unit, look.top), band(0.1, 1.08, look.top)]
    if look.pattern == "stripes":
        shapes += [band(t, t + 0.13, look.second) for t in (0.22, 0.48, 0.74)]
    if look.pattern == "block":
        shapes.append(band(0.1, 0.45, look.second))
    if look.pattern == "open" and aspect.front > 0:
        shift = 0.55 * aspect.turn
        shapes.append(band(0.08, 1.08, look.second, left=shift - 0.3, right=shift + 0.3))
    if look.legs_style != "coat":
        shapes.append(band(1.0, 1.1, shaded(look.legs, 0.7)))
    if look.bag == "shoulder":
        strap = [(neck_x + half * 0.75, neck_y + 0.02 * unit), (waist_x - half * 0.8, waist_y)]
        bag = (waist_x - half * 0.95, waist_y + 0.02 * unit)
        shapes += [
            Stroke(strap, 0.022 * unit, shaded(look.bag_colour, 0.7)),
            Disc(bag, 0.065 * unit, 0.05 * unit, look.bag_colour),
        ]
    return shapes


def _pack(look: PersonLook, pixels: dict[str, Point], aspect: _Aspect) -> tuple[list[Shape], list[Shape]]:
    """A backpack: the shapes behind the torso and those in front of it."""
    if look.bag != "backpack":
        return [], []
    unit = aspect.scale * look.height
    across = math.hypot(0.09 * aspect.front, 0.05 * aspect.turn) * unit
    x, y = pixels["pack"]
    pack: list[Shape] = [
        Disc((x, y), across, 0.115 * unit, look.bag_colour),
        Disc((x, y + 0.05 * unit), across * 0.7, 0.04 * unit, shaded(look.bag_colour, 0.75)),
    ]
    return (pack, []) if aspect.front > -0.15 else ([], pack)


def _long_hair(look: PersonLook, pixels: dict[str, Point], aspect: _Aspect, *, behind: bool) -> list[Shape]:
    """Hair that falls on the back: behind the body of one who faces us, before that of one who walks away."""
    if look.hair_style != "long" or behind != (aspect.front > 0.1):
        return []
    (x, y), unit = pixels["head"], aspect.scale * look.height
    back = x - 0.035 * unit * aspect.turn
    return [Stroke(((back, y - 0.01 * unit), (back, y + 0.115 * unit)), 0.115 * unit, look.hair)]


def _head(look: PersonLook, center: Point, aspect: _Aspect, *, helmet: Colour | None) -> list[Shape]:
    unit = aspect.scale * look.height
    x, y = center
    radius = 0.066 * unit
    shapes: list[Shape] = [Stroke(((x, y + radius), (x, y + radius * 1.5)), radius * 0.9, shaded(look.skin, 0.85))]
    crown = look.skin if look.hair_style == "bald" else look.hair
    if look.hair_style == "bun":
        shapes.append(Disc((x - radius * 0.7 * aspect.turn, y - radius * 1.1), radius * 0.45, radius * 0.45, look.hair))
    shapes.append(Disc((x, y - radius * 0.1), radius, radius * 1.18, crown))
    if aspect.front > -0.45:
        face_x = x + radius * 0.36 * aspect.turn
        width = radius * (0.62 + 0.24 * max(aspect.front, 0.0))
        shapes.append(Disc((face_x, y + radius * 0.2), width, radius * 0.9, look.skin))
        if radius > 4 and aspect.front > 0.1:
            shapes += [
                Disc(
                    (face_x + side * width * 0.4 + aspect.turn * width * 0.25, y + radius * 0.12),
                    radius * 0.1,
                    radius * 0.13,
                    (36, 30, 30),
                )
                for side in (-1, 1)
            ]
            shapes.append(
                Disc(
                    (face_x + aspect.turn * width * 0.3, y + radius * 0.66),
                    radius * 0.22,
                    radius * 0.08,
                    mixed(look.skin, (170, 40, 50), 0.6),
                )
            )
    hat = helmet or look.hat
    if hat is not None:
        brim = x + radius * 0.5 * aspect.turn
        shapes.append(Polygon(_dome(x, y - radius * 0.35, radius * 1.1, radius * 1.0), hat))
        shapes.append(Disc((brim, y - radius * 0.38), radius * 1.05, radius * 0.2, shaded(hat, 0.75)))
    return shapes


def _dome(x: float, y: float, radius_x: float, radius_y: float) -> list[Point]:
    angles = [math.pi * i / 8 for i in range(9)]
    return [(x - radius_x * math.cos(angle), y - radius_y * math.sin(angle)) for angle in angles]


def cyclist(look: CyclistLook, place: Place, *, phase: float, view: View) -> list[Shape]:
    """A person who rides a bicycle, back to front; phase: of the pedals, radians."""
    rider = look.rider._replace(height=min(look.rider.height, 1.82))
    height = rider.height
    joints: dict[str, Local] = {
        "neck": (0.2, 0.0, 1.48), "waist": (-0.22, 0.0, 0.98), "head": (0.3, 0.0, 1.66), "pack": (-0.16, 0.0, 1.32),
        "saddle": (-0.22, 0.0, 0.9), "crank": (0.0, 0.0, 0.34), "bar": (0.42, 0.0, 1.05), "front hub": (0.55, 0.0, 0.35),
        "rear hub": (-0.53, 0.0, 0.35), "basket": (0.62, 0.0, 0.92),
        "bar left": (0.45, 0.26, 1.06), "bar right": (0.45, -0.26, 1.06),
    }  # fmt: skip
    for name, side, shift in (("left", 1, 0.0), ("right", -1, math.pi)):
        pedal = (0.17 * math.cos(phase + shift), side * 0.1, 0.34 + 0.17 * math.sin(phase + shift))
        knee_up = 0.5 + 0.17 * math.sin(phase + shift)
        joints |= {
            f"{name} hip": (-0.18, side * 0.1, 0.96),
            f"{name} knee": (0.24 + 0.06 * math.cos(phase + shift), side * 0.13, 0.24 + knee_up),
            f"{name} ankle": (pedal[0] - 0.04, pedal[1], pedal[2] + 0.07),
            f"{name} toe": (pedal[0] + 0.12, pedal[1], pedal[2] + 0.03),
            f"{name} shoulder": (0.18, side * 0.2 * rider.build, 1.43),
            f"{name} elbow": (0.32, side * 0.27, 1.2),
            f"{name} hand": (0.45, side * 0.24, 1.07),
        }
    pixels = dict(zip(joints, _pixels(list(joints.values()), place, view), strict=True))
    aspect = _aspect(place, view)
    unit = aspect.scale * height
    near, far = ("left", "right") if aspect.left_is_near else ("right", "left")
    behind, before = _pack(rider, pixels, aspect)
    bicycle = _bicycle(look, pixels, place, view=view, scale=aspect.scale)
    shapes: list[Shape] = [] if aspect.front > 0 else list(bicycle)
    shapes += (
        behind + _arm(rider, pixels, far, unit=unit, shade=0.82) + _leg_shapes(rider, pixels, far, unit=unit, shade=0.8)
    )
    shapes += bicycle if aspect.front > 0 else []
    shapes += _torso(rider._replace(bag="none", legs_style="trousers"), pixels, aspect)
    shapes += _leg_shapes(rider, pixels, near, unit=unit, shade=1.0) + before
    shapes += _head(rider, pixels["head"], aspect, helmet=look.helmet)
    return shapes + _arm(rider, pixels, near, unit=unit, shade=1.0)


def _bicycle(look: CyclistLook, pixels: dict[str, Point], place: Place, *, view: View, scale: float) -> list[Shape]:
    tube = 0.06 * scale
    shapes: list[Shape] = []
    for hub in (0.55, -0.53):
        rim: list[Local] = [
            (hub + 0.34 * math.cos(a), 0.0, 0.35 + 0.34 * math.sin(a)) for a in (math.pi * i / 8 for i in range(17))
        ]
        shapes.append(Stroke(_pixels(rim, place, view), 0.065 * scale, (34, 34, 36)))
    for path in (
        ("rear hub", "saddle", "crank", "rear hub"),
        ("saddle", "bar", "crank"),
        ("bar", "front hub"),
    ):
        shapes.append(Stroke([pixels[joint] for joint in path], tube, look.frame))
    shapes.append(Stroke([pixels["bar left"], pixels["bar right"]], tube * 0.8, (40, 40, 42)))
    if look.basket:
        x, y = pixels["basket"]
        size = 0.15 * scale
        shapes.append(
            Polygon(
                [(x - size, y - size), (x + size, y - size), (x + size * 0.8, y + size), (x - size * 0.8, y + size)],
                (150, 108, 62),
            )
        )
    return shapes
