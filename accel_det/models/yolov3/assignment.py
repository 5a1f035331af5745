"""Which cells and anchors learn which boxes, and which are left alone: without loops over boxes or host reads.

Letters: B images, T boxes of the batch, L levels, A anchors of a level, K classes, H and W cells of a level, P
predictions of one image.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det import boxes as box_ops
from accel_det.models.layers.targets import PackedBoxes

BOXES_AT_ONCE = 32
_MIN_SIDE_PX = 1e-3

AnchorChoice = Literal["of_all", "per_level"]


class Grid(NamedTuple):
    """One level of a batch.

    Attributes:
        level: 0 is the finest.
        num_images, height, width: B, H, W.
        stride: pixels per cell.
    """

    level: int
    num_images: int
    height: int
    width: int
    stride: int


class LevelMatches(NamedTuple):
    """One candidate per box of the batch, and what each cell of the level learns.

    Attributes:
        image, anchor, row, column: (T,) int64, where the prediction stands; always valid indices.
        matched: (T,) bool, whether the candidate is learnt. No cell and anchor learns two boxes: the last one is learnt.
        offsets: (T, 2) float, center x and y in [0, 1] of the cell.
        log_ratios: (T, 2) float, logarithm of width and height of the box over those of its anchor.
        boxes: (T, 4) float, center x, center y, width, height in pixels.
        areas: (T,) float, share of the batch image.
        labels: (T,) int64.
        classes: (T, K) float, 1 for the class of every box that met this cell and anchor, learnt or not.
        holds_object: (B, A, H, W) bool.
        spared: (B, A, H, W) bool, without an object of their own, but not background either.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    matched: Tensor
    offsets: Tensor
    log_ratios: Tensor
    boxes: Tensor
    areas: Tensor
    labels: Tensor
    classes: Tensor
    holds_object: Tensor
    spared: Tensor


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """(T, 2) and (..., 2) width and height -> (T, ...) overlap of boxes with a common center."""
    sizes = sizes.view(-1, *(1,) * (anchors.dim() - 1), 2)
    common = torch.minimum(sizes, anchors).prod(dim=-1)
    return common / (sizes.prod(dim=-1) + anchors.prod(dim=-1) - common)


