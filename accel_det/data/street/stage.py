"""A camera's picture of a street at one moment, and the truth about who is in it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from accel_det.data.street.backdrop import backdrop
from accel_det.data.street.draws import Draws
from accel_det.data.street.layout import CYCLE_END, LANE_END, STRIP_END, Street
from accel_det.data.street.light import Colour, Light
from accel_det.data.street.looks import BusLook, CarLook, CyclistLook, PersonLook, look_of
from accel_det.data.street.people import cyclist, walker
from accel_det.data.street.props import LAMP_HEIGHT, prop_shapes
from accel_det.data.street.shapes import Shape, Tile, extent, rasterize
from accel_det.data.street.traffic import BUS, CAR, Actor, half_length
from accel_det.data.street.vehicles import bus, car
from accel_det.data.street.view import Array, View

CLASSES: tuple[str, ...] = ("person", "cyclist", "car", "bus")

# Below this visible share an object is marked as ignored, unless what is seen of it takes so much of the image;
# below the last it is not in the truth at all.
VISIBLE_ENOUGH = 0.4
MUCH_OF_IMAGE = 0.04
VISIBLE_AT_ALL = 0.1
# An object whose longer side is below this share of the image height is ignored: too small to be told what it is.
SMALLEST = 0.1
# A thing that stands about takes at most this share of the image.
LARGEST_THING = 0.16

PERSON_HEIGHT = 1.75
_HALF_WIDTH = (0.25, 0.3, 0.9, 1.25)
_HEIGHT = (PERSON_HEIGHT, PERSON_HEIGHT, 1.5, 3.0)
# No side of an object in the image is longer than this many metres at the distance of its near end.
_LONGEST = (2.2, 2.4, 5.0, 11.5)


class Scene(NamedTuple):
    """One picture and the truth about it. N objects, nearest last.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32, xyxy, pixels: around what lies in the image of an object, seen or hidden.
        labels: (N,) int64, index into CLASSES.
        identities: (N,) int64.
        visibility: (N,) float32 in [0, 1], the share of the object's pixels that are neither hidden nor outside the image.
        ignored: (N,) bool, too hidden or too small to be asked for: COCO's crowd.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    identities: NDArray[np.int64]
    visibility: NDArray[np.float32]
    ignored: NDArray[np.bool_]


class _Layer(NamedTuple):
    """A tile in the picture. order: the greater, the farther. lamp: world metres of the light that it carries."""

    order: tuple[int, float]
    tile: Tile
    actor: Actor | None = None
    lamp: tuple[float, float, float] | None = None


