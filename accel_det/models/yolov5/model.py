"""YOLOv5 as a model of the zoo: batch in, losses or detections out."""

from typing import Literal

import torch
from torch import Tensor, nn

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.canvas import unit_canvas
from accel_det.models.layers.nms import join, suppress
from accel_det.models.layers.precision import precise_type
from accel_det.models.layers.targets import check_boxes, check_labels, pack_targets
from accel_det.models.yolov5.assignment import LevelMatches, match_level
from accel_det.models.yolov5.decode import level_candidates
from accel_det.models.yolov5.loss import LevelGains, Teaching, level_counts, level_losses
from accel_det.models.yolov5.network import ANCHORS_PER_LEVEL, SCALES, YoloV5Network
from accel_det.models.yolov5.options import YoloV5Options, YoloV5P6Options
from accel_det.types import Batch, BoxTarget, Detections, Losses

__all__ = ["YoloV5", "YoloV5Options", "YoloV5P6Options", "build"]


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
        anchors = torch.tensor(options.anchors_px).view(len(options.strides), ANCHORS_PER_LEVEL, 2)
        self.register_buffer("anchors_px", anchors)

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        check_labels(batch.targets, batch.frames, num_classes=self.network.num_classes)
        raw = self._raw(batch.images)
        height, width = batch.images.shape[-2:]
        losses: Losses = {}
        for index, matches in enumerate(self._matches(batch)):
            losses |= level_losses(
                raw[index],
                matches,
                level=_level_name(index),
                gains=self._gains(index, pixels=height * width),
                teaching=self._teaching,
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
        raw = self._raw(batch.images)
        levels = [
            level_candidates(level, anchors, stride=stride, score_threshold=self.inference.score_threshold)
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

    def _raw(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) uint8 -> logits of every level."""
        dtype = next(self.network.parameters()).dtype
        raw: list[Tensor] = self.network(unit_canvas(images, multiple_px=self.network.strides[-1], dtype=dtype))
        return raw

    def compilable(self) -> list[nn.Module]:
        return [self.network]

    @torch.no_grad()
    def _matches(self, batch: Batch[BoxTarget]) -> list[LevelMatches]:
        """Per level; in float64 for a float64 model, else in float32."""
        check_boxes(batch.targets, batch.frames)
        dtype = precise_type(next(self.network.parameters()).dtype)
        packed = pack_targets(batch.targets, device=batch.images.device, dtype=dtype)
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
            for anchors, stride in zip(self.anchors_px, self.network.strides, strict=True)
        ]

    @property
    def _teaching(self) -> Teaching:
        options = self.options
        return Teaching(
            label_smoothing=options.label_smoothing,
            focal_gamma=options.focal_gamma,
            class_positive_weight=options.class_positive_weight,
            objectness_positive_weight=options.objectness_positive_weight,
            objectness_by_overlap=options.objectness_by_overlap,
        )

    def _gains(self, index: int, *, pixels: int) -> LevelGains:
        """The weights of a level: scaled by levels, classes and image area, so that they suit any of them alike."""
        levels = 3 / len(self.network.strides)
        return LevelGains(
            box=self.options.box_gain * levels,
            objectness=self.options.objectness_gain * levels * (pixels / 640**2) * self.options.level_balance[index],
            classes=self.options.class_gain * levels * self.network.num_classes / 80,
        )


def build(name: str, *, num_classes: int, inference: Inference, options: YoloV5Options) -> YoloV5:
    """A YOLOv5 with fresh weights.

    Args:
        name: "yolov5n", "yolov5s", "yolov5m", "yolov5l" or "yolov5x"; with a 6 behind it, of four levels.
        num_classes: at least 1.
        inference: thresholds of the predictions.
        options: anchors and weights of the loss, `YoloV5P6Options` for the networks of four levels.

    Raises:
        ValueError: if the name is unknown, the options are for another number of levels, or there is no class.
    """
    scale = name.removesuffix("6")
    if scale not in SCALES:
        raise ValueError(f"model {name!r} is unknown: expected one of {', '.join(SCALES)}, or one of them with a 6")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    levels: Literal[3, 4] = 4 if name.endswith("6") else 3
    if len(options.strides) != levels:
        raise ValueError(f"{name} has {levels} levels, its options are for {len(options.strides)}")
    network = YoloV5Network(num_classes, scale=SCALES[scale], levels=levels)
    return YoloV5(network, inference=inference, options=options)


def _level_name(index: int) -> str:
    return f"p{index + 3}"
