"""Ranked lists as a picture: each query with the pictures of the gallery that are nearest to it."""

import statistics
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from PIL import Image, ImageDraw

from accel_det.report.axes import font_of, shortened
from accel_det.report.pictures import INK, MUTED, PAPER, Color

ANSWERS = 10
"""So many of the pictures of each list are drawn."""

QUERY: Color = (60, 68, 78)
RIGHT: Color = (24, 158, 74)
WRONG: Color = (222, 48, 56)
UNKNOWN: Color = (186, 192, 199)

_CELL_HEIGHT_PX = 214
_LEAST_WIDTH_PX, _MOST_WIDTH_PX = 112, 224
_FRAME_PX = 5
_GAP_PX = 14
_MARGIN_PX = 24
_TEXT_PX = 13
_LINE_PX = 17
_BADGE_PX = 20
_EMPTY: Color = (238, 240, 243)


class Verdict(Enum):
    """What an answer is to its query; the value is what the legend says."""

    RIGHT = "the same identity"
    WRONG = "another identity"
    DISTRACTOR = "a distractor"
    UNKNOWN = "identity not known"


class Shown(NamedTuple):
    """A picture and what stands below it.

    Attributes:
        image: of any size; None where there is none to show.
        name: the file or record.
        identity, camera: their names; empty where they are not known.
    """

    image: Image.Image | None
    name: str
    identity: str = ""
    camera: str = ""


class Answer(NamedTuple):
    """A picture of the gallery: what it is to the query, and how far from it, or how like it."""

    shown: Shown
    number: float
    verdict: Verdict


class RankedRow(NamedTuple):
    """A query and its answers, the best first."""

    query: Shown
    answers: Sequence[Answer]


