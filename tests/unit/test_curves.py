"""Curves of a training: which numbers are drawn, and that nothing a journal can hold breaks the picture."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from accel_det.cli import curves as command
from accel_det.report.axes import Axis, Canvas, Panel, short, shortened, text_px
from accel_det.report.curves import SIZE_PX, curves_of, draw_curves, loss_terms, running_mean, shown_scores
from accel_det.report.pictures import INK, MUTED, class_color

BLUE, ORANGE = (29, 120, 240), (235, 125, 20)
HALF = SIZE_PX[0] // 2


def train(step: int, total: Any = 1.0, **more: Any) -> dict[str, Any]:
    measured = {"lr": 0.1, "gradient_norm": 1.0, "images_per_s": 9.0, "data_wait": 0.1, "memory_gb": 1.0}
    return {"kind": "train", "step": step, "total": total, **measured, **more}


def count(image: Image.Image, color: tuple[int, int, int], *, right: bool) -> int:
    pixels = np.asarray(image)[:, HALF:] if right else np.asarray(image)[:, :HALF]
    return int((pixels == color).all(axis=2).sum())


def test_of_two_reports_on_one_update_the_later_counts_and_steps_are_in_order() -> None:
    """A journal that was put together from two lives of a run, the second resumed at 20."""
    records = [train(10, 5.0), train(20, 4.0), train(30, 99.0), train(20, 4.5), train(30, 3.0)]
    found = curves_of(records, "train")["total"]
    assert found.steps.tolist() == [10, 20, 30] and found.values.tolist() == [5.0, 4.5, 3.0]
    assert curves_of(records, "val") == {}


def test_numbers_that_are_not_finite_are_left_out() -> None:
    records = [train(1, "nan"), train(2, math.inf), train(3, 2.0), {"kind": "train"}, {"kind": "train", "step": "x"}]
    assert curves_of(records, "train")["total"].steps.tolist() == [3]


def test_levels_of_a_term_are_one_term_and_measurements_are_none() -> None:
    records = [train(1, 6.0, **{"box/p3": 1.0, "box/p4": 2.0, "class": 3.0}), train(2, 3.0, **{"box/p4": 3.0})]
    terms = loss_terms(curves_of(records, "train"))
    assert {name: curve.values.tolist() for name, curve in terms.items()} == {"box": [3.0, 3.0], "class": [3.0]}
    assert loss_terms(curves_of([train(1, 6.0, identity=6.0)], "train")) == {}


@pytest.mark.parametrize("window", [1, 3, 7, 99])
def test_a_running_mean_is_that_of_the_neighbors(window: int) -> None:
    values = np.random.default_rng(0).normal(size=20)
    found = running_mean(values, window)
    for place in range(20):
        near = [values[other] for other in range(20) if abs(other - place) <= window // 2]
        assert found[place] == pytest.approx(sum(near) / len(near))


def test_scores_of_retrieval_are_shown_as_errors_and_those_of_detection_as_they_are() -> None:
    reid = curves_of([{"kind": "val", "step": 5, "rank1": 0.75, "mAP": 0.5, "mINP": 0.1}], "val")
    assert {name: curve.values.tolist() for name, curve in shown_scores(reid).items()} == {
        "1 - rank1": [0.25],
        "1 - mAP": [0.5],
    }
    found = curves_of([{"kind": "val", "step": s, "AP": a, "AP50": -1.0} for s, a in ((1, -1.0), (2, 0.4))], "val")
    shown = shown_scores(found)
    assert list(shown) == ["AP"] and shown["AP"].steps.tolist() == [2] and shown["AP"].values.tolist() == [0.4]
    assert list(shown_scores(curves_of([{"kind": "val", "step": 1, "VOC12/mAP": 0.3}], "val"))) == ["VOC12 mAP"]
    assert shown_scores(curves_of([{"kind": "val", "step": 1, "other": 0.3}], "val")) == {}


def test_losses_are_drawn_on_the_left_and_evaluations_on_the_right() -> None:
    losses = [train(step, 8.0 - step, identity=5.0 - step / 2, triplet=3.0 - step / 2) for step in range(1, 6)]
    scores = [{"kind": "val", "step": step, "rank1": 0.1 * step, "mAP": 0.05 * step} for step in (2, 5)]
    alone, both = draw_curves(losses), draw_curves([*losses, *scores], title="a run")
    assert alone.size == both.size == SIZE_PX
    # The second term of the loss has the blue of the first score.
    assert count(both, class_color(0), right=False) > 300 and count(both, BLUE, right=False) > 300
    assert count(both, class_color(0), right=True) == count(both, ORANGE, right=False) == 0
    assert count(both, BLUE, right=True) > 300 and count(both, ORANGE, right=True) > 300
    assert count(alone, BLUE, right=True) == count(alone, ORANGE, right=True) == 0
    assert count(alone, INK, right=False) > 500


def test_the_share_of_misclassified_training_pictures_is_drawn_beside_the_evaluations_and_not_as_a_loss() -> None:
    losses = [train(step, 5.0 - step / 2, identity=5.0 - step / 2) for step in range(1, 6)]
    watched = [record | {"error": 0.9 - 0.1 * record["step"]} for record in losses]
    assert loss_terms(curves_of(watched, "train")) == {}
    scores = [{"kind": "val", "step": step, "rank1": 0.1 * step, "mAP": 0.05 * step} for step in (2, 5)]
    plain, with_error = draw_curves([*losses, *scores]), draw_curves([*watched, *scores])
    assert count(with_error, MUTED, right=True) > count(plain, MUTED, right=True) + 300
    assert count(with_error, BLUE, right=True) > 300
    left = [np.asarray(picture)[:, :HALF] for picture in (plain, with_error)]
    assert np.array_equal(*left)
    assert count(draw_curves(watched), MUTED, right=True) > count(draw_curves(losses), MUTED, right=True) + 300


def test_a_line_passes_through_its_numbers() -> None:
    canvas = Canvas(200, 120)
    panel = Panel(canvas, (20, 10, 180, 110), x=Axis(0, 10), y=Axis(0, 1))
    places = panel.places(np.array([0.0, 5.0, 10.0, 99.0]), np.array([0.0, 1.0, 0.5, -3.0]))
    assert places == [(20, 110), (100, 10), (180, 60), (180, 110)]
    canvas.line(places[:3], color=BLUE, width_px=3)
    picture = canvas.picture()
    assert picture.size == (200, 120)
    assert [picture.getpixel((x, y)) for x, y in ((60, 60), (140, 35))] == [BLUE, BLUE]
    logarithmic = Panel(canvas, (0, 0, 100, 100), x=Axis(1, 100, logarithmic=True), y=Axis(0, 1))
    assert logarithmic.places(np.array([10.0]), np.array([0.0]))[0][0] == pytest.approx(50)


@pytest.mark.parametrize(
    ("axis", "about", "ticks"),
    [
        (Axis(0, 10), 5, [0, 2, 4, 6, 8, 10]),
        (Axis(-1, 1), 4, [-1, -0.5, 0, 0.5, 1]),
        (Axis(0, 3, whole=True), 10, [0, 1, 2, 3]),
        (Axis(0.01, 100, logarithmic=True), 4, [0.01, 0.1, 1, 10, 100]),
        (Axis(1, 10, logarithmic=True), 4, [1, 2, 5, 10]),
    ],
)
def test_ticks_are_round_numbers(axis: Axis, about: int, ticks: list[float]) -> None:
    assert axis.ticks(about) == pytest.approx(ticks)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 1e-9), (5, 5), (-3, -3), (0, 7.3), (-0.2, 1.13), (1e6, 1e9)])
def test_an_axis_around_numbers_holds_them_and_has_few_ticks(low: float, high: float) -> None:
    axis = Axis.around(low, high)
    assert axis.low <= low and high <= axis.high and axis.low < axis.high
    assert 2 <= len(axis.ticks(8)) <= 12


def test_numbers_and_names_of_an_axis_are_short() -> None:
    assert [short(value) for value in (0, 0.05, 400, 20_000, 1_500_000, 3e9)] == [
        "0",
        "0.05",
        "400",
        "20k",
        "1.5M",
        "3G",
    ]
    assert shortened("runs/a/name.jpg", 1000) == "runs/a/name.jpg"
    kept = shortened("folder/" * 20 + "name.jpg", 90)
    assert kept.startswith("...") and kept.endswith("name.jpg") and text_px(kept) <= 90


@pytest.mark.parametrize(
    "records",
    [
        [],
        [train(50)],
        [{"kind": "val", "step": 3, "rank1": 1.0, "mAP": 1.0}],
        [train(0, 0.0)],
        [train(1, "nan", lr=0.0)],
        [train(step, -5.0 + step, a=-3.0, b=-2.0 + step) for step in range(10)],
        [train(step, 1e9 / 10**step, a=1e9 / 10**step, b=0.0) for step in range(14)],
        [train(step, 1.0 + step % 3, **{f"term {n}": 0.1 for n in range(14)}) for step in range(1000)],
        [{"kind": "val", "step": step, "AP": 0.0, "AP50": 0.0} for step in range(200)],
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_journal_of_any_kind_is_drawn(records: list[dict[str, Any]]) -> None:
    assert draw_curves(records, title="a name " * 40).size == SIZE_PX


def test_the_command_draws_a_run_beside_its_journal_or_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my run"
    run.mkdir()
    lines = [json.dumps(train(step, 3.0 / step)) for step in range(1, 5)]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"half a li']), encoding="utf-8")
    assert command.run([str(run)]) == 0
    assert Image.open(run / "train.png").size == SIZE_PX
    assert str(run / "train.png") in capsys.readouterr().out.replace("\n", "")
    assert command.run([str(run), "--out", str(tmp_path / "new" / "c.jpg")]) == 0
    assert Image.open(tmp_path / "new" / "c.jpg").format == "JPEG"
    assert sorted(file.name for file in run.iterdir()) == ["metrics.jsonl", "train.png"]


def test_what_cannot_be_drawn_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no metrics\.jsonl with reports in it; expected the folder of a run"):
        command.write_curves(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(train(1)) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"whose name ends in \.png"):
        command.write_curves(tmp_path, tmp_path / "c.txt")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(ValueError, match="cannot be written"):
        command.write_curves(tmp_path, tmp_path / "taken.png")
