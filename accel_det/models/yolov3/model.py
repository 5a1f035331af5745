"""YOLOv3 as a model of the zoo: batch in, losses or detections out."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.blocks import ConvBnAct
from accel_det.models.layers.canvas import unit_canvas
from accel_det.models.layers.nms import join, suppress
from accel_det.models.layers.precision import precise_type
from accel_det.models.layers.targets import PackedBoxes, check_labels, pack_targets
from accel_det.models.yolov3.assignment import Grid, LevelMatches, best_overlap, match_level
from accel_det.models.yolov3.decode import decode_level, level_candidates
from accel_det.models.yolov3.loss import PartGains, level_counts, level_losses
from accel_det.models.yolov3.network import ANCHORS_PER_LEVEL, YoloV3Network, YoloV3TinyNetwork
from accel_det.models.yolov3.rules import RULES, LossName
from accel_det.types import Batch, BoxTarget, Detections, Losses

# Of COCO at 416 pixels, by k-means: Redmon and Farhadi, YOLOv3, 2018, section 2.3.
COCO_ANCHORS_PX = (
    *(10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
    *(30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
    *(116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
)
# Of the published configuration of YOLOv3-tiny.
TINY_ANCHORS_PX = (*(10.0, 14.0, 23.0, 27.0, 37.0, 58.0), *(81.0, 82.0, 135.0, 169.0, 344.0, 319.0))


@dataclass(frozen=True)
class YoloV3Options:
    """What a run may set; the defaults are those of Darknet.

    Attributes:
        anchors_px: 9 pairs of width and height in pixels, smallest first, three per level, in one row.
        auto_anchors: replace the anchors by ones fitted to the training data where they suit too few of its boxes.
        loss: "darknet", "paper", "giou" or "per_scale"; docs/yolov3.md says what each is.
        ignore_iou: a prediction that overlaps an object more is not taught to be background; by default that of the
            loss, 0.7 of darknet and 0.5 of the others.
        box_gain, objectness_gain, class_gain: factors of the weights that the loss has.
        width: multiplier of the channels; 1 is the published network.
        max_candidates: the best so many (box, class) pairs of an image enter non-maximum suppression.
    """

    anchors_px: tuple[float, ...] = COCO_ANCHORS_PX
    auto_anchors: bool = False
    loss: LossName = "darknet"
    ignore_iou: float | None = None
    box_gain: float = 1.0
    objectness_gain: float = 1.0
    class_gain: float = 1.0
    width: float = 1.0
    max_candidates: int = 30_000

    def __post_init__(self) -> None:
        expected = next(len(field.default) for field in fields(self) if isinstance(field.default, tuple))
        if len(self.anchors_px) != expected or not all(0 < side < math.inf for side in self.anchors_px):
            raise ValueError(f"anchors_px: expected {expected} positive numbers of pixels, got {self.anchors_px}")
        if self.ignore_iou is not None and not 0 < self.ignore_iou <= 1:
            raise ValueError(f"ignore_iou: expected a number in (0, 1], got {self.ignore_iou}")
        if not 0 < self.width < math.inf:
            raise ValueError(f"width: expected a number above 0, got {self.width}")


@dataclass(frozen=True)
class YoloV3TinyOptions(YoloV3Options):
    """As `YoloV3Options`, with 6 pairs of width and height."""

    anchors_px: tuple[float, ...] = TINY_ANCHORS_PX


class YoloV3(ZooModel[BoxTarget, Detections]):
    """The network with its loss and its decoding.

    The anchors are part of the state: weights decode by the anchors they were trained with.
    """

    anchors_px: Tensor  # (levels, A, 2) float32, width and height in pixels
    num_anchors = ANCHORS_PER_LEVEL
    anchor_method = "kmeans_iou"

    def __init__(
        self, network: YoloV3Network | YoloV3TinyNetwork, *, inference: Inference, options: YoloV3Options
    ) -> None:
        super().__init__()
        self.network = network
        self.inference = inference
        self.options = options
        rule = RULES[options.loss]
        self.rule = rule if options.ignore_iou is None else rule._replace(ignore_iou=options.ignore_iou)
        anchors = torch.tensor(options.anchors_px).view(len(network.strides), ANCHORS_PER_LEVEL, 2)
        self.register_buffer("anchors_px", anchors)

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        check_labels(batch.targets, batch.frames, num_classes=self.network.num_classes)
        raw = self._raw(batch.images)
        packed = self._packed(batch)
        lengths = [target.boxes.shape[0] for target in batch.targets]
        losses: Losses = {}
        for (grid, matches), level in zip(self._matches(batch, packed), raw, strict=True):
            losses |= level_losses(
                level,
                matches,
                grid,
                anchors_px=self.anchors_px[grid.level],
                ignored=self._ignored(level, packed, lengths, grid),
                rule=self.rule,
                gains=self._gains(grid),
                level=_level_name(grid),
            )
        return losses

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor]:
        """Of every level: images; or matches and cells, known from the targets alone."""
        counts: dict[str, Tensor] = {}
        for grid, matches in self._matches(batch, self._packed(batch)):
            counts |= level_counts(matches, grid, rule=self.rule, level=_level_name(grid))
        return counts

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        """Boxes cut to the batch image; an image's own part of it is known to whoever reads its placement."""
        raw = self._raw(batch.images)
        levels = [
            level_candidates(
                level,
                anchors,
                stride=stride,
                score_threshold=self.inference.score_threshold,
                softmax=self.rule.classes == "softmax",
            )
            for level, anchors, stride in zip(raw, self.anchors_px, self.network.strides, strict=True)
        ]
        height, width = batch.images.shape[-2:]
        return suppress(
            join(levels),
            self.inference,
            num_images=batch.images.shape[0],
            height=height,
            width=width,
            max_candidates=self.options.max_candidates,
        )

    def compilable(self) -> list[nn.Module]:
        return [self.network]

    def darknet_layers(self) -> list[tuple[str, nn.Module]]:
        """Convolutions by name, in the order of Darknet's weight files: those with a norm, and the linear ones."""
        modules = dict(self.named_modules())
        blocks = {name for name, module in modules.items() if isinstance(module, ConvBnAct)}
        return [
            (name, module)
            for name, module in modules.items()
            if name in blocks or (isinstance(module, nn.Conv2d) and name.rpartition(".")[0] not in blocks)
        ]

    def darknet_pretrained_layers(self) -> int:
        """How many of them the published files for starting a training hold."""
        return self.network.pretrained_layers

    def _raw(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) uint8 -> logits of every level."""
        canvas = unit_canvas(images, multiple_px=self.network.strides[-1], dtype=self._dtype())
        raw: list[Tensor] = self.network(canvas)
        return raw

    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def _packed(self, batch: Batch[BoxTarget]) -> PackedBoxes:
        """In float64 for a float64 model, else in float32."""
        return pack_targets(batch.targets, device=batch.images.device, dtype=precise_type(self._dtype()))

    @torch.no_grad()
    def _matches(self, batch: Batch[BoxTarget], packed: PackedBoxes) -> list[tuple[Grid, LevelMatches]]:
        num_images, _, height, width = batch.images.shape
        grids = [
            Grid(index, num_images, height // stride, width // stride, stride)
            for index, stride in enumerate(self.network.strides)
        ]
        return [
            (
                grid,
                match_level(
                    packed,
                    self.anchors_px,
                    grid,
                    choice=self.rule.choice,
                    num_classes=self.network.num_classes,
                    spare_iou=self.rule.ignore_iou,
                ),
            )
            for grid in grids
        ]

    @torch.no_grad()
    def _ignored(self, raw: Tensor, packed: PackedBoxes, lengths: list[int], grid: Grid) -> Tensor:
        """(B, A, H, W) bool: predictions that lie on an object, or in a crowd, are not taught to be background."""
        with torch.autocast(raw.device.type, enabled=False):
            boxes = decode_level(raw.detach(), self.anchors_px[grid.level], stride=grid.stride)
            on_object, in_crowd = best_overlap(boxes, packed, lengths)
        ignored = in_crowd > self.rule.ignore_iou
        if self.rule.choice == "of_all":
            ignored = ignored | (on_object > self.rule.ignore_iou)
        return ignored.view(grid.num_images, -1, grid.height, grid.width)

    def _gains(self, grid: Grid) -> PartGains:
        rule, options = self.rule, self.options
        balance = rule.level_balance[len(self.network.strides) - 1 - grid.level]
        pixels = grid.height * grid.width * grid.stride**2
        size = pixels / rule.reference_px**2 if rule.reference_px else 1.0
        objectness = options.objectness_gain * balance * size
        classes = self.network.num_classes / rule.reference_classes if rule.reference_classes else 1.0
        return PartGains(
            box=options.box_gain * rule.box_gain,
            object=objectness * rule.object_gain,
            background=objectness * rule.background_gain,
            classes=options.class_gain * rule.class_gain * classes,
        )


def build(name: str, *, num_classes: int, inference: Inference, options: YoloV3Options) -> YoloV3:
    """A YOLOv3 with fresh weights.

    Args:
        name: "yolov3", "yolov3_spp" or "yolov3_tiny".
        num_classes: at least 1.
        inference: thresholds of the predictions.
        options: anchors and loss.

    Raises:
        ValueError: if the name is unknown or there is no class.
    """
    if name not in ("yolov3", "yolov3_spp", "yolov3_tiny"):
        raise ValueError(f"model {name!r} is unknown: expected one of yolov3, yolov3_spp, yolov3_tiny")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    network: YoloV3Network | YoloV3TinyNetwork
    if name == "yolov3_tiny":
        network = YoloV3TinyNetwork(num_classes, width=options.width)
    else:
        network = YoloV3Network(num_classes, width=options.width, pooling=name == "yolov3_spp")
    return YoloV3(network, inference=inference, options=options)


def _level_name(grid: Grid) -> str:
    return f"p{grid.stride.bit_length() - 1}"
