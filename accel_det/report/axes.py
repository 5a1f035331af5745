"""A picture with axes: numbers to places, round ticks, lines, areas and points.

All is drawn at `SCALE` times its size and shrunk at the end: lines and letters are smooth, areas of one color stay exact.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from accel_det.report.charts import GRID, round_step
from accel_det.report.pictures import INK, MUTED, PAPER, Color

Array = NDArray[np.float64]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SCALE = 2
TEXT_PX = 15


class Axis(NamedTuple):
    """The numbers from one end of an axis to the other, `low` below `high`.

    Attributes:
        logarithmic: both ends are above 0.
        whole: the ticks are whole numbers.
    """

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def share(self, values: Array) -> Array:
        """Where numbers lie: 0 at the low end, 1 at the high end."""
        if self.logarithmic:
            shares: Array = np.log(values / self.low) / math.log(self.high / self.low)
            return shares
        return (values - self.low) / (self.high - self.low)

    def ticks(self, about: int) -> list[float]:
        """Round numbers on the axis, not many more than `about`."""
        if self.logarithmic:
            return _powers(self.low, self.high, about=about)
        step = max(round_step((self.high - self.low) / max(1, about)), float(self.whole))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    @staticmethod
    def around(low: float, high: float) -> "Axis":
        """An axis with round ends that holds all numbers from low to high."""
        if high <= low:
            low, high = (low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5) if low else (0.0, 1.0)
        step = round_step((high - low) / 8)
        return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


class Entry(NamedTuple):
    """A line of a legend."""

    name: str
    color: Color


class Canvas:
    """White paper of a size in pixels; `picture` gives what was drawn."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self._sheet = Image.new("RGB", (width_px * SCALE, height_px * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self._sheet)

    def picture(self) -> Image.Image:
        return self._sheet.reduce(SCALE)

    def text(
        self, x: float, y: float, text: str, *, color: Color = INK, anchor: str = "lm", size_px: int = TEXT_PX
    ) -> None:
        """Letters at a place; `anchor` as Pillow has it."""
        self._draw.text((x * SCALE, y * SCALE), text, color, font_of(size_px * SCALE), anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], *, color: Color, width_px: float = 1) -> None:
        if len(points) > 1:
            scaled = [(x * SCALE, y * SCALE) for x, y in points]
            self._draw.line(scaled, color, max(1, round(width_px * SCALE)), joint="curve")

    def area(self, points: Sequence[tuple[float, float]], *, color: Color) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=color)

    def blend(self, points: Sequence[tuple[float, float]], *, color: Color, share: float) -> None:
        """An area that what is below it shines through."""
        mask = Image.new("L", self._sheet.size, 0)
        ImageDraw.Draw(mask).polygon([(x * SCALE, y * SCALE) for x, y in points], fill=round(255 * share))
        self._sheet.paste(Image.new("RGB", self._sheet.size, color), (0, 0), mask)

    def dot(self, x: float, y: float, *, color: Color, radius_px: float, hollow: bool = False) -> None:
        left, top, right, bottom = (
            (place * SCALE) for place in (x - radius_px, y - radius_px, x + radius_px, y + radius_px)
        )
        fill = PAPER if hollow else color
        self._draw.ellipse((left, top, right, bottom), fill=fill, outline=color if hollow else None, width=2 * SCALE)

    def square(self, x: float, y: float, *, color: Color, radius_px: float) -> None:
        """A square of about the area of a dot."""
        reach = 0.9 * radius_px
        self.area(
            [(x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)],
            color=color,
        )

    def legend(self, entries: Sequence[Entry], *, left: float, right: float, y: float) -> float:
        """Swatches and names from left to right, in as many rows as they need; the y below them."""
        x = left
        for entry in entries:
            width = 20 + text_px(entry.name)
            if x > left and x + width > right:
                x, y = left, y + 22
            self._draw.rectangle((x * SCALE, (y - 6) * SCALE, (x + 12) * SCALE, (y + 6) * SCALE), fill=entry.color)
            self.text(x + 18, y, shortened(entry.name, right - x - 18))
            x += width + 18
        return y + 22


class Panel:
    """A part of a canvas with an axis along its bottom and one along its left side.

    Args:
        area: left, top, right and bottom of the space between the axes, pixels of the picture.
    """

    def __init__(self, canvas: Canvas, area: tuple[float, float, float, float], *, x: Axis, y: Axis) -> None:
        self.canvas, self.area, self.x, self.y = canvas, area, x, y

    def places(self, x: Array, y: Array) -> list[tuple[float, float]]:
        """Pixels of the picture; what is beyond an end of an axis is put on that end."""
        left, top, right, bottom = self.area
        across = left + (right - left) * np.clip(self.x.share(x), 0, 1)
        up = bottom - (bottom - top) * np.clip(self.y.share(y), 0, 1)
        return list(zip(across.tolist(), up.tolist(), strict=True))

    def frame(
        self,
        *,
        x_label: str = "",
        x_text: Callable[[float], str] | None = None,
        y_text: Callable[[float], str] | None = None,
        x_ticks: bool = True,
    ) -> None:
        """Grid, ticks, and what stands beside them."""
        left, top, right, bottom = self.area
        say_x, say_y = x_text or short, y_text or short
        for tick in self.y.ticks(max(2, round((bottom - top) / 70))):
            ((_, y),) = self.places(np.array([self.x.low]), np.array([tick]))
            self.canvas.line([(left, y), (right, y)], color=GRID)
            self.canvas.text(left - 8, y, say_y(tick), color=MUTED, anchor="rm")
        for tick in self.x.ticks(max(2, round((right - left) / 90))):
            ((x, _),) = self.places(np.array([tick]), np.array([self.y.low]))
            self.canvas.line([(x, bottom), (x, bottom + 5)], color=MUTED)
            if x_ticks:
                self.canvas.text(x, bottom + 9, say_x(tick), color=MUTED, anchor="mt")
        self.canvas.line([(left, bottom), (right, bottom)], color=MUTED)
        if x_label:
            self.canvas.text((left + right) / 2, bottom + 40, x_label, anchor="mm")


def short(value: float) -> str:
    """A number of an axis in few letters: 20k, 1.5M, 0.05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{letter}"
    return f"{value:.6g}"


def font_of(size_px: int) -> Font:
    """Pillow's own letters: the same on every machine."""
    return ImageFont.load_default(size=size_px)


def text_px(text: str, size_px: int = TEXT_PX) -> float:
    """How wide letters are."""
    return font_of(size_px * SCALE).getlength(text) / SCALE


def shortened(text: str, width_px: float, size_px: int = TEXT_PX) -> str:
    """The text, or so much of its end as fits behind an ellipsis: names of files differ at the end."""
    if text_px(text, size_px) <= width_px:
        return text
    kept = text
    while kept and text_px(f"...{kept}", size_px) > width_px:
        kept = kept[1:]
    return f"...{kept}"


def _powers(low: float, high: float, *, about: int) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers; only the powers, or some of them, where there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 5)):
        found = [factor * 10.0**decade for decade in decades if decade % every == 0 for factor in factors]
        inside = [tick for tick in found if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) <= about + 1:
            break
    return inside
