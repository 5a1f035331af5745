"""Several images as one scene: mosaics of four and nine, and objects pasted from another image.

Nothing is drawn here. A scene is laid out from the sizes in the table, so that an image of which nothing will be seen is not
even decoded. Partners are drawn from the whole table, whichever process asks.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from accel_det import boxes
from accel_det.data.augment.layers import Bounds, Layer, Scene, cut, random_warp
from accel_det.data.augment.settings import PROPOSAL_LABEL, Augmentation, Purpose, generator
from accel_det.data.augment.single import random_aspect
from accel_det.data.resize import Canvas, ResizeRule, base_size
from accel_det.types import BoxTarget, Placement

_MAX_COVERED = 0.3


class _Cell(NamedTuple):
    """Where an image of a mosaic goes.

    Attributes:
        x, y: a point of the plane.
        share_x, share_y: which point of the image comes to lie there, in shares of its width and height.
        within: what of the plane it may cover.
    """

    x: float
    y: float
    share_x: float
    share_y: float
    within: Bounds


class Pictures(Protocol):
    """A data set, image by image."""

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels of the upright file."""

    def image(self, index: int) -> Tensor:
        """(3, H, W) uint8 RGB, of the size that `size` says."""

    def target(self, index: int) -> BoxTarget:
        """In pixels of the file."""


def mosaic_scene(index: int, pictures: Pictures, *, canvas: Canvas, augmentation: Augmentation, seed: int) -> Scene:
    """A mosaic, of which the canvas shows the part around the middle.

    Each image is first fit into the canvas, keeping its aspect. Of 4, each takes a corner of a point that is drawn from the
    middle half of a plane twice the canvas on each side. Of 9, one lies in the middle of a plane of 3 x 3 canvases, the
    others around it, cut to the rows and columns that it makes; what is outside of a window of 2 x 2 canvases, drawn from
    that plane, is cut off. Then the plane is scaled by a factor drawn uniformly from `scale`, and the center of the plane or
    window put at the middle of the canvas, give or take `translate`.

    Args:
        index: of one of the images; the others are drawn, with replacement, from all.

    Source: Bochkovskiy et al., YOLOv4, 2020, section 3.3; sizes and ranges as YOLOv5's published settings name them. The
    mosaic of nine is cut so that no image covers another.
    """
    rng = generator(seed, Purpose.MOSAIC)
    tiles = augmentation.mosaic_tiles
    members = [index, *(int(i) for i in rng.integers(0, len(pictures), size=tiles - 1))]
    members = [members[i] for i in rng.permutation(tiles)]
    if tiles == 4:
        cells, plane = _corners(canvas, rng)
    else:
        cells, plane = _grid(canvas, rng, middle=_fit(pictures.size(members[4]), canvas))
    factor = rng.uniform(*augmentation.scale)
    zoom_x, zoom_y = (factor * stretch for stretch in random_aspect(augmentation, seed))
    limits = 0.5 - augmentation.translate, 0.5 + augmentation.translate
    center = canvas[1] * rng.uniform(*limits), canvas[0] * rng.uniform(*limits)
    to_canvas = Placement(
        zoom_x,
        zoom_y,
        center[0] - (plane.left + plane.right) / 2 * zoom_x,
        center[1] - (plane.top + plane.bottom) / 2 * zoom_y,
    )
    layers = [
        _fitted_layer(pictures, member, cell, canvas, to_canvas) for member, cell in zip(members, cells, strict=True)
    ]
    bounds = _placed(plane, to_canvas)
    warp = random_warp(augmentation, center=center, bounds=bounds, rng=generator(seed, Purpose.WARP))
    return Scene(layers, bounds, warp, zoom=(zoom_x, zoom_y))


def paste_objects(
    scene: Scene, pictures: Pictures, *, rule: ResizeRule, canvas: Canvas, augmentation: Augmentation, seed: int
) -> Scene:
    """Paste objects of one other image, each with probability `copy_paste`, anywhere on the plane.

    What is pasted is the part of the image inside the object's box, at the size that the scene's own images have, with all
    other objects and crowds that reach into it; it is left out where it would cover 0.3 or more of an object or crowd that
    is there.

    Source: Ghiasi et al., Simple Copy-Paste, 2021, who paste along the outline of an object and correct what is covered; with
    boxes alone there is no outline, and what is covered keeps its box.
    """
    rng = generator(seed, Purpose.COPY_PASTE)
    partner = int(rng.integers(0, len(pictures)))
    height, width = pictures.size(partner)
    target = pictures.target(partner)
    target = target.keep(target.labels != PROPOSAL_LABEL)
    objects = torch.nonzero(~target.crowd).flatten().tolist()
    used = rng.random(len(objects)) < augmentation.copy_paste
    places = rng.random((len(objects), 2))
    *_, fit = base_size(height, width, rule, canvas)
    scale_x, scale_y = fit.scale_x * scene.zoom[0], fit.scale_y * scene.zoom[1]
    there = torch.cat([boxes.place(layer.target.boxes.float(), layer.placement) for layer in scene.layers])
    there = there[torch.cat([layer.target.labels for layer in scene.layers]) != PROPOSAL_LABEL]
    read = functools.cache(functools.partial(pictures.image, partner))
    layers = list(scene.layers)
    bounds = scene.bounds
    for number in np.flatnonzero(used).tolist():
        x1, y1, x2, y2 = boxes.clip(target.boxes[objects[number]], height=height, width=width).tolist()
        left, top, right, bottom = math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)
        free_x = bounds.right - bounds.left - (right - left) * scale_x
        free_y = bounds.bottom - bounds.top - (bottom - top) * scale_y
        if right <= left or bottom <= top or free_x < 0 or free_y < 0:
            continue
        at = Placement(
            scale_x, scale_y, bounds.left + free_x * places[number, 0], bounds.top + free_y * places[number, 1]
        )
        layer = _part_layer(read, target, (left, top, right, bottom), at)
        if bool((_covered(there, layer.within) >= _MAX_COVERED).any()):
            continue
        layers.append(layer)
        there = torch.cat((there, cut(boxes.place(layer.target.boxes.float(), at), layer.within)))
    return scene._replace(layers=layers)


