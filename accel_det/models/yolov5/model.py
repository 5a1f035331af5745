"""YOLOv5 as a model of the zoo: batch in, losses or detections out."""

from typing import Literal

import torch
from torch import Tensor, nn

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.nms import Candidates, suppress
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
        raw = self.network(self._normalized(batch.images))
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
        raw = self.network(self._normalized(batch.images))
        levels = [
            level_candidates(level, anchors, stride=stride, score_threshold=self.inference.score_threshold)
            for level, anchors, stride in zip(raw, self.anchors_px, self.network.strides, strict=True)
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
        multiple = self.network.strides[-1]
        if height % multiple or width % multiple:
            raise ValueError(
                f"images of {height}x{width} pixels: this YOLOv5 takes multiples of {multiple}; "
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
        check_boxes(batch.targets, batch.frames)
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
