"""What a run may set about a YOLOv5; the defaults are the published ones."""

import math
from dataclasses import dataclass
from typing import ClassVar

from accel_det.models.yolov5.network import ANCHORS_PER_LEVEL, STRIDES

# Of COCO at 416 pixels, by k-means: Redmon and Farhadi, YOLOv3, 2018, section 2.3.
COCO_ANCHORS_PX = (
    *(10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
    *(30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
    *(116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
)
# Of COCO at 1280 pixels: published with YOLOv5's networks of four levels.
COCO_P6_ANCHORS_PX = (
    *(19.0, 27.0, 44.0, 40.0, 38.0, 94.0),
    *(96.0, 68.0, 86.0, 152.0, 180.0, 137.0),
    *(140.0, 301.0, 303.0, 264.0, 238.0, 542.0),
    *(436.0, 615.0, 739.0, 380.0, 925.0, 792.0),
)


@dataclass(frozen=True)
class YoloV5Options:
    """The settings of a network of three levels.

    The published loss is also multiplied by the number of images of the global batch, so that its learning rate need
    not change with the batch. A model sees its own images only, so that factor is a setting of the optimizer:
    `optimizer.loss_times_images`. The published balance of objectness that follows the levels' losses is not here: it
    makes the loss depend on all steps before it.

    Attributes:
        anchors_px: pairs of width and height in pixels, smallest first, three per level, in one row.
        auto_anchors: replace the anchors by ones fitted to the training data where they suit too few of its boxes.
        box_gain, objectness_gain, class_gain: weights at 640x640 pixels and 80 classes.
        level_balance: weight of objectness at each level, finest first.
        label_smoothing: of the class loss, in [0, 1).
        focal_gamma: exponent of the focal factor of objectness and class losses, from 1 on, or 0 for plain cross-entropy;
            with it objects weigh 0.25 and their absence 0.75. Lin et al., Focal Loss, 2017, section 3.2.
        class_positive_weight, objectness_positive_weight: weights of what is there against what is not.
        objectness_by_overlap: share of objectness that follows the overlap of the predicted box; the rest is 1.
        anchor_ratio: an anchor learns boxes less than this many times wider, narrower, taller or shorter; above 1.
        max_candidates: the best so many (box, class) pairs of an image enter non-maximum suppression.
    """

    strides: ClassVar[tuple[int, ...]] = STRIDES[:3]

    anchors_px: tuple[float, ...] = COCO_ANCHORS_PX
    auto_anchors: bool = False
    box_gain: float = 0.05
    objectness_gain: float = 1.0
    class_gain: float = 0.5
    level_balance: tuple[float, ...] = (4.0, 1.0, 0.4)
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_positive_weight: float = 1.0
    objectness_positive_weight: float = 1.0
    objectness_by_overlap: float = 1.0
    anchor_ratio: float = 4.0
    max_candidates: int = 30_000

    def __post_init__(self) -> None:
        levels = len(self.strides)
        expected = 2 * ANCHORS_PER_LEVEL * levels
        if len(self.anchors_px) != expected or not all(0 < side < math.inf for side in self.anchors_px):
            raise ValueError(f"anchors_px: expected {expected} positive numbers of pixels, got {self.anchors_px}")
        if len(self.level_balance) != levels or not all(0 <= weight < math.inf for weight in self.level_balance):
            raise ValueError(f"level_balance: expected {levels} numbers, one per level, got {self.level_balance}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected a number in [0, 1), got {self.label_smoothing}")
        if not (self.focal_gamma == 0 or 1 <= self.focal_gamma < math.inf):  # in between, its slope has no bound
            raise ValueError(f"focal_gamma: expected 0 or a number from 1 on, got {self.focal_gamma}")
        if not 0 <= self.objectness_by_overlap <= 1:
            raise ValueError(f"objectness_by_overlap: expected a number in [0, 1], got {self.objectness_by_overlap}")
        for name in ("class_positive_weight", "objectness_positive_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not self.anchor_ratio > 1:
            raise ValueError(f"anchor_ratio: expected a number above 1, got {self.anchor_ratio}")


@dataclass(frozen=True)
class YoloV5P6Options(YoloV5Options):
    """The settings of a network of four levels: the same, with anchors and balance for one level more."""

    strides: ClassVar[tuple[int, ...]] = STRIDES

    anchors_px: tuple[float, ...] = COCO_P6_ANCHORS_PX
    level_balance: tuple[float, ...] = (4.0, 1.0, 0.25, 0.06)