def _corners(canvas: Canvas, rng: np.random.Generator) -> tuple[list[_Cell], Bounds]:
    height, width = canvas
    x, y = rng.uniform(width / 2, 3 * width / 2), rng.uniform(height / 2, 3 * height / 2)
    plane = Bounds(0, 0, 2 * width, 2 * height)
    return [_Cell(x, y, right, down, plane) for right in (1, 0) for down in (1, 0)], plane


def _grid(
    canvas: Canvas, rng: np.random.Generator, *, middle: tuple[int, int, Placement]
) -> tuple[list[_Cell], Bounds]:
    """Nine cells, the middle one, of the size of its image, in the middle of 3 x 3 canvases; and the window.

    Args:
        middle: see `_fit`.
    """
    height, width = canvas
    left, top = rng.uniform(0, width), rng.uniform(0, height)
    plane = Bounds(left, top, left + 2 * width, top + 2 * height)
    cells = [
        _Cell(x, y, right, down, Bounds(max(left, x0), max(top, y0), min(plane.right, x1), min(plane.bottom, y1)))
        for x, right, x0, x1 in _thirds(width, middle[1])
        for y, down, y0, y1 in _thirds(height, middle[0])
    ]
    return cells, plane


def _thirds(side: int, middle: int) -> list[tuple[float, float, float, float]]:
    """Of each third of a row of cells: an edge or its center, the share of the image that lies there, where it begins and
    ends. Images before the middle end where it begins, those after it begin where it ends."""
    begins, ends = (3 * side - middle) / 2, (3 * side + middle) / 2
    return [(begins, 1.0, 0.0, begins), (1.5 * side, 0.5, begins, ends), (ends, 0.0, ends, 3.0 * side)]


def _fit(size: tuple[int, int], canvas: Canvas) -> tuple[int, int, Placement]:
    """Height and width of an image inside of a canvas, and its placement."""
    return boxes.letterbox(height=size[0], width=size[1], canvas_height=canvas[0], canvas_width=canvas[1])


def _placed(plane: Bounds, placement: Placement) -> Bounds:
    return Bounds(*boxes.place(torch.tensor([plane], dtype=torch.float64), placement)[0].tolist())


def _fitted_layer(pictures: Pictures, index: int, cell: _Cell, canvas: Canvas, to_canvas: Placement) -> Layer:
    height, width = pictures.size(index)
    rows, columns, fit = _fit((height, width), canvas)
    fit = fit._replace(offset_x=cell.x - cell.share_x * columns, offset_y=cell.y - cell.share_y * rows)
    return Layer(
        read=functools.partial(pictures.image, index),
        height=height,
        width=width,
        target=pictures.target(index),
        placement=boxes.compose(fit, to_canvas),
        within=_placed(cell.within, to_canvas),
    )


def _part_layer(read: Callable[[], Tensor], target: BoxTarget, part: tuple[int, int, int, int], at: Placement) -> Layer:
    """The part (left, top, right, bottom) of an image as a picture of its own, with every object that reaches into it.

    Boxes stay whole, so that what is seen of them is measured as everywhere; the edge of the picture cuts them.
    """
    left, top, right, bottom = part
    inside = target.keep(boxes.area(cut(target.boxes, Bounds(*part))) > 0)
    inside = inside._replace(boxes=inside.boxes - inside.boxes.new_tensor((left, top, left, top)))
    layer = Layer(functools.partial(_crop, read, part), bottom - top, right - left, inside, at, Bounds(0, 0, 0, 0))
    return layer._replace(within=layer.bounds())


def _crop(read: Callable[[], Tensor], part: tuple[int, int, int, int]) -> Tensor:
    left, top, right, bottom = part
    return read()[:, top:bottom, left:right]


def _covered(there: Tensor, over: Bounds) -> Tensor:
    """(N, 4) xyxy -> (N,) the share of each that `over` covers."""
    return boxes.area(cut(there, over)) / boxes.area(there).clamp(min=1e-6)
