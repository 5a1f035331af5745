"""The street without those who use it: sky, ground and houses as one picture."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from accel_det.data.street.draws import Draws
from accel_det.data.street.layout import (
    CYCLE_END,
    LANE_END,
    STREET_END,
    STREET_START,
    STRIP_END,
    WALL,
    ZEBRA_LENGTH,
    House,
    Street,
)
from accel_det.data.street.light import Colour, Light, mixed, shaded
from accel_det.data.street.view import NEAR_M, Array, View

_OVERSAMPLING = 2


def backdrop(street: Street, *, view: View, light: Light) -> Image.Image:
    """RGB picture of the empty street, of the view's size."""
    fine = view.window(
        left=0, top=0, scale=_OVERSAMPLING, height=view.height * _OVERSAMPLING, width=view.width * _OVERSAMPLING
    )
    canvas = Image.new("RGB", (fine.width, fine.height))
    painter = _Painter(canvas, fine, light)
    painter.sky(Draws(street.looks_seed, "sky", *street.key))
    painter.ground(street)
    painter.mist()
    for house in sorted(street.houses, key=lambda house: -house.start):
        painter.house(house)
    return canvas.reduce(_OVERSAMPLING)


class _Painter:
    """Paints in world coordinates on a canvas."""

    def __init__(self, canvas: Image.Image, view: View, light: Light) -> None:
        self.canvas, self.view, self.light = canvas, view, light
        self.pen = ImageDraw.Draw(canvas)

    def fill(self, corners: Sequence[tuple[float, float, float]], colour: Colour) -> None:
        """Paint a flat polygon; colour is final."""
        points = self.view.outline(np.array(corners))
        if len(points) >= 3:
            self.pen.polygon(points, fill=colour)

    def flat(self, x0: float, x1: float, y0: float, y1: float, colour: Colour) -> None:
        """Paint a rectangle on the ground, lit, without the air between."""
        self.fill([(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)], self.light.tint(colour, 0.0))

    def sky(self, draws: Draws) -> None:
        """A gradient down to the horizon, clouds or stars, and the far end of the town."""
        view, light = self.view, self.light
        horizon = max(1, min(view.height, math.ceil(view.horizon) + 2))
        column = np.linspace(0, 1, horizon)[:, None] ** 0.8
        ramp = np.array(light.sky_top) * (1 - column) + np.array(light.sky_bottom) * column
        strip = Image.fromarray(ramp[:, None].astype(np.uint8)).resize((view.width, horizon))
        self.canvas.paste(strip, (0, 0))
        if light.name == "night":
            for _ in range(20):
                x, y = draws.uniform(0, view.width), draws.uniform(0, horizon)
                self.pen.ellipse((x, y, x + 1.5, y + 1.5), fill=(200, 204, 220))
        elif light.name != "fog":
            for _ in range(4):
                x, y, size = (
                    draws.uniform(0, view.width),
                    draws.uniform(0, horizon),
                    draws.uniform(0.02, 0.05) * view.width,
                )
                for _ in range(4):
                    dx, dy = draws.uniform(-2, 2) * size, draws.uniform(-0.4, 0.4) * size
                    tone = mixed(light.sky_bottom, (255, 250, 246), 0.5)
                    self.pen.ellipse(
                        (x + dx - size, y + dy - size * 0.4, x + dx + size, y + dy + size * 0.4), fill=tone
                    )
        for _ in range(14):
            x, reach = draws.uniform(-30, 30), draws.uniform(2, 6)
            top = draws.uniform(6, 20)
            y = STREET_END + draws.uniform(10, 60)
            colour = light.tint(shaded((150, 146, 150), draws.uniform(0.8, 1.1)), y)
            self.fill([(x - reach, y, 0), (x + reach, y, 0), (x + reach, y, top), (x - reach, y, top)], colour)

    def ground(self, street: Street) -> None:
        """Road, paths and their markings."""
        far = STREET_END + 80
        self.flat(-200, 200, -40, far + 200, (150, 148, 142))
        self.flat(-WALL, WALL, -40, far, street.paving)
        near = STREET_START
        for side in (-1, 1):
            y = near
            while y < 40:
                self.flat(side * STRIP_END, side * WALL, y, y + 0.07, shaded(street.paving, 0.86))
                y += 1.6
            self.flat(side * 7.3, side * 7.36, near, far, shaded(street.paving, 0.88))
            self.flat(side * CYCLE_END, side * STRIP_END, -40, far, shaded(street.paving, 0.9))
            self.flat(side * CYCLE_END, side * (CYCLE_END + 0.16), -40, far, (206, 202, 196))
        self.flat(-CYCLE_END, CYCLE_END, -40, far, street.asphalt)
        draws = Draws(street.looks_seed, "asphalt", *street.key)
        for _ in range(6):
            x, y = draws.uniform(-3, 3), draws.uniform(2, 40)
            size = draws.uniform(0.4, 1.4)
            self.flat(x - size, x + size, y, y + 2 * size, shaded(street.asphalt, draws.uniform(0.86, 1.1)))
        for side in (-1, 1):
            self.flat(side * LANE_END, side * CYCLE_END, -40, far, street.cycle_path)
            self.flat(side * (LANE_END - 0.06), side * (LANE_END + 0.08), -40, far, (226, 226, 222))
        y = near
        while y < STREET_END:
            if abs(y + 1 - street.zebra_y) > ZEBRA_LENGTH / 2 + 1:
                self.flat(-0.07, 0.07, y, y + 2, (230, 230, 224))
            y += 4.5
        x = -CYCLE_END + 0.3
        while x < CYCLE_END - 0.3:
            self.flat(x, x + 0.5, street.zebra_y - ZEBRA_LENGTH / 2, street.zebra_y + ZEBRA_LENGTH / 2, (236, 236, 230))
            x += 1.0

    def mist(self) -> None:
        """The air in front of the ground: each row of it has one depth."""
        view = self.view
        rows = np.arange(view.height) + 0.5
        below = np.maximum((rows - view.center_y) * math.cos(view.pitch) + view.focal * math.sin(view.pitch), 1e-3)
        depth = view.z * view.focal / below
        veil = np.where(rows > view.horizon, 1 - np.exp(-self.light.fog_per_m * depth), 0)
        mask = Image.fromarray((255 * veil)[:, None].astype(np.uint8)).resize((view.width, view.height))
        self.canvas.paste(self.light.fog, (0, 0), mask)

    def house(self, house: House) -> None:
        """One front, with roof, windows and what is at its foot."""
        x = house.side * WALL
        depth = float(self.view.camera_space(np.array((x, (house.start + house.end) / 2, 2.0)))[2])
        ends = self.view.camera_space(np.array(((x, house.start, 2.0), (x, house.end, 2.0))))
        if ends[1, 2] < NEAR_M:
            return
        depth = max(depth, 4.0)
        tint = self.light.tint
        wall = house.wall if house.side > 0 else shaded(house.wall, 0.92)
        eaves = house.height
        front = [(x, house.start, 0.0), (x, house.end, 0.0), (x, house.end, eaves), (x, house.start, eaves)]
        slope = [
            (x, house.start, eaves),
            (x, house.end, eaves),
            (x + house.side * 2, house.end, eaves + 2.2),
            (x + house.side * 2, house.start, eaves + 2.2),
        ]
        self.fill(slope, tint(house.roof, depth))
        self.fill(front, tint(wall, depth))
        self.fill(
            [(x, house.start, 0.0), (x, house.end, 0.0), (x, house.end, 0.6), (x, house.start, 0.6)],
            tint(shaded(wall, 0.72), depth),
        )
        self.fill(
            [
                (x, house.start, eaves - 0.3),
                (x, house.end, eaves - 0.3),
                (x, house.end, eaves),
                (x, house.start, eaves),
            ],
            tint(house.frame, depth),
        )
        self._windows(house, depth=depth)
        if house.shop:
            self._shop(house, depth=depth)
        if house.poster == 0:
            self._poster(house, depth=depth)

    def _panes(self, house: House, rectangles: Sequence[tuple[float, float, float, float]]) -> Array:
        """(y0, y1, z0, z1) metres on the front -> (N, 4, 2) pixels; those behind the camera become nothing."""
        spans = np.array(rectangles)
        corners = np.empty((len(spans), 4, 3))
        corners[..., 0] = house.side * (WALL - 0.02)
        corners[..., 1] = spans[:, (0, 1, 1, 0)]
        corners[..., 2] = spans[:, (2, 2, 3, 3)]
        pixels, depth = self.view.project(corners)
        visible = (depth > NEAR_M).all(axis=1)
        left, right = pixels[..., 0].min(axis=1), pixels[..., 0].max(axis=1)
        visible &= (right > 0) & (left < self.view.width) & (pixels[..., 1].max(axis=1) > 0)
        pixels[~visible] = 0
        return pixels

    def _windows(self, house: House, *, depth: float) -> None:
        draws = Draws(house.number)
        pitch = (house.end - house.start) / house.columns
        half = min(0.62, pitch * 0.28)
        rectangles, colours = [], []
        for floor in range(1 if house.shop else 0, house.floors):
            low = floor * house.floor_height + 1.0
            for column in range(house.columns):
                y = house.start + (column + 0.5) * pitch
                lit = draws.chance(self.light.lit)
                glass = mixed((70, 92, 112), (150, 178, 198), draws.uniform(0, 0.6))
                rectangles += [
                    (y - half - 0.1, y + half + 0.1, low - 0.12, low + 1.62),
                    (y - half, y + half, low, low + 1.5),
                ]
                colours += [
                    self.light.tint(house.frame, depth),
                    self.light.tint((255, 214, 136) if lit else glass, depth, shines=lit),
                ]
                if house.shutters:
                    leaf = self.light.tint(shaded(house.roof, 0.9), depth)
                    rectangles += [
                        (y - half - 0.5, y - half - 0.05, low, low + 1.5),
                        (y + half + 0.05, y + half + 0.5, low, low + 1.5),
                    ]
                    colours += [leaf, leaf]
        for quad, colour in zip(self._panes(house, rectangles).tolist(), colours, strict=True):
            if quad[0] != quad[2]:
                self.pen.polygon([(x, y) for x, y in quad], fill=colour)

    def _shop(self, house: House, *, depth: float) -> None:
        draws = Draws(house.number, "shop")
        x, out = house.side * WALL, house.side * (WALL - 0.9)
        tint = self.light.tint
        lit = draws.chance(0.25 + self.light.lit)
        glass = (255, 224, 164) if lit and self.light.name != "day" else (84, 104, 116)
        panes = [(house.start + 0.5, house.end - 2.0, 0.55, 2.4), (house.end - 1.7, house.end - 0.6, 0.0, 2.3)]
        for quad, colour in zip(
            self._panes(house, panes).tolist(), (tint(glass, depth, shines=lit), tint((74, 52, 40), depth)), strict=True
        ):
            self.pen.polygon([(px, py) for px, py in quad], fill=colour)
        self._figure(house, y=house.start + 1.6, low=0.6, height=1.6, colour=tint((196, 186, 176), depth))
        stripes = max(3, int(house.end - house.start))
        step = (house.end - house.start - 0.6) / stripes
        for i in range(stripes):
            y = house.start + 0.3 + i * step
            colour = tint(house.awning if i % 2 else (240, 234, 222), depth)
            self.fill([(x, y, 3.1), (x, y + step, 3.1), (out, y + step, 2.5), (out, y, 2.5)], colour)

    def _poster(self, house: House, *, depth: float) -> None:
        draws = Draws(house.number, "poster")
        y = (house.start + house.end) / 2 + 1.0
        low = 3.4 if house.shop else 0.9
        paper = draws.choice(((240, 226, 180), (214, 232, 238), (246, 210, 206)))
        rectangle = self._panes(house, [(y - 0.8, y + 0.8, low, low + 2.2)]).tolist()[0]
        self.pen.polygon([(px, py) for px, py in rectangle], fill=self.light.tint(paper, depth))
        colour = draws.choice(((190, 60, 60), (50, 90, 150), (60, 60, 66)))
        self._figure(house, y=y, low=low + 0.2, height=1.7, colour=self.light.tint(colour, depth))

    def _figure(self, house: House, *, y: float, low: float, height: float, colour: Colour) -> None:
        """A flat human outline on the wall: a mannequin or a poster, which is no person."""
        x = house.side * (WALL - 0.03)
        for half_top, half_low, start, end in (
            (0.2, 0.13, 0.47, 0.82),
            (0.14, 0.11, 0.0, 0.47),
            (0.08, 0.08, 0.85, 1.0),
        ):
            z0, z1 = low + start * height, low + end * height
            self.fill(
                [(x, y - half_low, z0), (x, y + half_low, z0), (x, y + half_top, z1), (x, y - half_top, z1)], colour
            )
