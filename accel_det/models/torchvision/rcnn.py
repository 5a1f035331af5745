"""Faster R-CNN of torchvision: proposals, then regions, both trained on a keyed random sample.

Letters: B images, A anchors, K classes without background, R sampled anchors or regions of the batch.
"""

from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops.poolers import initLevelMapper

from accel_det.models.layers.box_rounds import candidates_of_rounds
from accel_det.models.layers.canvas import Sizes, image_sizes
from accel_det.models.layers.matching import BACKGROUND, look_up, match_by_iou, overlaps
from accel_det.models.layers.nms import Candidates
from accel_det.models.layers.precision import precise
from accel_det.models.layers.sampling import ROI_STREAM, RPN_STREAM, sample_balanced
from accel_det.models.layers.targets import with_boxes_in
from accel_det.models.torchvision.base import Pixels, TorchvisionDetector
from accel_det.models.torchvision.geometry import Grid, grid_anchors
from accel_det.models.torchvision.losses import roi_losses, rpn_losses
from accel_det.types import Batch, BoxTarget, Detections, Losses


class Anchored(NamedTuple):
    """What the region proposal network says about the anchors of a batch.

    Attributes:
        anchors: (A, 4) xyxy, pixels of the batch.
        objectness: (B, A) before the sigmoid.
        deltas: (B, A, 4) encoded boxes.
        proposals: one (P, 4) per image, xyxy, pixels of the batch, without gradient.
        scores: one (P,) per image, in [0, 1], best first.
    """

    anchors: Tensor
    objectness: Tensor
    deltas: Tensor
    proposals: list[Tensor]
    scores: list[Tensor]


class Regions(NamedTuple):
    """The sampled regions of one image.

    Attributes:
        boxes: (R, 4) xyxy, pixels of the batch.
        classes: (R,) int64, 0 for background, else 1 + label.
        delta_targets: (R, 4) the object encoded for the region; 0 for background.
    """

    boxes: Tensor
    classes: Tensor
    delta_targets: Tensor


