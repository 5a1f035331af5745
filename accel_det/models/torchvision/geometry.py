"""Pyramids and anchors of torchvision's detectors, as functions of the canvas (H, W) alone.

The sizes of the feature maps follow from (H, W) by arithmetic, so anchors, and with them the counts of a loss, are
known without running the network. Boxes are xyxy in pixels of the batch image.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator

from accel_det.models.layers.canvas import Sizes

Grid = Callable[[int, int], Sizes]


def pyramid(*halvings: int) -> Grid:
    """The feature maps of a network whose every stride-2 layer rounds up: one map per number of halvings."""
    return partial(_halved, halvings=halvings)


def _halved(height: int, width: int, *, halvings: tuple[int, ...]) -> Sizes:
    return [(-(-height // 2**count), -(-width // 2**count)) for count in halvings]


def vgg_grid(height: int, width: int) -> Sizes:
    """The six feature maps of SSD300's VGG-16: the third of its four poolings rounds up; see `AtLeastWide`."""
    return list(zip(_vgg_sides(height), _vgg_sides(width), strict=True))


def _vgg_sides(side: int) -> list[int]:
    conv4, fc7, conv8, conv9 = _vgg_first_sides(side)
    conv10 = max(conv9, 3) - 2
    return [conv4, fc7, conv8, conv9, conv10, max(conv10, 3) - 2]


def vgg512_grid(height: int, width: int) -> Sizes:
    """The seven feature maps of SSD512's VGG-16."""
    return list(zip(_vgg512_sides(height), _vgg512_sides(width), strict=True))


def _vgg512_sides(side: int) -> list[int]:
    conv4, fc7, conv8, conv9 = _vgg_first_sides(side)
    conv10 = -(-conv9 // 2)
    conv11 = -(-conv10 // 2)
    return [conv4, fc7, conv8, conv9, conv10, conv11, max(conv11, 2) - 1]


def _vgg_first_sides(side: int) -> tuple[int, int, int, int]:
    conv4 = -(-(side // 2 // 2) // 2)
    fc7 = conv4 // 2
    conv8 = -(-fc7 // 2)
    return conv4, fc7, conv8, -(-conv8 // 2)


class AtLeastWide(nn.Sequential):
    """A block that shrinks its map, fed with zeros around the end of a map that is too small for that.

    The last two blocks of SSD300's VGG-16 take 3 cells, that is images of 268 pixels; the last one of SSD512's takes 2.

    Args:
        block: its layers become those of this one, under the same names.
        cells: what a side of the map has at least.
    """

    def __init__(self, block: nn.Sequential, *, cells: int) -> None:
        super().__init__(*block)
        self.cells = cells

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        maps = F.pad(maps, (0, max(0, self.cells - width), 0, max(0, self.cells - height)))
        for layer in self:
            maps = layer(maps)
        return maps


def grid_anchors(
    generator: AnchorGenerator, *, canvas: tuple[int, int], grid: Sizes, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(A, 4) anchors of all levels, finest first.

    torchvision makes them in the number type of the features, which under bfloat16 autocast rounds to 4 pixels at 800.

    Args:
        canvas: (H, W), pixels. The distance between anchors of a level is H // rows, W // columns, as in torchvision.
    """
    height, width = canvas
    rows_and_columns = [list(level) for level in grid]
    # annotated as tensors, used as numbers: plain numbers need no copy to the device
    strides = cast(list[list[Tensor]], [[height // rows, width // columns] for rows, columns in grid])
    generator.set_cell_anchors(dtype, device)
    return torch.cat(generator.grid_anchors(rows_and_columns, strides))


def default_boxes(
    generator: DefaultBoxGenerator, *, canvas: tuple[int, int], grid: Sizes, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(A, 4) SSD's default boxes of all levels, finest first.

    torchvision's generator fixes the distance between boxes in pixels of a 300x300 image, also where the last two maps,
    made without padding, have other numbers of cells. Here those two maps tile the canvas evenly, which at 300x300 is
    the same (100 and 300 pixels; at 512x512 for SSD512, 256 and 512) and fits every other size.

    Source: Liu et al., SSD, 2016, section 2.2; torchvision.models.detection.anchor_utils.DefaultBoxGenerator (BSD),
    down to the float32 of its relative coordinates.
    """
    height, width = canvas
    num_padded_levels = len(grid) - 2
    boxes = []
    for level, (rows, columns) in enumerate(grid):
        cells_y, cells_x = float(rows), float(columns)
        if generator.steps is not None and level < num_padded_levels:
            cells_y, cells_x = height / generator.steps[level], width / generator.steps[level]
        center_y = (torch.arange(rows, device=device) + 0.5) / cells_y
        center_x = (torch.arange(columns, device=device) + 0.5) / cells_x
        grid_y, grid_x = torch.meshgrid(center_y, center_x, indexing="ij")
        shapes = torch.tensor(_relative_shapes(generator, level=level), dtype=torch.float32)
        shapes = shapes.to(device, non_blocking=True)
        if generator.clip:
            shapes = shapes.clamp(min=0, max=1)
        centers = torch.stack((grid_x, grid_y), dim=-1).reshape(-1, 1, 2).expand(-1, len(shapes), 2)
        boxes.append(torch.cat((centers, shapes.expand(len(centers), -1, 2)), dim=-1).reshape(-1, 4))
    relative = torch.cat(boxes).to(dtype)
    scale = torch.tensor((width, height), dtype=dtype).to(device, non_blocking=True)
    half = 0.5 * relative[:, 2:]
    return torch.cat(((relative[:, :2] - half) * scale, (relative[:, :2] + half) * scale), dim=1)


def _relative_shapes(generator: DefaultBoxGenerator, *, level: int) -> list[tuple[float, float]]:
    """(width, height) of a level's default boxes, as parts of the image."""
    scale, next_scale = generator.scales[level], generator.scales[level + 1]
    between = (scale * next_scale) ** 0.5
    shapes = [(scale, scale), (between, between)]
    for ratio in generator.aspect_ratios[level]:
        wide, narrow = scale * ratio**0.5, scale / ratio**0.5
        shapes += [(wide, narrow), (narrow, wide)]
    return shapes
