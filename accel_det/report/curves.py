"""How a training went, as a picture: loss, learning rate, and what the evaluations said."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from accel_det.report.axes import Axis, Canvas, Entry, Panel, short, shortened, text_px
from accel_det.report.pictures import INK, MUTED, Color, class_color

Array = NDArray[np.float64]
Record = Mapping[str, object]

SIZE_PX = (1600, 760)
_TOP_PX, _LEFT_PX, _GAP_PX = 50, 76, 40
# What a report of the training holds beside the terms of the loss.
_NOT_A_TERM = frozenset(
    {"kind", "step", "total", "error", "lr", "gradient_norm", "images_per_s", "data_wait", "memory_gb"}
)
# Curves with more points are shown as their running mean, which covers one part in so many.
_PARTS = 50
# A loss that falls by more than this factor is shown on a logarithmic axis.
_STEEP = 20.0
_RAW: Color = (170, 177, 186)
# Name in the scores -> name in the picture, and whether what is missing to 1 is shown; the first group that is there.
_SCORES = (
    (("rank1", "1 - rank1", True), ("mAP", "1 - mAP", True)),
    (("AP", "AP", False), ("AP50", "AP50", False)),
    (("VOC12/mAP", "VOC12 mAP", False), ("VOC07/mAP", "VOC07 mAP", False)),
)
_SCORE_COLORS: tuple[Color, ...] = ((29, 120, 240), (235, 125, 20))


class Curve(NamedTuple):
    """Numbers over the updates after which they were taken, by rising update."""

    steps: Array
    values: Array


def draw_curves(records: Sequence[Record], *, title: str = "") -> Image.Image:
    """Loss and learning rate on the left, evaluations on the right, over the updates.

    For re-identification the right side shows errors, 1 - rank1 and 1 - mAP and the share of training pictures that are taken
    for somebody else; for detection AP and AP50. Numbers that are not finite are left out, of two reports on one update the
    later one counts.

    Args:
        records: entries of a run's metrics.jsonl: "kind" is "train" or "val", "step" the update, all else numbers.
        title: above the panels.
    """
    training, evaluations = curves_of(records, "train"), curves_of(records, "val")
    width, height = SIZE_PX
    canvas = Canvas(width, height)
    canvas.text(_LEFT_PX, 22, shortened(title, width - 2 * _LEFT_PX, 20), size_px=20)
    ends = [float(curve.steps[-1]) for curve in (*training.values(), *evaluations.values())]
    x = Axis(0.0, max(ends, default=0.0) or 1.0, whole=True)
    middle = width / 2
    _draw_loss(canvas, training, x, (_LEFT_PX, _TOP_PX, middle - _GAP_PX, height - 250))
    _draw_rate(canvas, training, x, (_LEFT_PX, height - 180, middle - _GAP_PX, height - 60))
    area = (middle + _LEFT_PX, _TOP_PX, width - _GAP_PX, height - 60)
    _draw_scores(canvas, evaluations, training.get("error"), x, area)
    return canvas.picture()


def curves_of(records: Sequence[Record], kind: str) -> dict[str, Curve]:
    """The finite numbers of one kind of entry, by name."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        step = record.get("step")
        if record.get("kind") != kind or not isinstance(step, int):
            continue
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value) and name != "step":
                found.setdefault(name, {})[step] = float(value)
    return {
        name: Curve(
            np.array(sorted(values), np.float64), np.array([values[step] for step in sorted(values)], np.float64)
        )
        for name, values in found.items()
    }


def loss_terms(training: Mapping[str, Curve]) -> dict[str, Curve]:
    """The terms of the loss; "box/p3" and "box/p4" become one "box". None where the total has one term alone."""
    grouped: dict[str, dict[float, float]] = {}
    for name, curve in training.items():
        if name not in _NOT_A_TERM:
            sums = grouped.setdefault(name.partition("/")[0], {})
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                sums[step] = sums.get(step, 0.0) + value
    if len(grouped) < 2:
        return {}
    return {
        name: Curve(np.array(sorted(sums)), np.array([sums[step] for step in sorted(sums)]))
        for name, sums in grouped.items()
    }


