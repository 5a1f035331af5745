"""Position-sensitive pooling of regions: by torchvision's operations, or in plain tensor arithmetic.

A map has K * K channels for each of its C outputs, channel (c * K + row) * K + column: bin (row, column) of a region is
pooled from a map of its own. What a bin takes from its map is a weighted sum whose weights are a product of one along x
and one along y, so pooling is two products with small dense weights. Written that way it needs no operation of its own:
it exports, is differentiable twice over, has the same bits on every call, and its bins can be moved (deformable).

Letters: B images, R regions of all images, C outputs, K bins per side, N = K * K bins, H and W rows and columns of the
map, S samples per side of a bin, L = H or W.
"""

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor
from torchvision.ops import ps_roi_align

PoolKind = Literal["pool", "align", "bilinear"]
PoolOperations = Literal["torchvision", "tensor"]


class Pooling(NamedTuple):
    """How regions are pooled.

    Attributes:
        kind: "pool" averages the whole cells of a bin, its borders rounded, as the R-FCN paper. "align" averages bilinear
            samples, with the half cell taken off that puts a cell's value in its middle. "bilinear" is "align" without
            taking it off: what R-FCN's Caffe fork computes, with 2 samples per side.
        bins: K, per side.
        stride: pixels per cell of the map.
        samples: S, per side of a bin; for "align" and "bilinear".
        operations: "torchvision" is faster; "tensor" exports and is deterministic on every device. "pool" is always in
            tensors: torchvision's ps_roi_pool leaves out the last row and column of the map, and its gradient does not.
    """

    kind: PoolKind = "bilinear"
    bins: int = 7
    stride: int = 16
    samples: int = 2
    operations: PoolOperations = "torchvision"


def pool_regions(maps: Tensor, boxes: list[Tensor], pooling: Pooling, *, shifts: Tensor | None = None) -> Tensor:
    """Pool every region from the map of its image.

    Args:
        maps: (B, C * K * K, H, W), at least float32: region coordinates in bfloat16 are off by pixels.
        boxes: one (., 4) per image, xyxy, pixels of the batch image; no gradient flows to them.
        shifts: (R, 2, K, K), how far each bin is moved to the right and down, as a share of the region's width and
            height; differentiable. None moves none. Not for "pool", whose bins are whole cells.

    Returns:
        (R, C, K, K), regions image after image.

    Source: Dai et al., R-FCN, 2016, equation 1; Dai et al., Deformable Convolutional Networks, 2017, section 2.2.
    """
    if shifts is None and pooling.operations == "torchvision" and pooling.kind != "pool":
        return _by_torchvision(maps, boxes, pooling)
    bins = pooling.bins
    moves = [None] * len(boxes) if shifts is None else list(shifts.split([of_image.shape[0] for of_image in boxes]))
    pooled = []
    for map_, of_image, moved in zip(maps, boxes, moves, strict=True):
        weights_x = _weights(of_image[:, 0::2], moved, pooling, axis=0, length=map_.shape[-1])
        weights_y = _weights(of_image[:, 1::2], moved, pooling, axis=1, length=map_.shape[-2])
        pooled.append(_weighted(map_.unflatten(0, (-1, bins, bins)), weights_x, weights_y))
    return torch.cat(pooled)


def _by_torchvision(maps: Tensor, boxes: list[Tensor], pooling: Pooling) -> Tensor:
    if pooling.kind == "bilinear":  # torchvision takes half a cell off: put it on before
        boxes = [of_image + pooling.stride / 2 for of_image in boxes]
    # torchvision takes a list of boxes as well, and annotates it away
    aligned: Tensor = ps_roi_align(maps, cast(Tensor, boxes), pooling.bins, 1.0 / pooling.stride, pooling.samples)
    return aligned


def _weights(ends: Tensor, shifts: Tensor | None, pooling: Pooling, *, axis: int, length: int) -> Tensor:
    """(N, R, L): what each cell along one axis contributes to each bin of each region.

    Args:
        ends: (R, 2), where each region begins and ends along the axis, pixels.
        shifts: (R, 2, K, K) or None.
        axis: 0 for x, 1 for y.
    """
    bins = pooling.bins
    if pooling.kind == "pool":
        weights = _cell_weights(ends, pooling, length=length)
    else:
        weights = _sample_weights(ends, None if shifts is None else shifts[:, axis], pooling, axis=axis, length=length)
    if weights.ndim == 3:  # (R, K, L), the same for all bins of a column or row
        weights = weights[:, None, :, :] if axis == 0 else weights[:, :, None, :]
        weights = weights.expand(-1, bins, bins, -1)
    return weights.flatten(1, 2).transpose(0, 1)


def _sample_weights(ends: Tensor, shifts: Tensor | None, pooling: Pooling, *, axis: int, length: int) -> Tensor:
    """(R, K, L), or (R, K, K, L) with shifts (R, K, K): bilinear weights, averaged over the samples of a bin.

    Samples more than a cell outside the map count as 0, as in torchvision; nearer ones take the border's value.
    """
    offset = 0.5 if pooling.kind == "align" else 0.0
    start = ends[:, :1] / pooling.stride - offset
    extent = ends[:, 1:] / pooling.stride - offset - start
    number = torch.arange(pooling.bins, dtype=ends.dtype, device=ends.device)
    corner = start + number * (extent / pooling.bins)  # (R, K)
    if shifts is not None:
        corner = (corner[:, None, :] if axis == 0 else corner[:, :, None]) + shifts * extent[:, :, None]
    within = (torch.arange(pooling.samples, dtype=ends.dtype, device=ends.device) + 0.5) / pooling.samples
    extents = extent.view(-1, *[1] * corner.ndim)
    position = corner[..., None] + within * (extents / pooling.bins)  # (..., S)
    inside = (position >= -1) & (position <= length)
    cells = torch.arange(length, dtype=ends.dtype, device=ends.device)
    distance = (position.clamp(0, length - 1)[..., None] - cells).abs()
    tent = (1 - distance).clamp(min=0) * inside[..., None]
    return tent.mean(dim=-2)


def _cell_weights(ends: Tensor, pooling: Pooling, *, length: int) -> Tensor:
    """(R, K, L): one over their number for the cells of a bin, 0 for others; a bin without cells gives 0."""
    rounded = (ends / pooling.stride + 0.5).floor()
    start = rounded[:, :1]
    size = (rounded[:, 1:] - start).clamp(min=1) / pooling.bins
    number = torch.arange(pooling.bins, dtype=ends.dtype, device=ends.device)
    first = ((number * size).floor() + start).clamp(0, length)
    last = (((number + 1) * size).ceil() + start).clamp(0, length)
    cells = torch.arange(length, dtype=ends.dtype, device=ends.device)
    inside = (cells >= first[..., None]) & (cells < last[..., None])
    weights: Tensor = inside.to(ends.dtype) / (last - first).clamp(min=1)[..., None]
    return weights


def _weighted(map_: Tensor, weights_x: Tensor, weights_y: Tensor) -> Tensor:
    """(C, K, K, H, W) and (N, R, W) and (N, R, H) -> (R, C, K, K)."""
    num_outputs, bins, _, height, _ = map_.shape
    by_bin = map_.permute(1, 2, 4, 0, 3).flatten(0, 1).flatten(2)  # (N, W, C * H)
    rows = torch.bmm(weights_x, by_bin).unflatten(2, (num_outputs, height))
    by_region = (rows * weights_y[:, :, None, :]).sum(dim=-1).permute(1, 2, 0)
    pooled: Tensor = by_region.unflatten(2, (bins, bins))
    return pooled
