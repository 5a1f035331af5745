"""The layers of R-FCN: backbone, proposal network, and the maps that vote.

Letters: B images, A anchors per cell, K bins per side, C classes with background, D columns of boxes, H and W rows and
columns of the maps, R regions.
"""

from typing import NamedTuple

from torch import Tensor, nn

from accel_det.models.layers.ps_roi import Pooling, pool_regions
from accel_det.models.rfcn.backbone import RES4_CHANNELS, RES5_CHANNELS, DilatedResNet

_INITIAL_STD = 0.01  # of the new layers: R-FCN's published prototxt


class ScoredAnchors(NamedTuple):
    """What the proposal network says about every anchor, cell after cell, row after row.

    Attributes:
        objectness: (B, H * W * A), log odds that it is an object.
        deltas: (B, H * W * A, 4) encoded boxes.
    """

    objectness: Tensor
    deltas: Tensor


class VotingMaps(NamedTuple):
    """The position-sensitive maps of a batch.

    Attributes:
        scores: (B, C * K * K, H, W).
        boxes: (B, 4 * D * K * K, H, W).
        score_shifts, box_shifts: (B, 2 * K * K, H, W) of a deformable network, else None.
    """

    scores: Tensor
    boxes: Tensor
    score_shifts: Tensor | None
    box_shifts: Tensor | None


class ProposalNetwork(nn.Module):
    """A 3x3 convolution and two 1x1: two scores and a box for every anchor.

    Source: Ren et al., Faster R-CNN, 2015, section 3.1.
    """

    def __init__(self, *, channels: int, anchors_per_cell: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(RES4_CHANNELS, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.scores = nn.Conv2d(channels, 2 * anchors_per_cell, 1)
        self.boxes = nn.Conv2d(channels, 4 * anchors_per_cell, 1)
        for layer in (self.conv, self.scores, self.boxes):
            _start_small(layer)

    def forward(self, res4: Tensor) -> ScoredAnchors:
        x = self.relu(self.conv(res4))
        background, object_ = self.scores(x).chunk(2, dim=1)
        # The softmax over two scores is the sigmoid of their difference.
        objectness = (object_ - background).permute(0, 2, 3, 1).flatten(1)
        deltas = self.boxes(x).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        return ScoredAnchors(objectness, deltas)


class RegionHead(nn.Module):
    """res5 to the maps: a 1x1 convolution that narrows, then one per kind of map.

    Source: Dai et al., R-FCN, 2016, section 2; Dai et al., Deformable Convolutional Networks, 2017, section 2.2, whose
    offsets are here shared by all classes.
    """

    def __init__(self, *, channels: int, bins: int, num_scores: int, num_boxes: int, deformable: bool) -> None:
        """Args:
        num_scores: C, classes with background.
        num_boxes: D, boxes regressed per region.
        """
        super().__init__()
        self.narrow = nn.Conv2d(RES5_CHANNELS, channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.scores = nn.Conv2d(channels, num_scores * bins * bins, 1)
        self.boxes = nn.Conv2d(channels, 4 * num_boxes * bins * bins, 1)
        for layer in (self.narrow, self.scores, self.boxes):
            _start_small(layer)
        self.score_shifts = _shifts(channels, bins) if deformable else None
        self.box_shifts = _shifts(channels, bins) if deformable else None

    def forward(self, res5: Tensor) -> VotingMaps:
        x = self.relu(self.narrow(res5))
        return VotingMaps(
            self.scores(x),
            self.boxes(x),
            None if self.score_shifts is None else self.score_shifts(x),
            None if self.box_shifts is None else self.box_shifts(x),
        )


class RFCNNetwork(nn.Module):
    """All layers; `rpn` is None where regions are given."""

    def __init__(self, backbone: DilatedResNet, rpn: ProposalNetwork | None, head: RegionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.head = head


def vote(maps: VotingMaps, boxes: list[Tensor], pooling: Pooling, *, shift_std: float) -> tuple[Tensor, Tensor]:
    """Let the bins of each region vote.

    Args:
        maps: at least float32.
        boxes: one (., 4) per image, xyxy, pixels of the batch image.
        shift_std: share of a region by which an offset of 1 moves a bin; of a deformable network.

    Returns:
        (R, C) class scores before the softmax, background first; (R, D, 4) encoded boxes.
    """
    logits = _mean_of_bins(maps.scores, maps.score_shifts, boxes, pooling, shift_std=shift_std)
    deltas = _mean_of_bins(maps.boxes, maps.box_shifts, boxes, pooling, shift_std=shift_std)
    return logits, deltas.unflatten(1, (-1, 4))


def _mean_of_bins(
    maps: Tensor, shift_maps: Tensor | None, boxes: list[Tensor], pooling: Pooling, *, shift_std: float
) -> Tensor:
    shifts = None if shift_maps is None else shift_std * pool_regions(shift_maps, boxes, pooling)
    return pool_regions(maps, boxes, pooling, shifts=shifts).mean(dim=(2, 3))


def _start_small(layer: nn.Conv2d) -> None:
    nn.init.normal_(layer.weight, std=_INITIAL_STD)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _shifts(channels: int, bins: int) -> nn.Conv2d:
    """Maps of offsets that start as none."""
    layer = nn.Conv2d(channels, 2 * bins * bins, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
