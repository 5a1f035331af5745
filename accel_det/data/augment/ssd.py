"""The two changes of geometry of SSD: zooming out, and crops chosen by their overlap with the objects.

Both move a view, which is a rectangle of the file's plane in whole pixels and may reach beyond the file. What the view shows
is then resized like an image of that size, so nothing is resampled here.

Source: Liu et al., SSD: Single Shot MultiBox Detector, 2016, sections 2.2 and 3.6.
"""

from typing import NamedTuple

import numpy as np

from accel_det.data.augment.settings import PROPOSAL_LABEL
from accel_det.types import BoxTarget

_MAX_RATIO = 4.0
_MIN_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
_TRIALS = 50
_SIDES = (0.3, 1.0)
_ASPECTS = (0.5, 2.0)


class View(NamedTuple):
    """Whole pixels of the file; negative ones and those beyond its size are grey."""

    left: int
    top: int
    right: int
    bottom: int


def zoom_out(view: View, rng: np.random.Generator) -> View:
    """Put the view anywhere inside another one of the same shape, 1 to 4 times as wide, uniformly."""
    ratio = rng.uniform(1.0, _MAX_RATIO)
    width, height = view.right - view.left, view.bottom - view.top
    new_width, new_height = int(width * ratio), int(height * ratio)
    left = view.left - int(rng.integers(0, new_width - width + 1))
    top = view.top - int(rng.integers(0, new_height - height + 1))
    return View(left, top, left + new_width, top + new_height)


def iou_crop(view: View, target: BoxTarget, rng: np.random.Generator) -> View:
    """A part of the view that overlaps an object enough, or all of it.

    One of seven rules is drawn: the whole view, or a smallest overlap (IoU) of 0, .1, .3, .5, .7 or .9 with at least one
    object. 50 parts are tried, with sides of 0.3 to 1 of those of the view and an aspect of 1/2 to 2 of its own; the first
    that fulfils the rule and holds the center of an object is taken; if there is none, another rule is drawn. Without
    objects, the smallest overlap 0 takes the first part of a fit aspect, and the others find none.

    Args:
        target: in pixels of the file; crowds and given regions are not objects.

    Source: section 2.2; sides from 0.3 as in the authors' release, where the paper says 0.1.
    """
    objects = target.boxes[~target.crowd & (target.labels != PROPOSAL_LABEL)].double().numpy()
    width, height = view.right - view.left, view.bottom - view.top
    while True:
        rule = int(rng.integers(0, len(_MIN_OVERLAPS) + 1))
        if rule == len(_MIN_OVERLAPS):
            return view
        sides = rng.uniform(*_SIDES, size=(_TRIALS, 2))
        places = rng.random((_TRIALS, 2))
        widths = np.maximum(1, np.floor(width * sides[:, 0]))
        heights = np.maximum(1, np.floor(height * sides[:, 1]))
        lefts = view.left + np.floor((width - widths) * places[:, 0])
        tops = view.top + np.floor((height - heights) * places[:, 1])
        parts = np.stack((lefts, tops, lefts + widths, tops + heights), axis=1)
        aspects = sides[:, 0] / sides[:, 1]
        fit = (aspects >= _ASPECTS[0]) & (aspects <= _ASPECTS[1])
        if len(objects) or _MIN_OVERLAPS[rule] > 0:
            fit &= _best_overlaps(parts, objects) >= _MIN_OVERLAPS[rule]
        if fit.any():
            return View(*(int(side) for side in parts[int(fit.argmax())]))


def keep_centers(target: BoxTarget, view: View) -> BoxTarget:
    """Drop the objects whose center is outside of the view; crowds and given regions stay, to be cut."""
    centers = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
    low, high = centers.new_tensor(view[:2]), centers.new_tensor(view[2:])
    inside = ((centers > low) & (centers < high)).all(dim=-1)
    return target.keep(inside | target.crowd | (target.labels == PROPOSAL_LABEL))


def _best_overlaps(parts: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(P, 4) and (N, 4) xyxy -> (P,) largest IoU with an object whose center the part holds; -1 without one."""
    centers = (objects[:, :2] + objects[:, 2:]) / 2
    inside = ((centers > parts[:, None, :2]) & (centers < parts[:, None, 2:])).all(axis=-1)
    top_left = np.maximum(parts[:, None, :2], objects[None, :, :2])
    bottom_right = np.minimum(parts[:, None, 2:], objects[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)
    areas = (parts[:, 2:] - parts[:, :2]).prod(axis=-1)
    union = areas[:, None] + (objects[:, 2:] - objects[:, :2]).prod(axis=-1)[None] - shared
    best: np.ndarray = np.where(inside, shared / union, -1.0).max(axis=1, initial=-1.0)
    return best
