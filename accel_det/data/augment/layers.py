"""Pictures on a plane -> one canvas and the boxes on it: the one place where augmentation resamples pixels.

A plane holds one picture, or the several of a mosaic, at the scale at which they will be seen. Without rotation, shear and
perspective the canvas is a window of the plane, and each picture is resampled once. With them the window is what the
canvas shows of the plane, and is resampled once more, at a scale near 1. What cannot be seen is never decoded or resampled.

Letters: N boxes of all layers. Placements are of pixels of the picture on the plane, scales positive.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel_det import boxes
from accel_det.data.augment.color import Recolor, recolor
from accel_det.data.augment.settings import PROPOSAL_LABEL, Augmentation
from accel_det.data.collate import PADDING_VALUE
from accel_det.data.resize import Canvas, resize
from accel_det.types import BoxTarget, Placement

Matrix = NDArray[np.float64]

# Perspective moves the horizon no nearer than where the plane appears at twice its size.
_MAX_PERSPECTIVE = 0.5


class Bounds(NamedTuple):
    """A rectangle of the plane, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float


class Layer(NamedTuple):
    """One picture on the plane.

    Attributes:
        read: gives the (3, height, width) uint8 pixels; called where some of them can be seen, and not otherwise.
        target: in pixels of the picture.
        within: the picture is drawn inside of this part of the plane alone.
    """

    read: Callable[[], Tensor]
    height: int
    width: int
    target: BoxTarget
    placement: Placement
    within: Bounds

    def bounds(self) -> Bounds:
        """Where the picture lies on the plane, also the part of it that is not drawn."""
        p = self.placement
        right, bottom = p.offset_x + self.width * p.scale_x, p.offset_y + self.height * p.scale_y
        return Bounds(p.offset_x, p.offset_y, right, bottom)


class Scene(NamedTuple):
    """What a canvas is to show.

    Attributes:
        layers: later ones cover earlier ones.
        bounds: nothing is drawn outside; the parts of the layers lie within it.
        warp: (3, 3) homogeneous, pixels of the plane -> pixels of the canvas; None: they are the same.
        zoom: factors of width and height by which the pictures are larger than resizing alone makes them.
    """

    layers: Sequence[Layer]
    bounds: Bounds
    warp: Matrix | None = None
    zoom: tuple[float, float] = (1.0, 1.0)


class Drawn(NamedTuple):
    """A canvas (3, h, w) uint8, its objects, and the exact placement of each layer on the plane."""

    image: Tensor
    target: BoxTarget
    placements: list[Placement]


def draw(scene: Scene, size: Canvas, augmentation: Augmentation, *, color: Recolor | None = None) -> Drawn:
    """Draw a scene on a canvas of `size` (height, width) pixels.

    Args:
        color: is done to the pictures and not to the grey between them.
    """
    window = _window(scene, size)
    pixels, placements = _draw_layers(scene, window, color)
    if scene.warp is not None:
        to_canvas = scene.warp @ _shift(window.left, window.top)
        pixels = warp_pixels(pixels, to_canvas, size)
    return Drawn(pixels, _place_objects(scene, placements, size, augmentation), placements)


def place_target(
    target: BoxTarget, placement: Placement, size: tuple[int, int], augmentation: Augmentation
) -> BoxTarget:
    """Boxes from file to batch pixels, cut to (height, width); what is hardly visible any more is dropped."""
    whole = boxes.place(target.boxes.float(), placement)
    seen = boxes.clip(whole, height=size[0], width=size[1])
    return _keep_visible(target._replace(boxes=seen), boxes.area(whole), boxes.area(seen), augmentation)


def random_warp(
    augmentation: Augmentation, *, center: tuple[float, float], bounds: Bounds, rng: np.random.Generator
) -> Matrix | None:
    """Perspective, then rotation, then shear, about one point; None where none of them is asked for.

    Args:
        center: (x, y), pixels of the plane; stays where it is.
        bounds: of what is on the plane.

    Returns:
        (3, 3) float64. Rotation is uniform within +-degrees. Shear is by the tangent of an angle within +-shear along x,
        then along y, which keeps areas. Perspective divides by 1 + x * p + y * q, with p and q within +-perspective and
        x and y in pixels from the center, both reduced where anything within `bounds` would be enlarged more than twofold.

    Source: the random perspective of YOLOv5's recipe, as published settings name it.
    """
    if augmentation.degrees == augmentation.shear == augmentation.perspective == 0:
        return None
    turn, shear_x, shear_y = (
        math.radians(rng.uniform(-limit, limit))
        for limit in (augmentation.degrees, augmentation.shear, augmentation.shear)
    )
    p, q = rng.uniform(-augmentation.perspective, augmentation.perspective, size=2)
    x, y = center
    reach = abs(p) * max(bounds.right - x, x - bounds.left) + abs(q) * max(bounds.bottom - y, y - bounds.top)
    reduced = min(1.0, _MAX_PERSPECTIVE / reach) if reach > 0 else 1.0
    perspective = np.array([[1, 0, 0], [0, 1, 0], [p * reduced, q * reduced, 1]])
    cosine, sine = math.cos(turn), math.sin(turn)
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    shear = np.array([[1, 0, 0], [math.tan(shear_y), 1, 0], [0, 0, 1]]) @ np.array(
        [[1, math.tan(shear_x), 0], [0, 1, 0], [0, 0, 1]]
    )
    found: Matrix = _shift(x, y) @ shear @ rotation @ perspective @ _shift(-x, -y)
    return found


