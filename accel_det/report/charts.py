"""Bars and histograms, drawn with Pillow: the same on every machine, without a plotting library.

Charts are drawn at twice the size at which a page shows them, so that they stay crisp on dense screens.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from accel_det.report.pictures import INK, MUTED, PAPER, Color

Array = NDArray[np.float64]

GRID: Color = (226, 230, 235)
_TEXT_PX = 26
_BAR_PX = 32
_GAP_PX = 24


class Series(NamedTuple):
    """One of the things that a chart compares."""

    name: str
    color: Color


class Bars(NamedTuple):
    """A label, and for each series a number and what stands beside its bar."""

    label: str
    values: Sequence[float]
    texts: Sequence[str]


def draw_bars(rows: Sequence[Bars], series: Sequence[Series], *, width_px: int = 1600) -> Image.Image:
    """Horizontal bars, a group for each label, the longest as long as there is room.

    Args:
        rows: from top to bottom.
        series: the bars of each group, from top to bottom.
    """
    font = ImageFont.load_default(size=_TEXT_PX)
    group = len(series) * _BAR_PX + _GAP_PX
    top = 2 * _TEXT_PX
    picture = Image.new("RGB", (width_px, top + group * len(rows) + _GAP_PX), PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_legend(draw, series, font, right=width_px - _GAP_PX)
    left = min(round(width_px * 0.35), max((_length(row.label, font) for row in rows), default=0) + 2 * _GAP_PX)
    beside = max((_length(text, font) for row in rows for text in row.texts), default=0) + 2 * _GAP_PX
    longest = max((value for row in rows for value in row.values), default=0) or 1
    for number, row in enumerate(rows):
        y = top + number * group
        center = y + len(series) * _BAR_PX / 2
        draw.text((left - _GAP_PX, center), _shortened(row.label, font, left - 2 * _GAP_PX), INK, font, anchor="rm")
        draw.line((left, y + group - _GAP_PX / 2, width_px - _GAP_PX, y + group - _GAP_PX / 2), GRID, 1)
        for bar, (value, text) in enumerate(zip(row.values, row.texts, strict=True)):
            high = y + bar * _BAR_PX
            end = left + round((width_px - left - beside) * value / longest)
            if value:
                draw.rectangle((left, high, max(left + 2, end), high + _BAR_PX - 3), fill=series[bar].color)
            draw.text((max(left, end) + _GAP_PX / 2, high + _BAR_PX / 2 - 1), text, MUTED, font, anchor="lm")
    draw.line((left, top - 4, left, picture.height - _GAP_PX), MUTED, 2)
    return picture


def draw_histogram(
    values: Sequence[Array],
    series: Sequence[Series],
    *,
    edges: Array,
    axis: str,
    label: Callable[[float], str] = lambda edge: f"{edge:g}",
    size_px: tuple[int, int] = (800, 520),
) -> Image.Image:
    """The share of the values in each bin: the first series filled, the others as lines.

    Args:
        values: the numbers of each series; those outside the edges are counted in the first or last bin.
        edges: limits of the bins, rising; bins are drawn equally wide, however far their limits are apart.
        axis: what the numbers are, with unit.
        label: of an edge.
        size_px: width and height of the picture.
    """
    font = ImageFont.load_default(size=_TEXT_PX)
    picture = Image.new("RGB", size_px, PAPER)
    draw = ImageDraw.Draw(picture)
    low, high = (3 * _TEXT_PX, size_px[1] - 3 * _TEXT_PX), (size_px[0] - _TEXT_PX, 2 * _TEXT_PX)
    shares = [_shares(numbers, edges) for numbers in values]
    step = round_step(max(max((float(share.max(initial=0)) for share in shares), default=0) / 4, 1e-3))
    top = step * max(1, -(-max((float(share.max(initial=0)) for share in shares), default=0) // step))
    for tick in np.arange(0, top + step / 2, step):
        y = low[1] - (low[1] - high[1]) * tick / top
        draw.line((low[0], y, high[0], y), GRID, 2)
        draw.text((low[0] - 10, y), f"{100 * tick:g} %", MUTED, font, anchor="rm")
    places = np.linspace(low[0], high[0], len(edges))
    for number, share in reversed(list(enumerate(shares))):
        heights = low[1] - (low[1] - high[1]) * share / top
        if number == 0:
            for x0, x1, y in zip(places[:-1], places[1:], heights, strict=True):
                if y < low[1]:
                    draw.rectangle((x0 + 2, y, x1 - 2, low[1]), fill=series[0].color)
    for share, one in zip(shares[1:], series[1:], strict=True):
        heights = low[1] - (low[1] - high[1]) * share / top
        draw.line(_steps(places, heights, low[1]), fill=one.color, width=5, joint="curve")
    draw.line((low[0], low[1], high[0], low[1]), MUTED, 2)
    _draw_edges(draw, places, [label(edge) for edge in edges.tolist()], font, y=low[1] + 16)
    draw.text(((low[0] + high[0]) / 2, size_px[1] - 4), axis, INK, font, anchor="mb")
    _draw_legend(draw, series, font, right=high[0])
    return picture


def _shares(values: Array, edges: Array) -> Array:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    shares: Array = counts / max(1, len(values))
    return shares


def round_step(size: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below a size."""
    size = max(size, 1e-12)
    power = 10.0 ** math.floor(math.log10(size))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= size * (1 - 1e-9))


def _steps(places: Array, heights: Array, ground: float) -> list[tuple[float, float]]:
    points = [(float(places[0]), ground)]
    for x0, x1, y in zip(places[:-1], places[1:], heights, strict=True):
        points += [(float(x0), float(y)), (float(x1), float(y))]
    return [*points, (float(places[-1]), ground)]


def _draw_edges(
    draw: ImageDraw.ImageDraw,
    places: Array,
    labels: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *,
    y: float,
) -> None:
    """Labels of bin limits; as many as have room, evenly."""
    room = (places[-1] - places[0]) / max(1, len(places) - 1)
    every = max(1, int(np.ceil((max(_length(text, font) for text in labels) + _GAP_PX) / room)))
    for place, text in list(zip(places, labels, strict=True))[::every]:
        draw.text((place, y), text, MUTED, font, anchor="mt")


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    series: Sequence[Series],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *,
    right: float,
) -> None:
    x = right
    for one in reversed(series):
        draw.text((x, _TEXT_PX), one.name, INK, font, anchor="rm")
        x -= _length(one.name, font) + 10
        draw.rectangle((x - _TEXT_PX * 0.7, _TEXT_PX * 0.65, x, _TEXT_PX * 1.35), fill=one.color)
        x -= 2 * _TEXT_PX


def _length(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(font.getlength(text))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: float) -> str:
    kept = text
    while kept and _length(kept + "...", font) > width_px:
        kept = kept[:-1]
    return text if _length(text, font) <= width_px else kept + "..."