class Stage:
    """A street before one fixed camera: what does not move is drawn once."""

    def __init__(self, street: Street, *, view: View, light: Light) -> None:
        self.street, self.view, self.light = street, view, light
        self._backdrop = backdrop(street, view=view, light=light)
        self._things: list[_Layer] = []
        for prop in street.props:
            shapes, depth = prop_shapes(prop, view=view, lamps_lit=light.glow > 0.2)
            if not shapes or not _in_reach(shapes, view) or _share_of_image(extent(shapes), view) > LARGEST_THING:
                continue
            tile = rasterize(shapes, light=light, depth=depth)
            if tile is not None:
                lamp = (prop.x, prop.y, LAMP_HEIGHT - 0.1) if prop.kind == "lamp" else None
                self._things.append(_Layer((_band(prop.x, view), depth), tile, lamp=lamp))
        self._pools()

    def render(
        self,
        actors: Sequence[Actor],
        *,
        noise_key: tuple[int | str, ...],
        smallest: float = 0.0,
        largest: float = 1.0,
    ) -> Scene:
        """The picture with these actors.

        Args:
            noise_key: the sensor's noise is a pure function of it.
            smallest: whose longer side would be below this share of the image height is not drawn.
            largest: whose box would take more than this share of the image is not drawn either.
        """
        smallest_px = smallest * self.view.height
        layers = [layer for actor in actors if (layer := self._layer(actor, smallest_px=smallest_px)) is not None]
        layers = [layer for layer in layers if _share_of_image(layer.tile.box, self.view) <= largest]
        picture = self._backdrop.copy()
        if self.light.shadow > 0:
            self._shadows(picture, [layer.actor for layer in layers if layer.actor is not None])
        layers.sort(key=lambda layer: layer.order, reverse=True)
        owners = np.zeros((self.view.height, self.view.width), dtype=np.int16)
        numbered = [*enumerate(layers, start=1), *enumerate(self._things, start=len(layers) + 1)]
        for number, layer in sorted(numbered, key=lambda entry: entry[1].order, reverse=True):
            picture.paste(layer.tile.image, (layer.tile.left, layer.tile.top), layer.tile.image)
            _claim(owners, layer.tile, number)
        image = self._expose(picture, owners, layers, noise_key)
        return self._truth(image, layers, np.bincount(owners.ravel(), minlength=len(numbered) + 1)[1 : len(layers) + 1])

    def _layer(self, actor: Actor, *, smallest_px: float) -> _Layer | None:
        view = self.view
        (right, _, depth) = view.camera_space(np.array((actor.place.x, actor.place.y, 1.0))).tolist()
        seed = self.street.looks_seed
        reach = half_length(actor.label, seed=seed, identity=actor.identity) + 1.0
        if depth < 2.0 + reach / 2 or _LONGEST[actor.label] * view.focal / (depth - reach / 2) < smallest_px:
            return None
        left_edge = (right - reach) * view.focal / (depth - reach / 2) + view.center_x
        right_edge = (right + reach) * view.focal / (depth - reach / 2) + view.center_x
        if (right < 0 and right_edge < 0) or (right > 0 and left_edge > view.width):
            return None
        shapes = actor_shapes(actor, seed=seed, view=view, sun=self.light.sun_azimuth)
        if not _in_reach(shapes, view):
            return None
        tile = rasterize(shapes, light=self.light, depth=depth)
        if tile is None or _longer_side(tile) < smallest_px:
            return None
        return _Layer((_band(actor.place.x, view), depth), tile, actor)

    def _truth(self, image: NDArray[np.uint8], layers: Sequence[_Layer], seen: NDArray[np.int64]) -> Scene:
        height, width = self.view.height, self.view.width
        rows: list[tuple[tuple[int, int, int, int], Actor, float, bool]] = []
        for layer, pixels in zip(layers, seen.tolist(), strict=True):
            assert layer.actor is not None
            share = pixels / int(layer.tile.mask.sum())
            if share < VISIBLE_AT_ALL:
                continue
            small = _longer_side(layer.tile) < SMALLEST * height
            box = _inside(layer.tile, height=height, width=width)
            hidden = share < VISIBLE_ENOUGH and pixels < MUCH_OF_IMAGE * height * width
            rows.append((box, layer.actor, share, small or hidden))
        return Scene(
            image=image,
            boxes=np.array([row[0] for row in rows], dtype=np.float32).reshape(-1, 4),
            labels=np.array([row[1].label for row in rows], dtype=np.int64),
            identities=np.array([row[1].identity for row in rows], dtype=np.int64),
            visibility=np.array([row[2] for row in rows], dtype=np.float32),
            ignored=np.array([row[3] for row in rows], dtype=np.bool_),
        )

    def _shadows(self, picture: Image.Image, actors: Sequence[Actor]) -> None:
        """Darken the ground below the actors and where they keep the sun off."""
        mask = Image.new("L", picture.size)
        pen = ImageDraw.Draw(mask)
        sun, light = self.light.sun_azimuth, self.light
        for actor in actors:
            across = _HALF_WIDTH[actor.label]
            along = half_length(actor.label, seed=self.street.looks_seed, identity=actor.identity)
            length = light.sun_length * _HEIGHT[actor.label] * 0.6
            shift = np.array((length * math.cos(sun), length * math.sin(sun), 0.0))
            cos, sin = math.cos(actor.place.heading), math.sin(actor.place.heading)
            base = np.array(
                [
                    (
                        actor.place.x + u * along * cos - v * across * sin,
                        actor.place.y + u * along * sin + v * across * cos,
                        0.0,
                    )
                    for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
                ]
            )
            for i in range(4):
                self._shade(
                    pen, np.stack((base[i - 1], base[i], base[i] + shift, base[i - 1] + shift)), strength=light.shadow
                )
            self._shade(pen, base + shift, strength=light.shadow)
            self._shade(pen, base, strength=min(1.0, light.shadow * 1.3))
        soft = mask.filter(ImageFilter.BoxBlur(max(1.0, self.view.height / 200)))
        picture.paste(light.tint((16, 18, 30), 0.0), (0, 0), soft)

    def _shade(self, pen: ImageDraw.ImageDraw, polygon: Array, *, strength: float) -> None:
        points = self.view.outline(polygon)
        if len(points) >= 3:
            pen.polygon(points, fill=int(255 * strength))

    def _pools(self) -> None:
        """Lamplight on the ground."""
        if self.light.glow <= 0.2:
            return
        canvas = np.asarray(self._backdrop).astype(np.int16)
        for lamp in [layer.lamp for layer in self._things if layer.lamp is not None]:
            (foot_x, foot_y), depth = self._pixel(lamp[0], lamp[1], 0.0)
            if depth > 3:
                reach = 3.2 * self.view.focal / depth
                tilt = max(0.15, math.sin(self.view.pitch + math.atan2(foot_y - self.view.center_y, self.view.focal)))
                _glow(canvas, (foot_x, foot_y), reach, reach * tilt, (110, 88, 50), strength=self.light.glow)
        self._backdrop = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))

    def _expose(
        self,
        picture: Image.Image,
        owners: NDArray[np.int16],
        layers: Sequence[_Layer],
        noise_key: tuple[int | str, ...],
    ) -> NDArray[np.uint8]:
        """Glare of lights, blur of the lens, noise of the sensor."""
        light = self.light
        if light.blur > 0.15:
            picture = picture.filter(ImageFilter.GaussianBlur(light.blur * self.view.height / 240))
        pixels = np.asarray(picture)
        if light.glow <= 0 and light.noise <= 0:
            return pixels.copy()
        canvas = pixels.astype(np.int16)
        if light.glow > 0:
            for number, layer in enumerate(self._things, start=len(layers) + 1):
                if layer.lamp is not None:
                    self._halo(canvas, layer.lamp, size=1.0, colour=(200, 160, 90), seen=owners == number)
            for number, layer in enumerate(layers, start=1):
                if layer.actor is not None and layer.actor.label in (CAR, BUS):
                    self._headlights(canvas, layer.actor, seen=owners == number)
        if light.noise > 0:
            grain = Draws("noise", *noise_key).noise(canvas.size).reshape(canvas.shape)
            canvas += (grain * np.int16(round(light.noise * 2.45))) >> 8
        return np.clip(canvas, 0, 255).astype(np.uint8)

    def _headlights(self, canvas: NDArray[np.int16], actor: Actor, *, seen: NDArray[np.bool_]) -> None:
        half = half_length(actor.label, seed=self.street.looks_seed, identity=actor.identity)
        place = actor.place
        cos, sin = math.cos(place.heading), math.sin(place.heading)
        if cos * (self.view.x - place.x) + sin * (self.view.y - place.y) < half:
            return
        for side in (-0.7, 0.7):
            point = (place.x + half * cos - side * sin, place.y + half * sin + side * cos, 0.7)
            self._halo(canvas, point, size=0.7, colour=(200, 190, 150), seen=seen)

    def _halo(
        self,
        canvas: NDArray[np.int16],
        point: tuple[float, float, float],
        *,
        size: float,
        colour: Colour,
        seen: NDArray[np.bool_],
    ) -> None:
        """Glare around a lamp, unless the lamp is hidden; seen: (H, W), where what carries it is in front."""
        center, depth = self._pixel(*point)
        column, row = int(center[0]), int(center[1])
        if depth > 2 and 0 <= row < self.view.height and 0 <= column < self.view.width and seen[row, column]:
            reach = size * self.view.focal / depth
            _glow(canvas, center, reach, reach, colour, strength=self.light.glow)

    def _pixel(self, x: float, y: float, z: float) -> tuple[tuple[float, float], float]:
        pixels, depth = self.view.project(np.array((x, y, z)))
        return (float(pixels[0]), float(pixels[1])), float(depth)


