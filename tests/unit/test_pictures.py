"""Pictures of boxes: where the ink goes, and sizes."""

import numpy as np
import pytest
import torch
from detection_cases import make_row
from PIL import Image

from accel_det.report.pictures import (
    PAPER,
    Caption,
    Marked,
    class_color,
    compare,
    contact_sheet,
    draw_detections,
    draw_marks,
    draw_truth,
    picture_table,
)
from accel_det.types import BoxTarget

GRAY = (128, 128, 128)
CLASSES = ["cat", "dog", "a class with quite a long name indeed"]


def canvas(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GRAY)


def count(image: Image.Image, color: tuple[int, int, int]) -> int:
    return sum(number for number, found in image.getcolors(maxcolors=1 << 24) or [] if found == color)


def test_the_first_eighty_classes_all_have_colors_of_their_own() -> None:
    assert len({class_color(label) for label in range(80)}) == 80
    nearest = min(
        sum((a - b) ** 2 for a, b in zip(class_color(i), class_color(j), strict=True)) ** 0.5
        for i in range(10)
        for j in range(i)
    )
    assert nearest > 60


@pytest.mark.parametrize("width", [320, 2000])
def test_an_outline_lies_on_its_box_at_any_size(width: int) -> None:
    target = BoxTarget(
        torch.tensor([[100.0, 50, 300, 250]]), torch.tensor([0]), torch.tensor([False]), torch.tensor([1.0])
    )
    picture = draw_truth(canvas(400, 300), target, classes=CLASSES, width_px=width)
    scale = width / 400
    assert picture.size == (width, round(300 * scale))
    for x, y in ((100, 150), (300, 150), (200, 250)):
        assert picture.getpixel((round(x * scale), round(y * scale))) == class_color(0)
    assert picture.getpixel((round(200 * scale), round(200 * scale))) == GRAY


def test_predictions_below_the_score_are_not_drawn() -> None:
    row = make_row(1, truth=[], found=[([10, 40, 60, 90], 0, 0.9), ([100, 40, 160, 90], 1, 0.2)])
    picture = draw_detections(canvas(200, 100), row.detections, classes=CLASSES, width_px=400)
    assert count(picture, class_color(0)) > 100
    assert count(picture, class_color(1)) == 0


def test_an_ignored_region_is_drawn_with_gaps() -> None:
    solid, dashed = (
        draw_marks(canvas(200, 200), [Marked((20, 60, 180, 180), 0, "", dashed=dashed)]) for dashed in (False, True)
    )
    line = [(x, 180) for x in range(24, 176)]
    assert {solid.getpixel(at) for at in line} == {class_color(0)}
    assert {dashed.getpixel(at) for at in line} == {class_color(0), GRAY}


def test_tags_stay_in_the_picture_and_off_each_other() -> None:
    alone = count(draw_marks(canvas(200, 200), [Marked((100, 100, 101, 101), 0, "tag")]), class_color(0))
    corner = count(draw_marks(canvas(200, 200), [Marked((199, 0, 200, 1), 0, "tag")]), class_color(0))
    assert corner > 0.9 * alone
    crowd = [Marked((100, 100, 104, 104), label, "tag") for label in (1, 1, 1, 1, 1, 0)]
    picture = draw_marks(canvas(200, 200), crowd)
    assert count(picture, class_color(0)) >= alone
    # Five more tags want a place, and there are two more places at one box: below it and inside.
    assert count(picture, class_color(1)) < 2.2 * alone


def test_boxes_without_extent_or_beyond_the_picture_do_no_harm() -> None:
    marks = [
        Marked((50, 50, 50, 50), 0, "point"),
        Marked((-500, -500, 900, 900), 1, "all"),
        Marked((900, 0, 901, 9), 2, ""),
    ]
    assert draw_marks(canvas(100, 100), marks).size == (100, 100)


@pytest.mark.parametrize("width", [320, 1000])
def test_truth_and_prediction_stand_side_by_side_above_a_legend(width: int) -> None:
    row = make_row(
        1,
        truth=[([40, 40, 90, 90], 0, False)],
        found=[([40, 40, 90, 90], 1, 0.8), ([10, 10, 30, 30], 2, 0.1)],
    )
    title = "folder/with/a/long/path/" * 20 + "image.jpg"
    sheet = compare(canvas(160, 120), row, classes=CLASSES, title=title, panel_width_px=width)
    half = sheet.width // 2
    panel_end = round(sheet.height * 0.85)
    left, right = (sheet.crop((x, 0, x + half, panel_end)) for x in (0, half))
    assert count(left, class_color(0)) > 0 and count(left, class_color(1)) == 0
    assert count(right, class_color(1)) > 0 and count(right, class_color(0)) == 0
    legend = sheet.crop((0, panel_end, sheet.width, sheet.height))
    assert [count(legend, class_color(label)) > 0 for label in range(3)] == [True, True, False]
    assert sheet.width > 2 * width
    assert sheet.height > width * 120 / 160


def test_an_image_without_boxes_has_no_legend() -> None:
    row = make_row(1, truth=[], found=[])
    sheet = compare(canvas(160, 120), row, classes=CLASSES, title="empty.jpg", panel_width_px=320)
    assert {sheet.getpixel((x, sheet.height - 1)) for x in range(sheet.width)} == {PAPER}
    assert count(sheet, GRAY) == 2 * 320 * 240


def test_a_sheet_holds_every_image_in_its_cell() -> None:
    images = [Image.new("RGB", (50 + 10 * i, 40), class_color(i)) for i in range(5)]
    sheet = contact_sheet(images, columns=2, cell_width_px=100)
    heights = [round(40 * 100 / image.width) for image in images]
    assert sheet.width == 2 * 100 + 3 * 4
    assert sheet.height == 4 + sum(max(heights[i : i + 2]) + 4 for i in (0, 2, 4))
    for label, height in enumerate(heights):
        assert count(sheet, class_color(label)) == 100 * height
    with pytest.raises(ValueError, match="sheet of 0 images"):
        contact_sheet([], columns=2)


def test_a_table_of_pictures_has_every_picture_in_its_column_above_its_caption() -> None:
    rows = [
        [Image.new("RGB", (100 - 10 * i, 60), class_color(3 * row + i)) for i in range(3 - row)] for row in range(2)
    ]
    names = [[Caption("folder/" * 40 + "a.jpg", "1 object")], [Caption("b.jpg"), Caption("folder/" * 40 + "c.jpg")]]
    table = picture_table(rows, ["one", "two", "three"], names, cell_px=100)
    assert table.width == 3 + 3 * 103
    pixels = np.asarray(table)
    for label, column in ((0, 0), (1, 1), (2, 2), (3, 0), (4, 1)):
        mine = (pixels == class_color(label)).all(axis=2)
        assert mine.sum() == 60 * (100 - 10 * (label % 3))
        places = np.flatnonzero(mine.any(axis=0))
        center = 3 + column * 103 + 50
        assert abs((places[0] + places[-1] + 1) / 2 - center) <= 0.5
    below = pixels[-10:]
    assert (below[:, 3:103] != 255).any() and (below[:, 106:206] != 255).any() and (below[:, 209:] == 255).all()
