"""Charts and the page that holds them: lengths are in proportion, and nothing comes from elsewhere."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accel_det.report.charts import Bars, Series, draw_bars, draw_histogram
from accel_det.report.page import Picture, Section, render_page

BLUE, RED = Series("train", (29, 120, 240)), Series("val", (230, 57, 70))


def spans(image: Image.Image, color: tuple[int, int, int], *, below: int) -> list[tuple[int, int]]:
    """(row, pixels of that color) of the picture's rows from `below` on that have any."""
    pixels = (np.asarray(image) == color).all(axis=2)
    return [(row, int(pixels[row].sum())) for row in range(below, image.height) if pixels[row].any()]


def test_bars_are_as_long_as_their_numbers_say() -> None:
    rows = [Bars("a", [1.0, 0.5], ["1", "0.5"]), Bars("a very long name of a class " * 9, [0.25, 0.0], ["", "0"])]
    picture = draw_bars(rows, (BLUE, RED))
    assert picture.width == 1600
    lengths = sorted({length for _, length in spans(picture, BLUE.color, below=60)}, reverse=True)
    assert lengths[0] / lengths[1] == pytest.approx(4, rel=0.02)
    (red,) = {length for _, length in spans(picture, RED.color, below=60)}
    assert red == pytest.approx(lengths[0] / 2, rel=0.02)


def test_a_bar_of_next_to_nothing_is_seen_and_one_of_nothing_is_not() -> None:
    rows = [Bars("a", [1.0], ["1"]), Bars("b", [1e-9], ["few"]), Bars("c", [0.0], ["0"])]
    lengths = [length for _, length in spans(draw_bars(rows, (BLUE,)), BLUE.color, below=60)]
    assert {length < 10 for length in lengths} == {True, False}
    assert not spans(draw_bars([Bars("c", [0.0], ["0"])], (BLUE,)), BLUE.color, below=60)


def test_a_histogram_counts_every_value_in_its_bin_as_a_share() -> None:
    """60 % in the first bin, with those below it; 20 % in the second; 20 % beyond the last edge, in the last."""
    values = np.array([-5.0, 0.5, 0.9, 1.5, 99.0])
    picture = draw_histogram([values], (BLUE,), edges=np.array([0.0, 1, 2, 3]), axis="number")
    pixels = (np.asarray(picture) == BLUE.color).all(axis=2)[60:]
    heights = pixels.sum(axis=0)
    thirds = [heights[start : start + 150].max() for start in (100, 330, 570)]
    assert thirds[0] / thirds[1] == pytest.approx(3, rel=0.05)
    assert thirds[1] == thirds[2] > 50


@pytest.mark.parametrize("values", [[], [1.0]])
def test_charts_of_nothing_are_drawn(values: list[float]) -> None:
    numbers = np.array(values, np.float64)
    assert draw_histogram([numbers, numbers], (BLUE, RED), edges=np.array([0.0, 1]), axis="x").size == (800, 520)
    assert draw_bars([], (BLUE,)).width == 1600


def test_a_page_holds_its_pictures_and_takes_names_for_text(tmp_path: Path) -> None:
    file = tmp_path / "p.png"
    Image.new("RGB", (3, 2)).save(file)
    evil = '<script src="http://x">&'
    sections = [
        Section(evil, [evil], [["head"], [evil]], [Picture(file, 30, evil)], [(evil, (1, 2, 3))]),
        Section("empty"),
    ]
    text = render_page(evil, [evil], sections)
    assert "<script" not in text and 'src="http' not in text
    assert text.count("&lt;script src=&quot;http://x&quot;&gt;&amp;") == 9
    assert base64.b64encode(file.read_bytes()).decode() in text
    assert text.count("<section>") == 2