def actor_shapes(actor: Actor, *, seed: int, view: View, sun: float) -> list[Shape]:
    """A road user as flat shapes, back to front; seed: of the looks; sun: azimuth shadows fall to, radians."""
    look = look_of(seed, actor.identity, label=actor.label)
    match look:
        case PersonLook():
            return walker(look, actor.place, phase=actor.phase, walking=actor.walking, view=view)
        case CyclistLook():
            return cyclist(look, actor.place, phase=actor.phase, view=view)
        case CarLook():
            return car(look, actor.place, view=view, sun=sun)
        case BusLook():
            return bus(look, actor.place, view=view, sun=sun)


def _band(x: float, view: View) -> int:
    """Painter's order across the street: nothing in a band nearer to the camera is hidden by one in a farther band."""
    edges = (-STRIP_END, -CYCLE_END, -LANE_END, 0.0, LANE_END, CYCLE_END, STRIP_END)
    return abs(sum(x > edge for edge in edges) - sum(view.x > edge for edge in edges))


def _in_reach(shapes: Sequence[Shape], view: View) -> bool:
    """Whether some of it may be in the image, and it is not so near that it would be most of the image."""
    x1, y1, x2, y2 = extent(shapes)
    if x2 - x1 > 3 * view.width or y2 - y1 > 3 * view.height:
        return False
    return x2 > 0 and y2 > 0 and x1 < view.width and y1 < view.height


