"""R-FCN as a model of the zoo: batch in, losses or detections out.

Letters: B images, R regions of all images, C classes with background.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from accel_det import boxes as box_ops
from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.box_deltas import decode
from accel_det.models.layers.box_rounds import candidates_of_rounds
from accel_det.models.layers.canvas import image_sizes, normalized_canvas
from accel_det.models.layers.nms import cut_to_images, suppress
from accel_det.models.layers.precision import precise, precise_type
from accel_det.models.layers.ps_roi import Pooling
from accel_det.models.layers.targets import check_labels, with_boxes_in
from accel_det.models.rfcn.backbone import STRIDE, DilatedResNet
from accel_det.models.rfcn.losses import anchor_losses, region_losses
from accel_det.models.rfcn.network import ProposalNetwork, RegionHead, RFCNNetwork, ScoredAnchors, VotingMaps, vote
from accel_det.models.rfcn.options import RFCNOptions
from accel_det.models.rfcn.proposals import ProposalRule, Proposals, choose_proposals, make_anchors
from accel_det.models.rfcn.targets import RegionTargets, anchor_targets, region_targets, sample_regions
from accel_det.types import Batch, BoxTarget, Detections, Losses

BLOCKS = {"rfcn_resnet50": (3, 4, 6, 3), "rfcn_resnet101": (3, 4, 23, 3)}


class Normalization(NamedTuple):
    """Pixel values that the backbone was pre-trained with: (value / 255 - mean) / std, channels as RGB."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


