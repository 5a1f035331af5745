"""RetinaNet, FCOS and SSD of torchvision: detectors whose every anchor carries a prediction.

Their counts follow from targets and canvas alone. Letters: B images, A anchors, K classes without background.
"""

from abc import abstractmethod

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD

from accel_det.models.layers.canvas import Sizes, padded_canvas
from accel_det.models.layers.matching import (
    Assignment,
    assignment,
    match_by_iou,
    match_default_boxes,
    match_points,
    overlaps,
)
from accel_det.models.layers.nms import Candidates, join
from accel_det.models.layers.precision import precise
from accel_det.models.layers.targets import with_boxes_in
from accel_det.models.torchvision.base import TorchvisionDetector
from accel_det.models.torchvision.geometry import default_boxes, grid_anchors
from accel_det.models.torchvision.losses import fcos_losses, generalized_iou_loss, retinanet_losses, ssd_losses
from accel_det.types import Batch, BoxTarget, Losses


class DenseDetector(TorchvisionDetector):
    """Backbone, head, anchors, matching, loss; subclasses fill in the last three.

    Attributes:
        loss_names: the keys of `losses` and `counts`.
    """

    loss_names: tuple[str, ...]
    network: RetinaNet | FCOS | SSD

    @abstractmethod
    def _anchors(self, canvas: tuple[int, int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """(A, 4) xyxy, pixels of the batch; the same for every image."""

    @abstractmethod
    def _match(self, target: BoxTarget, anchors: Tensor, *, anchors_per_level: list[int]) -> Tensor:
        """(A,) index of the object that each anchor answers for, or BACKGROUND or IGNORED."""

    @abstractmethod
    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(N, 4) predictions and their (N, 4) anchors -> (N, 4) boxes, xyxy, pixels of the batch."""

    @abstractmethod
    def _best(self, outputs: dict[str, Tensor], anchors: Tensor, *, levels: list[int]) -> Candidates:
        """Scored boxes of (B, A, ...) predictions, at most topk_candidates of each level or class."""

    @abstractmethod
    def _dense_losses(self, outputs: dict[str, Tensor], assigned: Assignment, *, anchors: Tensor) -> Losses:
        """Losses of (B, A, ...) predictions, float32 or float64."""

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        images = self._images(batch)
        outputs = self._outputs(images)
        with torch.autocast(images.device.type, enabled=False):
            outputs = {name: precise(output) for name, output in outputs.items()}
            dtype, canvas = outputs["cls_logits"].dtype, (images.shape[-2], images.shape[-1])
            anchors = self._anchors(canvas, dtype=dtype, device=images.device)
            targets = with_boxes_in(dtype, batch.targets)
            matches = self._matches(targets, anchors=anchors, canvas=canvas)
            return self._dense_losses(outputs, assignment(targets, matches, anchors=anchors), anchors=anchors)

    @torch.no_grad()
    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor] | None:
        is_double = next(self.network.parameters()).dtype == torch.float64
        count = self._count(batch, dtype=torch.float64 if is_double else torch.float32)
        return dict.fromkeys(self.loss_names, count)

    def _candidates(self, images: Tensor, *, sizes: Sizes) -> Candidates:
        outputs = self._outputs(images)
        with torch.autocast(images.device.type, enabled=False):
            outputs = {name: precise(output) for name, output in outputs.items()}
            canvas = (images.shape[-2], images.shape[-1])
            anchors = self._anchors(canvas, dtype=outputs["cls_logits"].dtype, device=images.device)
            return self._best(outputs, anchors, levels=self._anchors_per_level(canvas, num_anchors=len(anchors)))

    def _scored(
        self, scores_BN: Tensor, labels_BN: Tensor, anchor_BN: Tensor, *, deltas: Tensor, anchors: Tensor
    ) -> Candidates:
        """Those of N chosen (anchor, class) pairs of each image whose score is above the threshold.

        Args:
            anchor_BN: (B, N) int64 index into the (A, 4) anchors and the (B, A, 4) deltas.
        """
        image, column = (scores_BN > self.inference.score_threshold).nonzero().unbind(dim=1)
        anchor = anchor_BN[image, column]
        boxes = self._decode(deltas[image, anchor], anchors[anchor])
        return Candidates(image, boxes, scores_BN[image, column], labels_BN[image, column])

    def _count(self, batch: Batch[BoxTarget], *, dtype: torch.dtype) -> Tensor:
        """() the number of anchors that answer for an object: what every loss here but RetinaNet's is divided by."""
        height, width = batch.images.shape[-2:]
        canvas = padded_canvas(height, width, divisor=self.pixels.divisor)
        anchors = self._anchors(canvas, dtype=dtype, device=batch.images.device)
        matches = self._matches(with_boxes_in(dtype, batch.targets), anchors=anchors, canvas=canvas)
        return (torch.stack(matches) >= 0).sum().to(dtype)

    def _outputs(self, images: Tensor) -> dict[str, Tensor]:
        """The head's predictions by torchvision's names, each (B, A, ...)."""
        outputs: dict[str, Tensor] = self.network.head(list(self._features(images).values()))
        return outputs

    def _matches(self, targets: list[BoxTarget], *, anchors: Tensor, canvas: tuple[int, int]) -> list[Tensor]:
        levels = self._anchors_per_level(canvas, num_anchors=len(anchors))
        return [self._match(target, anchors, anchors_per_level=levels) for target in targets]

    def _anchors_per_level(self, canvas: tuple[int, int], *, num_anchors: int) -> list[int]:
        """For pyramids with the same number of anchors at every point of every level."""
        points = [rows * columns for rows, columns in self.grid(*canvas)]
        return [num_anchors // sum(points) * count for count in points]


class PyramidDetector(DenseDetector):
    """RetinaNet and FCOS: the same anchors at every point of every level, a sigmoid per class."""

    network: RetinaNet | FCOS
    num_background = 0

    def _anchors(self, canvas: tuple[int, int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        generator = self.network.anchor_generator
        return grid_anchors(generator, canvas=canvas, grid=self.grid(*canvas), dtype=dtype, device=device)

    @abstractmethod
    def _probabilities(self, outputs: dict[str, Tensor]) -> Tensor:
        """(B, A, K) in [0, 1]."""

    def _best(self, outputs: dict[str, Tensor], anchors: Tensor, *, levels: list[int]) -> Candidates:
        parts = []
        scores_by_level = self._probabilities(outputs).split(levels, dim=1)
        deltas_by_level = outputs["bbox_regression"].split(levels, dim=1)
        for scores, deltas, of_level in zip(scores_by_level, deltas_by_level, anchors.split(levels), strict=True):
            num_classes = scores.shape[-1]
            best, index = scores.flatten(1).topk(min(self.network.topk_candidates, scores[0].numel()))
            parts.append(self._scored(best, index % num_classes, index // num_classes, deltas=deltas, anchors=of_level))
        return join(parts)


class RetinaNetDetector(PyramidDetector):
    """Each image's loss is divided by that image's number of foreground anchors, so what is counted is images."""

    network: RetinaNet
    loss_names = ("classification", "bbox_regression")

    def _match(self, target: BoxTarget, anchors: Tensor, *, anchors_per_level: list[int]) -> Tensor:
        matcher = self.network.proposal_matcher
        return match_by_iou(
            overlaps(target, anchors),
            foreground_iou=matcher.high_threshold,
            background_iou=matcher.low_threshold,
            keep_best=True,
        )

    def _dense_losses(self, outputs: dict[str, Tensor], assigned: Assignment, *, anchors: Tensor) -> Losses:
        logits = outputs["cls_logits"]
        box_losses = self._box_losses(outputs["bbox_regression"], assigned.boxes, anchors=anchors)
        return retinanet_losses(logits, box_losses, assigned=assigned)

    def _count(self, batch: Batch[BoxTarget], *, dtype: torch.dtype) -> Tensor:
        return torch.full((), float(len(batch.images)), dtype=dtype, device=batch.images.device)

    def _probabilities(self, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["cls_logits"].sigmoid()

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.network.box_coder.decode_single(deltas, anchors)
        return boxes

    def _box_losses(self, deltas: Tensor, boxes: Tensor, *, anchors: Tensor) -> Tensor:
        """(B, A): L1 of the encoded box in the first version, generalized IoU in the second."""
        regression = self.network.head.regression_head
        every_anchor = anchors.expand_as(deltas).reshape(-1, 4)
        if regression._loss_type == "giou":
            decoded = regression.box_coder.decode_single(deltas.reshape(-1, 4), every_anchor)
            return generalized_iou_loss(decoded.view_as(deltas), boxes)
        wanted = regression.box_coder.encode_single(boxes.reshape(-1, 4), every_anchor)
        distance: Tensor = (deltas - wanted.view_as(deltas)).abs().sum(dim=-1)
        return distance


class FCOSDetector(PyramidDetector):
    """Sums over points, divided by the number of foreground points of the whole batch."""

    network: FCOS
    loss_names = ("classification", "bbox_regression", "bbox_ctrness")

    def _match(self, target: BoxTarget, anchors: Tensor, *, anchors_per_level: list[int]) -> Tensor:
        radius = self.network.center_sampling_radius
        return match_points(target, anchors, anchors_per_level=anchors_per_level, center_radius=radius)

    def _dense_losses(self, outputs: dict[str, Tensor], assigned: Assignment, *, anchors: Tensor) -> Losses:
        deltas = outputs["bbox_regression"]
        boxes = self.network.box_coder.decode(deltas, anchors.expand_as(deltas))
        centerness = outputs["bbox_ctrness"].squeeze(2)
        return fcos_losses(outputs["cls_logits"], boxes, centerness, assigned=assigned, anchors=anchors)

    def _probabilities(self, outputs: dict[str, Tensor]) -> Tensor:
        return (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.network.box_coder.decode(deltas, anchors)
        return boxes


class SSDDetector(DenseDetector):
    """SSD and SSDLite: a softmax with background, hard negatives chosen image by image.

    Works on every canvas of at least 32 pixels a side, not on 300x300 or 320x320 alone.
    """

    network: SSD
    num_background = 1
    loss_names = ("bbox_regression", "classification")

    def _anchors(self, canvas: tuple[int, int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        generator = self.network.anchor_generator
        return default_boxes(generator, canvas=canvas, grid=self.grid(*canvas), dtype=dtype, device=device)

    def _match(self, target: BoxTarget, anchors: Tensor, *, anchors_per_level: list[int]) -> Tensor:
        threshold = self.network.proposal_matcher.high_threshold
        return match_default_boxes(overlaps(target, anchors), foreground_iou=threshold)

    def _dense_losses(self, outputs: dict[str, Tensor], assigned: Assignment, *, anchors: Tensor) -> Losses:
        deltas = outputs["bbox_regression"]
        every_anchor = anchors.expand_as(deltas).reshape(-1, 4)
        wanted = self.network.box_coder.encode_single(assigned.boxes.reshape(-1, 4), every_anchor)
        return ssd_losses(
            outputs["cls_logits"],
            deltas,
            assigned=assigned,
            delta_targets=wanted.view_as(deltas),
            negatives_per_positive=self.network.neg_to_pos_ratio,
        )

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.network.box_coder.decode_single(deltas, anchors)
        return boxes

    def _best(self, outputs: dict[str, Tensor], anchors: Tensor, *, levels: list[int]) -> Candidates:
        scores = outputs["cls_logits"].softmax(dim=-1)[..., self.num_background :].transpose(1, 2)  # (B, K, A)
        best, anchor = scores.topk(min(self.network.topk_candidates, len(anchors)))
        labels = torch.arange(scores.shape[1], device=scores.device)[:, None].expand_as(anchor)
        deltas = outputs["bbox_regression"]
        return self._scored(best.flatten(1), labels.flatten(1), anchor.flatten(1), deltas=deltas, anchors=anchors)