def _window(scene: Scene, size: Canvas) -> Bounds:
    """The part of the plane, in whole pixels, that the canvas shows."""
    if scene.warp is None:
        return Bounds(0, 0, size[1], size[0])
    corners = np.array([[0, 0, 1], [size[1], 0, 1], [0, size[0], 1], [size[1], size[0], 1]], dtype=np.float64)
    x, y, w = np.linalg.inv(scene.warp) @ corners.T
    left, top, right, bottom = scene.bounds
    if w.min() > 1e-6:  # beyond, the canvas reaches over the horizon, where there is no hull
        x, y = x / w, y / w
        # A pixel more, for the neighbours that a resampled one is made from.
        left, top = max(left, x.min() - 1), max(top, y.min() - 1)
        right, bottom = min(right, x.max() + 1), min(bottom, y.max() + 1)
    left, top = math.floor(left), math.floor(top)
    return Bounds(left, top, max(left + 1, math.ceil(right)), max(top + 1, math.ceil(bottom)))


def _draw_layers(scene: Scene, window: Bounds, color: Recolor | None) -> tuple[Tensor, list[Placement]]:
    height, width = int(window.bottom - window.top), int(window.right - window.left)
    canvas: Tensor | None = None
    placements = []
    for layer in scene.layers:
        extent, within = layer.bounds(), layer.within
        x0, x1 = _span(extent.left, extent.right, (within.left, within.right), window.left, width)
        y0, y1 = _span(extent.top, extent.bottom, (within.top, within.bottom), window.top, height)
        if x0 >= x1 or y0 >= y1:
            placements.append(layer.placement)
            continue
        seen, placement = _resample(layer, (x0 + window.left, x1 + window.left), (y0 + window.top, y1 + window.top))
        placements.append(placement)
        seen = recolor(seen, color)
        if len(scene.layers) == 1 and seen.shape[-2:] == (height, width):
            return seen, placements
        canvas = _grey(height, width) if canvas is None else canvas
        canvas[:, y0:y1, x0:x1] = seen
    return _grey(height, width) if canvas is None else canvas, placements


def _grey(height: int, width: int) -> Tensor:
    return torch.full((3, height, width), PADDING_VALUE, dtype=torch.uint8)


def _span(start: float, stop: float, within: tuple[float, float], origin: float, length: int) -> tuple[int, int]:
    """The whole pixels of a window of `length` that a picture from start to stop covers; at least one if it lies inside."""
    start, stop = max(start, within[0]) - origin, min(stop, within[1]) - origin
    first, last = max(0, _nearest(start)), min(length, _nearest(stop))
    inside = start < stop and stop > 0 and first < length
    return (first, max(first + 1, last)) if inside else (0, 0)


def _nearest(value: float) -> int:
    # A thousandth less, so that halves that differ in their last digit alone go the same way.
    return math.floor(value + 0.499)


def _resample(layer: Layer, x: tuple[float, float], y: tuple[float, float]) -> tuple[Tensor, Placement]:
    """The pixels of a picture between x[0] and x[1], y[0] and y[1] of the plane, and their exact placement.

    Whole pixels of the file are resized to whole pixels of the plane, so the scale may change a little: the placement says
    how.
    """
    image = layer.read()
    given = layer.placement
    file_x0, file_x1 = _source_span(x[0] - given.offset_x, x[1] - given.offset_x, given.scale_x, layer.width)
    file_y0, file_y1 = _source_span(y[0] - given.offset_y, y[1] - given.offset_y, given.scale_y, layer.height)
    new_height, new_width = int(y[1] - y[0]), int(x[1] - x[0])
    seen = resize(image[:, file_y0:file_y1, file_x0:file_x1], new_height, new_width)
    scale_x, scale_y = new_width / (file_x1 - file_x0), new_height / (file_y1 - file_y0)
    return seen, Placement(scale_x, scale_y, x[0] - file_x0 * scale_x, y[0] - file_y0 * scale_y)


def _source_span(start: float, stop: float, scale: float, length: int) -> tuple[int, int]:
    """The whole file pixels that cover start .. stop of the scaled image; at least one."""
    first = max(0, min(math.floor(start / scale + 1e-6), length - 1))
    return first, max(first + 1, min(length, math.ceil(stop / scale - 1e-6)))