NORMALIZATIONS = {
    "torchvision": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Normalization((122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (1 / 255, 1 / 255, 1 / 255)),
}


class RFCN(ZooModel[BoxTarget, Detections]):
    """Region-based fully convolutional network: regions are pooled from maps that vote, without a layer per region.

    What a region's box is encoded by is part of the settings, so the weights of its regression are stored as trained;
    the Caffe code multiplies them by the deviations when it saves.

    Counts depend on predictions, so `counts` gives None.
    """

    has_second_stage = True

    def __init__(self, network: RFCNNetwork, *, inference: Inference, options: RFCNOptions, deformable: bool) -> None:
        super().__init__()
        self.network = network
        self.inference = inference
        self.options = options
        self.pooling = Pooling(
            options.pooling,
            options.bins,
            STRIDE,
            options.deformable_samples if deformable else options.pool_samples,
            options.pool_operations,
        )

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        check_labels(batch.targets, batch.frames, num_classes=self._num_classes)
        pixels = self._pixels(batch)
        if self.options.train_part == "rpn":
            return self._proposal_losses(self._scored(self.network.backbone.first_stages(pixels)), batch)
        res4, res5 = self.network.backbone(pixels)
        losses: Losses = {}
        if self.network.rpn is None:
            proposals = self._given(batch)
        else:
            scored = self._scored(res4)
            proposals = [found.boxes for found in self._proposals(scored, batch)]
            losses = {} if self.options.train_part == "head" else self._proposal_losses(scored, batch)
        maps = self._maps(res5)
        with torch.autocast(pixels.device.type, enabled=False):
            return losses | self._region_losses(maps, proposals, batch)

    def rehearse(self, batch: Batch[BoxTarget]) -> None:
        """All maps: the regions only pool from them."""
        res4, res5 = self.network.backbone(self._pixels(batch))
        if self.network.rpn is not None:
            self._scored(res4)
        self._maps(res5)

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        res4, res5 = self.network.backbone(self._pixels(batch))
        if self.network.rpn is None:
            proposals = self._given(batch)
        else:
            proposals = [found.boxes for found in self._proposals(self._scored(res4), batch)]
        maps = self._maps(res5)
        with torch.autocast(res5.device.type, enabled=False):
            found = candidates_of_rounds(
                partial(self._answers, maps),
                proposals,
                sizes=image_sizes(batch),
                inference=self.inference,
                limit=self.options.test_proposals_after_nms,
            )
            candidates = cut_to_images(found, image_sizes(batch))
        height, width = batch.images.shape[-2:]
        return suppress(candidates, self.inference, num_images=len(batch.images), height=height, width=width)

    def propose(self, batch: Batch[BoxTarget]) -> list[Detections]:
        """The proposals of each image, best first, in pixels of the batch image; label 0.

        Raises:
            ValueError: the network has no proposal network.
        """
        if self.network.rpn is None:
            raise ValueError('this network takes given proposals and makes none: it was built with proposals "given"')
        scored = self._scored(self.network.backbone.first_stages(self._pixels(batch)))
        return [
            Detections(boxes.float(), scores.float(), torch.zeros_like(scores, dtype=torch.int64))
            for boxes, scores in self._proposals(scored, batch)
        ]

    def compilable(self) -> list[nn.Module]:
        return [self.network.backbone, self.network.head]

    @property
    def _num_classes(self) -> int:
        return self.network.head.scores.out_channels // self.options.bins**2 - 1

    def _pixels(self, batch: Batch[BoxTarget]) -> Tensor:
        mean, std = NORMALIZATIONS[self.options.pixels]
        pixels = normalized_canvas(
            batch.images,
            image_sizes(batch),
            mean=mean,
            std=std,
            divisor=STRIDE,
            dtype=self.network.head.narrow.weight.dtype,
        )
        return pixels.flip(1) if self.options.pixels == "caffe" else pixels

    def _scored(self, res4: Tensor) -> ScoredAnchors:
        assert self.network.rpn is not None
        objectness, deltas = self.network.rpn(res4)
        return ScoredAnchors(precise(objectness), precise(deltas))

    def _maps(self, res5: Tensor) -> VotingMaps:
        scores, boxes, score_shifts, box_shifts = self.network.head(res5)
        return VotingMaps(
            precise(scores),
            precise(boxes),
            None if score_shifts is None else precise(score_shifts),
            None if box_shifts is None else precise(box_shifts),
        )

    def _anchors(self, batch: Batch[BoxTarget], *, dtype: torch.dtype) -> Tensor:
        height, width = batch.images.shape[-2:]
        return make_anchors(
            -(-height // STRIDE),
            -(-width // STRIDE),
            scales=self.options.scales,
            ratios=self.options.ratios,
            dtype=dtype,
            device=batch.images.device,
        )

    @torch.no_grad()
    def _proposals(self, scored: ScoredAnchors, batch: Batch[BoxTarget]) -> list[Proposals]:
        options = self.options
        rule = ProposalRule(
            options.proposals_before_nms if self.training else options.test_proposals_before_nms,
            options.proposals_after_nms if self.training else options.test_proposals_after_nms,
            options.proposal_nms_iou,
            options.proposal_min_px,
            options.rpn_spread,
        )
        anchors = self._anchors(batch, dtype=scored.deltas.dtype)
        with torch.autocast(anchors.device.type, enabled=False):
            return choose_proposals(
                scored.objectness, scored.deltas, anchors=anchors, sizes=image_sizes(batch), rule=rule
            )

    def _given(self, batch: Batch[BoxTarget]) -> list[Tensor]:
        """The regions of the data, cut to their image; those without extent are dropped."""
        if batch.proposals is None:
            raise ValueError(
                'model.options.proposals is "given", but the data comes without: set data.proposals to the files with '
                "regions of train and val, or take proposals: rpn"
            )
        dtype = precise_type(self.network.head.narrow.weight.dtype)
        given = []
        for boxes, (height, width) in zip(batch.proposals, image_sizes(batch), strict=True):
            cut = box_ops.clip(boxes.to(batch.images.device, dtype), height=height, width=width)
            given.append(cut[(cut[:, 2:] > cut[:, :2]).all(dim=1)])
        return given

    def _proposal_losses(self, scored: ScoredAnchors, batch: Batch[BoxTarget]) -> Losses:
        anchors = self._anchors(batch, dtype=scored.deltas.dtype)
        with torch.autocast(anchors.device.type, enabled=False):
            targets = anchor_targets(
                anchors,
                with_boxes_in(anchors.dtype, batch.targets),
                inside=_inside(anchors, image_sizes(batch)) if self.options.inside_anchors_only else None,
                per_image=self.options.anchors_per_image,
                spread=self.options.rpn_spread,
                draw_seeds=[frame.draw_seed for frame in batch.frames],
            )
            return anchor_losses(scored, targets)

    def _region_losses(self, maps: VotingMaps, proposals: list[Tensor], batch: Batch[BoxTarget]) -> Losses:
        options = self.options
        regions = self._regions(proposals, batch)
        logits, deltas = self._vote(maps, [of_image.boxes for of_image in regions])
        return region_losses(
            logits,
            deltas,
            classes=torch.cat([of_image.classes for of_image in regions]),
            delta_targets=torch.cat([of_image.deltas for of_image in regions]),
            per_image=[len(of_image.boxes) for of_image in regions],
            hardest=options.rois_per_image if options.sampling == "ohem" else None,
            box_weight=options.box_weight,
        )

    @torch.no_grad()
    def _regions(self, proposals: list[Tensor], batch: Batch[BoxTarget]) -> list[RegionTargets]:
        """The regions to learn from, and what they are; the objects themselves are among them."""
        options = self.options
        balanced = options.sampling == "balanced"
        regions = [
            region_targets(
                torch.cat((boxes, target.boxes.to(boxes.dtype))),
                target._replace(boxes=target.boxes.to(boxes.dtype)),
                background_iou=options.background_iou if balanced else 0.0,
                spread=options.box_spread,
            )
            for boxes, target in zip(proposals, batch.targets, strict=True)
        ]
        if not balanced:
            return regions
        return sample_regions(
            regions,
            per_image=options.rois_per_image,
            foreground_share=options.foreground_share,
            draw_seeds=[frame.draw_seed for frame in batch.frames],
        )

    def _vote(self, maps: VotingMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        return vote(maps, boxes, self.pooling, shift_std=self.options.deformable_std)

    def _answers(self, maps: VotingMaps, regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (R, C - 1) and boxes (R, C - 1, 4) of the objects' classes for each region."""
        logits, deltas = self._vote(maps, regions)
        boxes = decode(deltas[:, 1:], reference=torch.cat(regions)[:, None], spread=self.options.box_spread)
        return logits.softmax(dim=1)[:, 1:], boxes.expand(-1, self._num_classes, -1)


def build(name: str, *, num_classes: int, inference: Inference, options: RFCNOptions) -> RFCN:
    """An R-FCN with fresh weights.

    Args:
        name: "rfcn_resnet50" or "rfcn_resnet101", with "_deformable" or without.
        num_classes: at least 1; nothing but the data says how many.
        inference: thresholds of the predictions.
        options: see `RFCNOptions`.

    Raises:
        ValueError: unknown name, no class, or options that leave nothing to train.
    """
    plain, deformable = name.removesuffix("_deformable"), name.endswith("_deformable")
    if plain not in BLOCKS:
        raise ValueError(f"model {name!r} is unknown: expected one of {', '.join(BLOCKS)}, with _deformable or without")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    if deformable and options.pooling == "pool":
        raise ValueError('pooling is "pool", but bins of whole cells cannot be moved: take "align" or "bilinear"')
    backbone = DilatedResNet(
        options.blocks or BLOCKS[plain],
        width=options.width,
        frozen_norm=options.norm == "frozen",
        stride_in_1x1=options.stride_in_1x1,
        deformable=deformable,
    )
    backbone.freeze_stages(options.frozen_stages)
    rpn = None
    if options.proposals == "rpn":
        per_cell = len(options.scales) * len(options.ratios)
        rpn = ProposalNetwork(channels=options.rpn_channels, anchors_per_cell=per_cell)
    head = RegionHead(
        channels=options.head_channels,
        bins=options.bins,
        num_scores=num_classes + 1,
        num_boxes=num_classes + 1 if options.class_aware else 2,
        deformable=deformable,
    )
    network = RFCNNetwork(backbone, rpn, head)
    _freeze_other_part(network, options)
    return RFCN(network, inference=inference, options=options, deformable=deformable)


def _freeze_other_part(network: RFCNNetwork, options: RFCNOptions) -> None:
    """Take the gradient from what `train_part` leaves out."""
    if options.train_part == "rpn":
        network.backbone.layer4.requires_grad_(False)
        network.head.requires_grad_(False)
    if options.train_part == "head" and network.rpn is not None:
        network.rpn.requires_grad_(False)


def _inside(anchors: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """(A,) bool per image: anchors that do not cross its border."""
    within = (anchors[:, :2] >= 0).all(dim=1)
    return [within & (anchors[:, 2] <= width) & (anchors[:, 3] <= height) for height, width in sizes]
