"""What can be chosen about an R-FCN."""

import math
from dataclasses import dataclass
from typing import Literal

from accel_det.models.layers.ps_roi import PoolKind, PoolOperations

NUM_STAGES = 5  # conv1 with its norm, then res2 to res5


@dataclass(frozen=True)
class RFCNOptions:
    """Settings of the network, its training and its proposals; the defaults are the joint training with OHEM.

    Attributes:
        norm: "frozen" normalises by the statistics of the loaded weights, as published; "live" trains the layers, for
            training from random weights.
        frozen_stages: so many of the backbone's five stages, from its beginning, are not trained; 2 are conv1 and res2.
        blocks: bottlenecks of res2 to res5; without it those of the network's name.
        width: channels inside the bottlenecks of res2, doubled with each stage; 128 is the wide ResNet.
        stride_in_1x1: a stage halves its map in the first 1x1 convolution, as the Caffe weights want it; else in the
            3x3, as torchvision's.
        pixels: how the backbone was pre-trained: "torchvision", or "caffe" for BGR with only the mean taken off.
        scales: of the anchors, times 16 pixels.
        ratios: height / width of the anchors.
        inside_anchors_only: anchors that cross the border of the image are not trained.
        anchors_per_image: anchors that the proposal loss is sampled from, at most half of them objects.
        rpn_spread: what the proposals' box targets are divided by.
        rpn_channels: of the 3x3 convolution.
        proposals: "rpn" proposes regions itself; "given" takes those that come with the data (`data.proposals`), and
            has no proposal network at all.
        train_part: "joint" trains everything; "rpn" only the proposal network and the stages before res5; "head" only
            what is not the proposal network: for alternating training.
        proposals_before_nms, proposals_after_nms: kept in training.
        test_proposals_before_nms, test_proposals_after_nms: kept in evaluation.
        proposal_nms_iou: of two proposals that overlap more, the worse is dropped.
        proposal_min_px: proposals that are narrower or lower are dropped; pixels of the batch image.
        head_channels: of the 1x1 convolution behind res5.
        bins: k, the side of the grid of score maps.
        class_aware: boxes are regressed for every class; else once for all of them.
        pooling: of regions; see `accel_det.models.layers.ps_roi.Pooling`.
        pool_samples: per side of a bin, for "align" and "bilinear".
        pool_operations: "torchvision", or "tensor" for export and for deterministic training on a GPU.
        sampling: "ohem" learns from the hardest of all regions; "balanced" from a random sample.
        rois_per_image: so many regions are learnt from.
        foreground_share: of objects among them, for "balanced".
        background_iou: "balanced" takes for background what overlaps an object by this at least, and less than 0.5.
        box_spread: what the regions' box targets are divided by; 1 four times leaves them as they are.
        box_weight: of the box loss against the class loss.
        deformable_std: of a deformable network, the share of a region by which an offset of 1 moves a bin.
        deformable_samples: per side of a bin of a deformable network.
    """

    norm: Literal["frozen", "live"] = "frozen"
    frozen_stages: int = 2
    blocks: tuple[int, ...] = ()
    width: int = 64
    stride_in_1x1: bool = False
    pixels: Literal["torchvision", "caffe"] = "torchvision"
    scales: tuple[float, ...] = (8.0, 16.0, 32.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    inside_anchors_only: bool = False
    anchors_per_image: int = 256
    rpn_spread: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    rpn_channels: int = 512
    proposals: Literal["rpn", "given"] = "rpn"
    train_part: Literal["joint", "rpn", "head"] = "joint"
    proposals_before_nms: int = 6000
    proposals_after_nms: int = 300
    test_proposals_before_nms: int = 6000
    test_proposals_after_nms: int = 300
    proposal_nms_iou: float = 0.7
    proposal_min_px: float = 8.0
    head_channels: int = 1024
    bins: int = 7
    class_aware: bool = False
    pooling: PoolKind = "bilinear"
    pool_samples: int = 2
    pool_operations: PoolOperations = "torchvision"
    sampling: Literal["ohem", "balanced"] = "ohem"
    rois_per_image: int = 128
    foreground_share: float = 0.25
    background_iou: float = 0.1
    box_spread: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    box_weight: float = 1.0
    deformable_std: float = 0.1
    deformable_samples: int = 4

    def __post_init__(self) -> None:
        for name in ("scales", "ratios", "rpn_spread", "box_spread"):
            values: tuple[float, ...] = getattr(self, name)
            if not values or not all(0 < value < math.inf for value in values):
                raise ValueError(f"{name} is {values}, expected positive numbers, at least one")
        for name in (
            *("anchors_per_image", "rpn_channels", "proposals_before_nms", "proposals_after_nms"),
            *("test_proposals_before_nms", "test_proposals_after_nms", "head_channels", "bins", "pool_samples"),
            *("rois_per_image", "deformable_samples", "width"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a whole number from 1 on")
        for name in ("proposal_nms_iou", "foreground_share", "background_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number in [0, 1]")
        if not 0 <= self.frozen_stages <= NUM_STAGES:
            raise ValueError(f"frozen_stages is {self.frozen_stages}, expected 0 to {NUM_STAGES}")
        if self.blocks and (len(self.blocks) != NUM_STAGES - 1 or min(self.blocks) < 1):
            raise ValueError(
                f"blocks is {self.blocks}, expected the bottlenecks of res2 to res5: 3, 4, 6, 3 are ResNet-50"
            )
        if self.proposals == "given" and self.train_part == "rpn":
            raise ValueError('train_part is "rpn", but with proposals "given" there is none: set proposals to "rpn"')
