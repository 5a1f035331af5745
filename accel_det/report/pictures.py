"""Pictures of boxes: truth beside prediction, and sheets of many of them.

An image is first resized to the size at which it will be looked at, then drawn on, so lines and letters stay crisp.
"""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from accel_det.types import BoxTarget, DetectionRow, Detections

Color = tuple[int, int, int]

INK: Color = (24, 27, 31)
PAPER: Color = (255, 255, 255)
MUTED: Color = (104, 112, 122)

# Hues that people tell apart first, from far to near; further classes walk the color circle by the golden angle.
_FIRST_COLORS: tuple[Color, ...] = (
    (230, 57, 70),
    (29, 120, 240),
    (34, 170, 84),
    (250, 163, 7),
    (150, 70, 220),
    (0, 180, 200),
    (240, 90, 170),
    (150, 105, 60),
    (130, 200, 30),
    (70, 80, 190),
)


class Marked(NamedTuple):
    """One box to draw: corners in pixels of the picture, what its tag says, and whether its outline is dashed."""

    corners: tuple[float, float, float, float]
    label: int
    text: str
    dashed: bool = False


class Caption(NamedTuple):
    """What stands below a picture: a name, of which the end is kept where room is short, behind what is said about it."""

    name: str
    about: str = ""


def class_color(label: int) -> Color:
    """The color of a class: the same in every picture, different from those of the classes near it."""
    if label < len(_FIRST_COLORS):
        return _FIRST_COLORS[label]
    hue = (label * 0.6180339887498949) % 1.0
    lightness = (0.42, 0.58, 0.5)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.72)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_truth(image: Image.Image, target: BoxTarget, *, classes: Sequence[str], width_px: int) -> Image.Image:
    """The objects of one image; ignored regions are dashed.

    Args:
        image: the file's picture.
        target: boxes in pixels of the file.
        classes: names, by label.
        width_px: width of the result; its height follows.
    """
    scale = width_px / image.width
    marks = [
        Marked(_scaled(box, scale=scale), label, classes[label], dashed=ignored)
        for box, label, ignored in zip(
            target.boxes.tolist(), target.labels.tolist(), target.crowd.tolist(), strict=True
        )
    ]
    return draw_marks(_resized(image, width_px=width_px), marks)


def draw_detections(
    image: Image.Image, detections: Detections, *, classes: Sequence[str], width_px: int, min_score: float = 0.3
) -> Image.Image:
    """The predictions of one image whose score reaches min_score, the best on top; boxes in pixels of the file."""
    scale = width_px / image.width
    marks = [
        (score, Marked(_scaled(box, scale=scale), label, f"{classes[label]} {score:.2f}"))
        for box, label, score in zip(
            detections.boxes.tolist(), detections.labels.tolist(), detections.scores.tolist(), strict=True
        )
        if score >= min_score
    ]
    ranked = [mark for _, mark in sorted(marks, key=lambda scored: scored[0])]
    return draw_marks(_resized(image, width_px=width_px), ranked)


