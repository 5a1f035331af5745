"""Pictures of embeddings: how far apart those of one identity and of two lie, and a map of them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import eigh
from torch import Tensor

from accel_det.report.axes import Axis, Canvas, Entry, Panel, short, shortened, text_px
from accel_det.report.pictures import INK, MUTED, Color, class_color

Array = NDArray[np.float64]
Area = tuple[float, float, float, float]

SAME: Color = (34, 150, 80)
DIFFERENT: Color = (214, 60, 60)
OTHERS: Color = (186, 192, 199)
NAMED_IDENTITIES = 20
_BINS = 80
# So many colors of `class_color` are told apart at a glance.
_COLORS = 10
_DISTANCES_PX = (1100, 560)
_MAP_PX = (1200, 900)
_LEGEND_PX = 280


class EqualError(NamedTuple):
    """The threshold at which as large a share of the pairs of one identity is refused as of those of two is accepted."""

    threshold: float
    rate: float


class Plane(NamedTuple):
    """Embeddings in two dimensions.

    Attributes:
        places: (N, 2) along the two directions of the largest variance; the sign of each makes its largest part positive.
        explained: share of the whole variance of each direction; 0 where there is no variance.
    """

    places: Array
    explained: tuple[float, float]


class Mark(NamedTuple):
    """How the pictures of one identity are shown on a map."""

    color: Color
    square: bool = False

    def draw(self, canvas: Canvas, place: tuple[float, float], radius_px: float) -> None:
        shape = canvas.square if self.square else canvas.dot
        shape(*place, color=self.color, radius_px=radius_px)


def equal_error(same: Array, different: Array) -> EqualError:
    """Where the two kinds of error are equal, or as near as the pairs allow; then the rate is their mean.

    A pair is taken for one identity where its distance does not exceed the threshold. Of the thresholds with these errors
    the middle one is taken.

    Args:
        same: distances of pairs of one identity, at least one; different: of two identities, at least one.

    Raises:
        ValueError: no pairs of one kind, or a distance that is not finite.
    """
    if not len(same) or not len(different):
        raise ValueError(
            f"{len(same)} pairs of one identity and {len(different)} of two, expected at least 1 of each; take more pictures"
        )
    ranked_same, ranked_different = np.sort(same.astype(np.float64)), np.sort(different.astype(np.float64))
    candidates = np.unique(np.concatenate((ranked_same, ranked_different)))
    if not np.isfinite(candidates).all():
        raise ValueError("a distance of a pair is not finite, expected finite numbers; embed the pictures again")
    refused = 1 - np.searchsorted(ranked_same, candidates, side="right") / len(same)
    accepted = np.searchsorted(ranked_different, candidates, side="right") / len(different)
    rates = (refused + accepted) / 2
    best = int(np.lexsort((rates, np.abs(refused - accepted)))[0])
    # Both errors are the same from one candidate up to the next.
    upper = candidates[min(best + 1, len(candidates) - 1)]
    return EqualError(float((candidates[best] + upper) / 2), float(rates[best]))


def principal_plane(embeddings: Tensor) -> Plane:
    """The plane in which embeddings differ most, by principal component analysis in float64.

    Args:
        embeddings: (N, D) float.
    """
    vectors = embeddings.double().numpy()
    count, width = vectors.shape
    places, explained = np.zeros((count, 2)), [0.0, 0.0]
    if not count or not width:
        return Plane(places, (0.0, 0.0))
    centered = vectors - vectors.mean(axis=0)
    total = float((centered**2).sum())
    variances, directions = eigh(centered.T @ centered, subset_by_index=[max(0, width - 2), width - 1])
    # They rise; a tiny one is rounding.
    for axis, column in enumerate(reversed(range(len(variances)))):
        direction = directions[:, column]
        places[:, axis] = centered @ direction * np.sign(direction[np.abs(direction).argmax()])
        explained[axis] = max(0.0, float(variances[column])) / total if total > 1e-12 * count else 0.0
    return Plane(places, (explained[0], explained[1]))


def draw_distances(same: Array, different: Array, *, axis: str = "distance", title: str = "") -> Image.Image:
    """Two histograms on one axis, as shares of the pairs of each kind, with the threshold of equal error.

    Args:
        same: distances of pairs of one identity; different: of two. Without pairs of one kind no threshold is drawn.
        axis: what the distance is.
        title: above the picture.
    """
    width, height = _DISTANCES_PX
    canvas = Canvas(width, height)
    everything = np.concatenate((same, different)).astype(np.float64)
    lowest, highest = (float(everything.min()), float(everything.max())) if len(everything) else (0.0, 1.0)
    x = Axis.around(min(0.0, lowest), highest)
    edges = np.linspace(x.low, x.high, _BINS + 1)
    heights = [np.histogram(kind, edges)[0] / max(1, len(kind)) for kind in (same, different)]
    canvas.text(76, 24, shortened(title, width - 152, 20), size_px=20)
    entries = [
        Entry(f"pairs of one identity ({len(same):,})", SAME),
        Entry(f"pairs of two identities ({len(different):,})", DIFFERENT),
    ]
    top = canvas.legend(entries, left=76, right=width - 30, y=54 if title else 24)
    found = equal_error(same, different) if len(same) and len(different) else None
    y = Axis(0.0, max(float(kind.max()) for kind in heights) * 1.12 or 1.0)
    panel = Panel(canvas, (76, top + 20, width - 30, height - 62), x=x, y=y)
    panel.frame(x_label=axis, y_text=lambda share: f"{100 * share:.6g} %")
    for shares, color in zip(heights, (SAME, DIFFERENT), strict=True):
        outline = _steps(panel, edges, shares)
        canvas.blend(outline, color=color, share=0.3)
        canvas.line(outline[1:-1], color=color, width_px=2)
    canvas.line(panel.places(np.array([x.low, x.high]), np.zeros(2)), color=MUTED, width_px=2)
    if found is not None:
        _draw_threshold(panel, found)
    return canvas.picture()


def draw_embedding_map(
    embeddings: Tensor, identities: Sequence[int], names: Sequence[str], *, title: str = ""
) -> Image.Image:
    """Embeddings on the plane in which they differ most; the most frequent identities have colors, the others are grey.

    Args:
        embeddings: (N, D) float.
        identities: of each embedding: an index of `names`, or -1 for a distractor.
        names: of the identities.
        title: above the picture.
    """
    plane = principal_plane(embeddings)
    counts = Counter(identity for identity in identities if identity >= 0)
    chosen = sorted(counts, key=lambda identity: (-counts[identity], identity))[:NAMED_IDENTITIES]
    marks = {identity: _mark(number) for number, identity in enumerate(chosen)}
    width, height = _MAP_PX
    canvas = Canvas(width, height)
    canvas.text(76, 24, shortened(title, width - 152, 20), size_px=20)
    area = (76.0, 50.0, float(width - _LEGEND_PX), float(height - 62))
    panel = _square_panel(canvas, area, plane.places)
    panel.frame(x_label=_caption(plane, embeddings.shape[1]))
    points = panel.places(plane.places[:, 0], plane.places[:, 1])
    radius = 5.0 if len(points) <= 500 else 3.5 if len(points) <= 5000 else 2.0
    for index in sorted(range(len(points)), key=lambda index: identities[index] in marks):
        marks.get(identities[index], Mark(OTHERS)).draw(canvas, points[index], radius)
    key = [(marks[identity], names[identity], counts[identity]) for identity in chosen]
    others = len(points) - sum(count for _, _, count in key)
    _draw_key(canvas, width - _LEGEND_PX + 24, [*key, (Mark(OTHERS), "others", others)] if others else key)
    return canvas.picture()


def _draw_threshold(panel: Panel, found: EqualError) -> None:
    """A line across, and what it means, on the side with more room."""
    ((x, top), (_, bottom)) = panel.places(np.array([found.threshold] * 2), np.array([panel.y.high, 0.0]))
    for y in np.arange(top, bottom, 10.0).tolist():
        panel.canvas.line([(x, y), (x, min(y + 6, bottom))], color=INK, width_px=1.5)
    text = f"equal error {100 * found.rate:.3g} % at {found.threshold:.3g}"
    left_side = x + 10 + text_px(text) > panel.area[2]
    panel.canvas.text(x - 10 if left_side else x + 10, top + 10, text, anchor="rm" if left_side else "lm")


def _steps(panel: Panel, edges: Array, shares: Array) -> list[tuple[float, float]]:
    """The outline of a histogram, closed along the axis."""
    x = np.repeat(edges, 2)
    y = np.concatenate(([0.0], np.repeat(shares, 2), [0.0]))
    return panel.places(x, y)


def _square_panel(canvas: Canvas, area: Area, places: Array) -> Panel:
    """Axes on which a unit is as long across as it is up."""
    low, high = (places.min(0), places.max(0)) if len(places) else (np.zeros(2), np.zeros(2))
    center = (low + high) / 2
    room = np.array([area[2] - area[0], area[3] - area[1]])
    unit = max(float(((high - low) * 1.08 / room).max()), 1e-9)
    half = room * unit / 2
    x, y = (Axis(float(center[k] - half[k]), float(center[k] + half[k])) for k in (0, 1))
    return Panel(canvas, area, x=x, y=y)


def _caption(plane: Plane, width: int) -> str:
    first, second = (f"{100 * share:.3g} %" for share in plane.explained)
    return f"two principal directions of {width}, with {first} and {second} of the variance"


def _mark(number: int) -> Mark:
    """Dots in the colors that people tell apart best, then squares in the same colors."""
    square, number = divmod(number, _COLORS)
    return Mark(class_color(number), square=bool(square))


def _draw_key(canvas: Canvas, left: float, entries: Sequence[tuple[Mark, str, int]]) -> None:
    right = left + _LEGEND_PX - 44
    canvas.text(left, 62, "pictures of", color=MUTED)
    for row, (mark, name, count) in enumerate(entries):
        y = 88 + 26 * row
        mark.draw(canvas, (left + 6, y), 6)
        canvas.text(left + 20, y, shortened(name, right - left - 70))
        canvas.text(right, y, short(count), color=MUTED, anchor="rm")