class FasterRCNNDetector(TorchvisionDetector):
    """All four losses are means over sampled anchors or regions, so what is counted is samples.

    Region counts depend on predictions, hence `counts` gives None.
    """

    network: FasterRCNN
    num_background = 1
    least_px = 0.01  # torchvision's
    has_second_stage = True

    def __init__(self, network: FasterRCNN, *, pixels: Pixels, grid: Grid, pooled_halvings: tuple[int, ...]) -> None:
        """Args:
        pooled_halvings: of the maps that regions are pooled from, how often each has half the canvas's side.
        """
        super().__init__(network, pixels=pixels, grid=grid)
        pool = self._roi_heads.box_roi_pool
        # The stock pooler guesses these from the first batch that it sees and keeps the guess: a state that a resumed
        # run or another process need not share, and a wrong one if that batch holds a small image on a large canvas.
        pool.scales = [2.0**-halvings for halvings in pooled_halvings]
        pool.map_levels = initLevelMapper(min(pooled_halvings), max(pooled_halvings))

    @property
    def _rpn(self) -> RegionProposalNetwork:
        return cast(RegionProposalNetwork, self.network.rpn)

    @property
    def _roi_heads(self) -> RoIHeads:
        return cast(RoIHeads, self.network.roi_heads)

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        images = self._images(batch)
        features = self._features(images)
        anchored = self._propose(images, features=features, sizes=image_sizes(batch))
        targets = with_boxes_in(anchored.deltas.dtype, batch.targets)
        draw_seeds = [frame.draw_seed for frame in batch.frames]
        with torch.autocast(images.device.type, enabled=False):
            losses = self._rpn_losses(anchored, targets, draw_seeds=draw_seeds)
            regions = self._sample_regions(anchored.proposals, targets, draw_seeds=draw_seeds)
        logits, deltas = self._classify(features, boxes=[of_image.boxes for of_image in regions])
        with torch.autocast(images.device.type, enabled=False):
            classes = torch.cat([of_image.classes for of_image in regions])
            delta_targets = torch.cat([of_image.delta_targets for of_image in regions])
            return losses | roi_losses(logits, deltas, classes=classes, delta_targets=delta_targets)

    def rehearse(self, batch: Batch[BoxTarget]) -> None:
        """The second stage on as many regions as are proposed at most, 1000 an image."""
        images = self._images(batch)
        features = self._features(images)
        self._rpn.head(list(features.values()))
        num_regions = self._rpn.post_nms_top_n() * len(images)
        channels = next(iter(features.values())).shape[1]
        pooled = images.new_zeros((num_regions, channels, *self._roi_heads.box_roi_pool.output_size))
        head, predictor = cast(nn.Module, self._roi_heads.box_head), cast(nn.Module, self._roi_heads.box_predictor)
        predictor(head(pooled))

    def propose(self, batch: Batch[BoxTarget]) -> list[Detections]:
        """The proposals of each image, best first, in pixels of the batch image; label 0."""
        images = self._images(batch)
        found = self._propose(images, features=self._features(images), sizes=image_sizes(batch))
        return [
            Detections(boxes.float(), scores.float(), torch.zeros_like(scores, dtype=torch.int64))
            for boxes, scores in zip(found.proposals, found.scores, strict=True)
        ]

    def _candidates(self, images: Tensor, *, sizes: Sizes) -> Candidates:
        """Every class of every proposal; and those of the boxes found last, as often as box_iterations says."""
        features = self._features(images)
        return candidates_of_rounds(
            partial(self._answers, features),
            self._propose(images, features=features, sizes=sizes).proposals,
            sizes=sizes,
            inference=self.inference,
            limit=self._rpn.post_nms_top_n(),
        )

    def _answers(self, features: dict[str, Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (R, K) and shifted boxes (R, K, 4) of the (., 4) boxes of each image, one under the other."""
        logits, deltas = self._classify(features, boxes=boxes)
        with torch.autocast(logits.device.type, enabled=False):
            shifted = self._roi_heads.box_coder.decode_single(deltas, torch.cat(boxes))
            num_columns = logits.shape[-1]
            return logits.softmax(dim=-1)[:, 1:], shifted.view(len(logits), num_columns, 4)[:, 1:]

    def _propose(self, images: Tensor, *, features: dict[str, Tensor], sizes: Sizes) -> Anchored:
        """Score and shift every anchor, and keep the best boxes of each image as proposals."""
        objectness_maps, delta_maps = self._rpn.head(list(features.values()))
        with torch.autocast(images.device.type, enabled=False):
            per_level = [maps[0].numel() for maps in objectness_maps]
            objectness, deltas = concat_box_prediction_layers(
                [precise(maps) for maps in objectness_maps], [precise(maps) for maps in delta_maps]
            )
            canvas = (images.shape[-2], images.shape[-1])
            generator = self._rpn.anchor_generator
            anchors = grid_anchors(
                generator, canvas=canvas, grid=self.grid(*canvas), dtype=deltas.dtype, device=images.device
            )
            decoded = self._rpn.box_coder.decode(deltas.detach(), [anchors] * len(images)).view(len(images), -1, 4)
            proposals, scores = self._rpn.filter_proposals(decoded, objectness, sizes, per_level)
        return Anchored(anchors, objectness.view(len(images), -1), deltas.view(len(images), -1, 4), proposals, scores)

    def _rpn_losses(self, anchored: Anchored, targets: list[BoxTarget], *, draw_seeds: list[int]) -> Losses:
        matcher, sampler = self._rpn.proposal_matcher, self._rpn.fg_bg_sampler
        matches = [
            match_by_iou(
                overlaps(target, anchored.anchors),
                foreground_iou=matcher.high_threshold,
                background_iou=matcher.low_threshold,
                keep_best=True,
            )
            for target in targets
        ]
        sampled = sample_balanced(
            [of_image - BACKGROUND for of_image in matches],  # object index + 1, background 0, ignored below
            per_image=sampler.batch_size_per_image,
            positive_fraction=sampler.positive_fraction,
            draw_seeds=draw_seeds,
            stream=RPN_STREAM,
        )
        scores, truth, deltas, wanted = [], [], [], []
        for index, (target, chosen) in enumerate(zip(targets, sampled, strict=True)):
            positive, negative = chosen
            scores += [anchored.objectness[index, positive], anchored.objectness[index, negative]]
            truth += [torch.ones_like(scores[-2]), torch.zeros_like(scores[-1])]
            anchors = anchored.anchors[positive]
            _, boxes = look_up(target, matches[index][positive], boxes=anchors)
            deltas.append(anchored.deltas[index, positive])
            wanted.append(self._rpn.box_coder.encode_single(boxes, anchors))
        return rpn_losses(
            torch.cat(scores), is_object=torch.cat(truth), deltas=torch.cat(deltas), delta_targets=torch.cat(wanted)
        )

    @torch.no_grad()
    def _sample_regions(
        self, proposals: list[Tensor], targets: list[BoxTarget], *, draw_seeds: list[int]
    ) -> list[Regions]:
        """Choose regions among the proposals and the true boxes, and say what each should have become."""
        matcher, sampler = self._roi_heads.proposal_matcher, self._roi_heads.fg_bg_sampler
        candidates = [torch.cat((boxes, target.boxes)) for boxes, target in zip(proposals, targets, strict=True)]
        matches = [
            match_by_iou(
                overlaps(target, boxes),
                foreground_iou=matcher.high_threshold,
                background_iou=matcher.low_threshold,
                keep_best=False,
            )
            for target, boxes in zip(targets, candidates, strict=True)
        ]
        sampled = sample_balanced(
            [of_image - BACKGROUND for of_image in matches],
            per_image=sampler.batch_size_per_image,
            positive_fraction=sampler.positive_fraction,
            draw_seeds=draw_seeds,
            stream=ROI_STREAM,
        )
        regions = []
        for target, boxes, matched, chosen in zip(targets, candidates, matches, sampled, strict=True):
            index = torch.cat(chosen)
            labels, objects = look_up(target, matched[index], boxes=boxes[index])
            classes = torch.where(matched[index] >= 0, labels + self.num_background, 0)
            wanted = self._roi_heads.box_coder.encode_single(objects, boxes[index])
            regions.append(Regions(boxes[index], classes, wanted))
        return regions

    def _classify(self, features: dict[str, Tensor], *, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Class scores (R, 1 + K) and encoded boxes (R, (1 + K) * 4) of the (., 4) boxes of each image.

        Regions are pooled in float32: region coordinates in bfloat16 are off by pixels.
        """
        head, predictor = cast(nn.Module, self._roi_heads.box_head), cast(nn.Module, self._roi_heads.box_predictor)
        dtype = next(iter(features.values())).dtype
        with torch.autocast(boxes[0].device.type, enabled=False):
            maps = {name: precise(of_level) for name, of_level in features.items()}
            pooled = self._roi_heads.box_roi_pool(maps, boxes, [])
        logits, deltas = predictor(head(pooled.to(dtype)))
        return precise(logits), precise(deltas)