def _share_of_image(box: tuple[float, float, float, float], view: View) -> float:
    """How much of the image a box takes that overlaps it."""
    x1, y1, x2, y2 = box
    across, upright = min(x2, view.width) - max(x1, 0), min(y2, view.height) - max(y1, 0)
    return max(across, 0) * max(upright, 0) / (view.width * view.height)


def _longer_side(tile: Tile) -> int:
    """Of its box, pixels."""
    x1, y1, x2, y2 = tile.box
    return max(x2 - x1, y2 - y1)


def _inside(tile: Tile, *, height: int, width: int) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) pixels around those of the thing's pixels that lie in the image; there is at least one."""
    x1, y1, x2, y2 = tile.box
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return tile.box
    top, left = max(tile.top, 0), max(tile.left, 0)
    mask = tile.mask[top - tile.top : height - tile.top, left - tile.left : width - tile.left]
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _claim(owners: NDArray[np.int16], tile: Tile, number: int) -> None:
    """Note in owners (H, W) which layer is in front at each pixel."""
    height, width = owners.shape
    top, left = max(tile.top, 0), max(tile.left, 0)
    bottom, right = min(tile.top + tile.mask.shape[0], height), min(tile.left + tile.mask.shape[1], width)
    if top < bottom and left < right:
        mask = tile.mask[top - tile.top : bottom - tile.top, left - tile.left : right - tile.left]
        owners[top:bottom, left:right][mask] = number


def _glow(
    canvas: NDArray[np.int16],
    center: tuple[float, float],
    reach_x: float,
    reach_y: float,
    colour: Colour,
    *,
    strength: float,
) -> None:
    """Add light around a point, none at its reach (pixels)."""
    height, width, _ = canvas.shape
    left, right = max(0, int(center[0] - reach_x)), min(width, int(center[0] + reach_x) + 1)
    top, bottom = max(0, int(center[1] - reach_y)), min(height, int(center[1] + reach_y) + 1)
    if left >= right or top >= bottom:
        return
    x = (np.arange(left, right) + 0.5 - center[0]) / reach_x
    y = (np.arange(top, bottom) + 0.5 - center[1]) / reach_y
    falloff = np.maximum(1 - x[None] ** 2 - y[:, None] ** 2, 0) ** 3 * strength
    canvas[top:bottom, left:right] += (falloff[..., None] * np.array(colour)).astype(np.int16)