def draw_marks(image: Image.Image, marks: Sequence[Marked]) -> Image.Image:
    """Outlines, then tags, the last mark on top.

    A tag that finds no place without covering another is left out: the color still says the class.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    stroke_px = max(2, round(min(picture.size) / 220))
    font = _font(_text_px(picture))
    for mark in marks:
        _outline(draw, mark, stroke_px=stroke_px)
    taken: list[tuple[int, int, int, int]] = []
    for mark in reversed(marks):
        place = _tag_place(draw, mark, font=font, stroke_px=stroke_px, bounds=picture.size, taken=taken)
        if place is not None:
            taken.append(place)
            color = class_color(mark.label)
            draw.rectangle(place, fill=color)
            draw.text(_center(place), mark.text, font=font, fill=_readable_on(color), anchor="mm")
    return picture


def compare(
    image: Image.Image,
    row: DetectionRow,
    *,
    classes: Sequence[str],
    title: str,
    panel_width_px: int = 640,
    min_score: float = 0.3,
) -> Image.Image:
    """Truth on the left, prediction on the right, under a title, above the colors of the classes that appear.

    Args:
        image: the file's picture.
        row: truth and predictions in pixels of the file.
        title: the file or record.
        panel_width_px: width of each of the two pictures.
        min_score: predictions below it are not drawn.
    """
    shown = row.detections.scores >= min_score
    left = draw_truth(image, row.truth, classes=classes, width_px=panel_width_px)
    right = draw_detections(image, row.detections, classes=classes, width_px=panel_width_px, min_score=min_score)
    text_px = max(13, round(panel_width_px / 36))
    margin, line = text_px, round(text_px * 1.7)
    labels = sorted({*row.truth.labels.tolist(), *row.detections.labels[shown].tolist()})
    legend = _legend(labels, classes=classes, width_px=2 * panel_width_px + margin, text_px=text_px)
    top = margin + 2 * line
    sheet = Image.new("RGB", (2 * panel_width_px + 3 * margin, top + left.height + legend.height + 2 * margin), PAPER)
    draw = ImageDraw.Draw(sheet)
    plain = _font(text_px)
    draw.text((margin, margin + line // 2), _fitted(title, plain, sheet.width - 2 * margin), INK, plain, anchor="lm")
    for x, panel, caption in (
        (margin, left, f"truth: {_counted(len(row.truth.labels), 'object')}"),
        (2 * margin + panel_width_px, right, f"prediction: {int(shown.sum())} with score >= {min_score:g}"),
    ):
        draw.text((x, margin + line + line // 2), _fitted(caption, plain, panel_width_px), MUTED, plain, anchor="lm")
        sheet.paste(panel, (x, top))
    sheet.paste(legend, (margin, top + left.height + margin))
    return sheet


def contact_sheet(images: Sequence[Image.Image], *, columns: int, cell_width_px: int = 480) -> Image.Image:
    """Images of any sizes in rows of a grid, each as wide as the others.

    Raises:
        ValueError: no images, or no columns.
    """
    if not images or columns < 1:
        raise ValueError(f"sheet of {len(images)} images in {columns} columns, expected at least 1 of each; add some")
    gap = max(4, cell_width_px // 60)
    cells = [_resized(image, width_px=cell_width_px) for image in images]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = gap + min(columns, len(cells)) * (cell_width_px + gap)
    sheet = Image.new("RGB", (width, gap + sum(heights) + gap * len(rows)), PAPER)
    y = gap
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (gap + column * (cell_width_px + gap), y + (height - cell.height) // 2))
        y += height + gap
    return sheet


def picture_table(
    rows: Sequence[Sequence[Image.Image]],
    heads: Sequence[str],
    captions: Sequence[Sequence[Caption]],
    *,
    cell_px: int,
) -> Image.Image:
    """Rows of pictures below the heads of their columns, each row above its captions.

    Args:
        rows: pictures at most `cell_px` wide.
        captions: of each row, as many as it has pictures, or one that has the whole width.
        cell_px: width of a column.
    """
    gap, line = cell_px * 3 // 100, cell_px // 10
    font, small = _font(cell_px // 20), _font(cell_px // 25)
    heights = [max(cell.height for cell in row) + line for row in rows]
    sheet = Image.new("RGB", (gap + len(heads) * (cell_px + gap), 3 * gap + line // 4 + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        draw.text((gap + column * (cell_px + gap), 2 * gap), head, INK, font, anchor="lm")
    y = 3 * gap + line // 4
    for row, height, texts in zip(rows, heights, captions, strict=True):
        for column, cell in enumerate(row):
            left = gap + column * (cell_px + gap) + (cell_px - cell.width) // 2
            sheet.paste(cell, (left, y + (height - line - cell.height) // 2))
        room = cell_px if len(texts) == len(row) > 1 else sheet.width - 2 * gap
        for column, (name, about) in enumerate(texts):
            before = f"{about}:  " if about else ""
            text = before + _fitted(name, small, room - small.getlength(before))
            draw.text((gap + column * (cell_px + gap), y + height - line * 2 // 3), text, MUTED, small, anchor="lm")
        y += height
    return sheet


def _outline(draw: ImageDraw.ImageDraw, mark: Marked, *, stroke_px: int) -> None:
    """The box with a thin dark rim outside, so that it shows on any ground."""
    x1, y1, x2, y2 = (round(value) for value in mark.corners)
    x2, y2 = max(x1 + 1, x2), max(y1 + 1, y2)
    color = class_color(mark.label)
    if not mark.dashed:
        rim_px = max(1, stroke_px // 4)
        draw.rectangle((x1 - rim_px, y1 - rim_px, x2 + rim_px, y2 + rim_px), outline=INK, width=rim_px)
        draw.rectangle((x1, y1, x2, y2), outline=color, width=stroke_px)
        return
    dash = 4 * stroke_px
    for x in range(x1, x2, 2 * dash):
        for y in (y1, y2):
            draw.line((x, y, min(x + dash, x2), y), fill=color, width=stroke_px)
    for y in range(y1, y2, 2 * dash):
        for x in (x1, x2):
            draw.line((x, y, x, min(y + dash, y2)), fill=color, width=stroke_px)


def _tag_place(
    draw: ImageDraw.ImageDraw,
    mark: Marked,
    *,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    stroke_px: int,
    bounds: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int, int, int] | None:
    """Above the box, else below, else inside at the top: the first place in the picture that no other tag has."""
    x1, y1, _, y2 = mark.corners
    width = round(draw.textlength(mark.text, font=font)) + 4 * stroke_px
    height = round(float(getattr(font, "size", 10)) * 1.25) + stroke_px
    left = max(0, min(round(x1), bounds[0] - width))
    for top in (round(y1) - height, round(y2) + 1, round(y1) + stroke_px):
        place = (left, top, left + width, top + height)
        if top >= 0 and place[3] <= bounds[1] and not any(_meet(place, other) for other in taken):
            return place
    return None


def _meet(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _center(place: tuple[int, int, int, int]) -> tuple[float, float]:
    return (place[0] + place[2]) / 2, (place[1] + place[3]) / 2


def _legend(labels: Sequence[int], *, classes: Sequence[str], width_px: int, text_px: int) -> Image.Image:
    """A swatch and a name for each label, in as many lines as they need; no height without labels."""
    font = _font(text_px)
    line, swatch = round(text_px * 1.7), text_px
    placed: list[tuple[int, int, int, str]] = []
    x = y = 0
    for label in labels:
        name = _fitted(classes[label], font, width_px - 2 * swatch)
        entry = round(font.getlength(name)) + 3 * swatch
        if x and x + entry > width_px:
            x, y = 0, y + line
        placed.append((x, y, label, name))
        x += entry
    legend = Image.new("RGB", (width_px, y + line if placed else 0), PAPER)
    draw = ImageDraw.Draw(legend)
    for x, y, label, name in placed:
        top = y + (line - swatch) // 2
        draw.rectangle((x, top, x + swatch, top + swatch), fill=class_color(label))
        draw.text((x + round(1.5 * swatch), y + line // 2), name, INK, font, anchor="lm")
    return legend


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: float) -> str:
    """The text, or so much of its end as fits behind an ellipsis: names of files differ at the end."""
    if font.getlength(text) <= width_px:
        return text
    kept = text
    while kept and font.getlength("..." + kept) > width_px:
        kept = kept[1:]
    return "..." + kept


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own letters: the same on every machine."""
    return ImageFont.load_default(size=size_px)


def _text_px(picture: Image.Image) -> int:
    return max(10, round(min(picture.size) / 42))


def _readable_on(color: Color) -> Color:
    """Dark or white letters, whichever contrasts more (luminance of ITU-R BT.601)."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return INK if luminance > 150 else PAPER


def _scaled(box: Sequence[float], *, scale: float) -> tuple[float, float, float, float]:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _resized(image: Image.Image, *, width_px: int) -> Image.Image:
    height_px = max(1, round(image.height * width_px / image.width))
    return image.convert("RGB").resize((width_px, height_px), Image.Resampling.LANCZOS)
