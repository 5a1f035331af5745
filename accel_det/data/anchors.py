"""Anchors that fit the boxes of a data set, and how well anchors fit them: pure functions of sizes and a seed.

Letters: N boxes, K anchors. Sizes are (N, 2) width and height in pixels of the network's input.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.data.records import DetectionTable
from accel_det.data.transforms import ResizeRule

Array = NDArray[np.float64]
AnchorMethod = Literal["kmeans_iou", "evolve"]

ENOUGH_RECALL = 0.98
MAX_RATIO = 4.0
_MOST_BOXES = 20_000
_RESTARTS = 5
_GENERATIONS = 1000
_CHANGED = 0.9
_SPREAD = 0.1


class AnchorFit(NamedTuple):
    """How well anchors suit boxes.

    Attributes:
        recall: best possible recall, in [0, 1], see `best_possible_recall`.
        mean_iou: mean overlap in shape of each box with its best anchor, in [0, 1].
        iou_recall: share of the boxes for which that overlap is at least a half.
    """

    recall: float
    mean_iou: float
    iou_recall: float

    def words(self) -> str:
        """For a line of output."""
        return f"best possible recall {self.recall:.4f}, mean IoU {self.mean_iou:.4f}, IoU >= 0.5 for {self.iou_recall:.4f}"


def input_sizes(table: DetectionTable, rule: ResizeRule) -> Array:
    """(N, 2) width and height of all boxes but crowds and empty ones, in pixels of the network's input."""
    found = []
    for index in range(len(table)):
        truth = table.truth(index)
        boxes = truth.boxes[~truth.crowd].numpy().astype(np.float64)
        found.append((boxes[:, 2:] - boxes[:, :2]) * _scale(*table.size(index), rule))
    sizes = np.concatenate(found) if found else np.zeros((0, 2))
    return sizes[(sizes > 0).all(axis=1)]


def shape_iou(sizes: Array, anchors: Array) -> Array:
    """(N, 2) and (K, 2) -> (N, K) overlap of boxes with a common center."""
    common = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    union: Array = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - common
    overlap: Array = common / union
    return overlap


def worst_ratio(sizes: Array, anchors: Array) -> Array:
    """(N, K) by how much an anchor is wider, narrower, taller or shorter than a box, the worst of the four; at least 1."""
    ratio = sizes[:, None] / anchors[None]
    worst: Array = np.maximum(ratio, 1 / ratio).max(axis=2)
    return worst


def best_possible_recall(sizes: Array, anchors: Array, *, max_ratio: float = MAX_RATIO) -> float:
    """Share of the boxes that some anchor could learn: it is less than `max_ratio` wider, narrower, taller or shorter."""
    return float((worst_ratio(sizes, anchors).min(axis=1) < max_ratio).mean()) if len(sizes) else 1.0


def fit_of(sizes: Array, anchors: Array) -> AnchorFit:
    """How well anchors suit boxes, by both measures."""
    if not len(sizes):
        return AnchorFit(1.0, 1.0, 1.0)
    best = shape_iou(sizes, anchors).max(axis=1)
    return AnchorFit(best_possible_recall(sizes, anchors), float(best.mean()), float((best >= 0.5).mean()))


def find_anchors(sizes: Array, *, number: int, method: AnchorMethod, seed: int) -> Array:
    """Anchors for boxes: the same for the same boxes and seed, in any process.

    Of more than 20,000 boxes, so many are drawn.

    Returns:
        (K, 2) width and height in pixels, smallest area first.

    Raises:
        ValueError: fewer different boxes than anchors.
    """
    different = len(np.unique(sizes, axis=0))
    if different < number:
        raise ValueError(
            f"anchors: the training data has {different} boxes of different sizes, expected at least {number}, one per "
            "anchor: add data, or ask for fewer anchors"
        )
    rng = np.random.Generator(np.random.Philox(key=seed))
    some = rng.choice(sizes, _MOST_BOXES, replace=False) if len(sizes) > _MOST_BOXES else sizes
    if method == "kmeans_iou":
        anchors = kmeans(some, number=number, distance=lambda a, b: 1 - shape_iou(a, b), rng=rng)
    else:
        spread = np.maximum(some.std(axis=0), 1e-9)
        whitened = kmeans(some / spread, number=number, distance=_squared_distance, rng=rng)
        anchors = evolve(some, whitened * spread, rng=rng)
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")]


def kmeans(
    points: Array,
    *,
    number: int,
    distance: Callable[[Array, Array], Array],
    rng: np.random.Generator,
    restarts: int = _RESTARTS,
) -> Array:
    """The best of several runs of Lloyd's algorithm: (K, 2) centers, each the mean of the points that are nearest to it.

    A center that loses all its points moves to the point that is farthest from its own.

    Source: Redmon and Farhadi, YOLO9000, 2017, section 2, for the distance 1 - IoU.
    """
    unique = np.unique(points, axis=0)
    runs = [_lloyd(points, rng.choice(unique, number, replace=False), distance) for _ in range(restarts)]
    return min(runs, key=lambda centers: float(distance(points, centers).min(axis=1).mean()))


def evolve(sizes: Array, anchors: Array, *, rng: np.random.Generator, generations: int = _GENERATIONS) -> Array:
    """Anchors of which each side was changed at random, again and again, whenever that made the fitness larger.

    Source: the published description of YOLOv5's AutoAnchor; the draws are ours: nine sides in ten change, by a factor
    whose logarithm has a standard deviation of 0.1.
    """
    best, best_fitness = anchors, ratio_fitness(sizes, anchors)
    for _ in range(generations):
        change = rng.normal(0.0, _SPREAD, anchors.shape) * (rng.random(anchors.shape) < _CHANGED)
        changed = best * np.exp(change)
        fitness = ratio_fitness(sizes, changed)
        if fitness > best_fitness:
            best, best_fitness = changed, fitness
    return best


def ratio_fitness(sizes: Array, anchors: Array, *, max_ratio: float = MAX_RATIO) -> float:
    """Mean of 1 / ratio of each box with its best anchor, 0 where no anchor could learn it; in [0, 1]."""
    best = 1 / worst_ratio(sizes, anchors).min(axis=1)
    return float(np.where(best > 1 / max_ratio, best, 0.0).mean())


def _lloyd(points: Array, centers: Array, distance: Callable[[Array, Array], Array], *, rounds: int = 300) -> Array:
    nearest = np.full(len(points), -1)
    for _ in range(rounds):
        table = distance(points, centers)
        now = table.argmin(axis=1)
        if (now == nearest).all():
            break
        nearest = now
        own = table[np.arange(len(points)), nearest]
        for k in range(len(centers)):
            members = points[nearest == k]
            if len(members):
                centers[k] = members.mean(axis=0)
            else:
                farthest = int(own.argmax())
                centers[k], own[farthest] = points[farthest], -1.0
    return centers


def _squared_distance(first: Array, second: Array) -> Array:
    squares: Array = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    return squares


def _scale(height: int, width: int, rule: ResizeRule) -> Array:
    """Input pixels per file pixel, along x and y."""
    if rule.mode == "stretch":
        return np.array([rule.size_px / width, rule.size_px / height])
    if rule.mode == "letterbox":
        return np.full(2, rule.size_px / max(height, width))
    return np.full(2, min(rule.size_px / min(height, width), rule.max_size_px / max(height, width)))