def running_mean(values: Array, window: int) -> Array:
    """The mean of each number and its neighbors, `window` of them (odd), fewer at both ends."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    places, reach = np.arange(len(values)), window // 2
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: Array = (sums[high] - sums[low]) / (high - low)
    return means


def _window(curve: Curve) -> int:
    return 2 * (len(curve.values) // (2 * _PARTS)) + 1


def _smooth(curve: Curve, window: int | None = None) -> Curve:
    return Curve(curve.steps, running_mean(curve.values, window or _window(curve)))


def _draw_loss(canvas: Canvas, training: Mapping[str, Curve], x: Axis, area: tuple[float, float, float, float]) -> None:
    raw = training.get("total")
    if raw is None:
        _say_nothing(canvas, area, "training loss", "no report yet")
        return
    window = _window(raw)
    total = _smooth(raw)
    terms = {name: _smooth(curve, window) for name, curve in loss_terms(training).items()}
    heading = f"training loss, means of {window} reports" if window > 1 else "training loss"
    canvas.text(area[0], area[1], heading)
    entries = [Entry(f"total {total.values[-1]:.4g}", INK)]
    colors = {name: class_color(number) for number, name in enumerate(terms)}
    entries += [Entry(f"{name} {curve.values[-1]:.3g}", colors[name]) for name, curve in terms.items()]
    top = canvas.legend(entries, left=area[0], right=area[2], y=area[1] + 26)
    panel = Panel(canvas, (area[0], top, area[2], area[3]), x=x, y=_loss_axis([total, *terms.values()]))
    panel.frame(x_ticks=False)
    if window > 1:
        _draw_line(panel, raw, _RAW, width_px=1)
    for name, curve in terms.items():
        _draw_line(panel, curve, colors[name], width_px=1.5)
    _draw_line(panel, total, INK, width_px=2.5)


def _loss_axis(curves: Sequence[Curve]) -> Axis:
    """Of the total, which comes first, and of the terms: logarithmic for a total that falls far and stays above 0."""
    total = curves[0].values
    everything = np.concatenate([curve.values for curve in curves])
    if total.min() > 0 and total.max() > _STEEP * total.min():
        positive = everything[everything > 0]
        return Axis(
            max(float(positive.min()), float(total.min()) / 100) / 1.1, float(positive.max()) * 1.1, logarithmic=True
        )
    return Axis.around(min(0.0, float(everything.min())), float(everything.max()))


def _draw_rate(canvas: Canvas, training: Mapping[str, Curve], x: Axis, area: tuple[float, float, float, float]) -> None:
    curve = training.get("lr")
    highest, last = (0.0, 0.0) if curve is None else (float(curve.values.max()), float(curve.values[-1]))
    canvas.text(
        area[0], area[1] - 24, f"learning rate: highest {highest:.3g}, last {last:.3g}" if curve else "learning rate"
    )
    panel = Panel(canvas, area, x=x, y=Axis.around(0.0, highest))
    panel.frame(x_label="updates", y_text=lambda value: f"{value:g}" if highest else "")
    if curve is not None:
        _draw_line(panel, curve, MUTED, width_px=2)


def _draw_scores(
    canvas: Canvas,
    evaluations: Mapping[str, Curve],
    training_error: Curve | None,
    x: Axis,
    area: tuple[float, float, float, float],
) -> None:
    shown = shown_scores(evaluations)
    if not shown and training_error is None:
        _say_nothing(canvas, area, "evaluation", "no evaluation yet")
        return
    errors = training_error is not None or any(name.startswith("1 - ") for name in shown)
    heading = "errors on the evaluation split" if errors else "average precision on the evaluation split"
    canvas.text(area[0], area[1], f"{heading}, and in training" if training_error else heading)
    best = {name: int((np.argmin if errors else np.argmax)(curve.values)) for name, curve in shown.items()}
    entries = [
        Entry(f"{name}: best {curve.values[best[name]]:.3f}, last {curve.values[-1]:.3f}", color)
        for (name, curve), color in zip(shown.items(), _SCORE_COLORS, strict=False)
    ]
    trained = None if training_error is None else _smooth(training_error)
    if trained is not None:
        entries.append(Entry(f"training pictures misclassified: last {trained.values[-1]:.3f}", MUTED))
    top = canvas.legend(entries, left=area[0], right=area[2], y=area[1] + 26)
    highest = max(float(curve.values.max()) for curve in (*shown.values(), *([trained] if trained else [])))
    panel = Panel(canvas, (area[0], top, area[2], area[3]), x=x, y=Axis.around(0.0, highest))
    panel.frame(x_label="updates")
    if trained is not None:
        _draw_line(panel, trained, MUTED, width_px=2)
    for (name, curve), color in zip(shown.items(), _SCORE_COLORS, strict=False):
        _draw_line(panel, curve, color, width_px=2)
        places = panel.places(curve.steps, curve.values)
        for place in places if len(places) <= _PARTS else []:
            canvas.dot(*place, color=color, radius_px=3)
        canvas.dot(*places[best[name]], color=color, radius_px=6, hollow=True)
        _draw_best(panel, places[best[name]], f"{short(float(curve.steps[best[name]]))}", color=color)


def shown_scores(evaluations: Mapping[str, Curve]) -> dict[str, Curve]:
    """What the right panel shows, by its name there; numbers below 0 say that there was nothing to score."""
    for group in _SCORES:
        shown: dict[str, Curve] = {}
        for key, name, as_error in group:
            curve = evaluations.get(key, Curve(np.zeros(0), np.zeros(0)))
            known = curve.values >= 0
            if known.any():
                values = curve.values[known]
                shown[name] = Curve(curve.steps[known], 1 - values if as_error else values)
        if shown:
            return shown
    return {}


def _draw_best(panel: Panel, place: tuple[float, float], text: str, *, color: Color) -> None:
    """The update of the best score beside its ring, within the panel."""
    left, top, right, _ = panel.area
    x = min(max(place[0], left + text_px(text) / 2), right - text_px(text) / 2)
    above = place[1] - 18
    panel.canvas.text(x, above if above > top else place[1] + 18, text, color=color, anchor="mm")


def _draw_line(panel: Panel, curve: Curve, color: Color, *, width_px: float) -> None:
    """A curve; one point alone is a dot. A logarithmic axis has no place for what is not above 0."""
    kept = curve.values > 0 if panel.y.logarithmic else np.ones(len(curve.values), dtype=bool)
    places = panel.places(curve.steps[kept], curve.values[kept])
    panel.canvas.line(places, color=color, width_px=width_px)
    if len(places) == 1:
        panel.canvas.dot(*places[0], color=color, radius_px=3)


def _say_nothing(canvas: Canvas, area: tuple[float, float, float, float], heading: str, what: str) -> None:
    canvas.text(area[0], area[1], heading)
    canvas.text((area[0] + area[2]) / 2, (area[1] + area[3]) / 2, what, color=MUTED, anchor="mm")
