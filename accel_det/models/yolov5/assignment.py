"""Which cells and anchors learn which boxes: a function of the targets alone, without loops and without host reads.

Letters: B images, T boxes of the batch, A anchors of a level, H and W cells of a level, M = T * A * 3 candidate pairs
of a box and a cell with an anchor. The number of candidates depends on T alone; a mask says which are matches, because
to pick them out would make the host wait for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.layers.targets import PackedBoxes


class LevelMatches(NamedTuple):
    """The candidates of one level, and which of its cells count.

    Attributes:
        image, anchor, row, column: (M,) int64, where the prediction stands; always valid indices.
        matched: (M,) bool, whether the candidate is a match.
        boxes: (M, 4) float, center x, center y, width, height in cells, the center relative to the corner of the cell.
        anchors: (M, 2) float, width and height of the candidate's anchor in cells.
        labels: (M,) int64.
        cell_weight: (B, A, H, W) float, 0 where objectness is not to be learnt, else 1.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    matched: Tensor
    boxes: Tensor
    anchors: Tensor
    labels: Tensor
    cell_weight: Tensor


def match_level(
    packed: PackedBoxes,
    anchors_px: Tensor,
    *,
    num_images: int,
    height: int,
    width: int,
    stride: int,
    max_ratio: float,
) -> LevelMatches:
    """Match boxes with the anchors of one level.

    A box matches every anchor that is less than max_ratio times wider, narrower, taller or shorter than itself, in the
    cell that holds its center and in the two neighbors on the sides that the center is nearer to, where they exist.
    Crowd boxes match nothing; of the cells inside one, those without a match are neither taught an object nor its
    absence.

    Everything about one image follows from its own boxes, so images may be shared out among processes in any way.

    Args:
        packed: boxes of the batch.
        anchors_px: (A, 2) float, width and height in pixels.
        num_images, height, width: B, H, W.
        stride: pixels per cell.
        max_ratio: above 1.

    Source: YOLOv5's published design, anchor ratios and half-cell offsets; ignoring crowds is ours.
    """
    num_anchors = anchors_px.shape[0]
    boxes = box_ops.xyxy_to_cxcywh(packed.boxes / stride)
    anchors = anchors_px.to(boxes.dtype) / stride
    ratio = boxes[:, None, 2:] / anchors[None]
    close = torch.maximum(ratio, 1 / ratio).amax(dim=2) < max_ratio
    close = close & ~packed.crowd[:, None]
    cells, reachable = _nearest_cells(boxes[:, :2], height=height, width=width)

    shape = (packed.image.shape[0], num_anchors, 3)
    anchor = torch.arange(num_anchors, device=anchors.device)[None, :, None].expand(shape).reshape(-1)
    column, row = cells[:, None].expand(*shape, 2).reshape(-1, 2).unbind(dim=1)
    image = packed.image[:, None, None].expand(shape).reshape(-1)
    matched = (close[:, :, None] & reachable[:, None]).reshape(-1)
    center = boxes[:, None, :2] - cells
    relative = torch.cat((center, boxes[:, None, 2:].expand_as(center)), dim=2)
    return LevelMatches(
        image,
        anchor,
        row,
        column,
        matched,
        relative[:, None].expand(*shape, 4).reshape(-1, 4),
        anchors[anchor],
        packed.labels[:, None, None].expand(shape).reshape(-1),
        _cell_weight(
            crowd_cells(packed, num_images=num_images, height=height, width=width, stride=stride),
            flat_index=((image * num_anchors + anchor) * height + row) * width + column,
            matched=matched,
            num_anchors=num_anchors,
            dtype=boxes.dtype,
        ),
    )


def _nearest_cells(centers: Tensor, *, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The cell of each center, its neighbor left or right, and its neighbor above or below.

    Returns:
        (T, 3, 2) int64 column and row, inside the grid; (T, 3) bool, whether there is such a cell.
    """
    home_x, beside, has_beside = _nearest_along(centers[:, 0], size=width)
    home_y, below, has_below = _nearest_along(centers[:, 1], size=height)
    columns = torch.stack((home_x, beside, home_x), dim=1)
    rows = torch.stack((home_y, home_y, below), dim=1)
    exists = torch.stack((torch.ones_like(has_beside), has_beside, has_below), dim=1)
    return torch.stack((columns, rows), dim=2).long(), exists


def _nearest_along(center: Tensor, *, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: the cell of a center, its nearer neighbor or else itself, and whether there is that neighbor.

    A center in the very middle has no nearer side: a neighbor could reach it only by a sigmoid of exactly 0 or 1.
    """
    home = center.floor().clamp(0, size - 1)
    neighbor = home + torch.sign(center - home - 0.5)
    exists = (neighbor != home) & (neighbor >= 0) & (neighbor < size)
    return home, torch.where(exists, neighbor, home), exists


def crowd_cells(packed: PackedBoxes, *, num_images: int, height: int, width: int, stride: int) -> Tensor:
    """(B, H, W) bool: cells whose middle lies inside a crowd box.

    Each box adds 1 at two opposite corners of a table and takes 1 away at the others; running sums along both axes then
    count the boxes over every cell, at a cost that does not grow with their size.
    """
    edges = torch.ceil(packed.boxes / stride - 0.5)
    left, right = (edges[:, i].clamp(0, width).long() for i in (0, 2))
    top, bottom = (edges[:, i].clamp(0, height).long() for i in (1, 3))
    one = packed.crowd.int()
    table = torch.zeros((num_images, height + 1, width + 1), dtype=torch.int32, device=packed.boxes.device)
    rows, columns = torch.cat((top, top, bottom, bottom)), torch.cat((left, right, left, right))
    table.index_put_((packed.image.repeat(4), rows, columns), torch.cat((one, -one, -one, one)), accumulate=True)
    return table.cumsum(dim=1).cumsum(dim=2)[:, :height, :width] > 0


def _cell_weight(
    in_crowd: Tensor, *, flat_index: Tensor, matched: Tensor, num_anchors: int, dtype: torch.dtype
) -> Tensor:
    """(B, A, H, W): 0 for cells inside a crowd that match no box, else 1."""
    weight = (~in_crowd).to(dtype)[:, None].repeat(1, num_anchors, 1, 1)
    return weight.view(-1).scatter_reduce_(0, flat_index, matched.to(dtype), "amax").view_as(weight)