def match_level(
    packed: PackedBoxes,
    anchors_px: Tensor,
    grid: Grid,
    *,
    choice: AnchorChoice,
    num_classes: int,
    spare_iou: float,
) -> LevelMatches:
    """Give every box the anchor whose shape it overlaps most, in the cell that holds its center.

    Crowd boxes match nothing.

    Args:
        packed: boxes of the batch.
        anchors_px: (L, A, 2) float, width and height in pixels.
        choice: "of_all": one anchor of all levels, so this level learns some of the boxes; "per_level": one anchor of
            each level. There, the other anchors of the cell that overlap the box more than `spare_iou` are spared.
        num_classes: K.
        spare_iou: in [0, 1].

    Source: Redmon and Farhadi, YOLOv3, 2018, section 2.1, for "of_all".
    """
    boxes = box_ops.xyxy_to_cxcywh(packed.boxes)
    sizes = boxes[:, 2:].clamp(min=_MIN_SIDE_PX)
    anchors = anchors_px.to(boxes.dtype)
    overlap = shape_iou(sizes, anchors)
    here = overlap[:, grid.level]
    anchor = here.argmax(dim=1)
    is_object = ~packed.crowd
    if choice == "of_all":
        num_anchors = anchors.shape[1]
        is_object = is_object & (overlap.flatten(1).argmax(dim=1) // num_anchors == grid.level)
    in_cells = boxes[:, :2] / grid.stride
    column = in_cells[:, 0].long().clamp(0, grid.width - 1)
    row = in_cells[:, 1].long().clamp(0, grid.height - 1)
    shape = (grid.num_images, anchors.shape[1], grid.height, grid.width)
    place = ((packed.image * shape[1] + anchor) * grid.height + row) * grid.width + column
    matched, holds_object = _last_of_each_place(place, is_object, shape=shape)
    spared = torch.zeros_like(holds_object)
    if choice == "per_level":
        near = (here > spare_iou) & ~packed.crowd[:, None]
        spared = _any_anchor(near, packed.image, row, column, like=spared) & ~holds_object
    classes = _classes_of_each_place(place, is_object, packed.labels, places=holds_object.numel(), num=num_classes)
    area_px = grid.height * grid.width * grid.stride**2
    return LevelMatches(
        image=packed.image,
        anchor=anchor,
        row=row,
        column=column,
        matched=matched,
        offsets=(in_cells - torch.stack((column, row), dim=1)).clamp(0, 1),
        log_ratios=(sizes / anchors[grid.level, anchor]).log(),
        boxes=torch.cat((boxes[:, :2], sizes), dim=1),
        areas=sizes.prod(dim=1) / area_px,
        labels=packed.labels,
        classes=classes.to(boxes.dtype),
        holds_object=holds_object,
        spared=spared,
    )


def best_overlap(predicted: Tensor, packed: PackedBoxes, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """How much every prediction overlaps the objects, and the crowds, of its image.

    Boxes are taken a few at a time, so that images full of them need no more memory than others.

    Args:
        predicted: (B, P, 4) float, xyxy, pixels.
        packed: boxes of the batch.
        lengths: number of boxes of each image, known to the host.

    Returns:
        (B, P) the largest IoU with an object, and (B, P) the largest share of the prediction that one crowd covers; 0
        without any.
    """
    objects = predicted.new_zeros(predicted.shape[:2])
    crowds = torch.zeros_like(objects)
    longest = max(lengths)
    if longest == 0:
        return objects, crowds
    padded, crowd = _padded(packed, lengths, longest=longest)
    own_area = box_ops.area(predicted)[..., None]
    for start in range(0, longest, BOXES_AT_ONCE):
        some = padded[:, None, start : start + BOXES_AT_ONCE]
        is_crowd = crowd[:, None, start : start + BOXES_AT_ONCE]
        corner = torch.maximum(predicted[:, :, None, :2], some[..., :2])
        sides = (torch.minimum(predicted[:, :, None, 2:], some[..., 2:]) - corner).clamp(min=0)
        common = sides.prod(dim=-1)
        union = torch.where(is_crowd, own_area, own_area + box_ops.area(some) - common)
        share = common / union.clamp(min=torch.finfo(common.dtype).tiny)
        objects = torch.maximum(objects, share.masked_fill(is_crowd, 0).amax(dim=-1))
        crowds = torch.maximum(crowds, share.masked_fill(~is_crowd, 0).amax(dim=-1))
    return objects, crowds


def _padded(packed: PackedBoxes, lengths: list[int], *, longest: int) -> tuple[Tensor, Tensor]:
    """(B, N, 4) boxes and (B, N) whether they are crowds; empty boxes, which overlap nothing, fill the rows up."""
    first = torch.searchsorted(packed.image, torch.arange(len(lengths), device=packed.image.device))
    place = torch.arange(packed.image.shape[0], device=packed.boxes.device) - first[packed.image]
    boxes = packed.boxes.new_zeros((len(lengths), longest, 4))
    crowd = torch.zeros((len(lengths), longest), dtype=torch.bool, device=packed.boxes.device)
    return boxes.index_put((packed.image, place), packed.boxes), crowd.index_put((packed.image, place), packed.crowd)


def _last_of_each_place(place: Tensor, is_object: Tensor, *, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Of the objects at one place, the last: (T,) bool, whether it is that one; and (B, A, H, W), where there is any."""
    order = torch.arange(place.shape[0], device=place.device)
    last = torch.full(shape, -1, device=place.device).view(-1)
    last = last.scatter_reduce(0, place, torch.where(is_object, order, -1), "amax")
    return is_object & (last[place] == order), (last >= 0).view(shape)


def _any_anchor(near_TA: Tensor, image: Tensor, row: Tensor, column: Tensor, *, like: Tensor) -> Tensor:
    """(B, A, H, W) bool: whether the anchor is near to any of the boxes of the cell."""
    num_anchors, height, width = like.shape[1:]
    anchor = torch.arange(num_anchors, device=near_TA.device)
    place = ((image[:, None] * num_anchors + anchor) * height + row[:, None]) * width + column[:, None]
    marks = torch.zeros(like.numel(), dtype=torch.int32, device=like.device)
    return marks.scatter_reduce(0, place.flatten(), near_TA.int().flatten(), "amax").view_as(like) > 0


def _classes_of_each_place(place: Tensor, is_object: Tensor, labels: Tensor, *, places: int, num: int) -> Tensor:
    """(T, K) bool: the classes of all objects at the place of each candidate."""
    own = F.one_hot(labels, num).to(torch.uint8) * is_object[:, None]
    marks = torch.zeros((places, num), dtype=torch.uint8, device=place.device)
    return marks.scatter_reduce(0, place[:, None].expand_as(own), own, "amax")[place] > 0
