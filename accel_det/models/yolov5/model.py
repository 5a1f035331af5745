"""YOLOv5 as a model of the zoo: batch in, losses or detections out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.nms import Candidates, suppress
from accel_det.models.layers.targets import check_labels, pack_targets
from accel_det.models.yolov5.assignment import LevelMatches, match_level
from accel_det.models.yolov5.decode import level_candidates
from accel_det.models.yolov5.loss import LevelGains, level_counts, level_losses
from accel_det.models.yolov5.network import ANCHORS_PER_LEVEL, SCALES, STRIDES, YoloV5Network
from accel_det.types import Batch, BoxTarget, Detections, Losses

# Of COCO at 416 pixels, by k-means: Redmon and Farhadi, YOLOv3, 2018, section 2.3.
COCO_ANCHORS_PX = (
    *(10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
    *(30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
    *(116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
)


@dataclass(frozen=True)
class YoloV5Options:
    """What a run may set; the defaults are the published ones.

    The published loss is also multiplied by the number of images of the global batch, so that its learning rate need
    not change with the batch. A model sees its own images only, so that factor is not here: multiply the learning rate
    by the global batch, and divide the weight decay by it, for the same steps of SGD.

    Attributes:
        anchors_px: 9 pairs of width and height in pixels, smallest first, three per level, in one row.
        box_gain, objectness_gain, class_gain: weights at 640x640 pixels and 80 classes.
        level_balance: weight of objectness at strides 8, 16 and 32.
        label_smoothing: of the class loss, in [0, 1).
        anchor_ratio: an anchor learns boxes less than this many times wider, narrower, taller or shorter; above 1.
        max_candidates: the best so many (box, class) pairs of an image enter non-maximum suppression.
    """

    anchors_px: tuple[float, ...] = COCO_ANCHORS_PX
    box_gain: float = 0.05
    objectness_gain: float = 1.0
    class_gain: float = 0.5
    level_balance: tuple[float, float, float] = (4.0, 1.0, 0.4)
    label_smoothing: float = 0.0
    anchor_ratio: float = 4.0
    max_candidates: int = 30_000

    def __post_init__(self) -> None:
        expected = 2 * ANCHORS_PER_LEVEL * len(STRIDES)
        if len(self.anchors_px) != expected or not all(0 < side < math.inf for side in self.anchors_px):
            raise ValueError(f"anchors_px: expected {expected} positive numbers of pixels, got {self.anchors_px}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected a number in [0, 1), got {self.label_smoothing}")
        if not self.anchor_ratio > 1:
            raise ValueError(f"anchor_ratio: expected a number above 1, got {self.anchor_ratio}")


class YoloV5(ZooModel[BoxTarget, Detections]):
    """The network with its loss and its decoding.

    The anchors are part of the state: weights decode by the anchors they were trained with.
    """

    anchors_px: Tensor  # (levels, A, 2) float32, width and height in pixels

    def __init__(self, network: YoloV5Network, *, inference: Inference, options: YoloV5Options) -> None:
        super().__init__()
        self.network = network
        self.inference = inference
        self.options = options
        anchors = torch.tensor(options.anchors_px).view(len(STRIDES), ANCHORS_PER_LEVEL, 2)
        self.register_buffer("anchors_px", anchors)

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        check_labels(batch.targets, batch.frames, num_classes=self.network.num_classes)
        raw = self.network(self._normalized(batch.images))
        height, width = batch.images.shape[-2:]
        losses: Losses = {}
        for index, matches in enumerate(self._matches(batch)):
            losses |= level_losses(
                raw[index],
                matches,
                level=_level_name(index),
                gains=self._gains(index, pixels=height * width),
                label_smoothing=self.options.label_smoothing,
            )
        return losses

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor]:
        """Matches, cells and matches times classes of every level: known from the targets alone."""
        counts: dict[str, Tensor] = {}
        for index, matches in enumerate(self._matches(batch)):
            counts |= level_counts(matches, level=_level_name(index), num_classes=self.network.num_classes)
        return counts

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        """Boxes cut to the batch image; an image's own part of it is known to whoever reads its placement."""
        raw = self.network(self._normalized(batch.images))
        levels = [
            level_candidates(level, anchors, stride=stride, score_threshold=self.inference.score_threshold)
            for level, anchors, stride in zip(raw, self.anchors_px, STRIDES, strict=True)
        ]
        height, width = batch.images.shape[-2:]
        return suppress(
            Candidates(*(torch.cat(columns) for columns in zip(*levels, strict=True))),
            self.inference,
            num_images=batch.images.shape[0],
            height=height,
            width=width,
            max_candidates=self.options.max_candidates,
        )

    def _normalized(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> [0, 1] in the type of the weights."""
        height, width = images.shape[-2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise ValueError(
                f"images of {height}x{width} pixels: YOLOv5 takes multiples of {STRIDES[-1]}; "
                "set the image size, or pad to such a multiple"
            )
        # Channels last: the convolutions of a small network are a sixth faster with it on a CPU.
        dtype = next(self.network.parameters()).dtype
        return images.to(dtype, memory_format=torch.channels_last) / 255

    def compilable(self) -> list[nn.Module]:
        return [self.network]

    @torch.no_grad()
    def _matches(self, batch: Batch[BoxTarget]) -> list[LevelMatches]:
        """Per level; in float64 for a float64 model, else in float32."""
        double = next(self.network.parameters()).dtype == torch.float64
        packed = pack_targets(
            batch.targets, device=batch.images.device, dtype=torch.float64 if double else torch.float32
        )
        height, width = batch.images.shape[-2:]
        return [
            match_level(
                packed,
                anchors,
                num_images=batch.images.shape[0],
                height=height // stride,
                width=width // stride,
                stride=stride,
                max_ratio=self.options.anchor_ratio,
            )
            for anchors, stride in zip(self.anchors_px, STRIDES, strict=True)
        ]

    def _gains(self, index: int, *, pixels: int) -> LevelGains:
        """The weights of a level: scaled by levels, classes and image area, so that they suit any of them alike."""
        levels = 3 / len(STRIDES)
        return LevelGains(
            box=self.options.box_gain * levels,
            objectness=self.options.objectness_gain * levels * (pixels / 640**2) * self.options.level_balance[index],
            classes=self.options.class_gain * levels * self.network.num_classes / 80,
        )


def build(name: str, *, num_classes: int, inference: Inference, options: YoloV5Options) -> YoloV5:
    """A YOLOv5 with fresh weights.

    Args:
        name: "yolov5n", "yolov5s", "yolov5m", "yolov5l" or "yolov5x".
        num_classes: at least 1.
        inference: thresholds of the predictions.
        options: anchors and weights of the loss.

    Raises:
        ValueError: if the name is unknown or there is no class.
    """
    if name not in SCALES:
        raise ValueError(f"model {name!r} is unknown: expected one of {', '.join(SCALES)}")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    return YoloV5(YoloV5Network(num_classes, scale=SCALES[name]), inference=inference, options=options)


def _level_name(index: int) -> str:
    return f"p{index + 3}"
