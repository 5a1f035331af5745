"""Ranked lists as a picture: which frame an answer gets, and where pictures lie."""

import numpy as np
import pytest
from PIL import Image

from accel_det.report.pictures import PAPER
from accel_det.report.ranked_lists import (
    ANSWERS,
    QUERY,
    RIGHT,
    UNKNOWN,
    WRONG,
    Answer,
    RankedRow,
    Shown,
    Verdict,
    draw_ranked_lists,
)

BLUE, VIOLET = (20, 60, 200), (120, 20, 160)
LEGEND_PX = 54


def picture(color: tuple[int, int, int], width: int = 64, height: int = 128) -> Image.Image:
    return Image.new("RGB", (width, height), color)


def row(*verdicts: Verdict, answer: Image.Image | None = None, query: Image.Image | None = None) -> RankedRow:
    shown = Shown(answer or picture(VIOLET), "gallery/a.jpg", "anna", "c1")
    answers = [Answer(shown, 0.1 * rank, verdict) for rank, verdict in enumerate(verdicts)]
    return RankedRow(Shown(query or picture(BLUE), "query.jpg", "anna", "c2"), answers)


def mask(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Where the picture below its legend has a color."""
    found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (np.asarray(image) == color).all(axis=2)[LEGEND_PX:]
    return found


def boxes_of(image: Image.Image, color: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of the areas of one color in the first row of pictures, from left to right."""
    found = mask(image, color)
    columns = np.flatnonzero(found.any(axis=0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    spans = [(int(group[0]), int(group[-1])) for group in groups if len(group)]
    boxes = []
    for left, right in spans:
        rows = np.flatnonzero(found[:, left : right + 1].any(axis=1))
        boxes.append((left, int(rows[0]), right, int(rows[-1])))
    return boxes


def test_right_answers_are_framed_green_wrong_ones_red_and_the_query_in_neither() -> None:
    sheet = draw_ranked_lists([row(Verdict.RIGHT, Verdict.WRONG, Verdict.RIGHT)])
    green, red, neutral = (boxes_of(sheet, color) for color in (RIGHT, WRONG, QUERY))
    assert (len(green), len(red), len(neutral)) == (2, 1, 1)
    assert neutral[0][0] < green[0][0] < red[0][0] < green[1][0]
    assert not mask(sheet, UNKNOWN)[:, green[0][0] :].any()


def test_every_answer_lies_in_its_own_frame_and_all_cells_are_of_one_size() -> None:
    sheet = draw_ranked_lists([row(*[Verdict.RIGHT, Verdict.WRONG] * 2)])
    frames = sorted(boxes_of(sheet, RIGHT) + boxes_of(sheet, WRONG) + boxes_of(sheet, QUERY))
    assert len(frames) == 5
    assert len({(x2 - x1, y2 - y1) for x1, y1, x2, y2 in frames}) == 1
    inside = sorted(boxes_of(sheet, VIOLET) + boxes_of(sheet, BLUE))
    for frame, inner in zip(frames, inside, strict=True):
        assert frame[0] < inner[0] and inner[2] < frame[2] and frame[1] < inner[1] and inner[3] < frame[3]


@pytest.mark.parametrize(("width", "height"), [(64, 128), (300, 100), (20, 200), (1, 1), (2000, 1500)])
def test_a_picture_keeps_its_shape(width: int, height: int) -> None:
    sheet = draw_ranked_lists([row(Verdict.RIGHT, answer=picture(VIOLET, width, height))])
    ((x1, _, x2, y2),) = boxes_of(sheet, VIOLET)
    drawn_width = x2 - x1 + 1
    # The badge in the corner may cover the first rows and columns, never the last ones.
    lowest = int(np.flatnonzero(mask(sheet, VIOLET)[:, x2])[0])
    assert drawn_width / (y2 - lowest + 1) == pytest.approx(width / height, rel=0.06)
    ((left, _, right, _),) = boxes_of(sheet, RIGHT)
    assert right - left >= drawn_width


def test_a_distractor_has_gaps_in_its_frame_and_a_wrong_answer_has_none() -> None:
    solid, dashed = (draw_ranked_lists([row(verdict)]) for verdict in (Verdict.WRONG, Verdict.DISTRACTOR))
    ((x1, _, x2, bottom),) = boxes_of(solid, WRONG)
    assert mask(solid, WRONG)[bottom, x1 : x2 + 1].all()
    edge = mask(dashed, WRONG)[bottom, x1 : x2 + 1]
    assert 0.3 < edge.mean() < 0.7


def test_answers_of_unknown_identity_are_neither_green_nor_red() -> None:
    sheet = draw_ranked_lists([row(Verdict.UNKNOWN, Verdict.UNKNOWN)])
    assert not mask(sheet, RIGHT).any() and not mask(sheet, WRONG).any()
    assert mask(sheet, UNKNOWN).sum() > 1000


def test_the_legend_names_the_frames_that_appear_and_no_others() -> None:
    def legend(*verdicts: Verdict) -> set[tuple[int, ...]]:
        head = draw_ranked_lists([row(*verdicts)]).crop((0, 0, 500, LEGEND_PX))
        return {tuple(color) for color in np.asarray(head).reshape(-1, 3).tolist()} & {QUERY, RIGHT, WRONG, UNKNOWN}

    assert legend(Verdict.RIGHT) == {QUERY, RIGHT}
    assert legend(Verdict.WRONG) == legend(Verdict.DISTRACTOR) == {QUERY, WRONG}
    assert legend(Verdict.UNKNOWN) == {QUERY, UNKNOWN}


def test_no_more_than_ten_answers_are_drawn_and_a_short_list_leaves_room() -> None:
    long, short = row(*[Verdict.RIGHT] * (ANSWERS + 3)), row(Verdict.RIGHT)
    assert len(boxes_of(draw_ranked_lists([long]), RIGHT)) == ANSWERS
    both = draw_ranked_lists([short, long, RankedRow(short.query, [])])
    assert both.width == draw_ranked_lists([long]).width
    assert mask(both, RIGHT).sum() == pytest.approx(11 * mask(draw_ranked_lists([short]), RIGHT).sum(), rel=0.01)
    assert draw_ranked_lists([RankedRow(short.query, [])]).width > 0


def test_names_of_any_length_stay_below_their_own_picture() -> None:
    """Everything right of the only answer's cell is paper, however long its name."""
    shown = Shown(picture(VIOLET), "folder/" * 40 + "name.jpg", "identity " * 30, "camera " * 30)
    plain = row(Verdict.RIGHT)
    sheet = draw_ranked_lists([plain._replace(answers=[Answer(shown, 0.5, Verdict.RIGHT)])])
    ((_, _, right, _),) = boxes_of(sheet, RIGHT)
    beside = np.asarray(sheet)[LEGEND_PX:, right + 2 :]
    assert (beside == PAPER).all() and beside.shape[1] > 5


def test_a_picture_that_is_gone_is_an_empty_cell() -> None:
    sheet = draw_ranked_lists([RankedRow(Shown(None, "q"), [Answer(Shown(None, "gone.jpg"), 0.5, Verdict.UNKNOWN)])])
    assert len(boxes_of(sheet, QUERY)) == 1


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="0 ranked lists, expected at least 1"):
        draw_ranked_lists([])