def draw_ranked_lists(rows: Sequence[RankedRow], *, measure: str = "distance", title: str = "") -> Image.Image:
    """A row for each query: its picture, then its first `ANSWERS` answers; right ones green, wrong ones red.

    Args:
        rows: from top to bottom, at least one.
        measure: what the number of an answer is.
        title: above the rows.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("a picture of 0 ranked lists, expected at least 1; give queries")
    cell = (_cell_width(rows), _CELL_HEIGHT_PX)
    columns = 1 + max(1, max(min(ANSWERS, len(row.answers)) for row in rows))
    lines = 1 + max(len(_lines(one)) for one in _all_shown(rows))
    step_x, step_y = cell[0] + _GAP_PX, cell[1] + lines * _LINE_PX + 2 * _GAP_PX
    top = _MARGIN_PX + (34 if title else 0) + 2 * _LINE_PX
    sheet = Image.new("RGB", (2 * _MARGIN_PX + columns * step_x, top + len(rows) * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((_MARGIN_PX, _MARGIN_PX), shortened(title, columns * step_x, 20), INK, font_of(20), anchor="lt")
    _draw_legend(draw, rows, y=top - 2 * _LINE_PX + _LINE_PX // 2, measure=measure)
    for number, row in enumerate(rows):
        y = top + number * step_y
        _draw_cell(sheet, row.query, (_MARGIN_PX, y), cell, color=QUERY, head="query")
        draw.line((_MARGIN_PX + step_x, y, _MARGIN_PX + step_x, y + cell[1]), UNKNOWN, 2)
        for rank, answer in enumerate(row.answers[:ANSWERS]):
            place = (_MARGIN_PX + _GAP_PX + (rank + 1) * step_x, y)
            head = f"{rank + 1}.  {answer.number:.3f}"
            _draw_cell(
                sheet, answer.shown, place, cell, color=_COLORS[answer.verdict], head=head, verdict=answer.verdict
            )
    return sheet


_COLORS = {
    Verdict.RIGHT: RIGHT,
    Verdict.WRONG: WRONG,
    Verdict.DISTRACTOR: WRONG,
    Verdict.UNKNOWN: UNKNOWN,
}


def _all_shown(rows: Sequence[RankedRow]) -> list[Shown]:
    return [one for row in rows for one in (row.query, *(answer.shown for answer in row.answers[:ANSWERS]))]


def _lines(shown: Shown) -> list[str]:
    """What is known of a picture."""
    return [text for text in (shown.identity, f"camera {shown.camera}" if shown.camera else "", shown.name) if text]


def _cell_width(rows: Sequence[RankedRow]) -> int:
    """Of all cells, so that the pictures of usual shape fill theirs."""
    shapes = [one.image.width / one.image.height for one in _all_shown(rows) if one.image is not None]
    usual = statistics.median(shapes) if shapes else 1.0
    inner = (_CELL_HEIGHT_PX - 2 * _FRAME_PX) * usual
    return round(min(max(inner + 2 * _FRAME_PX, _LEAST_WIDTH_PX), _MOST_WIDTH_PX))


def _draw_cell(
    sheet: Image.Image,
    shown: Shown,
    place: tuple[int, int],
    cell: tuple[int, int],
    *,
    color: Color,
    head: str,
    verdict: Verdict | None = None,
) -> None:
    """A picture, as large as it fits into its cell, within a frame; below it what is known of it."""
    draw = ImageDraw.Draw(sheet)
    x, y = place
    width, height = cell
    box = (x, y, x + width - 1, y + height - 1)
    draw.rectangle(box, fill=_EMPTY)
    if shown.image is not None:
        room = (width - 2 * _FRAME_PX, height - 2 * _FRAME_PX)
        picture = _fitted_into(shown.image, room)
        sheet.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
    else:
        draw.text((x + width / 2, y + height / 2), "no picture", MUTED, font_of(_TEXT_PX), anchor="mm")
    if verdict is Verdict.DISTRACTOR:
        _dashed(draw, box, color)
    else:
        draw.rectangle(box, outline=color, width=_FRAME_PX)
    if verdict in (Verdict.RIGHT, Verdict.WRONG, Verdict.DISTRACTOR):
        _badge(draw, (x, y), color, right=verdict is Verdict.RIGHT)
    if verdict is Verdict.DISTRACTOR:
        shown = shown._replace(identity="distractor")
    font = font_of(_TEXT_PX)
    for number, text in enumerate((head, *_lines(shown)), start=1):
        baseline = (x, y + height + number * _LINE_PX)
        draw.text(baseline, shortened(text, width, _TEXT_PX), INK if number == 1 else MUTED, font, anchor="ls")


def _fitted_into(image: Image.Image, room: tuple[int, int]) -> Image.Image:
    """As large as fits, in its own shape."""
    scale = min(room[0] / image.width, room[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: Color) -> None:
    x1, y1, x2, y2 = box
    dash = 10
    for x in range(x1, x2, 2 * dash):
        for y in (y1, y2 - _FRAME_PX + 1):
            draw.rectangle((x, y, min(x + dash, x2), y + _FRAME_PX - 1), fill=color)
    for y in range(y1, y2, 2 * dash):
        for x in (x1, x2 - _FRAME_PX + 1):
            draw.rectangle((x, y, x + _FRAME_PX - 1, min(y + dash, y2)), fill=color)


def _badge(draw: ImageDraw.ImageDraw, corner: tuple[int, int], color: Color, *, right: bool) -> None:
    """A tick or a cross, for those who do not tell green from red."""
    x, y = corner
    draw.rectangle((x, y, x + _BADGE_PX, y + _BADGE_PX), fill=color)
    if right:
        draw.line((x + 5, y + 10, x + 9, y + 15, x + 16, y + 6), PAPER, 3, joint="curve")
    else:
        draw.line((x + 6, y + 6, x + 15, y + 15), PAPER, 3)
        draw.line((x + 15, y + 6, x + 6, y + 15), PAPER, 3)


def _draw_legend(draw: ImageDraw.ImageDraw, rows: Sequence[RankedRow], *, y: int, measure: str) -> None:
    """The frames that appear, and what the number is."""
    present = {answer.verdict for row in rows for answer in row.answers[:ANSWERS]}
    font, x = font_of(_TEXT_PX + 2), float(_MARGIN_PX)
    entries = [("query", QUERY, None), *((one.value, _COLORS[one], one) for one in Verdict if one in present)]
    for text, color, verdict in entries:
        box = (round(x), y - 8, round(x) + 24, y + 8)
        if verdict is Verdict.DISTRACTOR:
            for left in (box[0], box[0] + 10, box[0] + 20):
                draw.rectangle((left, box[1], left + 4, box[3]), fill=color)
        else:
            draw.rectangle(box, fill=color)
        draw.text((x + 32, y), text, INK, font, anchor="lm")
        x += 32 + font.getlength(text) + 28
    draw.text((x, y), f"below each picture: rank and {measure}", MUTED, font, anchor="lm")