def warp_pixels(
    pixels: Tensor, to_canvas: Matrix, size: Canvas, *, outside: Literal["grey", "mirrored"] = "grey"
) -> Tensor:
    """(3, h, w) uint8 -> (3, *size) uint8, linear.

    Args:
        to_canvas: (3, 3) homogeneous, pixels -> pixels of the canvas.
        outside: what is seen beyond the edges.
    """
    a = torch.from_numpy(np.linalg.inv(to_canvas))
    x = torch.arange(size[1], dtype=torch.float64) + 0.5
    y = torch.arange(size[0], dtype=torch.float64)[:, None] + 0.5
    source_x = (a[0, 0] * x + a[0, 2]).float() + (a[0, 1] * y).float()
    source_y = (a[1, 0] * x + a[1, 2]).float() + (a[1, 1] * y).float()
    if bool((a[2, :2] != 0).any()):
        # Points beyond the horizon have a negative divisor, and fall outside of the plane's bounds.
        divisor = (a[2, 0] * x + a[2, 2]).float() + (a[2, 1] * y).float()
        divisor = torch.where(divisor.abs() < 1e-6, 1e-6, divisor)
        source_x, source_y = source_x / divisor, source_y / divisor
    grid = torch.stack((source_x * (2 / pixels.shape[-1]) - 1, source_y * (2 / pixels.shape[-2]) - 1), dim=-1)
    # About the padding value, because what lies outside counts as 0.
    values = pixels.float().sub_(PADDING_VALUE)[None]
    padding_mode = "zeros" if outside == "grey" else "reflection"
    sampled = torch.nn.functional.grid_sample(values, grid[None], padding_mode=padding_mode, align_corners=False)[0]
    return sampled.add_(PADDING_VALUE + 0.5).clamp_(0, 255).to(torch.uint8)


def _place_objects(scene: Scene, placements: list[Placement], size: Canvas, augmentation: Augmentation) -> BoxTarget:
    """The objects of all layers in pixels of the canvas, cut to it; what is hardly visible any more is dropped."""
    targets = [layer.target for layer in scene.layers]
    placed_boxes = [boxes.place(t.boxes.float(), p) for t, p in zip(targets, placements, strict=True)]
    whole = torch.cat(placed_boxes)
    inside = torch.cat([cut(some, layer.within) for some, layer in zip(placed_boxes, scene.layers, strict=True)])
    on_canvas = inside
    if scene.warp is not None:
        # A box of which the edge left nothing is a line, and the hull of a slanted line would be a box again.
        on_canvas = torch.where(boxes.area(inside)[:, None] > 0, _hulls(inside, scene.warp), 0.0)
    seen = boxes.clip(on_canvas, height=size[0], width=size[1])
    placed = BoxTarget(
        seen,
        torch.cat([t.labels for t in targets]),
        torch.cat([t.crowd for t in targets]),
        torch.cat([t.areas for t in targets]),
    )
    if scene.warp is None:
        return _keep_visible(placed, boxes.area(whole), boxes.area(seen), augmentation)
    # What the bounds leave is a share on the plane, what the canvas leaves of that a share on the canvas.
    return _keep_visible(
        placed, boxes.area(whole) * boxes.area(on_canvas), boxes.area(inside) * boxes.area(seen), augmentation
    )


def cut(corners: Tensor, within: Bounds) -> Tensor:
    """(N, 4) xyxy -> (N, 4) the part of each inside of `within`; of area 0 where there is none."""
    low, high = corners.new_tensor(within[:2] * 2), corners.new_tensor(within[2:] * 2)
    return torch.maximum(torch.minimum(corners, high), low)


def _hulls(corners: Tensor, warp: Matrix) -> Tensor:
    """(N, 4) xyxy -> the smallest upright boxes around the four warped corners of each."""
    x1, y1, x2, y2 = corners.double().unbind(dim=-1)
    x, y = torch.stack((x1, x2, x1, x2)), torch.stack((y1, y1, y2, y2))
    points = torch.stack((x, y, torch.ones_like(x)))
    x, y, w = torch.einsum("ij,jkn->ikn", torch.from_numpy(warp), points)
    x, y = x / w, y / w
    return torch.stack((x.amin(dim=0), y.amin(dim=0), x.amax(dim=0), y.amax(dim=0)), dim=-1).float()


def _keep_visible(target: BoxTarget, whole: Tensor, seen: Tensor, augmentation: Augmentation) -> BoxTarget:
    """Drop what is too little visible, too thin or too small.

    Regions to be ignored, and given regions, stay while anything of them is visible: what is seen of a crowd is still
    not background.

    Args:
        whole, seen: (N,) areas, whose ratio is the share that is visible.
    """
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    short, long = sides.amin(dim=-1), sides.amax(dim=-1)
    sound = (
        (seen >= augmentation.min_visible * whole)
        & (short >= augmentation.min_side_px)
        & (long <= augmentation.max_aspect * short)
    )
    exempt = (target.crowd | (target.labels == PROPOSAL_LABEL)) & (short > 0)
    return target.keep(sound | exempt)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)
